//! The registry client against registries that work and registries that do not.
//!
//! Needs Debian's packages docker-registry, skopeo, apache2-utils and openssl; a test that misses one fails and names
//! it. Everything listens on loopback, on ports found free.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod debian;
mod environment;
mod faults;
mod fixtures;
mod login;
mod mirrors;
mod process;
mod pulls;
mod server;

use std::path::Path;
use std::time::Duration;

use moby::net::{Net, NetOptions};
use moby::store::registry::{ImageName, Registry};
use moby::store::{Descriptor, Digest, Store};
use moby::ui::{Mode, Ui};
use moby::{Arch, Error};

/// A store in a folder of its own.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Place { folder, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Files that a failure must not leave behind.
    pub(crate) fn temporaries(&self) -> usize {
        std::fs::read_dir(self.store.root().join("temporary")).unwrap().count()
    }

    pub(crate) fn blobs(&self) -> usize {
        std::fs::read_dir(self.store.root().join("blobs/sha256")).unwrap().count()
    }
}

/// Options that do not look at the user's own passwords and do not wait long.
pub(crate) fn options() -> NetOptions {
    NetOptions {
        docker_config: Some("/nonexistent".into()),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
        ..NetOptions::default()
    }
}

pub(crate) fn net(options: NetOptions) -> Net {
    Net::new(options, &Ui::new(Mode::Quiet)).unwrap()
}

/// `REPOSITORY:TAG` or `REPOSITORY@DIGEST` in a registry.
pub(crate) fn name(registry: &str, image: &str) -> ImageName {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().unwrap())),
        None => (image, None),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag.to_string())),
        None => (rest, None),
    };
    ImageName { registry: registry.to_string(), repository: repository.to_string(), tag, digest }
}

pub(crate) fn pull(
    options: NetOptions,
    store: &Store,
    registry: &str,
    image: &str,
    arch: Arch,
) -> Result<Descriptor, Error> {
    let net = net(options);
    Registry::new(&net).pull(store, &name(registry, image), arch)
}

/// Every layer of a pulled image is there, as blob and inflated.
pub(crate) fn assert_whole(store: &Store, manifest: &Descriptor) {
    let manifest: moby::store::Manifest = store.read_json(&manifest.digest).unwrap();
    let config: moby::store::ImageConfig = store.read_json(&manifest.config.digest).unwrap();
    assert!(!manifest.layers.is_empty());
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        assert!(store.has_blob(layer), "{}", layer.digest);
        let bytes = std::fs::read(store.blob_path(&layer.digest)).unwrap();
        assert_eq!(Digest::of(&bytes), layer.digest);
        let inflated = store.inflated(diff_id).expect("the layer is inflated");
        assert_eq!(Digest::of(&std::fs::read(&inflated.file).unwrap()), *diff_id);
    }
}

/// An error's text with its hint.
pub(crate) fn text(error: &Error) -> String {
    format!("{} ({})", error.message(), error.hint_text().unwrap_or_default())
}
