//! What is in the store: images with what belongs to them, and everything else.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::layout::INDEX_DEPTH;
use super::manifest::media_type;
use super::used::last_used;
use super::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Store};
use crate::error::{Error, IoContext, Result};

/// Manifests larger than this are no manifests; the limit of reading them.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Derived data that belongs to an image's layers; other kinds belong to nobody.
const LAYER_KINDS: [&str; 2] = [super::layer::TAR_KIND, super::layer::INDEX_KIND];

/// A file of the store, or a folder that counts as one.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was last used, to the hour.
    pub used: SystemTime,
    /// What it is.
    pub kind: ItemKind,
}

/// What an [`Item`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A blob.
    Blob(Digest),
    /// Derived data: its kind, and its key if the name is one.
    Derived(String, Option<Digest>),
}

/// An image of the store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its name; an image of a foreign layout may have none.
    pub name: Option<String>,
    /// What the name stands for.
    pub descriptor: Descriptor,
    /// The platforms that are there, manifest and configuration at least.
    pub platforms: Vec<Platform>,
    /// What it consists of.
    pub parts: Parts,
    /// Bytes of its blobs, shared ones too.
    pub size: u64,
    /// When any of it was last used.
    pub used: Option<SystemTime>,
}

/// What images consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Indexes, manifests, configurations, layers.
    pub blobs: BTreeSet<Digest>,
    /// The digests of the inflated layers.
    pub layers: BTreeSet<Digest>,
}

impl Parts {
    /// Whether an item belongs to them.
    pub fn have(&self, kind: &ItemKind) -> bool {
        match kind {
            ItemKind::Blob(digest) => self.blobs.contains(digest) || self.layers.contains(digest),
            ItemKind::Derived(kind, Some(key)) => LAYER_KINDS.contains(&kind.as_str()) && self.layers.contains(key),
            ItemKind::Derived(_, None) => false,
        }
    }
}

impl Store {
    /// Every image, sorted by name.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut images = Vec::new();
        for descriptor in self.read_index()?.manifests {
            let (mut parts, mut platforms) = (Parts::default(), Vec::new());
            self.gather([descriptor.clone()], &mut parts, &mut platforms);
            let there: Vec<Metadata> =
                parts.blobs.iter().filter_map(|digest| self.blob_path(digest).metadata().ok()).collect();
            let inflated = parts
                .layers
                .iter()
                .filter_map(|digest| self.derived_path(super::layer::INDEX_KIND, digest).metadata().ok());
            let used = there.iter().map(last_used).chain(inflated.map(|metadata| last_used(&metadata))).max();
            images.push(StoredImage {
                name: descriptor.annotations.get(super::manifest::REF_NAME).cloned(),
                size: there.iter().map(Metadata::len).sum(),
                descriptor,
                platforms,
                parts,
                used,
            });
        }
        images.sort_by(|a, b| (&a.name, a.descriptor.digest).cmp(&(&b.name, b.descriptor.digest)));
        Ok(images)
    }

    /// What digests lead to: those that are manifests or indexes with everything in them, others as they are.
    pub fn parts_of(&self, digests: impl IntoIterator<Item = Digest>) -> Parts {
        let named = digests.into_iter().map(|digest| {
            // Whatever it is: a document that can be read as both is none (see `registry::read_document`).
            let is_index = self.peek::<Index>(&digest).is_some_and(|index| !index.manifests.is_empty());
            let kind = if is_index { media_type::INDEX } else { media_type::MANIFEST };
            Descriptor::new(kind, digest, 0)
        });
        let mut parts = Parts::default();
        self.gather(named, &mut parts, &mut Vec::new());
        parts
    }

    /// Adds what descriptors lead to. What is not there or cannot be read is left out: an image may be there for some
    /// of its platforms only. Every document is read once, however often indexes name it, and the shallowest first, so
    /// that the limit of depth cuts nothing that is also named further up.
    fn gather(&self, named: impl IntoIterator<Item = Descriptor>, parts: &mut Parts, platforms: &mut Vec<Platform>) {
        let mut pending: VecDeque<(Descriptor, usize)> = named.into_iter().map(|named| (named, 0)).collect();
        // What was read, by digest and by what it was read as, and whether it is a whole image.
        let mut read: HashMap<(Digest, bool), bool> = HashMap::new();
        while let Some((descriptor, depth)) = pending.pop_front() {
            let is_index = media_type::is_index(&descriptor.media_type);
            if let Some(whole) = read.get(&(descriptor.digest, is_index)) {
                platforms.extend(descriptor.platform.filter(|_| *whole));
                continue;
            }
            parts.blobs.insert(descriptor.digest);
            let mut whole = false;
            if !is_index {
                let platform = self.gather_image(&descriptor.digest, parts);
                whole = platform.is_some();
                platforms.extend(platform.map(|said| descriptor.platform.unwrap_or(said)));
            } else if depth < INDEX_DEPTH
                && let Some(index) = self.peek::<Index>(&descriptor.digest)
            {
                pending.extend(index.manifests.into_iter().map(|child| (child, depth + 1)));
            }
            read.insert((descriptor.digest, is_index), whole);
        }
    }

    /// Adds what an image has, and gives the platform that its configuration says, if that is there.
    fn gather_image(&self, manifest: &Digest, parts: &mut Parts) -> Option<Platform> {
        let manifest = self.peek::<Manifest>(manifest)?;
        parts.blobs.insert(manifest.config.digest);
        parts.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        let config = self.peek::<ImageConfig>(&manifest.config.digest)?;
        parts.layers.extend(&config.rootfs.diff_ids);
        Some(Platform { architecture: config.architecture, os: config.os, variant: None })
    }

    /// The digests of the layers, packed and inflated, of all images among the items, named or not.
    pub(super) fn layer_digests(&self, items: &[Item]) -> BTreeSet<Digest> {
        let mut digests = BTreeSet::new();
        for item in items {
            let ItemKind::Blob(blob) = &item.kind else { continue };
            let Some(manifest) = self.peek::<Manifest>(blob) else { continue };
            digests.extend(manifest.layers.iter().map(|layer| layer.digest));
            let config = self.peek::<ImageConfig>(&manifest.config.digest);
            digests.extend(config.into_iter().flat_map(|config| config.rootfs.diff_ids));
        }
        digests
    }

    /// Reads a document without counting that as a use, and without judging it.
    fn peek<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Option<T> {
        let path = self.blob_path(digest);
        let bytes = path.metadata().ok().filter(|m| m.len() <= DOCUMENT_LIMIT).and_then(|_| fs::read(&path).ok())?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Every blob and every derived thing.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        list(&self.root().join("blobs/sha256"), &mut |path, metadata| {
            // Something foreign in the folder is not ours to take away.
            let digest = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?));
            items.extend(digest.map(|digest| item(path, metadata, ItemKind::Blob(digest))).transpose()?);
            Ok(())
        })?;
        let mut kinds = Vec::new();
        list(&self.root().join("derived"), &mut |path, metadata| {
            kinds.extend(metadata.is_dir().then_some(path));
            Ok(())
        })?;
        for folder in kinds {
            let kind = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            list(&folder, &mut |path, metadata| {
                let key = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?));
                items.push(item(path, metadata, ItemKind::Derived(kind.clone(), key))?);
                Ok(())
            })?;
        }
        items.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(items)
    }
}

fn item(path: PathBuf, metadata: &Metadata, kind: ItemKind) -> Result<Item> {
    let size = if metadata.is_dir() { folder_size(&path)? } else { metadata.len() };
    Ok(Item { path, size, used: last_used(metadata), kind })
}

/// Calls `each` for what is in a folder. What vanishes meanwhile is passed over: other processes clean up too.
fn list(folder: &Path, each: &mut dyn FnMut(PathBuf, &Metadata) -> Result<()>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("reading", folder, error)),
    };
    for entry in entries {
        let path = entry.at("reading", folder)?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) => each(path, &metadata)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("reading", &path, error)),
        }
    }
    Ok(())
}

/// The bytes of all files in a folder. Without recursion: nothing says how deep it is.
fn folder_size(folder: &Path) -> Result<u64> {
    let (mut size, mut folders) = (0, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        list(&folder, &mut |path, metadata| {
            if metadata.is_dir() {
                folders.push(path);
            } else {
                size += metadata.len();
            }
            Ok(())
        })?;
    }
    Ok(size)
}
