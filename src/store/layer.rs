//! Inflated layers: a layer's tar on disk, uncompressed, with its index.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::digest::Hashing;
use super::inflate::{InflationLimit, decompress_within};
use super::layer_index::LayerIndex;
use super::used::mark_used;
use super::{Descriptor, Digest, Store, tar_index};
use crate::error::{Error, IoContext, Result};

/// Kinds of derived data. The number is the version of the code and goes up when the content would differ.
pub(super) const TAR_KIND: &str = "layer-1";
pub(super) const INDEX_KIND: &str = "index-1";

/// A layer that is ready to be flattened.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The uncompressed tar; entries' offsets count from its start.
    pub file: Arc<Path>,
    /// What is in it.
    pub index: Arc<LayerIndex>,
}

/// How a stream is compressed; told from its first bytes, since media types lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
    /// xz.
    Xz,
}

impl Compression {
    /// Recognises a compression by its magic number. Six bytes are enough.
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may stand first (zstd:chunked writes them last, but the specification allows it).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }
}

/// An inflating reader over a stream of any supported compression. Windows of zstd frames are bounded to 128 MiB and
/// xz dictionaries to 64 MiB, what the reference tools' highest levels need.
pub fn decompress<'a>(stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        match stream.read(&mut start[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let head = io::Cursor::new(start).take(filled as u64);
    let compression = Compression::detect(&start[..filled]);
    let stream = BufReader::with_capacity(64 << 10, head.chain(stream));
    Ok(match compression {
        Compression::None => Box::new(stream),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, 80 << 10)),
    })
}

impl Store {
    /// Reads a layer's stream, compressed or not, to its end: inflates, hashes, indexes and writes it. Nothing is in
    /// the store until [`PendingLayer::commit`].
    ///
    /// # Errors
    /// Exit status 3 for what is no tar, damaged, or inflates without measure (see `inflate.rs`).
    pub fn inflate(&self, stream: impl Read + Send) -> Result<PendingLayer> {
        self.inflate_within(InflationLimit::default(), stream)
    }

    pub(super) fn inflate_within(&self, limit: InflationLimit, stream: impl Read + Send) -> Result<PendingLayer> {
        let stream = decompress_within(limit, stream)
            .map_err(|error| Error::refused(format!("the layer is not readable: {error}")))?;
        let file = self.temporary_file()?;
        let (diff_id, index) = tar_index::index_tar(stream, io::BufWriter::with_capacity(256 << 10, file.as_file()))?;
        Ok(PendingLayer { store: self.clone(), file, diff_id, index })
    }

    /// The layer with this diff ID, if it is inflated and whole. `blob` is the layer's own blob, which serves as the
    /// inflated file when it is not compressed.
    pub fn inflated(&self, diff_id: &Digest) -> Option<Layer> {
        let index = self.layer_index(diff_id)?;
        let file = [self.derived_path(TAR_KIND, diff_id), self.blob_path(diff_id)].into_iter().find(|path| {
            let Some(metadata) = path.metadata().ok().filter(|m| m.is_file()) else { return false };
            let whole = metadata.len() == index.tar_size;
            if whole {
                mark_used(path, &metadata);
            } else {
                self.tell_size(path, metadata.len(), index.tar_size);
            }
            whole
        })?;
        self.took(&file, diff_id);
        Some(Layer { diff_id: *diff_id, file: file.into(), index: Arc::new(index) })
    }

    /// The index of a layer, whether the layer itself is there or not.
    pub fn layer_index(&self, diff_id: &Digest) -> Option<LayerIndex> {
        let path = self.derived(INDEX_KIND, diff_id)?;
        let index = LayerIndex::decode(&std::fs::read(&path).ok()?);
        if index.is_none() {
            self.tell_damaged(&path);
            // Who cannot remove it cannot make it again either, and is told so there.
            let _ = self.remove_derived(INDEX_KIND, diff_id);
        }
        index
    }

    /// The layer that a descriptor names: inflated already, or inflated now from its blob, whose digest is checked on
    /// the way. `diff_id` is what the image's configuration says about it.
    pub fn layer(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<Layer> {
        if let Some(layer) = self.inflated(diff_id) {
            return Ok(layer);
        }
        let path = self.blob_path(&descriptor.digest);
        let mut blob = Hashing::new(self.open_blob(&descriptor.digest)?);
        let pending = self.inflate(&mut blob);
        let found = blob.finish().at("reading the blob", &path)?;
        if found != descriptor.digest {
            return Err(self.discard_damaged(&descriptor.digest, &found)?);
        }
        pending?.commit(Some(diff_id))
    }
}

impl Store {
    /// The index of an uncompressed tar archive that is a part of a file, such as the archive of modules in a kernel
    /// image. Its entries' offsets count from the start of that file.
    pub fn archive_in_file(&self, file: &Arc<Path>, offset: u64, size: u64, digest: &Digest) -> Result<Layer> {
        if offset == 0 && file.metadata().is_ok_and(|meta| meta.len() == size) && file.starts_with(self.root()) {
            self.took(file, digest);
        }
        let mut index = match self.layer_index(digest) {
            Some(index) => index,
            None => {
                let mut archive = File::open(file).at("opening", file)?;
                io::Seek::seek(&mut archive, io::SeekFrom::Start(offset)).at("reading", file)?;
                let archive = BufReader::with_capacity(256 << 10, archive.take(size));
                let (found, index) = tar_index::index_tar(archive, io::sink())?;
                if found != *digest {
                    return Err(Error::refused(format!(
                        "{} is damaged: an archive in it has the digest {found} instead of {digest}",
                        file.display()
                    ))
                    .hint("if it lies in the store, remove that file; it will be made again"));
                }
                self.put_index(digest, &index)?;
                index
            }
        };
        for entry in &mut index.entries {
            if let super::EntryKind::File { offset: at, .. } = &mut entry.kind {
                *at += offset;
            }
        }
        Ok(Layer { diff_id: *digest, file: file.clone(), index: Arc::new(index) })
    }

    fn put_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<()> {
        let file = self.temporary_file()?;
        std::fs::write(file.path(), index.encode()).at("writing", file.path())?;
        self.put_derived(INDEX_KIND, diff_id, file).map(drop)
    }
}

/// A layer that was read whole but is not in the store yet.
#[derive(Debug)]
pub struct PendingLayer {
    store: Store,
    file: tempfile::NamedTempFile,
    diff_id: Digest,
    index: LayerIndex,
}

impl PendingLayer {
    /// The digest of the uncompressed tar.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Puts the layer in the store. With `expected`, a layer whose tar has another digest is refused.
    pub fn commit(self, expected: Option<&Digest>) -> Result<Layer> {
        if let Some(expected) = expected
            && *expected != self.diff_id
        {
            return Err(Error::refused(format!(
                "the inflated layer does not match its diff ID: expected {expected}, found {}",
                self.diff_id
            ))
            .hint("the image's configuration and its layers do not belong together; nothing was kept"));
        }
        let blob = self.store.blob_path(&self.diff_id);
        let file = if blob.metadata().is_ok_and(|m| m.len() == self.index.tar_size) {
            blob
        } else {
            self.store.put_derived(TAR_KIND, &self.diff_id, self.file)?
        };
        self.store.put_index(&self.diff_id, &self.index)?;
        self.store.took(&file, &self.diff_id);
        Ok(Layer { diff_id: self.diff_id, file: file.into(), index: Arc::new(self.index) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn small_tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o600);
        builder.append_data(&mut header, "x", b"abc".as_slice()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn every_compression_gives_the_same_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tar = small_tar();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&tar).unwrap();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        xz.write_all(&tar).unwrap();
        for bytes in
            [tar.clone(), gzip.finish().unwrap(), zstd::encode_all(tar.as_slice(), 3).unwrap(), xz.finish().unwrap()]
        {
            let pending = store.inflate(bytes.as_slice()).unwrap();
            assert_eq!(pending.diff_id(), Digest::of(&tar));
        }
    }

    #[test]
    fn a_damaged_blob_is_found_when_it_is_inflated() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tar = small_tar();
        let blob = zstd::encode_all(tar.as_slice(), 3).unwrap();
        let digest = store.put_bytes(&blob).unwrap();
        let descriptor = Descriptor::new("", digest, blob.len() as u64);
        assert_eq!(store.layer(&descriptor, &Digest::of(&tar)).unwrap().index.entries.len(), 1);
        std::fs::remove_dir_all(folder.path().join("derived/layer-1")).unwrap();
        let mut damaged = blob.clone();
        damaged[blob.len() / 2] ^= 1;
        std::fs::write(store.blob_path(&digest), damaged).unwrap();
        assert_eq!(store.layer(&descriptor, &Digest::of(&tar)).unwrap_err().exit(), crate::error::Exit::Refused);
        assert!(!store.blob_path(&digest).exists());
    }
}
