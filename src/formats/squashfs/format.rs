//! What stands on disk. Everything is little-endian. The names and the order of fields are those of Linux's
//! fs/squashfs/squashfs_fs.h; Documentation/filesystems/squashfs.rst describes them.

/// "hsqs".
pub const MAGIC: u32 = 0x7371_7368;
/// Bytes of the superblock, at the start of the image.
pub const SUPERBLOCK_SIZE: usize = 96;
/// Metadata lies in blocks of this many bytes before compression.
pub const METADATA_SIZE: usize = 8192;
/// Set in a metadata block's header if the block is not compressed. The other 15 bits are its size on disk.
pub const METADATA_RAW: u16 = 1 << 15;
/// Set in a data block's size if the block is not compressed.
pub const DATA_RAW: u32 = 1 << 24;
/// Stands for "no fragment" and "no extended attributes".
pub const NONE: u32 = u32::MAX;
/// Stands for "no such table".
pub const NO_TABLE: u64 = u64::MAX;
/// Smallest data block.
pub const BLOCK_SIZE_MIN: u32 = 4 << 10;
/// Largest data block.
pub const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// Entries below one header of a directory listing.
pub const ENTRIES_PER_HEADER: usize = 256;
/// A listing's size field counts three bytes that are not there: the kernel's stand-ins for "." and "..".
pub const LISTING_EXTRA: u32 = 3;
/// Bytes of an entry of the fragment table: u64 position, u32 size, u32 zero.
pub const FRAGMENT_ENTRY: usize = 16;
/// Bytes of an entry of the extended attributes' table: u64 reference, u32 count, u32 size of the names.
pub const XATTR_ENTRY: usize = 16;
/// Set in an extended attribute's type if its value lies elsewhere.
pub const XATTR_ELSEWHERE: u16 = 0x100;
/// Prefixes of extended attributes' names; the place in this list is the type on disk.
pub const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// The superblock's flags.
pub mod flags {
    /// The inode table is not compressed.
    pub const RAW_INODES: u16 = 0x1;
    /// Data blocks are not compressed.
    pub const RAW_DATA: u16 = 0x2;
    /// Fragment blocks are not compressed.
    pub const RAW_FRAGMENTS: u16 = 0x8;
    /// There are no fragments.
    pub const NO_FRAGMENTS: u16 = 0x10;
    /// Ends of files larger than a block are in fragments too.
    pub const ALWAYS_FRAGMENTS: u16 = 0x20;
    /// Equal files are stored once.
    pub const DUPLICATES: u16 = 0x40;
    /// There is a table from inode numbers to inodes.
    pub const EXPORT: u16 = 0x80;
    /// Extended attributes are not compressed.
    pub const RAW_XATTRS: u16 = 0x100;
    /// There are no extended attributes.
    pub const NO_XATTRS: u16 = 0x200;
    /// The compressor's options follow the superblock.
    pub const COMPRESSOR_OPTIONS: u16 = 0x400;
    /// The table of owners is not compressed.
    pub const RAW_IDS: u16 = 0x800;
    /// What an image without any compression has.
    pub const RAW: u16 = RAW_INODES | RAW_DATA | RAW_FRAGMENTS | RAW_XATTRS | RAW_IDS;
}

/// Types of inodes. The extended form of each has seven added.
pub mod inode_type {
    /// A folder.
    pub const FOLDER: u16 = 1;
    /// A regular file.
    pub const FILE: u16 = 2;
    /// A symbolic link.
    pub const SYMLINK: u16 = 3;
    /// A block device.
    pub const BLOCK_DEVICE: u16 = 4;
    /// A character device.
    pub const CHARACTER_DEVICE: u16 = 5;
    /// A named pipe.
    pub const FIFO: u16 = 6;
    /// A socket; read, never written.
    pub const SOCKET: u16 = 7;
    /// Added to a type for its extended form.
    pub const EXTENDED: u16 = 7;
}

/// The superblock's fields, in the order in which they stand. Positions are bytes from the start of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// Number of inodes.
    pub inode_count: u32,
    /// When the image was made, in seconds since the epoch.
    pub time: u32,
    /// Bytes of a data block before compression, a power of two.
    pub block_size: u32,
    /// Number of fragment blocks.
    pub fragment_count: u32,
    /// Which compressor.
    pub compressor: u16,
    /// See [`flags`].
    pub flags: u16,
    /// Number of owners and groups.
    pub id_count: u16,
    /// The root folder's inode.
    pub root: Reference,
    /// Bytes of the image without its padding.
    pub bytes_used: u64,
    /// Where the list of the owners' metadata blocks is.
    pub id_table: u64,
    /// Where the header of the extended attributes is, or [`NO_TABLE`].
    pub xattr_table: u64,
    /// Where the inodes start.
    pub inode_table: u64,
    /// Where the listings start.
    pub directory_table: u64,
    /// Where the list of the fragment table's metadata blocks is.
    pub fragment_table: u64,
    /// Where the list of the export table's metadata blocks is, or [`NO_TABLE`].
    pub export_table: u64,
}

/// The place of something in a table of metadata blocks: where its block starts on disk, counted from the start of
/// the table, and where it starts in that block after decompression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Bytes on disk from the start of the table to the block; 48 bits.
    pub block: u64,
    /// Bytes into the block, below [`METADATA_SIZE`].
    pub offset: u16,
}

impl Reference {
    /// As one number.
    pub fn encode(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }

    /// From one number.
    pub fn decode(number: u64) -> Reference {
        Reference { block: number >> 16, offset: (number & 0xffff) as u16 }
    }
}

impl Superblock {
    /// The superblock as it stands on disk, version 4.0.
    pub fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut out = Vec::with_capacity(SUPERBLOCK_SIZE);
        for field in [MAGIC, self.inode_count, self.time, self.block_size, self.fragment_count] {
            out.extend(field.to_le_bytes());
        }
        for field in [self.compressor, self.block_size.trailing_zeros() as u16, self.flags, self.id_count, 4, 0] {
            out.extend(field.to_le_bytes());
        }
        for field in [
            self.root.encode(),
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ] {
            out.extend(field.to_le_bytes());
        }
        let mut bytes = [0; SUPERBLOCK_SIZE];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a superblock. `Err` says what is wrong with it.
    pub fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Superblock, String> {
        let mut fields = Fields(bytes);
        if fields.u32() != MAGIC {
            return Err("no squashfs superblock: the magic \"hsqs\" is not there".to_string());
        }
        let mut superblock = Superblock {
            inode_count: fields.u32(),
            time: fields.u32(),
            block_size: fields.u32(),
            fragment_count: fields.u32(),
            compressor: fields.u16(),
            ..Superblock::default()
        };
        let block_log = fields.u16();
        superblock.flags = fields.u16();
        superblock.id_count = fields.u16();
        let version = (fields.u16(), fields.u16());
        if version != (4, 0) {
            return Err(format!("squashfs version {}.{}, where 4.0 is expected", version.0, version.1));
        }
        let size = superblock.block_size;
        if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&size)
            || !size.is_power_of_two()
            || size.trailing_zeros() != u32::from(block_log)
        {
            return Err(format!("a block size of {size} with a logarithm of {block_log}"));
        }
        superblock.root = Reference::decode(fields.u64());
        superblock.bytes_used = fields.u64();
        superblock.id_table = fields.u64();
        superblock.xattr_table = fields.u64();
        superblock.inode_table = fields.u64();
        superblock.directory_table = fields.u64();
        superblock.fragment_table = fields.u64();
        superblock.export_table = fields.u64();
        Ok(superblock)
    }
}

/// Little-endian numbers from the front of a slice. What is not there reads as zero: callers hand in slices of the
/// right length.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }

    /// 16 bits.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    /// 32 bits.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// 64 bits.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// A device number as Linux writes it (`new_encode_dev` in include/linux/kdev_t.h): 12 bits of major number, 20 of
/// minor number. `None` if a number is larger.
pub fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor number of a device.
pub fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, device & 0xff | (device >> 12) & 0xfff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_and_devices_come_back() {
        let superblock = Superblock {
            inode_count: 1,
            time: 2,
            block_size: 4096,
            fragment_count: 3,
            compressor: 6,
            flags: flags::EXPORT,
            id_count: 4,
            root: Reference { block: 5, offset: 6 },
            bytes_used: 7,
            id_table: 8,
            xattr_table: 9,
            inode_table: 10,
            directory_table: 11,
            fragment_table: 12,
            export_table: NO_TABLE,
        };
        let mut bytes = superblock.encode();
        assert_eq!(Superblock::decode(&bytes), Ok(superblock));
        bytes[22] = 13;
        assert!(Superblock::decode(&bytes).is_err());
        for (major, minor) in [(0, 0), (5, 1), (259, 300), (4095, 0xf_ffff)] {
            assert_eq!(decode_device(encode_device(major, minor).unwrap()), (major, minor));
        }
        assert_eq!(encode_device(1, 3), Some(0x103));
        assert_eq!((encode_device(4096, 0), encode_device(0, 1 << 20)), (None, None));
    }
}
