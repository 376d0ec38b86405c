//! Inodes, read.

use std::io::{Read, Seek};

use super::Reader;
use super::metadata::{Cursor, damaged};
use crate::error::Result;
use crate::formats::squashfs::format::{Fields, LISTING_EXTRA, NONE, Reference, decode_device, inode_type};
use crate::store::Xattrs;

/// A symbolic link's target may not be longer: a page, as for the kernel (fs/squashfs/inode.c).
const TARGET_LIMIT: u32 = 4096;

/// An inode.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number, from 1 on.
    pub number: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: u32,
    /// How many names it has, as it says itself.
    pub links: u32,
    /// Sorted by name.
    pub xattrs: Xattrs,
    /// What it is.
    pub kind: Kind,
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Folder(Listing),
    /// A regular file.
    File(File),
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A character device's major and minor number.
    CharacterDevice(u32, u32),
    /// A block device's major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a folder's names are.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    pub(super) at: Cursor,
    /// Bytes that are there.
    pub(super) size: u32,
}

/// Where a file's content is.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Bytes of content.
    pub size: u64,
    pub(super) start: u64,
    pub(super) fragment: u32,
    pub(super) offset: u32,
    /// The sizes of its blocks.
    pub(super) blocks: Cursor,
}

impl<R: Read + Seek> Reader<R> {
    /// The inode at `reference` in the inode table.
    pub fn inode(&mut self, reference: Reference) -> Result<Inode> {
        let mut at = Cursor::new(self.superblock.inode_table, reference);
        let head: [u8; 16] = self.blocks.array(&mut at)?;
        let mut head = Fields(&head);
        let (stored, mode, uid, gid) = (head.u16(), head.u16(), head.u16(), head.u16());
        let (mtime, number) = (head.u32(), head.u32());
        let extended = stored > inode_type::EXTENDED;
        let basic = if extended { stored - inode_type::EXTENDED } else { stored };
        let mut xattrs = NONE;
        let (links, kind) = match (basic, extended) {
            (inode_type::FOLDER, false) => {
                let fields: [u8; 16] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let (block, links, size, offset) = (fields.u32(), fields.u32(), fields.u16(), fields.u16());
                (links, self.listing(block, offset, u32::from(size)))
            }
            (inode_type::FOLDER, true) => {
                let fields: [u8; 24] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let (links, size, block, _parent) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
                let (_index, offset) = (fields.u16(), fields.u16());
                xattrs = fields.u32();
                (links, self.listing(block, offset, size))
            }
            (inode_type::FILE, false) => {
                let fields: [u8; 16] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let (start, fragment, offset) = (u64::from(fields.u32()), fields.u32(), fields.u32());
                (1, Kind::File(File { size: u64::from(fields.u32()), start, fragment, offset, blocks: at }))
            }
            (inode_type::FILE, true) => {
                let fields: [u8; 40] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let (start, size, _sparse) = (fields.u64(), fields.u64(), fields.u64());
                let (links, fragment, offset) = (fields.u32(), fields.u32(), fields.u32());
                xattrs = fields.u32();
                (links, Kind::File(File { size, start, fragment, offset, blocks: at }))
            }
            (inode_type::SYMLINK, _) => {
                let fields: [u8; 8] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let (links, size) = (fields.u32(), fields.u32());
                if size > TARGET_LIMIT {
                    return Err(damaged(format!("inode {number} points to a path of {size} bytes")));
                }
                (links, Kind::Symlink(self.blocks.vector(&mut at, size as usize)?))
            }
            (inode_type::BLOCK_DEVICE | inode_type::CHARACTER_DEVICE, _) => {
                let fields: [u8; 8] = self.blocks.array(&mut at)?;
                let mut fields = Fields(&fields);
                let links = fields.u32();
                let (major, minor) = decode_device(fields.u32());
                let block = basic == inode_type::BLOCK_DEVICE;
                (links, if block { Kind::BlockDevice(major, minor) } else { Kind::CharacterDevice(major, minor) })
            }
            (inode_type::FIFO | inode_type::SOCKET, _) => {
                let links = u32::from_le_bytes(self.blocks.array(&mut at)?);
                (links, if basic == inode_type::FIFO { Kind::Fifo } else { Kind::Socket })
            }
            _ => return Err(damaged(format!("inode {number} has the unknown type {stored}"))),
        };
        if extended && !matches!(kind, Kind::Folder(_) | Kind::File(_)) {
            xattrs = u32::from_le_bytes(self.blocks.array(&mut at)?);
        }
        let (uid, gid) = (self.owner(uid)?, self.owner(gid)?);
        let xattrs = if xattrs == NONE { Xattrs::new() } else { self.xattrs(xattrs)? };
        Ok(Inode { number, mode: u32::from(mode & 0o7777), uid, gid, mtime, links, xattrs, kind })
    }

    fn listing(&self, block: u32, offset: u16, size: u32) -> Kind {
        let at = Cursor::new(self.superblock.directory_table, Reference { block: u64::from(block), offset });
        Kind::Folder(Listing { at, size: size.saturating_sub(LISTING_EXTRA) })
    }

    fn owner(&mut self, number: u16) -> Result<u32> {
        if number >= self.superblock.id_count {
            return Err(damaged(format!("owner {number} of {}", self.superblock.id_count)));
        }
        Ok(u32::from_le_bytes(self.blocks.entry(self.superblock.id_table, u32::from(number))?))
    }
}
