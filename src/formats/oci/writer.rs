//! The archive: `oci-layout`, `index.json`, and every blob under its digest.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::format::{Boot, Image, descriptor, media_type};
use crate::error::{Error, IoContext, Result};
use crate::formats::compress::Gzip;
use crate::formats::tar::{Member, MemberKind, Writer, write_tree};
use crate::rootfs::{Content, Tree, write_error};
use crate::store::{Digest, Hasher, Xattrs};

/// What the gzip program uses.
const GZIP_LEVEL: u32 = 6;
/// Where a layout keeps the name of an image (annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A root file system as a layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The compressed archive.
    pub content: Content,
    /// The digest of the archive before compression.
    pub diff_id: Digest,
}

/// Writes a tree as a layer to an empty file, which has to stay for as long as the layer is used. `advance` is told of
/// every file's bytes.
pub fn write_layer(tree: &Tree, file: &std::fs::File, path: &Path, advance: impl FnMut(u64)) -> Result<Layer> {
    let mut compressed = Hashing::new(BufWriter::with_capacity(256 << 10, file));
    let mut plain = Hashing::new(Gzip::new(&mut compressed, GZIP_LEVEL).map_err(write_error)?);
    let mut archive = Writer::new(BufWriter::with_capacity(256 << 10, &mut plain));
    write_tree(tree, &mut archive, false, advance)?;
    archive.finish().and_then(|mut out| out.flush()).map_err(write_error)?;
    let diff_id = plain.hasher.finish();
    plain.out.finish().map_err(write_error)?;
    compressed.out.flush().at("writing", path)?;
    let content = Content::part(path.into(), 0, compressed.size, compressed.hasher.finish());
    Ok(Layer { content, diff_id })
}

/// A layout as it is filled.
#[derive(Debug, Default)]
pub struct Layout {
    manifests: Vec<Value>,
    blobs: BTreeMap<Digest, Content>,
}

impl Layout {
    /// A layout with nothing in it.
    pub fn new() -> Layout {
        Layout::default()
    }

    /// Adds an image under a name.
    pub fn image(&mut self, name: &str, image: &Image<'_>) -> Result<()> {
        let config = self.document(&image.config())?;
        self.blob(&image.layer.content);
        let manifest = self.document(&image.manifest(&config))?;
        let mut entry = descriptor(media_type::MANIFEST, &manifest);
        entry["platform"] = json!({"architecture": image.arch.name(), "os": "linux"});
        self.named(entry, name);
        Ok(())
    }

    /// Adds an artefact that machines boot, under a name.
    pub fn boot(&mut self, name: &str, boot: &Boot) -> Result<()> {
        let empty = self.document(&json!({}))?;
        for content in [&boot.kernel, &boot.initrd, &boot.command_line] {
            self.blob(content);
        }
        let manifest = self.document(&boot.manifest(&empty))?;
        let mut entry = descriptor(media_type::MANIFEST, &manifest);
        entry["artifactType"] = json!(media_type::BOOT);
        // No "os": it is below an operating system, and no container runtime is to choose it.
        self.named(entry, name);
        Ok(())
    }

    fn named(&mut self, mut entry: Value, name: &str) {
        entry["annotations"] = json!({REF_NAME: name});
        self.manifests.push(entry);
    }

    fn blob(&mut self, content: &Content) {
        self.blobs.insert(content.digest, content.clone());
    }

    fn document(&mut self, document: &Value) -> Result<Content> {
        let content = Content::bytes(json_bytes(document)?);
        self.blob(&content);
        Ok(content)
    }

    /// Writes the archive. `time` is that of its members.
    pub fn write(&self, out: impl Write, time: i64) -> Result<()> {
        let mut archive = Writer::new(out);
        let index = json!({"manifests": self.manifests, "mediaType": media_type::INDEX, "schemaVersion": 2});
        let files = [("oci-layout", json!({"imageLayoutVersion": "1.0.0"})), ("index.json", index)];
        for (name, document) in files {
            member(&mut archive, name, MemberKind::File(0), &Content::bytes(json_bytes(&document)?), time)?;
        }
        for folder in ["blobs", "blobs/sha256"] {
            member(&mut archive, folder, MemberKind::Folder, &Content::bytes([]), time)?;
        }
        for (digest, content) in &self.blobs {
            member(&mut archive, &format!("blobs/sha256/{}", digest.hex()), MemberKind::File(0), content, time)?;
        }
        archive.finish().and_then(|mut out| out.flush()).map_err(write_error)
    }
}

fn member<W: Write>(
    archive: &mut Writer<W>,
    path: &str,
    kind: MemberKind<'_>,
    content: &Content,
    mtime: i64,
) -> Result<()> {
    let xattrs = Xattrs::new();
    let (mode, kind) = match kind {
        MemberKind::File(_) => (0o644, MemberKind::File(content.size)),
        other => (0o755, other),
    };
    let path = path.as_bytes();
    let member = Member { path, mode, uid: 0, gid: 0, mtime, xattrs: &xattrs, records: &[], kind };
    archive.member(&member).map_err(write_error)?;
    content.copy_to(archive)
}

fn json_bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::failed(format!("writing JSON: {error}")))
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Hashing<W> {
        Hashing { out, hasher: Hasher::new(), size: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;

    #[test]
    fn every_descriptor_names_a_blob_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer");
        let layer = write_layer(&Tree::new(0), &std::fs::File::create(&path).unwrap(), &path, |_| {}).unwrap();
        // An empty archive: two blocks of zeros.
        assert_eq!(layer.diff_id, Digest::of(&[0; 1024]));
        assert_eq!(layer.content.digest, Digest::of(&std::fs::read(&path).unwrap()));
        let mut layout = Layout::new();
        let (arch, time) = (Arch::Arm64, 0);
        layout.image("latest", &Image { arch, layer: &layer, entrypoint: vec!["/init".into()], time }).unwrap();
        let content = |text: &str| Content::bytes(text.as_bytes());
        let boot = Boot { arch, kernel: content("kernel"), initrd: content("initrd"), command_line: content("quiet") };
        layout.boot("boot", &boot).unwrap();
        let mut bytes = Vec::new();
        layout.write(&mut bytes, 0).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            io::copy(&mut entry, &mut content).unwrap();
            files.insert(name, content);
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(
                (Digest::of(bytes).to_string().as_str(), Some(bytes.len() as u64)),
                (digest, descriptor["size"].as_u64())
            );
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifests: Vec<Value> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| serde_json::from_slice(&blob(entry)).unwrap())
            .collect();
        let config: Value = serde_json::from_slice(&blob(&manifests[0]["config"])).unwrap();
        assert_eq!((&config["architecture"], &config["created"]), (&json!("arm64"), &json!("1970-01-01T00:00:00Z")));
        blob(&manifests[0]["layers"][0]);
        assert_eq!(manifests[1]["artifactType"], media_type::BOOT);
        assert_eq!(blob(&manifests[1]["config"]), b"{}");
        let layers: Vec<Vec<u8>> = manifests[1]["layers"].as_array().unwrap().iter().map(blob).collect();
        assert_eq!(layers, [&b"kernel"[..], b"initrd", b"quiet"]);
    }
}
