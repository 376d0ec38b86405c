//! Many pieces in one file, for caches that machines share: a registry with a blob for each of a root's thousands of
//! pieces would be asked thousands of times.
//!
//! All integers are of 64 bits, little-endian:
//!
//! ```text
//! "mobypck1"
//! number of pieces
//! each piece, by its key: the key (32 bytes), where it starts in the file, its bytes
//! the pieces
//! ```
//!
//! It is searched where it lies; nothing of it stays in memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::pieces::{LIMIT, Stored};
use crate::error::{Error, IoContext, Result};
use crate::store::Digest;

const MAGIC: &[u8; 8] = b"mobypck1";
/// Bytes in front of the list.
const START: u64 = 16;
/// Bytes of an entry of the list.
const ENTRY: u64 = 48;

/// A pack that is read. Nothing that it says is trusted.
#[derive(Debug)]
pub(super) struct Pack {
    file: File,
    count: u64,
}

impl Pack {
    /// Opens a pack.
    ///
    /// # Errors
    /// Exit status 3 for what is none.
    pub(super) fn open(file: File) -> Result<Pack> {
        let refused = || Error::refused("it is no pack of pieces");
        let length = file.metadata().map_err(|_| refused())?.len();
        let mut head = [0; START as usize];
        file.read_exact_at(&mut head, 0).map_err(|_| refused())?;
        let (magic, count) = head.split_at(MAGIC.len());
        let count = number(count);
        let fits = count.checked_mul(ENTRY).and_then(|size| size.checked_add(START)).is_some_and(|end| end <= length);
        if magic == MAGIC && fits { Ok(Pack { file, count }) } else { Err(refused()) }
    }

    /// Replaces `bytes` by the piece with a key, if it is there.
    pub(super) fn find(&self, key: &Digest, bytes: &mut Vec<u8>) -> Option<()> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; ENTRY as usize];
            self.file.read_exact_at(&mut entry, START + middle * ENTRY).ok()?;
            let (found, place) = entry.split_at(32);
            match found.cmp(key.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let (offset, size) = place.split_at(8);
                    let size = usize::try_from(number(size)).ok().filter(|size| *size as u64 <= LIMIT)?;
                    bytes.clear();
                    bytes.reserve_exact(size);
                    bytes.resize(size, 0);
                    return self.file.read_exact_at(bytes, number(offset)).ok();
                }
            }
        }
        None
    }

    /// Writes a pack of pieces that are in the store; those that are not there any more are left out.
    pub(super) fn write(keys: &BTreeSet<Digest>, stored: &Stored<'_>) -> Result<tempfile::NamedTempFile> {
        let file = stored.store.temporary_file()?;
        let path = file.path();
        let mut list = Vec::with_capacity(keys.len() * ENTRY as usize);
        let mut out = BufWriter::with_capacity(256 << 10, file.as_file());
        let (mut bytes, mut position) = (Vec::new(), START + keys.len() as u64 * ENTRY);
        out.seek(SeekFrom::Start(position)).at("writing", path)?;
        for key in keys {
            if stored.read(key, &mut bytes).is_some() {
                out.write_all(&bytes).at("writing", path)?;
                list.extend_from_slice(key.as_bytes());
                list.extend_from_slice(&position.to_le_bytes());
                list.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                position += bytes.len() as u64;
            }
        }
        out.seek(SeekFrom::Start(0)).at("writing", path)?;
        out.write_all(MAGIC).at("writing", path)?;
        out.write_all(&(list.len() as u64 / ENTRY).to_le_bytes()).at("writing", path)?;
        out.write_all(&list).and_then(|()| out.flush()).at("writing", path)?;
        drop(out);
        Ok(file)
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pieces::Pieces;
    use crate::rootfs::Tree;
    use crate::store::Store;

    #[test]
    fn pieces_are_found_and_lies_are_survived() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let stored = Stored { store: &store, kind: "test-1" };
        let tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        let keys: BTreeSet<Digest> = (0..50u8).map(|n| Digest::of(&[n])).collect();
        for (number, key) in keys.iter().enumerate() {
            stored.put(key, origin, &[&vec![number as u8; number * 100]]).unwrap();
        }
        let gone = Digest::of(b"gone");
        let with_gone = keys.iter().copied().chain([gone]).collect();
        let file = Pack::write(&with_gone, &stored).unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        let pack = Pack::open(file.reopen().unwrap()).unwrap();
        let mut bytes = vec![1];
        for (number, key) in keys.iter().enumerate() {
            assert!(pack.find(key, &mut bytes).is_some());
            assert_eq!(bytes, vec![number as u8; number * 100]);
        }
        assert!(pack.find(&gone, &mut bytes).is_none());
        // Any byte of the head and the list may be another one.
        for at in 0..(START + 50 * ENTRY) as usize {
            let mut wrong = whole.clone();
            wrong[at] ^= 0xff;
            std::fs::write(file.path(), &wrong).unwrap();
            if let Ok(pack) = Pack::open(file.reopen().unwrap()) {
                keys.iter().for_each(|key| {
                    let _ = pack.find(key, &mut bytes);
                });
                assert!(bytes.capacity() as u64 <= LIMIT);
            }
        }
        for length in 0..START as usize + 48 {
            std::fs::write(file.path(), &whole[..length]).unwrap();
            assert_eq!(Pack::open(file.reopen().unwrap()).unwrap_err().exit(), crate::error::Exit::Refused);
        }
    }
}
