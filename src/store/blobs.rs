//! Content under its digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::used::mark_used;
use super::{Descriptor, Digest, Hasher, Store};
use crate::error::{Error, IoContext, Result};

/// Manifests, indexes and configurations larger than this are refused: the registries' own limit is 4 MiB.
const DOCUMENT_LIMIT: u64 = 4 << 20;

impl Store {
    /// Where the blob with this digest lies or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there and has the size that its descriptor says. The content was checked when it came in.
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        let path = self.blob_path(&descriptor.digest);
        let Some(metadata) = path.metadata().ok().filter(|m| m.is_file()) else { return false };
        let whole = metadata.len() == descriptor.size;
        if whole {
            mark_used(&path, &metadata);
        } else {
            self.tell_size(&path, metadata.len(), descriptor.size);
        }
        whole
    }

    /// Opens a blob for reading. Its content is not hashed again here.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        let file = File::open(&path).at("opening the blob", &path)?;
        mark_used(&path, &file.metadata().at("reading", &path)?);
        Ok(file)
    }

    /// Reads a small document (manifest, index, configuration) and checks its digest; a damaged one is removed, so
    /// that the next build fetches it again.
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        self.open_blob(digest)?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).at("reading the blob", &path)?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Error::refused(format!(
                "{digest} is larger than {DOCUMENT_LIMIT} bytes, too large for a manifest"
            )));
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.discard_damaged(digest, &found)?);
        }
        Ok(bytes)
    }

    /// Reads a JSON document of the store.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = self.read_document(digest)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::refused(format!("{digest} is not what it should be: {error}")))
    }

    /// Removes a blob that turned out to be damaged, and gives the error that says so.
    pub fn discard_damaged(&self, digest: &Digest, found: &Digest) -> Result<Error> {
        let path = self.blob_path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing the damaged blob", &path, error))
            }
            _ => {
                self.tell_removed(&path, digest, Some(found));
                let message = format!("the blob {digest} in the store is damaged: its digest is {found}");
                Ok(Error::refused(message).hint("it was removed; build again to fetch or make it anew"))
            }
        }
    }

    /// Stores bytes and returns their digest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has_blob(&Descriptor::new("", digest, bytes.len() as u64)) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).at("writing a blob in", &self.root)?;
        Ok(writer.commit(Some(&digest))?.0)
    }

    /// Starts a new blob.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        Ok(BlobWriter { store: self.clone(), file: self.temporary_file()?, hasher: Hasher::new(), size: 0 })
    }
}

/// A blob being written: hashed on the way, put in place by [`BlobWriter::commit`], deleted if dropped before.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// The number of bytes written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file as it grows; for a second reader of what has been written.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Checks the digest, syncs, and renames into place. Returns digest and size. With `expected`, other content is
    /// refused (exit status 3) and nothing is kept.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let found = self.hasher.finish();
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(Error::refused(format!(
                "content does not match its digest: expected {expected}, found {found}"
            ))
            .hint("the source is damaged or lies; nothing of it was kept"));
        }
        let path = self.store.blob_path(&found);
        self.file.as_file().sync_all().at("writing", &path)?;
        self.file.persist(&path).map_err(|error| Error::io("writing", &path, error.error))?;
        Ok((found, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn wrong_content_is_refused_and_leaves_nothing() {
        let (folder, store) = store();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"one").unwrap();
        let error = writer.commit(Some(&Digest::of(b"two"))).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
        assert_eq!(std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(folder.path().join("temporary")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_document_is_found_and_removed() {
        let (_folder, store) = store();
        let digest = store.put_bytes(b"{}").unwrap();
        std::fs::write(store.blob_path(&digest), b"[]").unwrap();
        assert_eq!(store.read_document(&digest).unwrap_err().exit(), crate::error::Exit::Refused);
        assert!(!store.blob_path(&digest).exists());
    }
}
