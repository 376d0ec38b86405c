//! Damage: what a process took from the store and does not read as it was put there is removed and made again, once.
//!
//! Content is checked against its digest while it is copied, so damage comes up in the middle of an output and is an
//! error there, never a wrong byte. To read every layer first would cost as much as the output itself. Instead the store
//! remembers which files it handed out, under which digests. When what was done with them fails, they are read, those
//! that are not what they should be are removed, and it is done once more ([`Store::mending`]): outputs appear only
//! whole, so doing it twice does no harm. What is not there is inflated, built or pulled as if it had never been.
//!
//! Limit: what changes again between the two attempts fails the second one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::prelude::*;

use super::{Digest, Hasher, Store};
use crate::error::{Error, Exit, IoContext, Result};
use crate::ui::Ui;

/// What a process took from its store, and what of it was damaged.
#[derive(Debug, Default)]
pub(super) struct Damage {
    ui: OnceLock<Ui>,
    taken: Mutex<BTreeMap<PathBuf, Digest>>,
    /// What was found, for the error if it cannot be made again.
    found: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Tables of whole entries: they are in order whatever a thread that held them did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// The same store, which says where it found damage. Only the first call counts.
    pub fn telling(self, ui: &Ui) -> Store {
        let _ = self.damage.ui.set(ui.clone());
        self
    }

    /// Remembers that a file of the store is read from now on, and which digest all of its bytes have.
    pub fn took(&self, path: &Path, digest: &Digest) {
        let mut taken = lock(&self.damage.taken);
        if !taken.contains_key(path) {
            taken.insert(path.to_owned(), *digest);
        }
    }

    /// Takes back what [`Store::took`] said: the file goes.
    pub(super) fn forget(&self, path: &Path) {
        lock(&self.damage.taken).remove(path);
    }

    /// Says that something of the store was damaged and is not used.
    pub(crate) fn tell_damaged(&self, path: &Path) {
        if let Some(ui) = self.damage.ui.get() {
            ui.warn(format!("{} is damaged; it is made again", path.display()));
        }
    }

    /// Says, once, that a file that is known by its digest has another size than it should have. It is not used.
    pub(super) fn tell_size(&self, path: &Path, size: u64, expected: u64) {
        let text = format!("{} is damaged ({size} bytes where {expected} are expected)", path.display());
        let mut found = lock(&self.damage.found);
        if !found.contains(&text) {
            if let Some(ui) = self.damage.ui.get() {
                ui.warn(format!("{text}; it is made or fetched again"));
            }
            found.push(text);
        }
    }

    /// Says that a file that is known by its digest was damaged. It is removed by now.
    pub(super) fn tell_removed(&self, path: &Path, expected: &Digest, found: Option<&Digest>) {
        let found = match found {
            Some(found) => format!("is damaged (expected {expected}, found {found})"),
            None => format!("is gone (expected {expected})"),
        };
        let text = format!("{} {found}", path.display());
        if let Some(ui) = self.damage.ui.get() {
            ui.warn(format!("{text}; it was removed, and is made or fetched again"));
        }
        lock(&self.damage.found).push(text);
    }

    /// Does something with the store. If that fails and something that was taken for it proves to be damaged, that is
    /// removed, and it is done once more.
    ///
    /// # Errors
    /// Those of the second attempt, which then say what was damaged, or of the only one.
    pub fn mending<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let known = lock(&self.damage.found).len();
        let first = act();
        let Err(error) = first else { return first };
        // Mistakes of people and full disks come from nothing that was read here.
        if matches!(error.exit(), Exit::Usage | Exit::Room) {
            return Err(error);
        }
        self.remove_damaged()?;
        if lock(&self.damage.found).len() == known {
            return Err(error);
        }
        act().map_err(|error| self.explained(error, known))
    }

    /// The same for what must not be done twice, such as writing to a stream: what is damaged is removed, so that the
    /// next attempt is a good one.
    pub fn mending_for_later<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let known = lock(&self.damage.found).len();
        act().map_err(|error| match error.exit() {
            Exit::Usage | Exit::Room => error,
            _ => match self.remove_damaged() {
                Ok(()) if lock(&self.damage.found).len() > known => {
                    self.explained(error, known).hint("it was removed; do the same again")
                }
                _ => error,
            },
        })
    }

    fn explained(&self, error: Error, known: usize) -> Error {
        let found = lock(&self.damage.found);
        match found.get(known..).filter(|found| !found.is_empty()) {
            Some(found) => error.context(format_args!("making again what was damaged: {}", found.join(", "))),
            None => error,
        }
    }

    /// Reads all that was taken, and removes what is not what it should be.
    fn remove_damaged(&self) -> Result<()> {
        let taken = std::mem::take(&mut *lock(&self.damage.taken));
        let look = |(path, expected): (PathBuf, Digest)| -> Result<()> {
            let found = digest_of(&path).at("reading", &path)?;
            if found == Some(expected) {
                return Ok(());
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &path, error)),
                _ => {
                    self.tell_removed(&path, &expected, found.as_ref());
                    Ok(())
                }
            }
        };
        taken.into_par_iter().map(look).collect()
    }
}

/// The digest of a file; nothing if it is not there.
fn digest_of(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut hasher = Hasher::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(Some(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_removed_and_done_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_bytes(b"content").unwrap();
        let path = store.blob_path(&digest);
        let mut attempts = 0;
        let mut act = || {
            attempts += 1;
            if !path.exists() {
                store.put_bytes(b"content")?;
            }
            store.took(&path, &digest);
            let right = std::fs::read(&path).unwrap() == b"content";
            if right { Ok(attempts) } else { Err(Error::refused("it does not fit")) }
        };
        assert_eq!(store.mending(&mut act).unwrap(), 1);
        std::fs::write(&path, b"contenT").unwrap();
        assert_eq!(store.mending(&mut act).unwrap(), 3);
        // What fails for another reason is done once.
        let mut attempts = 0;
        let error = store.mending(|| -> Result<()> {
            attempts += 1;
            store.took(&path, &digest);
            Err(Error::refused("no"))
        });
        assert_eq!((attempts, error.unwrap_err().message()), (1, "no"));
        // What cannot be made again is said, with what there was.
        std::fs::write(&path, b"c").unwrap();
        let error = store.mending(|| -> Result<()> {
            store.took(&path, &digest);
            Err(Error::refused("no"))
        });
        let text = error.unwrap_err().message().to_owned();
        for part in [digest.to_string(), Digest::of(b"c").to_string(), path.display().to_string()] {
            assert!(text.contains(&part), "{text}");
        }
        assert!(!path.exists());
    }
}
