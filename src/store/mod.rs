//! The store: an OCI image layout on disk (what skopeo and LinuxKit read and write), and what is derived from it.
//!
//! ```text
//! oci-layout                      the layout's version
//! index.json                      names: descriptors annotated with org.opencontainers.image.ref.name
//! blobs/sha256/HEX                content, each under the digest of its bytes
//! derived/KIND/HEX                what was computed from blobs, under the digest of what went in (a cache: may be deleted)
//! temporary/                      files being written; renamed into place when whole
//! locks/HEX                       paths of lock files whose images are kept
//! lock                            held while index.json is rewritten
//! in-use                          held by whoever has the store open
//! ```
//!
//! Concurrent builds share a store without harm: a blob appears by rename, when it is whole and its digest was
//! checked; `index.json` is rewritten under a file lock, by rename too. A crash leaves at most files in `temporary/`,
//! which are removed when they are a day old. Files are synced before they get their names, folders are not: a name that
//! a loss of power takes away is content to get or to make again, never wrong content.

mod archive;
mod blobs;
mod checked;
mod collect;
mod damage;
mod derived;
pub mod digest;
mod docker;
mod export;
mod import;
mod inflate;
mod layer;
mod layer_index;
mod layout;
mod list;
pub mod manifest;
mod names;
pub mod registry;
mod remembered;
pub mod shared;
mod tar_index;
mod used;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use blobs::BlobWriter;
pub use checked::Checked;
pub use collect::{Collected, Limits};
pub use digest::{Digest, Hasher};
pub use docker::LocalDocker;
pub use import::{Found, Imported};
pub use layer::{Compression, Layer, PendingLayer, decompress};
pub use layer_index::{Entry, EntryKind, LayerIndex, Xattrs};
pub use layout::{Layout, Part};
pub use list::{Item, ItemKind, Parts, StoredImage};
pub use manifest::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
pub use tar_index::index_tar;
pub use used::{Alone, GRACE};

use crate::error::{Error, IoContext, Result};

/// A store on disk. Cheap to clone; safe to use from several threads and processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    in_use: Arc<File>,
    damage: Arc<damage::Damage>,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there. A folder with other things in it is refused.
    pub fn open(root: &Path) -> Result<Store> {
        refuse_other_folder(root)?;
        for folder in ["blobs/sha256", "derived", "temporary"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).at("making the store's folder", &path)?;
        }
        let root = root.canonicalize().at("opening the store", root)?;
        let in_use = Arc::new(used::open_in_use(&root)?);
        let store = Store { root, in_use, damage: Arc::default() };
        store.write_layout_file()?;
        store.remove_old_temporaries();
        Ok(store)
    }

    /// Where the store is when nobody says otherwise: `$XDG_CACHE_HOME/moby`, else `~/.cache/moby`.
    pub fn default_root() -> Result<PathBuf> {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (from("XDG_CACHE_HOME").filter(|path| path.is_absolute()), from("HOME")) {
            (Some(cache), _) => Ok(cache.join("moby")),
            (None, Some(home)) => Ok(home.join(".cache/moby")),
            (None, None) => {
                Err(Error::usage("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the store")
                    .hint("say where with --cache DIR or MOBY_CACHE"))
            }
        }
    }

    /// The folder that the store lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes temporary files that no running build can still be writing. Failing to is harmless: the next one tries.
    fn remove_old_temporaries(&self) {
        const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
        let Ok(entries) = fs::read_dir(self.root.join("temporary")) else { return };
        for entry in entries.flatten() {
            let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|age| age > DAY));
            if old && fs::remove_file(entry.path()).is_err() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A new temporary file in the store, on the same file system as everything that it may be renamed to. It is
    /// deleted when dropped.
    pub fn temporary_file(&self) -> Result<tempfile::NamedTempFile> {
        let folder = self.root.join("temporary");
        tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&folder)
            .at("making a temporary file in", &folder)
    }

    /// A new temporary folder in the store, deleted when dropped.
    pub fn temporary_folder(&self) -> Result<tempfile::TempDir> {
        let folder = self.root.join("temporary");
        tempfile::tempdir_in(&folder).at("making a temporary folder in", &folder)
    }
}

/// A store is many files: among those of somebody else nobody would find them again.
fn refuse_other_folder(root: &Path) -> Result<()> {
    // What a new disk has by itself is nothing.
    const OURS: [&str; 5] = ["oci-layout", "index.json", "blobs", "derived", "lost+found"];
    let mut names = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name()).peekable();
    if names.peek().is_some() && !names.any(|name| OURS.iter().any(|ours| name == *ours)) {
        return Err(Error::usage(format!("{} is no store, and not empty", root.display()))
            .hint("name a folder of its own (--cache, MOBY_CACHE); it is made if it is not there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_things_is_no_store() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path()).unwrap();
        Store::open(folder.path()).unwrap();
        for (name, is_refused) in [("lost+found", false), ("notes.txt", true)] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), "").unwrap();
            let opened = Store::open(folder.path());
            assert_eq!(opened.is_err(), is_refused, "{name}");
            assert_eq!(folder.path().join("blobs").exists(), !is_refused, "{name}");
        }
    }
}
