//! Image manifests, indexes and configurations (OCI image specification 1.1; Docker image manifest version 2,
//! schema 2), read tolerantly: images in the wild write `null` for empty lists and leave out what they do not use.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Digest, Store};
use crate::arch::Arch;
use crate::error::{Error, Result};

/// Media types that are met in registries and layouts.
pub mod media_type {
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A gzip layer.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    /// A zstd layer.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    /// Whether a media type is one of the two kinds of index.
    pub fn is_index(name: &str) -> bool {
        name == INDEX || name == DOCKER_LIST
    }

    /// Whether a media type is one of the two kinds of manifest. One that an index leaves out is taken for one.
    pub fn is_manifest(name: &str) -> bool {
        matches!(name, "" | MANIFEST | DOCKER_MANIFEST)
    }
}

/// Where an image layout keeps a descriptor's name (OCI image specification, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A reference to content by digest (OCI image specification, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What an image runs on; in indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Further facts.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor { media_type: media_type.to_string(), digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `linux`, or `unknown` for attestations.
    #[serde(default)]
    pub os: String,
    /// `v8` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether this is Linux on the given architecture. `arm64` is met as `arm64`, `arm64/v8` and `aarch64`.
    pub fn is_linux(&self, arch: Arch) -> bool {
        (self.os == "linux" || self.os.is_empty())
            && (self.architecture == arch.name() || self.architecture == arch.kernel_name())
    }

    /// Linux on the given architecture.
    pub fn linux(arch: Arch) -> Platform {
        Platform { architecture: arch.name().to_string(), os: "linux".to_string(), variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An image index or Docker manifest list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    #[serde(default)]
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// One descriptor per platform or, in a layout, per name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
}

/// An image manifest of either kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub schema_version: u32,
    /// The manifest's own media type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
}

/// An image configuration (OCI image specification, config.md), as far as it matters here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// How to run it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// The digests of the inflated layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub rootfs: RootFs,
}

/// The part of an image configuration that says how to run it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `USER[:GROUP]`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The fixed first part of the command.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The rest of the command.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where the command starts.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels; `org.mobyproject.config` is LinuxKit's.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The inflated layers of an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// One digest per layer, lowest first, each of the uncompressed tar.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

impl Store {
    /// Whether everything of an image is there: its manifest, its configuration and, by their sizes, its layers.
    pub fn has_image(&self, manifest: &Descriptor) -> bool {
        let Ok(manifest) = self.read_json::<Manifest>(&manifest.digest) else { return false };
        self.read_json::<ImageConfig>(&manifest.config.digest).is_ok()
            && manifest.layers.iter().all(|layer| self.has_blob(layer))
    }

    /// The descriptor of a manifest or index that is in the store.
    pub fn describe(&self, digest: &Digest) -> Result<Descriptor> {
        let document = super::registry::read_document(self.read_document(digest)?, None);
        Ok(document.map_err(|why| Error::refused(format!("{digest}: {why}")))?.descriptor)
    }

    /// The manifest for an architecture behind a descriptor: itself, or its entry of the index that it describes.
    /// `None` if the index has none.
    pub fn platform_manifest(&self, named: &Descriptor, arch: Arch) -> Result<Option<Descriptor>> {
        if !media_type::is_index(&named.media_type) {
            return Ok(Some(named.clone()));
        }
        let index: Index = self.read_json(&named.digest)?;
        Ok(super::registry::choose_platform(&index, arch).cloned())
    }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
