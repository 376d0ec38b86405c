//! What the parts of a large file have in common while several threads work on them.
//!
//! The digest of a file is made from its first byte to its last, so its parts take turns: who has read the next one before
//! its turn waits. Jobs are begun in order, so the one that is waited for is under way. (Where one thread made the digests
//! of all large files, beside writing the image, the others waited for it.)

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::source::changed;
use crate::error::{Error, Result};
use crate::rootfs::Content;
use crate::store::{Digest, Hasher};

/// A file in several parts.
#[derive(Debug, Default)]
pub(super) struct Large {
    /// Whether it is compressed; whoever wants to know first finds out.
    pub compressed: OnceLock<bool>,
    /// What its parts came to when the whole was checked; whoever wants to know first looks.
    pub seen: OnceLock<Option<Vec<Digest>>>,
    /// What they come to now, if that was something else.
    pub found: Mutex<Option<Vec<Digest>>>,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Bytes that are in the digest.
    done: u64,
    hasher: Hasher,
    /// Offset of the first part that failed. There will be no digest, but the parts before it go on: theirs are the
    /// earlier results, and must not hide what happened to it.
    failed: Option<u64>,
    /// What the parts come to, if somebody wants to know.
    parts: Vec<Digest>,
}

/// A part's turn. If it is dropped before it was taken, those behind it do not wait any longer.
pub(super) struct Turn<'a> {
    large: &'a Large,
    offset: u64,
    taken: bool,
}

impl Large {
    /// The turn of the part at `offset`.
    pub fn turn(&self, offset: u64) -> Turn<'_> {
        Turn { large: self, offset, taken: false }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Adds the part, in two pieces, to the digest when the parts before it are there. Behind the last one, the digest must
    /// be that of the content; returns what the parts come to, if all were given that.
    pub fn update(mut self, bytes: [&[u8]; 2], part: Option<Digest>, content: &Content) -> Result<Option<Vec<Digest>>> {
        let mut progress = self.large.lock();
        let failed = |progress: &Progress| progress.failed.is_some_and(|offset| offset < self.offset);
        while progress.done != self.offset && !failed(&progress) {
            progress = self.large.moved.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if failed(&progress) {
            return Err(Error::failed("another part of the same file failed"));
        }
        for bytes in bytes {
            progress.hasher.update(bytes);
            progress.done += bytes.len() as u64;
        }
        progress.parts.extend(part);
        let ends = progress.done == content.size;
        if ends && std::mem::take(&mut progress.hasher).finish() != content.digest {
            return Err(changed(content));
        }
        let parts = ends.then(|| std::mem::take(&mut progress.parts));
        self.taken = true;
        drop(progress);
        self.large.moved.notify_all();
        Ok(parts)
    }

    /// Where the part starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Nobody makes a digest of this file: its parts are known one by one.
    pub fn pass(mut self) {
        self.taken = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.taken {
            let mut progress = self.large.lock();
            progress.failed = Some(progress.failed.map_or(self.offset, |first| first.min(self.offset)));
            drop(progress);
            self.large.moved.notify_all();
        }
    }
}
