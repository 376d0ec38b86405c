//! Sets of extended attributes, read.

use std::io::{Read, Seek};

use super::Reader;
use super::metadata::{Cursor, damaged};
use crate::error::Result;
use crate::formats::squashfs::format::{Fields, NO_TABLE, Reference, XATTR_ELSEWHERE, XATTR_ENTRY, XATTR_PREFIXES};
use crate::store::Xattrs;

/// The most bytes of names and values of one file. Linux holds 64 KiB of names and 64 KiB in each value.
const LIMIT: usize = 1 << 20;
/// The most bytes of names and values of all files together; bounds the work that a hostile image can make.
pub(super) const TOTAL_LIMIT: usize = 1 << 30;

impl<R: Read + Seek> Reader<R> {
    /// The set of attributes with this number.
    pub(super) fn xattrs(&mut self, number: u32) -> Result<Xattrs> {
        let table = self.superblock.xattr_table;
        if table == NO_TABLE {
            return Err(damaged("a file has extended attributes, and the image has no table of them"));
        }
        let mut head = [0; 16];
        self.blocks.exact(table, &mut head)?;
        let mut head = Fields(&head);
        let (pairs, count) = (head.u64(), head.u32());
        if number >= count {
            return Err(damaged(format!("set {number} of {count} sets of extended attributes")));
        }
        let entry: [u8; XATTR_ENTRY] = self.blocks.entry(table + 16, number)?;
        let mut entry = Fields(&entry);
        let (start, count) = (Reference::decode(entry.u64()), entry.u32());
        let mut at = Cursor::new(pairs, start);
        let mut found = Xattrs::new();
        let mut left = LIMIT.min(self.xattr_bytes);
        for _ in 0..count {
            let head: [u8; 4] = self.blocks.array(&mut at)?;
            let mut head = Fields(&head);
            let (kind, size) = (head.u16(), head.u16());
            let rest = self.blocks.vector(&mut at, usize::from(size))?;
            let Some(prefix) = XATTR_PREFIXES.get(usize::from(kind & !XATTR_ELSEWHERE)) else {
                return Err(damaged(format!("an extended attribute of the unknown type {kind:#x}")));
            };
            let name = [prefix, rest.as_slice()].concat();
            let mut size = u32::from_le_bytes(self.blocks.array(&mut at)?) as usize;
            let mut elsewhere = None;
            if kind & XATTR_ELSEWHERE != 0 {
                let place = Reference::decode(u64::from_le_bytes(self.blocks.array(&mut at)?));
                let mut place = Cursor::new(pairs, place);
                size = u32::from_le_bytes(self.blocks.array(&mut place)?) as usize;
                elsewhere = Some(place);
            }
            // A pair counts for its own bytes and some more, so that empty ones are bounded too.
            left = left
                .checked_sub(name.len() + 16)
                .and_then(|left| left.checked_sub(size))
                .ok_or_else(|| damaged(format!("more extended attributes than Linux holds, in set {number}")))?;
            self.xattr_bytes = self.xattr_bytes.saturating_sub(name.len() + 16 + size);
            let value = self.blocks.vector(elsewhere.as_mut().unwrap_or(&mut at), size)?;
            found.push((name, value));
        }
        found.sort();
        if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(damaged(format!("set {number} has an extended attribute twice")));
        }
        Ok(found)
    }
}
