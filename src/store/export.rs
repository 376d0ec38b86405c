//! Images out of the store as archives that other tools read: an OCI layout in a tar (OCI image specification,
//! image-layout.md), and what `docker save` writes (Docker image specification v1.2). The same image always gives the
//! same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::digest::Hashing;
use super::manifest::{REF_NAME, media_type};
use super::names::PULLED;
use super::{Descriptor, Digest, ImageConfig, Index, Manifest, Store};
use crate::error::{Error, IoContext, Result};

/// Where containerd, buildkit and LinuxKit keep an image's whole name in a layout.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Writes an image, or an index with those of its images that are there, as an OCI layout in a tar.
    pub fn export_oci(&self, descriptor: &Descriptor, name: &str, out: impl Write) -> Result<()> {
        let mut top = descriptor.clone();
        // Where the store has it from is nobody else's business.
        top.annotations.remove(PULLED);
        top.annotations.insert(REF_NAME.to_string(), name.to_string());
        top.annotations.insert(CONTAINERD_NAME.to_string(), name.to_string());
        let index = Index { schema_version: 2, media_type: media_type::INDEX.to_string(), manifests: vec![top] };
        let index = to_json(&index)?;
        let mut archive = Archive { tar: tar::Builder::new(out) };
        archive.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.bytes("index.json", &index)?;
        let mut blobs = 0;
        for digest in self.parts_of([descriptor.digest]).blobs {
            // Images of other platforms may be missing; what is missing of this one was refused before.
            if self.blob_path(&digest).is_file() {
                archive.file(&format!("blobs/sha256/{}", digest.hex()), self.open_blob(&digest)?, &digest)?;
                blobs += 1;
            }
        }
        if blobs == 0 {
            return Err(Error::failed(format!("nothing of {name} is in the store")).hint("moby cache pull gets it"));
        }
        archive.finish()
    }

    /// Writes one image as `docker load` takes it: its configuration as it is, its layers uncompressed.
    pub fn export_docker(&self, manifest: &Descriptor, name: &str, out: impl Write) -> Result<()> {
        let (manifest, config) = self.whole_image(manifest)?;
        let layers: Vec<_> = (manifest.layers.iter().zip(&config.rootfs.diff_ids))
            .map(|(layer, diff_id)| self.layer(layer, diff_id))
            .collect::<Result<_>>()?;
        let names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", layer.diff_id.hex())).collect();
        let config_name = format!("{}.json", manifest.config.digest.hex());
        let list = serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
        let mut archive = Archive { tar: tar::Builder::new(out) };
        archive.bytes("manifest.json", &to_json(&list)?)?;
        archive.bytes(&config_name, &self.read_document(&manifest.config.digest)?)?;
        let mut written = BTreeSet::new();
        for (layer, name) in layers.iter().zip(&names) {
            if written.insert(layer.diff_id) {
                archive.file(name, File::open(&layer.file).at("opening", &layer.file)?, &layer.diff_id)?;
            }
        }
        archive.finish()
    }

    /// An image's manifest and configuration, which must have equally many layers.
    pub fn whole_image(&self, manifest: &Descriptor) -> Result<(Manifest, ImageConfig)> {
        let read: Manifest = self.read_json(&manifest.digest)?;
        let config: ImageConfig = self.read_json(&read.config.digest)?;
        let (layers, diff_ids) = (read.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::refused(format!(
                "the configuration {} names {diff_ids} layers, the manifest {} has {layers}",
                read.config.digest, manifest.digest
            )));
        }
        Ok((read, config))
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::failed(format!("writing JSON: {error}")))
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    /// A file of the store, hashed on its way out: an archive with damaged content must not look whole.
    fn file(&mut self, name: &str, file: File, digest: &Digest) -> Result<()> {
        let size = file.metadata().map_err(failed)?.len();
        let mut reader = Hashing::new(file);
        self.entry(name, size, &mut reader)?;
        let found = reader.finish().map_err(failed)?;
        if found != *digest {
            return Err(Error::refused(format!("{digest} in the store is damaged: its digest is {found}"))
                .hint("moby cache rm removes the image; pull or build it again"));
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content).map_err(failed)
    }

    fn finish(self) -> Result<()> {
        self.tar.into_inner().and_then(|mut out| out.flush()).map_err(failed)
    }
}

/// An output that knows its own name puts an [`Error`] into the I/O error.
fn failed(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("writing", Path::new("the archive"), error),
    }
}
