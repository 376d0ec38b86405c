//! Every name of an image, in the order of folders and names.

use std::io::{Read, Seek};

use super::metadata::{Cursor, damaged};
use super::{Inode, Kind, Reader};
use crate::error::Result;
use crate::formats::squashfs::format::{ENTRIES_PER_HEADER, Fields, Reference};

/// More folders in one another than a path of 4096 bytes can name.
const DEPTH_LIMIT: usize = 2048;
/// More names than any root has; bounds the work that a hostile image can make.
const NAME_LIMIT: u64 = 1 << 24;

/// A name in a folder, and where its inode is.
#[derive(Debug)]
struct Name {
    name: Vec<u8>,
    inode: Reference,
    number: u32,
}

/// A folder whose names are being read. Names are read one by one: a listing may be long, and decompresses from
/// little.
#[derive(Debug)]
struct Open {
    /// The folder's inode number.
    number: u32,
    /// Length of the folder's path.
    path: usize,
    at: Cursor,
    left: u32,
    /// Names below the current header, the block of their inodes, the number that theirs are counted from.
    header: (u32, u32, u32),
    last: Vec<u8>,
}

impl Open {
    fn new(inode: &Inode, path: usize) -> Option<Open> {
        match &inode.kind {
            Kind::Folder(listing) => Some(Open {
                number: inode.number,
                path,
                at: listing.at,
                left: listing.size,
                header: (0, 0, 0),
                last: Vec::new(),
            }),
            _ => None,
        }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Calls `each` with every path and inode, folders before what is in them, names in byte order; the root has an
    /// empty path. A file with several names comes several times.
    ///
    /// Names that are no names (`..`, slashes, twice the same, out of order), folders inside themselves, and more
    /// than 2^24 names are errors.
    pub fn walk(&mut self, mut each: impl FnMut(&mut Reader<R>, &[u8], &Inode) -> Result<()>) -> Result<()> {
        let root = self.inode(self.superblock.root)?;
        let mut path = Vec::new();
        each(self, &path, &root)?;
        let mut stack = Vec::new();
        stack.push(Open::new(&root, 0).ok_or_else(|| damaged("its root is no folder"))?);
        let mut names = 0;
        while let Some(open) = stack.last_mut() {
            path.truncate(open.path);
            let Some(name) = self.next_name(open)? else {
                stack.pop();
                continue;
            };
            names += 1;
            if names > NAME_LIMIT {
                return Err(damaged(format!("it has more than {NAME_LIMIT} names")));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name.name);
            let inode = self.inode(name.inode)?;
            if inode.number != name.number {
                let (is, says) = (inode.number, name.number);
                return Err(damaged(format!("/{} is inode {is} and listed as {says}", path.escape_ascii())));
            }
            if let Some(inner) = Open::new(&inode, path.len()) {
                if stack.len() >= DEPTH_LIMIT || stack.iter().any(|outer| outer.number == inode.number) {
                    return Err(damaged(format!("/{} is inside itself or too deep", path.escape_ascii())));
                }
                stack.push(inner);
            }
            each(self, &path, &inode)?;
        }
        Ok(())
    }

    fn next_name(&mut self, open: &mut Open) -> Result<Option<Name>> {
        if open.header.0 == 0 {
            if open.left == 0 {
                return Ok(None);
            }
            let header: [u8; 12] = self.listed(open)?;
            let mut fields = Fields(&header);
            let count = fields.u32().saturating_add(1);
            if count > ENTRIES_PER_HEADER as u32 {
                return Err(damaged(format!("{count} names below one header of a listing")));
            }
            open.header = (count, fields.u32(), fields.u32());
        }
        let entry: [u8; 8] = self.listed(open)?;
        let mut fields = Fields(&entry);
        let (offset, difference, _kind, size) = (fields.u16(), fields.u16(), fields.u16(), fields.u16());
        let size = u32::from(size) + 1;
        open.left = open.left.checked_sub(size).filter(|_| size <= 256).ok_or_else(|| damaged("a name too long"))?;
        let name = self.blocks.vector(&mut open.at, size as usize)?;
        let bad = name.contains(&b'/') || name.contains(&0) || name == b"." || name == b"..";
        if bad || name <= open.last {
            let (name, last) = (name.escape_ascii().to_string(), open.last.escape_ascii().to_string());
            return Err(damaged(format!("the name \"{name}\" is none, or may not follow \"{last}\"")));
        }
        open.last.clone_from(&name);
        let (count, block, base) = open.header;
        open.header.0 = count - 1;
        let number = base.wrapping_add_signed(i32::from(difference.cast_signed()));
        Ok(Some(Name { name, inode: Reference { block: u64::from(block), offset }, number }))
    }

    /// The next bytes of a listing.
    fn listed<const N: usize>(&mut self, open: &mut Open) -> Result<[u8; N]> {
        open.left =
            open.left.checked_sub(N as u32).ok_or_else(|| damaged("a listing that ends in the middle of a name"))?;
        self.blocks.array(&mut open.at)
    }
}
