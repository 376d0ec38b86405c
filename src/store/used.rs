//! When things were last used, and who is using the store now.
//!
//! The time of last use is the modification time of the file: content never changes, so that nothing else is lost.
//! File systems do not keep access times one can rely on (`noatime`, `relatime`). A time younger than an hour is left
//! alone, so that a warm build costs a few system calls and no writing.
//!
//! Every process holds a shared lock on the file `in-use` for as long as it has the store open. Who takes things away
//! asks for that lock alone; if others are there, what is younger than [`GRACE`] stays, since they may have fetched it
//! and not named it yet.

use std::fs::{File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::Store;
use crate::error::{IoContext, Result};

/// Files that were used more recently are left alone while other processes use the store. Far longer than any build.
pub const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// How exact the times of last use are.
const EXACT: Duration = Duration::from_secs(60 * 60);

/// Notes that a file is used now. Failing to is harmless: a store that cannot be written to cannot be collected either.
pub(super) fn mark_used(path: &Path, metadata: &Metadata) {
    let recent = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age < EXACT));
    if !recent {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
    }
}

/// When a file was last used.
pub(super) fn last_used(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn open_in_use(root: &Path) -> Result<File> {
    let path = root.join("in-use");
    let file = File::options().create(true).append(true).open(&path);
    // A store that is only read: its owner's file will do, and without one nobody collects there either.
    let file = file.or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            File::open(&path).or_else(|_| File::open(root)).map_err(|_| error)
        }
        _ => Err(error),
    });
    let file = file.at("opening", &path)?;
    // Waits for a collection to end, which takes seconds.
    file.lock_shared().at("taking the lock", &path)?;
    Ok(file)
}

/// The store for this process alone; given back when dropped.
#[derive(Debug)]
pub struct Alone<'a>(&'a Store);

impl Store {
    /// Takes the store for this process alone; nothing if another process has it open.
    pub fn alone(&self) -> Result<Option<Alone<'_>>> {
        let path = self.root().join("in-use");
        match self.in_use.try_lock() {
            Ok(()) => Ok(Some(Alone(self))),
            Err(TryLockError::WouldBlock) => {
                // The attempt gave up the shared lock (flock(2), "conversion").
                self.in_use.lock_shared().at("taking the lock", &path)?;
                Ok(None)
            }
            Err(TryLockError::Error(error)) => Err(error).at("taking the lock", &path),
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // If it fails, the lock goes when the process ends.
        let _ = self.0.in_use.lock_shared();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_can_be_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        assert!(first.alone().unwrap().is_none());
        drop(second);
        let alone = first.alone().unwrap();
        assert!(alone.is_some());
        drop(alone);
        assert!(Store::open(folder.path()).unwrap().alone().unwrap().is_none());
    }

    #[test]
    fn use_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_bytes(b"{}").unwrap();
        let path = store.blob_path(&digest);
        let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
        let age = || last_used(&path.metadata().unwrap()).elapsed().unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert!(age() > GRACE);
        store.read_document(&digest).unwrap();
        assert!(age() < EXACT);
    }
}
