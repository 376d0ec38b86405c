//! What was computed from blobs and can be computed again: inflated layers, their indexes, compressed segments.
//!
//! Each thing lies under a kind and the digest of everything that it was made from: inputs, options and the version
//! of the code that made it. Nothing here is ever the only copy.

use std::io::Write;
use std::path::PathBuf;

use super::used::mark_used;
use super::{Digest, Store};
use crate::error::{Error, IoContext, Result};

impl Store {
    /// Where a derived thing lies or would lie. `kind` is a folder name that ends in the version of its maker.
    pub fn derived_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("derived").join(kind).join(key.hex())
    }

    /// The path of a derived thing if it is there.
    pub fn derived(&self, kind: &str, key: &Digest) -> Option<PathBuf> {
        let path = self.derived_path(kind, key);
        mark_used(&path, &path.metadata().ok().filter(std::fs::Metadata::is_file)?);
        Some(path)
    }

    /// Puts a note in place as a derived thing: something small that may be lost or cut off in a crash, and is not synced.
    /// Who reads it must see that it is whole.
    pub fn put_note(&self, kind: &str, key: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.derived_path(kind, key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).at("making", folder)?;
        }
        let mut file = self.temporary_file()?;
        file.write_all(bytes).at("writing", &path)?;
        file.persist(&path).map(drop).map_err(|error| Error::io("writing", &path, error.error))
    }

    /// Removes a derived thing, if it is there.
    pub fn remove_derived(&self, kind: &str, key: &Digest) -> Result<()> {
        let path = self.derived_path(kind, key);
        self.forget(&path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", &path, error)),
            _ => Ok(()),
        }
    }

    /// Puts a finished temporary file in place as a derived thing. Two builds may do so at once: the content is the
    /// same, and the rename of one replaces that of the other.
    pub fn put_derived(&self, kind: &str, key: &Digest, mut file: tempfile::NamedTempFile) -> Result<PathBuf> {
        let path = self.derived_path(kind, key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).at("making", folder)?;
        }
        file.flush().at("writing", &path)?;
        file.as_file().sync_data().at("writing", &path)?;
        file.persist(&path).map_err(|error| Error::io("writing", &path, error.error))?;
        Ok(path)
    }
}
