//! What lies on the disk. Everything is little-endian. The reference is the kernel's documentation
//! (Documentation/filesystems/erofs.rst, "On-disk details") and erofs.docs.kernel.org ("Core on-disk format").

use super::crc32c;
use crate::rootfs::Kind;

/// Bytes of a block. Other sizes exist; this is the one that every kernel with 4 KiB pages or larger mounts.
pub const BLOCK: u64 = 4096;
/// Base-2 logarithm of [`BLOCK`].
pub const BLOCK_BITS: u8 = 12;
/// Inodes start at multiples of this from the start of the metadata; a nid counts them.
pub const SLOT: u64 = 32;
/// Slots in a block.
pub const SLOTS: u64 = BLOCK / SLOT;
/// Where the superblock is.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Bytes of a superblock without extension slots.
pub const SUPERBLOCK_SIZE: usize = 128;
/// The first field of a superblock.
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Longest name.
pub const NAME_LIMIT: usize = 255;
/// Bytes of a directory entry without its name.
pub const DIRENT_SIZE: usize = 12;
/// Bytes in front of an inode's extended attributes.
pub const XATTR_HEADER_SIZE: usize = 12;
/// Bytes in front of an extended attribute's name.
pub const XATTR_ENTRY_SIZE: usize = 4;

/// Features that a kernel may ignore.
pub mod compatible {
    /// The superblock's block has a checksum.
    pub const CHECKSUM: u32 = 1;
    /// Times are modification times.
    pub const MTIME: u32 = 2;
}

/// Features that a kernel has to know.
pub mod incompatible {
    /// Compressed data stands at the end of its block, zeros in front of it (Linux 5.3).
    pub const ZERO_PADDING: u32 = 1;
    /// The superblock is followed by the parameters of each algorithm; also large physical clusters (Linux 5.13).
    pub const COMPRESSION_CONFIGURATIONS: u32 = 2;
    /// The last physical cluster of a file may lie in the metadata, behind the inode (Linux 5.17).
    pub const INLINE_TAIL: u32 = 0x10;
}

/// How an inode's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// In whole blocks.
    Plain = 0,
    /// In whole blocks, and the rest behind the inode, in the same block as the inode's end.
    Inline = 2,
    /// Compressed, with the compact index behind the inode.
    Compressed = 3,
}

/// Types as directory entries have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileType {
    Regular = 1,
    Folder = 2,
    CharacterDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Socket = 6,
    Symlink = 7,
}

impl FileType {
    /// The type of an inode of the tree.
    pub fn of(kind: &Kind) -> FileType {
        match kind {
            Kind::Folder(_) => FileType::Folder,
            Kind::File(_) => FileType::Regular,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::CharacterDevice { .. } => FileType::CharacterDevice,
            Kind::BlockDevice { .. } => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
        }
    }

    /// The type's bits in `st_mode` (inode(7)).
    pub fn mode(self) -> u16 {
        match self {
            FileType::Regular => 0o100_000,
            FileType::Folder => 0o040_000,
            FileType::CharacterDevice => 0o020_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Fifo => 0o010_000,
            FileType::Socket => 0o140_000,
            FileType::Symlink => 0o120_000,
        }
    }

    /// The type that the bits of an `st_mode` name.
    pub fn of_mode(mode: u16) -> Option<FileType> {
        use FileType as T;
        [T::Regular, T::Folder, T::CharacterDevice, T::BlockDevice, T::Fifo, T::Socket, T::Symlink]
            .into_iter()
            .find(|kind| kind.mode() == mode & 0o170_000)
    }
}

/// The superblock's fields that this program uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// See [`compatible`].
    pub compatible: u32,
    /// See [`incompatible`].
    pub incompatible: u32,
    /// The root's nid; only 16 bits.
    pub root: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Modification time of all compact inodes, in seconds since the epoch.
    pub time: i64,
    /// Blocks of the file system.
    pub blocks: u32,
    /// First block of the metadata: nid 0.
    pub metadata: u32,
    /// First block of the shared extended attributes.
    pub xattrs: u32,
    /// Identity.
    pub uuid: [u8; 16],
    /// Name, padded with zeros.
    pub label: [u8; 16],
    /// With [`incompatible::COMPRESSION_CONFIGURATIONS`] a bit for each algorithm, else LZ4's largest distance
    /// (0: 65,535).
    pub compression: u16,
}

impl Superblock {
    /// The first blocks: the superblock with its block's checksum, and what follows it.
    pub fn encode(&self, behind: &[u8]) -> Vec<u8> {
        let size = SUPERBLOCK_OFFSET as usize + SUPERBLOCK_SIZE + behind.len();
        let mut block = vec![0; size.next_multiple_of(BLOCK as usize)];
        let mut put = |at: usize, bytes: &[u8]| {
            let at = SUPERBLOCK_OFFSET as usize + at;
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &self.compatible.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(24, &self.time.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.metadata.to_le_bytes());
        put(44, &self.xattrs.to_le_bytes());
        put(48, &self.uuid);
        put(64, &self.label);
        put(80, &self.incompatible.to_le_bytes());
        put(84, &self.compression.to_le_bytes());
        put(SUPERBLOCK_SIZE, behind);
        let checksum = crc32c::update(u32::MAX, &block[SUPERBLOCK_OFFSET as usize..BLOCK as usize]);
        let at = SUPERBLOCK_OFFSET as usize + 4;
        block[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads a superblock from the first block. `Err` says what is wrong.
    pub fn decode(block: &[u8; BLOCK as usize]) -> Result<Superblock, String> {
        let bytes = &block[SUPERBLOCK_OFFSET as usize..];
        if u32_at(bytes, 0) != MAGIC {
            return Err(format!("the magic number at byte {SUPERBLOCK_OFFSET} is not erofs's"));
        }
        if bytes[12] != BLOCK_BITS {
            return Err(format!("blocks of 2^{} bytes; only 4096 are read here", bytes[12]));
        }
        let superblock = Superblock {
            compatible: u32_at(bytes, 8),
            incompatible: u32_at(bytes, 80),
            root: u16_at(bytes, 14),
            inodes: u64_at(bytes, 16),
            time: u64_at(bytes, 24) as i64,
            blocks: u32_at(bytes, 36),
            metadata: u32_at(bytes, 40),
            xattrs: u32_at(bytes, 44),
            uuid: std::array::from_fn(|at| bytes[48 + at]),
            label: std::array::from_fn(|at| bytes[64 + at]),
            compression: u16_at(bytes, 84),
        };
        if superblock.compatible & compatible::CHECKSUM != 0 {
            let mut zeroed = bytes.to_vec();
            zeroed[4..8].fill(0);
            let (stated, found) = (u32_at(bytes, 4), crc32c::update(u32::MAX, &zeroed));
            if stated != found {
                return Err(format!("the superblock's checksum is {found:08x}, and it says {stated:08x}"));
            }
        }
        Ok(superblock)
    }
}

/// An inode without what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// 64 bytes instead of 32.
    pub extended: bool,
    /// How its data lies.
    pub layout: Layout,
    /// Size of its extended attributes, as [`xattr_count`] gives it.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    /// Number of names.
    pub links: u32,
    /// Bytes of data.
    pub size: u64,
    /// First block of the data; compressed: number of blocks; a device: its number.
    pub place: u32,
    /// Number for 32-bit programs.
    pub number: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch. A compact inode has the superblock's.
    pub mtime: i64,
}

impl Inode {
    /// Bytes of the inode.
    pub fn length(extended: bool) -> usize {
        if extended { 64 } else { 32 }
    }

    /// Appends the inode. A compact one's fields are known to fit.
    pub fn encode(&self, out: &mut [u8]) {
        let format = u16::from(self.extended) | (self.layout as u16) << 1;
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &format.to_le_bytes());
        put(2, &self.xattr_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(16, &self.place.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        if self.extended {
            put(8, &self.size.to_le_bytes());
            put(24, &self.uid.to_le_bytes());
            put(28, &self.gid.to_le_bytes());
            put(32, &self.mtime.to_le_bytes());
            put(44, &self.links.to_le_bytes());
        } else {
            put(6, &(self.links as u16).to_le_bytes());
            put(8, &(self.size as u32).to_le_bytes());
            put(24, &(self.uid as u16).to_le_bytes());
            put(26, &(self.gid as u16).to_le_bytes());
        }
    }

    /// Reads an inode from its first bytes; 64 are needed for an extended one. `Err` says what is wrong.
    pub fn decode(bytes: &[u8], time: i64) -> Result<Inode, String> {
        let format = bytes.first_chunk::<2>().map_or(0, |first| u16::from_le_bytes(*first));
        let extended = format & 1 == 1;
        if bytes.len() < Inode::length(extended) {
            return Err("the inode is cut off".into());
        }
        let layout = match format >> 1 {
            0 => Layout::Plain,
            2 => Layout::Inline,
            3 => Layout::Compressed,
            other => return Err(format!("data layout {other} is not read here")),
        };
        let mut inode = Inode {
            extended,
            layout,
            xattr_count: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            links: u32::from(u16_at(bytes, 6)),
            size: u64::from(u32_at(bytes, 8)),
            place: u32_at(bytes, 16),
            number: u32_at(bytes, 20),
            uid: u32::from(u16_at(bytes, 24)),
            gid: u32::from(u16_at(bytes, 26)),
            mtime: time,
        };
        if extended {
            inode.size = u64_at(bytes, 8);
            inode.uid = u32_at(bytes, 24);
            inode.gid = u32_at(bytes, 28);
            inode.mtime = u64_at(bytes, 32) as i64;
            inode.links = u32_at(bytes, 44);
        }
        Ok(inode)
    }
}

/// The inode's field for extended attributes of `size` bytes with their header: 0 for none, else the number of 4-byte
/// words behind the header, and one.
pub fn xattr_count(size: u32) -> Option<u16> {
    match size.checked_sub(XATTR_HEADER_SIZE as u32) {
        None => Some(0),
        Some(behind) => u16::try_from(behind / 4 + 1).ok(),
    }
}

/// The reverse of [`xattr_count`].
pub fn xattr_size(count: u16) -> u32 {
    if count == 0 { 0 } else { XATTR_HEADER_SIZE as u32 + 4 * (u32::from(count) - 1) }
}

/// The number of a device as the kernel's `new_encode_dev` packs it: 12 bits of major, 20 bits of minor number.
pub fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor number of a packed device.
pub fn device_numbers(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, device & 0xff | device >> 12 & 0xf_ff00)
}

/// The field at `at`, which is known to be there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The field at `at`, which is known to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The field at `at`, which is known to be there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_read_back() {
        let superblock = Superblock {
            compatible: compatible::CHECKSUM | compatible::MTIME,
            root: 7,
            inodes: 12,
            time: -5,
            blocks: 99,
            metadata: 3,
            xattrs: 4,
            uuid: *b"0123456789abcdef",
            label: *b"label\0\0\0\0\0\0\0\0\0\0\0",
            ..Superblock::default()
        };
        let mut block: [u8; 4096] = superblock.encode(&[]).try_into().unwrap();
        assert_eq!(Superblock::decode(&block).unwrap(), superblock);
        block[4000] = 1;
        assert!(Superblock::decode(&block).unwrap_err().contains("checksum"));
    }

    #[test]
    fn inodes_read_back() {
        let compact = Inode {
            extended: false,
            layout: Layout::Inline,
            xattr_count: 3,
            mode: 0o100_644,
            links: 65535,
            size: u64::from(u32::MAX),
            place: 5,
            number: 6,
            uid: 65535,
            gid: 1,
            mtime: 1_700_000_000,
        };
        let extended = Inode { extended: true, size: 1 << 40, uid: 1 << 20, links: 1 << 17, mtime: -1, ..compact };
        for inode in [compact, extended] {
            let mut bytes = [0; 64];
            inode.encode(&mut bytes);
            assert_eq!(Inode::decode(&bytes[..Inode::length(inode.extended)], 1_700_000_000).unwrap(), inode);
        }
        assert!(Inode::decode(&[1, 0, 0], 0).is_err());
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(device(5, 1), Some(0x501));
        assert_eq!(device(259, 0x1_2345), Some(0x1231_0345));
        assert_eq!(device_numbers(0x1231_0345), (259, 0x1_2345));
        assert_eq!((device(4096, 0), device(0, 1 << 20)), (None, None));
    }
}
