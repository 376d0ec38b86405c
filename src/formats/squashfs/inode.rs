//! Inodes as they stand on disk: the basic form where it is enough, else the extended one.

use super::data::FileData;
use super::directory::Listing;
use super::format::{NONE, inode_type};
use crate::rootfs::Kind;

/// What all inodes have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    /// Permission bits.
    pub(super) mode: u16,
    /// The owner's place in the table of owners.
    pub(super) uid: u16,
    /// The group's place in the table of owners.
    pub(super) gid: u16,
    pub(super) mtime: u32,
    /// From 1 on.
    pub(super) number: u32,
    /// How many names it has.
    pub(super) links: u32,
    /// The number of its set of extended attributes, or [`NONE`].
    pub(super) xattrs: u32,
}

/// What only some inodes have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// A listing, and the number of the folder that it is in.
    Folder(&'a Listing, u32),
    /// Content, and its size.
    File(&'a FileData, u64),
    /// Where it points.
    Symlink(&'a [u8]),
    /// A device's number as on disk.
    CharacterDevice(u32),
    /// A device's number as on disk.
    BlockDevice(u32),
    Fifo,
}

/// The basic type, as it stands in listings.
pub(super) fn basic_type(kind: &Kind) -> u16 {
    match kind {
        Kind::Folder(_) => inode_type::FOLDER,
        Kind::File(_) => inode_type::FILE,
        Kind::Symlink(_) => inode_type::SYMLINK,
        Kind::CharacterDevice { .. } => inode_type::CHARACTER_DEVICE,
        Kind::BlockDevice { .. } => inode_type::BLOCK_DEVICE,
        Kind::Fifo => inode_type::FIFO,
    }
}

impl Body<'_> {
    fn kind(&self) -> u16 {
        match self {
            Body::Folder(..) => inode_type::FOLDER,
            Body::File(..) => inode_type::FILE,
            Body::Symlink(_) => inode_type::SYMLINK,
            Body::CharacterDevice(_) => inode_type::CHARACTER_DEVICE,
            Body::BlockDevice(_) => inode_type::BLOCK_DEVICE,
            Body::Fifo => inode_type::FIFO,
        }
    }

    fn needs_extended(&self, common: &Common) -> bool {
        let more = match self {
            Body::Folder(listing, _) => listing.size > u32::from(u16::MAX) || listing.index_count > 0,
            Body::File(data, size) => {
                common.links > 1
                    || data.sparse > 0
                    || u32::try_from(*size).is_err()
                    || u32::try_from(data.start).is_err()
            }
            _ => false,
        };
        more || common.xattrs != NONE
    }
}

/// Little-endian numbers at the end of a vector.
struct Bytes<'a>(&'a mut Vec<u8>);

impl Bytes<'_> {
    fn u16(&mut self, fields: &[u16]) {
        self.0.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    }

    fn u32(&mut self, fields: &[u32]) {
        self.0.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    }

    fn u64(&mut self, fields: &[u64]) {
        self.0.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    }
}

/// Writes an inode into `out`, whose content is replaced.
pub(super) fn encode(common: &Common, body: &Body<'_>, out: &mut Vec<u8>) {
    out.clear();
    let extended = body.needs_extended(common);
    let mut to = Bytes(out);
    to.u16(&[body.kind() + if extended { inode_type::EXTENDED } else { 0 }, common.mode, common.uid, common.gid]);
    to.u32(&[common.mtime, common.number]);
    match *body {
        Body::Folder(listing, parent) => {
            // Below 4 GiB: the writer of listings has refused others.
            let block = listing.start.block as u32;
            if extended {
                to.u32(&[common.links, listing.size, block, parent]);
                to.u16(&[listing.index_count, listing.start.offset]);
                to.u32(&[common.xattrs]);
                to.0.extend_from_slice(&listing.index);
            } else {
                to.u32(&[block, common.links]);
                to.u16(&[listing.size as u16, listing.start.offset]);
                to.u32(&[parent]);
            }
        }
        Body::File(data, size) => {
            if extended {
                // mksquashfs never calls a whole file sparse, so that no reader takes it for one without blocks.
                to.u64(&[data.start, size, data.sparse.min(size.saturating_sub(1))]);
                to.u32(&[common.links, data.fragment, data.offset, common.xattrs]);
            } else {
                to.u32(&[data.start as u32, data.fragment, data.offset, size as u32]);
            }
            to.u32(&data.blocks);
        }
        Body::Symlink(target) => {
            to.u32(&[common.links, target.len() as u32]);
            to.0.extend_from_slice(target);
        }
        Body::CharacterDevice(device) | Body::BlockDevice(device) => to.u32(&[common.links, device]),
        Body::Fifo => to.u32(&[common.links]),
    }
    if extended && !matches!(body, Body::Folder(..) | Body::File(..)) {
        Bytes(out).u32(&[common.xattrs]);
    }
}
