//! From a component's tree to an OCI image in the store: one layer, a configuration, a manifest.
//!
//! The layer is a plain tar. Compressing it would cost a pass here and one at every first use; registries get it
//! compressed when it is pushed.

use std::collections::BTreeMap;
use std::io::BufWriter;

use serde::Serialize;

use super::recipe::{Recipe, Run};
use crate::Arch;
use crate::blueprint::LABEL_NAME;
use crate::error::{Error, Result};
use crate::formats::tar::{Writer, write_tree};
use crate::rootfs::{Tree, write_error};
use crate::store::manifest::{RootFs, RunConfig, media_type};
use crate::store::{Descriptor, Digest, ImageConfig, Manifest, Platform, Store};

/// The label that says what a component was made from.
pub const MATERIALS_LABEL: &str = "org.mobyproject.component";

/// What a component was made from, beside its recipe: goes into the image, and from there into locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Materials {
    /// The recipe's content hash.
    pub recipe: String,
    /// Packages, sorted by name.
    #[serde(default)]
    pub packages: Vec<Material>,
    /// What compiled its program, in lines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub toolchain: String,
}

/// A package that went into a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Material {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// The digest of the .deb.
    pub sha256: Digest,
}

/// Writes an image into the store and returns its manifest's descriptor. It has no name yet.
pub fn write(store: &Store, tree: &Tree, recipe: &Recipe, materials: &Materials, arch: Arch) -> Result<Descriptor> {
    let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, store.blob_writer()?));
    write_tree(tree, &mut tar, false, |_| {})?;
    let out = tar.finish().map_err(write_error)?;
    let blob = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    let (diff_id, size) = blob.commit(None)?;
    let layer = Descriptor::new(media_type::LAYER, diff_id, size);
    let config = ImageConfig {
        architecture: arch.name().to_owned(),
        os: "linux".to_owned(),
        config: run_config(&recipe.run, labels(recipe, materials)?),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
    };
    let config = document(store, media_type::CONFIG, &config)?;
    let manifest =
        Manifest { schema_version: 2, media_type: media_type::MANIFEST.to_owned(), config, layers: vec![layer] };
    let mut descriptor = document(store, media_type::MANIFEST, &manifest)?;
    descriptor.platform = Some(Platform::linux(arch));
    Ok(descriptor)
}

fn run_config(run: &Run, labels: BTreeMap<String, String>) -> RunConfig {
    RunConfig {
        user: run.user.clone(),
        env: run.env.clone(),
        entrypoint: run.entrypoint.clone(),
        cmd: run.command.clone(),
        working_dir: run.workdir.clone(),
        labels,
    }
}

pub(super) fn labels(recipe: &Recipe, materials: &Materials) -> Result<BTreeMap<String, String>> {
    let text = serde_json::to_string(materials)
        .map_err(|error| Error::failed(format!("writing the label {MATERIALS_LABEL}: {error}")))?;
    let mut labels = BTreeMap::from([(MATERIALS_LABEL.to_owned(), text)]);
    if let Some(config) = &recipe.config {
        let text = config.to_value().to_json(0);
        // On one line, as other tools show labels.
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| Error::failed(format!("writing the label {LABEL_NAME}: {error}")))?;
        labels.insert(LABEL_NAME.to_owned(), value.to_string());
    }
    Ok(labels)
}

fn document(store: &Store, media_type: &str, value: &impl Serialize) -> Result<Descriptor> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::failed(format!("writing an image: {error}")))?;
    Ok(Descriptor::new(media_type, store.put_bytes(&bytes)?, bytes.len() as u64))
}
