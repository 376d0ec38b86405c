//! Archives of images into the store: an OCI layout in a tar, or what `docker save` and podman write; compressed or not.
//!
//! The archive is read once, from front to back. Layers become blobs as they come; documents are understood at the end,
//! since archives have them in any order. Limits: 100,000 entries, 4 MiB for a document.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;

use super::export::CONTAINERD_NAME;
use super::inflate::{InflationLimit, decompress_within};
use super::layout::INDEX_DEPTH;
use super::manifest::{REF_NAME, media_type};
use super::{Compression, Descriptor, Digest, Index, Manifest, Store};
use crate::error::{Error, IoContext, Result};

const MOST_ENTRIES: usize = 100_000;
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Characters of an error of reading that are shown.
const MESSAGE_LIMIT: usize = 160;
/// Images of one archive, and names of all of them; more is not an archive that anybody made.
const MOST_IMAGES: usize = 1000;

/// An image that came out of an archive.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Its name in the store.
    pub name: String,
    /// What the name stands for.
    pub descriptor: Descriptor,
}

/// An image of an archive, with what it is called there.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// Whole names.
    pub names: Vec<String>,
    /// In a layout, a mere tag.
    pub tag: Option<String>,
    /// What it is.
    pub descriptor: Descriptor,
}

/// Makes the store's name of a name in an archive; nothing if it is none.
pub type Canonical<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// An entry of `manifest.json` in a Docker archive.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What was checked of images: nothing is checked twice, however often indexes and manifests name it.
#[derive(Default)]
pub(super) struct Seen {
    documents: HashSet<Digest>,
    /// By digest and diff ID.
    layers: HashSet<(Digest, Digest)>,
}

/// What an archive holds.
#[derive(Default)]
struct Contents {
    /// `index.json` of a layout.
    index: Option<Vec<u8>>,
    /// `manifest.json` of a Docker archive.
    docker: Option<Vec<u8>>,
    /// Everything else that may be part of an image, by path.
    files: HashMap<String, (Digest, u64)>,
    /// Symbolic links, as old Docker writes for layers that are there twice.
    links: HashMap<String, String>,
}

impl Store {
    /// Reads an archive. `name` is given to its image, which then must be the only one; without it the archive's own
    /// names count. Every layer is inflated and checked.
    pub fn import(
        &self,
        archive: impl Read + Send,
        name: Option<&str>,
        canonical: &Canonical<'_>,
    ) -> Result<Vec<Imported>> {
        let mut found = Vec::new();
        for image in self.take_images(archive)? {
            let names: Vec<String> = image.names.iter().filter_map(|name| canonical(name)).collect();
            if names.is_empty() {
                found.push((None, image.descriptor));
            } else {
                found.extend(names.into_iter().map(|name| (Some(name), image.descriptor.clone())));
            }
        }
        if let Some(name) = name {
            let [(_, descriptor)] = found.as_slice() else {
                let message = format!("the archive has {} images, so that one name does not fit", found.len());
                return Err(Error::usage(message).hint("leave --name away"));
            };
            found = vec![(Some(name.to_string()), descriptor.clone())];
        }
        if found.len() > MOST_IMAGES {
            return Err(Error::refused(format!("the images of the archive have more than {MOST_IMAGES} names")));
        }
        let (mut imported, mut seen) = (Vec::new(), Seen::default());
        for (name, descriptor) in found {
            let Some(name) = name else {
                return Err(Error::refused(format!("the image {} has no name in the archive", descriptor.digest))
                    .hint("give it one with --name"));
            };
            self.check_image(&descriptor, &mut seen).map_err(|error| error.context(&name))?;
            imported.push(Imported { name, descriptor });
        }
        for image in &imported {
            self.set_name(&image.name, image.descriptor.clone())?;
        }
        Ok(imported)
    }

    /// Brings the images of an archive into the store without giving them names. Every layer is inflated and checked.
    pub fn read_archive(&self, archive: impl Read + Send) -> Result<Vec<Found>> {
        let images = self.take_images(archive)?;
        let mut seen = Seen::default();
        for image in &images {
            let name = image.names.first().or(image.tag.as_ref()).cloned();
            let name = name.unwrap_or_else(|| image.descriptor.digest.to_string());
            self.check_image(&image.descriptor, &mut seen).map_err(|error| error.context(name.escape_debug()))?;
        }
        Ok(images)
    }

    fn take_images(&self, archive: impl Read + Send) -> Result<Vec<Found>> {
        let stream = decompress_within(InflationLimit::default(), archive).map_err(unreadable)?;
        let contents = self.take_in(stream)?;
        match (&contents.index, &contents.docker) {
            (Some(index), _) => self.layout_images(index),
            (None, Some(docker)) => self.docker_images(docker, &contents),
            (None, None) => {
                Err(Error::refused("this is no archive of images: it has neither index.json nor manifest.json")
                    .hint("archives come from docker save, podman save, skopeo copy, buildx or moby cache export"))
            }
        }
    }

    fn take_in(&self, stream: impl Read) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut archive = tar::Archive::new(stream);
        for (number, entry) in archive.entries().map_err(unreadable)?.enumerate() {
            let mut entry = entry.map_err(unreadable)?;
            if number == MOST_ENTRIES {
                return Err(Error::refused(format!("the archive has more than {MOST_ENTRIES} entries")));
            }
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = path.strip_prefix("./").unwrap_or(&path).to_string();
            match entry.header().entry_type() {
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let hard = entry.header().entry_type() == tar::EntryType::Link;
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    contents.links.insert(path.clone(), if hard { target } else { beside(&path, &target) });
                }
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    match path.as_str() {
                        "index.json" => contents.index = Some(document(&mut entry)?),
                        "manifest.json" => contents.docker = Some(document(&mut entry)?),
                        "oci-layout" | "repositories" => {}
                        _ => {
                            if let Some(blob) = self.take_file(&path, &mut entry)? {
                                contents.files.insert(path, blob);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// Makes a blob of what may be part of an image: a blob of a layout, a configuration, a layer.
    fn take_file(&self, path: &str, entry: &mut impl Read) -> Result<Option<(Digest, u64)>> {
        let expected = path.strip_prefix("blobs/sha256/").map(|hex| {
            Digest::from_hex(hex)
                .ok_or_else(|| Error::refused(format!("the archive has a blob of the name \"{}\"", hex.escape_debug())))
        });
        let expected = expected.transpose()?;
        let is_part = Path::new(path).extension().is_some_and(|extension| extension == "json" || extension == "tar");
        if expected.is_none() && !is_part {
            return Ok(None);
        }
        let mut writer = self.blob_writer()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = entry.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            io::Write::write_all(&mut writer, &buffer[..count]).at("writing a blob in", self.root())?;
        }
        writer.commit(expected.as_ref()).map(Some).map_err(|error| error.context(path))
    }

    fn layout_images(&self, index: &[u8]) -> Result<Vec<Found>> {
        let index: Index = parse("index.json", index)?;
        if index.manifests.len() > MOST_IMAGES {
            return Err(Error::refused(format!("the archive has more than {MOST_IMAGES} images")));
        }
        let mut found = Vec::new();
        for given in index.manifests {
            // The annotations are the archive's own; what the content is, it says itself.
            if !self.blob_path(&given.digest).is_file() {
                return Err(Error::refused(format!("{} is not in the archive, but index.json names it", given.digest)));
            }
            let descriptor = self.describe(&given.digest)?;
            found.push(Found { descriptor, ..Found::annotated(given) });
        }
        Ok(found)
    }

    fn docker_images(&self, list: &[u8], contents: &Contents) -> Result<Vec<Found>> {
        let list: Vec<DockerImage> = parse("manifest.json", list)?;
        if list.len() > MOST_IMAGES {
            return Err(Error::refused(format!("the archive has more than {MOST_IMAGES} images")));
        }
        let mut found = Vec::new();
        for image in list {
            let (config, size) = contents.find(&image.config)?;
            let mut layers = Vec::new();
            for name in image.layers.iter().flatten() {
                let (digest, size) = contents.find(name)?;
                let mut start = Vec::new();
                self.open_blob(&digest)?.take(6).read_to_end(&mut start).at("reading", &self.blob_path(&digest))?;
                let kind = match Compression::detect(&start) {
                    Compression::Gzip => media_type::LAYER_GZIP,
                    Compression::Zstd => media_type::LAYER_ZSTD,
                    Compression::None | Compression::Xz => media_type::LAYER,
                };
                layers.push(Descriptor::new(kind, digest, size));
            }
            let config = Descriptor::new(media_type::CONFIG, config, size);
            let manifest = Manifest { schema_version: 2, media_type: media_type::MANIFEST.to_string(), config, layers };
            let bytes =
                serde_json::to_vec(&manifest).map_err(|error| Error::failed(format!("writing a manifest: {error}")))?;
            let descriptor = Descriptor::new(media_type::MANIFEST, self.put_bytes(&bytes)?, bytes.len() as u64);
            found.push(Found { names: image.repo_tags.unwrap_or_default(), tag: None, descriptor });
        }
        Ok(found)
    }

    /// Everything of an image is there and fits together; of an index, at least one image.
    pub(super) fn check_image(&self, descriptor: &Descriptor, seen: &mut Seen) -> Result<()> {
        let mut pending = Vec::new();
        if seen.documents.insert(descriptor.digest) {
            pending.push((descriptor.clone(), 0));
        }
        while let Some((descriptor, depth)) = pending.pop() {
            if !media_type::is_index(&descriptor.media_type) {
                self.check_manifest(&descriptor, seen)?;
                continue;
            }
            if depth == INDEX_DEPTH {
                return Err(Error::refused(format!("indexes within indexes, more than {INDEX_DEPTH} deep")));
            }
            let index: Index = self.read_json(&descriptor.digest)?;
            let mut empty = true;
            for child in index.manifests.iter().filter(|child| self.has_blob(child)) {
                empty = false;
                // Attestations are manifests of another kind; they are kept as they are.
                if seen.documents.insert(child.digest)
                    && let Ok(child) = self.describe(&child.digest)
                {
                    pending.push((child, depth + 1));
                }
            }
            if empty {
                return Err(Error::refused(format!("the archive has no image of the index {}", descriptor.digest)));
            }
        }
        Ok(())
    }

    fn check_manifest(&self, descriptor: &Descriptor, seen: &mut Seen) -> Result<()> {
        let (manifest, config) = self.whole_image(descriptor)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if !self.has_blob(layer) {
                let digest = layer.digest;
                return Err(Error::refused(format!("the layer {digest} is not in the archive, or of another size")));
            }
            if seen.layers.insert((layer.digest, *diff_id)) {
                self.layer(layer, diff_id)?;
            }
        }
        Ok(())
    }
}

impl Found {
    /// What an entry of a layout's `index.json` is called.
    pub(super) fn annotated(descriptor: Descriptor) -> Found {
        let whole = descriptor.annotations.get(CONTAINERD_NAME);
        // skopeo puts whole names there, buildkit just the tag.
        let (name, tag) = match descriptor.annotations.get(REF_NAME) {
            Some(name) if name.contains('/') => (Some(name), None),
            tag => (None, tag.cloned()),
        };
        let names = whole.or(name).cloned().into_iter().collect();
        Found { names, tag, descriptor: Descriptor { annotations: Default::default(), platform: None, ..descriptor } }
    }
}

impl Contents {
    fn find(&self, path: &str) -> Result<(Digest, u64)> {
        let mut path = path;
        // A link may lead to a link; a circle ends too.
        for _ in 0..8 {
            if let Some(found) = self.files.get(path) {
                return Ok(*found);
            }
            let Some(target) = self.links.get(path) else { break };
            path = target;
        }
        Err(Error::refused(format!("\"{}\" is not in the archive, but manifest.json names it", path.escape_debug())))
    }
}

/// A relative link's target, seen from the archive's root. One that leads out of it names nothing there.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn document(entry: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::refused(format!("a document of the archive has more than {DOCUMENT_LIMIT} bytes")));
    }
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::refused(format!("{name} of the archive: {error}")))
}

/// What is no tar has its first bytes in the message, whatever they are: they are shown as text, and not all of them.
fn unreadable(error: io::Error) -> Error {
    let text = error.to_string();
    let is_text = |c: &char| !c.is_control() && *c != char::REPLACEMENT_CHARACTER;
    let shown: String = text.chars().filter(is_text).take(MESSAGE_LIMIT).collect();
    Error::refused(format!("the archive cannot be read: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, document: &impl serde::Serialize, kind: &str) -> Descriptor {
        let bytes = serde_json::to_vec(document).unwrap();
        Descriptor::new(kind, store.put_bytes(&bytes).unwrap(), bytes.len() as u64)
    }

    fn image(store: &Store) -> Descriptor {
        let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let diff_id = store.put_bytes(&layer).unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}
        });
        let config = put(store, &config, media_type::CONFIG);
        let layers = vec![Descriptor::new(media_type::LAYER, diff_id, layer.len() as u64)];
        let manifest = Manifest { schema_version: 2, media_type: media_type::MANIFEST.to_string(), config, layers };
        put(store, &manifest, media_type::MANIFEST)
    }

    fn index_of(store: &Store, children: Vec<Descriptor>) -> Descriptor {
        let index = Index { schema_version: 2, manifests: children, ..Index::default() };
        put(store, &index, media_type::INDEX)
    }

    #[test]
    fn a_file_that_is_no_archive_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let noise: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let text = "kernel:\n  image: \"x\"\n".repeat(100);
        for bytes in [noise.as_slice(), text.as_bytes()] {
            let error = store.import(bytes, None, &|name| Some(name.to_owned())).unwrap_err();
            let message = error.message();
            assert!(message.len() < 400 && !message.contains(char::is_control), "{message:?}");
            assert!(message.contains("cannot be read"), "{message:?}");
        }
    }

    /// Indexes that name the one before again and again: without a memory of what was seen, 10,000^3 images.
    #[test]
    fn what_indexes_name_often_is_looked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let image = image(&store);
        let mut top = image.clone();
        for _ in 0..INDEX_DEPTH {
            top = index_of(&store, vec![top; 10_000]);
        }
        store.check_image(&top, &mut Seen::default()).unwrap();
        let parts = store.parts_of([top.digest]);
        assert_eq!((parts.blobs.len(), parts.layers.len()), (INDEX_DEPTH + 3, 1));
        assert!(parts.blobs.contains(&image.digest));
    }

    #[test]
    fn chains_of_indexes_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let image = image(&store);
        let mut top = image.clone();
        for _ in 0..300 {
            top = index_of(&store, vec![top]);
        }
        let error = store.check_image(&top, &mut Seen::default()).unwrap_err();
        assert!(error.message().contains("indexes within indexes, more than 3 deep"), "{error}");
        // What is named further up, too, is not lost to the limit.
        let deep = index_of(&store, vec![index_of(&store, vec![index_of(&store, vec![image.clone()])]), image.clone()]);
        assert!(store.parts_of([index_of(&store, vec![deep]).digest]).blobs.contains(&image.digest));
    }
}
