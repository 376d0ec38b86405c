//! The lock files that were used with the store: what they name is kept as long as they exist.
//!
//! `locks/HEX` holds the path of a lock file, HEX being the digest of the path. One whose file is gone is forgotten.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Digest, Store};
use crate::error::{Error, IoContext, Result};

impl Store {
    /// Remembers a lock file.
    pub fn remember_lock(&self, path: &Path) -> Result<()> {
        let path = path.canonicalize().at("opening the lock", path)?;
        let bytes = path.as_os_str().as_bytes();
        let note = self.locks_folder().join(Digest::of(bytes).hex());
        if note.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(self.locks_folder()).at("making", &self.locks_folder())?;
        let file = self.temporary_file()?;
        std::fs::write(file.path(), bytes).at("writing", &note)?;
        file.persist(&note).map(drop).map_err(|error| Error::io("writing", &note, error.error))
    }

    /// The lock files that were used with the store and still exist, sorted.
    pub fn remembered_locks(&self) -> Result<Vec<PathBuf>> {
        let folder = self.locks_folder();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("reading", &folder, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let note = entry.at("reading", &folder)?.path();
            let path = PathBuf::from(OsString::from_vec(std::fs::read(&note).at("reading", &note)?));
            if path.is_file() {
                found.push(path);
            } else {
                // Another process may have removed it first.
                let _ = std::fs::remove_file(&note);
            }
        }
        found.sort();
        Ok(found)
    }

    fn locks_folder(&self) -> PathBuf {
        self.root().join("locks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_gone_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let (one, two) = (folder.path().join("one.lock"), folder.path().join("two.lock"));
        for path in [&one, &two, &one] {
            std::fs::write(path, "").unwrap();
            store.remember_lock(path).unwrap();
        }
        assert_eq!(store.remembered_locks().unwrap().len(), 2);
        std::fs::remove_file(&one).unwrap();
        assert_eq!(store.remembered_locks().unwrap(), [two.canonicalize().unwrap()]);
        assert_eq!(std::fs::read_dir(store.root().join("locks")).unwrap().count(), 1);
    }
}
