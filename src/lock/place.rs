//! Where a lock file lies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::LockFile;
use crate::blueprint::Input;
use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Store};

/// Where the lock of some blueprints is, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockPlace {
    /// It was named (`--lock FILE`).
    Named(PathBuf),
    /// `NAME.lock` beside the last blueprint `NAME.yml`.
    Beside(PathBuf),
    /// The last blueprint is no file, so that nothing lies beside it.
    Nowhere,
}

impl LockPlace {
    /// The place for blueprints: the named one, else beside the last of them.
    pub fn of(inputs: &[Input], named: Option<&Path>) -> LockPlace {
        match (named, inputs.last()) {
            (Some(path), _) => LockPlace::Named(path.to_path_buf()),
            (None, Some(Input::File(path))) if path.file_name().is_some() => {
                let lock = path.with_extension("lock");
                // A blueprint of that very name would be overwritten.
                if lock == *path { LockPlace::Nowhere } else { LockPlace::Beside(lock) }
            }
            (None, _) => LockPlace::Nowhere,
        }
    }

    /// The file's name, if there is a place.
    pub fn path(&self) -> Option<&Path> {
        match self {
            LockPlace::Named(path) | LockPlace::Beside(path) => Some(path),
            LockPlace::Nowhere => None,
        }
    }

    /// Reads the lock and has the store remember it, so that what it names is kept. A named one must be there, one
    /// beside the blueprint may be missing.
    pub fn read(&self, store: &Store) -> Result<Option<LockFile>> {
        let read = |path: &Path| {
            let lock = LockFile::read(path)?;
            store.remember_lock(path)?;
            Ok(Some(lock))
        };
        match self {
            LockPlace::Named(path) => read(path),
            LockPlace::Beside(path) if path.exists() => read(path),
            LockPlace::Beside(_) | LockPlace::Nowhere => Ok(None),
        }
    }

    /// Writes a lock, whole or not at all. Returns whether the file changed.
    pub fn write(&self, lock: &LockFile, store: &Store) -> Result<bool> {
        let path = self.path().ok_or_else(|| {
            Error::usage("a lock lies beside its blueprint, and this blueprint is no file")
                .hint("say where with --lock FILE")
        })?;
        let text = lock.to_yaml();
        let same = std::fs::read(path).is_ok_and(|there| there == text.as_bytes());
        if !same {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let file = tempfile::Builder::new()
                .prefix(".moby-lock-")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(folder)
                .at("making a temporary file in", folder)?;
            std::fs::write(file.path(), text).at("writing the lock", path)?;
            file.as_file().sync_all().at("writing the lock", path)?;
            file.persist(path).map_err(|error| Error::io("writing the lock", path, error.error))?;
        }
        store.remember_lock(path)?;
        Ok(!same)
    }
}

/// The digests that locks in use name: those that the store remembers, and further ones. A damaged lock is an error,
/// since what it keeps cannot be told.
pub fn digests_in_use(store: &Store, more: &[PathBuf]) -> Result<BTreeSet<Digest>> {
    let mut digests = BTreeSet::new();
    for path in store.remembered_locks()?.iter().chain(more) {
        let lock = LockFile::read(path).map_err(|error| {
            error.hint("nothing is taken from the store as long as a lock in use cannot be read; repair or remove it")
        })?;
        digests.extend(lock.digests());
    }
    Ok(digests)
}
