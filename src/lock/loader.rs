//! The components that formats need beside what a blueprint names: loaders, and the initramfs of disks.
//!
//! They are locked on request (`moby lock --loaders`): building all of them takes packages and a compiler, which a
//! blueprint that never becomes a disk does not need. `--locked` refuses a format whose loader the lock does not have, so
//! nothing gets into an image unpinned.

use std::collections::BTreeMap;

use super::LockPlace;
use super::drift::drifted;
use super::file::{LockEntry, LockFile};
use crate::Arch;
use crate::error::{Error, Result};

/// The components that formats name. A format can use no other.
pub const LOADERS: [&str; 6] = [
    "components/isolinux",
    "components/raspberry-pi-firmware",
    "components/stage1",
    "components/syslinux",
    "components/systemd-boot",
    "components/systemd-stub",
];

/// What a lock says about loaders.
#[derive(Clone, Debug, Default)]
pub struct LoaderPins {
    /// What messages call the lock.
    file: String,
    entries: BTreeMap<String, LockEntry>,
    there: bool,
    /// Whether drift is an error.
    pub locked: bool,
}

impl LoaderPins {
    /// Those of a lock, if there is one.
    pub fn new(place: &LockPlace, lock: Option<&LockFile>, locked: bool) -> LoaderPins {
        LoaderPins {
            file: place.path().map_or_else(|| "the lock".to_owned(), |path| path.display().to_string()),
            entries: lock.map(|lock| lock.loaders.clone()).unwrap_or_default(),
            there: lock.is_some(),
            locked,
        }
    }

    /// The entry for a loader's name in locks; nothing if it is not locked, or its recipe is another one by now, which
    /// `said` is told.
    ///
    /// # Errors
    /// Both are refused (exit status 3) if drift is an error.
    pub fn entry(&self, name: &str, recipe: &str, arch: Arch, said: impl Fn(String)) -> Result<Option<&LockEntry>> {
        let entry = self.entries.get(name);
        let how = match entry {
            Some(entry) => drifted(entry, Some(recipe), arch),
            None if self.there && (self.locked || !self.entries.is_empty()) => {
                Some("is not among the lock's loaders".to_owned())
            }
            None => None,
        };
        let Some(how) = how else { return Ok(entry) };
        if self.locked {
            return Err(Error::refused(format!("{}: the loader {name} {how}", self.file))
                .hint("moby lock --loaders brings them together and prints what changes"));
        }
        said(format!("{}: the loader {name} {how}: made as without a lock", self.file));
        Ok(None)
    }
}
