//! Compressed pieces of file systems as derived data in the store.
//!
//! A piece starts with the digest of what follows it. So it needs no sync, and damage of any kind makes it a piece that is
//! not there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, IoContext, Result};
use crate::formats::pieces::{Found, Pieces};
use crate::rootfs::OriginId;
use crate::store::{Digest, Hasher, Store};

/// Bytes of a digest.
const DIGEST: usize = 32;
/// Larger ones are none of ours: pieces have 1 MiB, and some bytes that tell what is where.
pub(super) const LIMIT: u64 = 4 << 20;

/// The pieces of one kind of file system.
#[derive(Debug)]
pub struct Stored<'a> {
    /// Where they are.
    pub store: &'a Store,
    /// The kind of derived data, with the version of what makes it.
    pub kind: &'static str,
}

impl Stored<'_> {
    /// Replaces `bytes` by a piece, if it is there and whole.
    pub(super) fn read(&self, key: &Digest, bytes: &mut Vec<u8>) -> Option<()> {
        let path = self.store.derived(self.kind, key)?;
        let found = Self::read_whole(&path, bytes);
        if found.is_none() {
            self.store.tell_damaged(&path);
        }
        found
    }

    fn read_whole(path: &Path, bytes: &mut Vec<u8>) -> Option<()> {
        let file = File::open(path).ok()?;
        let mut digest = [0; DIGEST];
        (&file).read_exact(&mut digest).ok()?;
        bytes.clear();
        let length = file.metadata().ok()?.len().min(LIMIT) as usize;
        bytes.reserve_exact(length);
        file.take(LIMIT).read_to_end(bytes).ok()?;
        (*Digest::of(bytes).as_bytes() == digest).then_some(())
    }
}

impl Pieces for Stored<'_> {
    fn get(&self, key: &Digest, _: OriginId, bytes: &mut Vec<u8>) -> Found {
        if self.read(key, bytes).is_some() { Found::Whole } else { Found::Nothing }
    }

    fn put(&self, key: &Digest, _: OriginId, parts: &[&[u8]]) -> Result<()> {
        let mut hasher = Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        let digest = hasher.finish();
        let mut all: Vec<&[u8]> = vec![digest.as_bytes()];
        all.extend(parts);
        let path = self.store.derived_path(self.kind, key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).at("making", folder)?;
        }
        let mut file = self.store.temporary_file()?;
        all.iter().try_for_each(|part| file.write_all(part)).at("writing", &path)?;
        file.persist(&path).map(drop).map_err(|error| Error::io("writing", &path, error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_makes_a_piece_one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let pieces = Stored { store: &store, kind: "test-1" };
        let tree = crate::rootfs::Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        let (key, mut bytes) = (Digest::of(b"key"), vec![7; 9]);
        assert!(pieces.read(&key, &mut bytes).is_none());
        pieces.put(&key, origin, &[b"one ", b"", b"two"]).unwrap();
        assert!(pieces.read(&key, &mut bytes).is_some());
        assert_eq!(bytes, b"one two");
        let path = store.derived_path("test-1", &key);
        let whole = std::fs::read(&path).unwrap();
        for damage in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[damage] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(pieces.read(&key, &mut bytes).is_none(), "a changed byte {damage}");
            std::fs::write(&path, &whole[..damage]).unwrap();
            assert!(pieces.read(&key, &mut bytes).is_none(), "the first {damage} bytes");
        }
        pieces.put(&key, origin, &[b"again"]).unwrap();
        assert!(pieces.read(&key, &mut bytes).is_some());
        assert_eq!(bytes, b"again");
    }
}
