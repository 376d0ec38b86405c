//! Extended attributes: sets of names and values, each set stored once, and values that repeat stored once.
//!
//! The format knows the prefixes `user.`, `trusted.` and `security.`. POSIX access lists (`system.`) have no place in
//! it; they are left out and reported.

use std::collections::HashMap;
use std::io;

use super::compression::Compression;
use super::format::{NONE, Reference, XATTR_ELSEWHERE, XATTR_PREFIXES};
use super::metadata::MetadataTable;
use crate::store::Xattrs;

/// What a reference to a value takes; a value of this size or less is written again.
const REFERENCE_SIZE: usize = 8;

/// A name and a value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The sets of attributes of an image.
pub(super) struct XattrWriter<'a> {
    pairs: MetadataTable,
    /// Entries of the table of sets.
    sets: Vec<u8>,
    count: u32,
    known: HashMap<Vec<Pair<'a>>, u32>,
    values: HashMap<&'a [u8], Reference>,
}

/// A name as a type and the rest behind the prefix. `None` if the format has no place for it.
pub(super) fn split_name(name: &[u8]) -> Option<(u16, &[u8])> {
    let mut prefixes = XATTR_PREFIXES.iter().zip(0u16..);
    let (kind, rest) = prefixes.find_map(|(prefix, kind)| Some((kind, name.strip_prefix(*prefix)?)))?;
    (!rest.is_empty() && name.len() <= 255 && !rest.contains(&0)).then_some((kind, rest))
}

impl<'a> XattrWriter<'a> {
    /// No sets yet.
    pub(super) fn new(compression: Compression) -> io::Result<XattrWriter<'a>> {
        let pairs = MetadataTable::new(compression)?;
        Ok(XattrWriter { pairs, sets: Vec::new(), count: 0, known: HashMap::new(), values: HashMap::new() })
    }

    /// The number of the set of these attributes, or [`NONE`]. Names without a place in the format are left out.
    pub(super) fn set(&mut self, xattrs: &'a Xattrs) -> io::Result<u32> {
        let set: Vec<_> = xattrs
            .iter()
            .filter(|(name, _)| split_name(name).is_some())
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        if set.is_empty() {
            return Ok(NONE);
        }
        if let Some(known) = self.known.get(&set) {
            return Ok(*known);
        }
        let start = self.pairs.position();
        // The kernel counts full names with a closing zero byte (fs/squashfs/xattr.c, squashfs_listxattr).
        let names: usize = set.iter().map(|(name, _)| name.len() + 1).sum();
        for (name, value) in &set {
            self.pair(name, value)?;
        }
        self.sets.extend(start.encode().to_le_bytes());
        self.sets.extend((set.len() as u32).to_le_bytes());
        self.sets.extend((names as u32).to_le_bytes());
        self.known.insert(set, self.count);
        self.count += 1;
        Ok(self.count - 1)
    }

    fn pair(&mut self, name: &[u8], value: &'a [u8]) -> io::Result<()> {
        let Some((kind, rest)) = split_name(name) else { return Ok(()) };
        let elsewhere = self.values.get(value).copied();
        let flag = if elsewhere.is_some() { XATTR_ELSEWHERE } else { 0 };
        self.pairs.write(&(kind | flag).to_le_bytes())?;
        self.pairs.write(&(rest.len() as u16).to_le_bytes())?;
        self.pairs.write(rest)?;
        match elsewhere {
            Some(place) => {
                self.pairs.write(&(REFERENCE_SIZE as u32).to_le_bytes())?;
                self.pairs.write(&place.encode().to_le_bytes())
            }
            None => {
                if value.len() > REFERENCE_SIZE {
                    self.values.insert(value, self.pairs.position());
                }
                self.pairs.write(&(value.len() as u32).to_le_bytes())?;
                self.pairs.write(value)
            }
        }
    }

    /// How many sets there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The pairs as they stand on disk, and the entries of the table of sets.
    pub(super) fn finish(self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        Ok((self.pairs.finish()?.0, self.sets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_values_are_stored_once() {
        let long = vec![7; 100];
        let one: Xattrs = vec![(b"user.a".to_vec(), long.clone()), (b"user.b".to_vec(), b"x".to_vec())];
        let two: Xattrs = vec![(b"security.c".to_vec(), long.clone())];
        let lost: Xattrs = vec![(b"system.posix_acl_access".to_vec(), long), (b"user.".to_vec(), vec![])];
        let mut writer = XattrWriter::new(Compression::None).unwrap();
        assert_eq!(writer.set(&one).unwrap(), 0);
        assert_eq!(writer.set(&two).unwrap(), 1);
        assert_eq!(writer.set(&one).unwrap(), 0);
        assert_eq!(writer.set(&lost).unwrap(), NONE);
        let (pairs, sets) = writer.finish().unwrap();
        assert_eq!(sets.len(), 32);
        assert_eq!(sets[12..16], 14u32.to_le_bytes());
        // Behind the block's header: the long value at 5, the second set's reference to it.
        let second = 2 + 5 + 4 + 100 + 5 + 4 + 1;
        assert_eq!(sets[16..24], (second as u64 - 2).to_le_bytes());
        assert_eq!(pairs[second..second + 5], [2, 1, 1, 0, b'c']);
        assert_eq!(pairs[second + 5..], [8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    }
}
