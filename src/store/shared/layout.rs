//! An OCI image layout that is only read: it may lie on a medium that cannot be written to, and be no store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::super::used::mark_used;
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::store::manifest::{REF_NAME, media_type};
use crate::store::registry::not_its_digest;
use crate::store::{Descriptor, Digest, ImageConfig, Index, Manifest, Store};

/// Manifests and configurations; the limit of registries.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// `index.json` of a layout with 100,000 names.
const INDEX_LIMIT: u64 = 64 << 20;

/// A layout and what its names stand for.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// Whether there is one.
    pub(super) exists: bool,
    names: BTreeMap<String, Descriptor>,
}

impl Layout {
    /// Reads the index. A folder that is not there is an empty cache: somebody has to be the first.
    pub(super) fn open(folder: &Path) -> Result<Layout> {
        let path = folder.join("index.json");
        let mut layout = Layout { folder: folder.to_owned(), exists: true, names: BTreeMap::new() };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                layout.exists = false;
                return Ok(layout);
            }
            Err(error) => return Err(Error::io("reading", &path, error)),
        };
        let bytes = read_up_to(file, INDEX_LIMIT, &path)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
            Error::refused(format!("{} is no index of an image layout: {error}", path.display()))
                .hint("--cache-from type=local,src=DIR wants what --cache-to type=local,dest=DIR made")
        })?;
        let named = |descriptor: Descriptor| Some((descriptor.annotations.get(REF_NAME)?.clone(), descriptor));
        layout.names = index.manifests.into_iter().filter_map(named).collect();
        Ok(layout)
    }

    /// What a name stands for.
    pub(super) fn find(&self, name: &str) -> Option<Descriptor> {
        self.names.get(name).cloned()
    }

    /// A manifest or configuration, checked; nothing if it is not there.
    pub(super) fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some((file, path)) = self.open_blob(digest)? else { return Ok(None) };
        let bytes = read_up_to(file, DOCUMENT_LIMIT, &path)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(not_its_digest(digest, &found).context(path.display()));
        }
        Ok(Some(bytes))
    }

    /// Copies a blob, up to `limit` bytes of it; nothing if it is not there. The digest is checked by who takes it.
    pub(super) fn copy_blob(&self, digest: &Digest, limit: u64, out: &mut dyn Write) -> Result<Option<u64>> {
        let Some((file, path)) = self.open_blob(digest)? else { return Ok(None) };
        io::copy(&mut file.take(limit), out).at("copying", &path).map(Some)
    }

    /// Brings an image into a store, without a name; nothing if a part of it is not there.
    pub(super) fn bring_image(&self, store: &Store, named: &Descriptor, arch: Arch) -> Result<Option<Descriptor>> {
        let Some(bytes) = self.document(&named.digest)? else { return Ok(None) };
        let manifest: Manifest = parse(&bytes, &named.digest)?;
        let Some(config_bytes) = self.document(&manifest.config.digest)? else { return Ok(None) };
        let config: ImageConfig = parse(&config_bytes, &manifest.config.digest)?;
        if config.architecture != arch.name() || manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::refused(format!("{} is not an image for {arch}", named.digest)));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if !store.has_blob(layer) {
                let mut writer = store.blob_writer()?;
                // One byte more than there should be is enough to see that it is too much.
                if self.copy_blob(&layer.digest, layer.size.saturating_add(1), &mut writer)?.is_none() {
                    return Ok(None);
                }
                writer.commit(Some(&layer.digest))?;
            }
            store.layer(layer, diff_id)?;
        }
        store.put_bytes(&config_bytes)?;
        store.put_bytes(&bytes)?;
        Ok(Some(Descriptor {
            platform: Some(crate::store::Platform::linux(arch)),
            ..Descriptor::new(media_type::MANIFEST, named.digest, bytes.len() as u64)
        }))
    }

    fn open_blob(&self, digest: &Digest) -> Result<Option<(File, PathBuf)>> {
        let path = self.folder.join("blobs/sha256").join(digest.hex());
        match File::open(&path) {
            Ok(file) => {
                // So that `moby cache gc --cache DIR` knows what is in use.
                mark_used(&path, &file.metadata().at("reading", &path)?);
                Ok(Some((file, path)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("reading", &path, error)),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], digest: &Digest) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::refused(format!("{digest} is not what it should be: {error}")))
}

fn read_up_to(file: File, limit: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).at("reading", path)?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(format!("{} has more than {limit} bytes", path.display())));
    }
    Ok(bytes)
}
