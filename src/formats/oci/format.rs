//! The JSON documents. Keys come sorted, so equal content is equal bytes.

use serde_json::{Value, json};

use super::Layer;
use crate::Arch;
use crate::formats::calendar::Civil;
use crate::rootfs::Content;

/// Media types.
pub mod media_type {
    pub use crate::store::media_type::{CONFIG, INDEX, LAYER_GZIP, MANIFEST};

    /// The configuration of what has none: the two bytes `{}` (OCI image specification, manifest.md).
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// `artifactType` of what a machine boots: a manifest with one kernel, one initrd and one command line.
    pub const BOOT: &str = "application/vnd.mobyproject.boot.v1";
    /// The kernel as a boot loader takes it: bzImage or `Image`.
    pub const KERNEL: &str = "application/vnd.mobyproject.boot.kernel.v1";
    /// The initrd: cpio archives, compressed or not, microcode in front.
    pub const INITRD: &str = "application/vnd.mobyproject.boot.initrd.v1";
    /// The kernel's command line without a line end, as UTF-8.
    pub const COMMAND_LINE: &str = "application/vnd.mobyproject.boot.cmdline.v1";
}

/// What files are called that a tool writes to a folder (OCI image specification, annotations.md; `oras pull`).
const TITLE: &str = "org.opencontainers.image.title";
/// A manifest by itself does not say what it runs on.
const ARCHITECTURE: &str = "org.mobyproject.boot.architecture";

/// An image that containers are made from.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// What it runs on.
    pub arch: Arch,
    /// Its root file system.
    pub layer: &'a Layer,
    /// What runs; none if there is nothing that could.
    pub entrypoint: Vec<String>,
    /// When it was made, in seconds since the epoch.
    pub time: i64,
}

impl Image<'_> {
    /// Its configuration (config.md).
    pub(super) fn config(&self) -> Value {
        let Civil { year, month, day, hour, minute, second } = Civil::of(self.time);
        let created = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        let mut run = json!({});
        if !self.entrypoint.is_empty() {
            run = json!({"Entrypoint": self.entrypoint});
        }
        json!({
            "architecture": self.arch.name(),
            "config": run,
            "created": created,
            "os": "linux",
            "rootfs": {"diff_ids": [self.layer.diff_id.to_string()], "type": "layers"},
        })
    }

    /// Its manifest.
    pub(super) fn manifest(&self, config: &Content) -> Value {
        json!({
            "config": descriptor(media_type::CONFIG, config),
            "layers": [descriptor(media_type::LAYER_GZIP, &self.layer.content)],
            "mediaType": media_type::MANIFEST,
            "schemaVersion": 2,
        })
    }
}

/// An artefact that machines boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// What it runs on.
    pub arch: Arch,
    /// The kernel.
    pub kernel: Content,
    /// The initrd.
    pub initrd: Content,
    /// The kernel's command line.
    pub command_line: Content,
}

impl Boot {
    /// Its manifest.
    pub(super) fn manifest(&self, empty: &Content) -> Value {
        let layer = |kind, content: &Content, title: &str| {
            let mut descriptor = descriptor(kind, content);
            descriptor["annotations"] = json!({TITLE: title});
            descriptor
        };
        json!({
            "annotations": {ARCHITECTURE: self.arch.name()},
            "artifactType": media_type::BOOT,
            "config": descriptor(media_type::EMPTY, empty),
            "layers": [
                layer(media_type::KERNEL, &self.kernel, "kernel"),
                layer(media_type::INITRD, &self.initrd, "initrd.img"),
                layer(media_type::COMMAND_LINE, &self.command_line, "cmdline"),
            ],
            "mediaType": media_type::MANIFEST,
            "schemaVersion": 2,
        })
    }
}

/// How content is referred to (descriptor.md).
pub fn descriptor(kind: &str, content: &Content) -> Value {
    json!({"digest": content.digest.to_string(), "mediaType": kind, "size": content.size})
}
