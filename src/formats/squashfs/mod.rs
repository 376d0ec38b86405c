//! squashfs 4.0: a compressed, read-only file system that every Linux since 2.6.29 reads.
//!
//! Limits of the format: names of up to 255 bytes, times from 1970 to 2106 without fractions, 65535 different owners
//! and groups, extended attributes in `user.`, `trusted.` and `security.` only (POSIX access lists are lost and
//! reported). The writer makes no sockets, because trees have none. Files may be of any size; blocks of zeros take no
//! room.
//!
//! The layout is Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h of Linux. An image is: the
//! superblock, the compressor's options, the data (blocks and fragments), inodes, listings, and the tables of
//! fragments, inode numbers, owners and extended attributes, padded to 4 KiB.
//!
//! The bytes depend on the tree and the options but for the number of threads. Memory: some 200 bytes for each
//! inode, 4 for each block, and at most 40 MiB for blocks and compressors; where large blocks would need more, fewer
//! threads are used than were asked for.

mod check;
mod compression;
mod data;
mod directory;
mod foreign;
mod format;
mod inode;
mod metadata;
mod pipeline;
mod reader;
mod writer;
mod xattrs;

pub use compression::Compression;
pub use format::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, Reference, Superblock};
pub use reader::{File, Inode, Kind, Listing, Reader, dump};
pub use writer::{write, write_with_pieces};

use crate::error::{Error, Result};

/// How an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How blocks are compressed.
    pub compression: Compression,
    /// Bytes of a data block before compression: a power of two from 4 KiB to 1 MiB. Larger blocks compress better;
    /// a reader has to decompress a whole block for one byte of it.
    pub block_size: u32,
    /// The image's own time, in seconds since the epoch.
    pub time: i64,
    /// The most threads that compress. The image does not depend on it.
    pub threads: usize,
}

impl Default for Options {
    /// Zstandard in blocks of 256 KiB: 3 % smaller than with mksquashfs's 128 KiB. 1 MiB would save 3 % more and make a
    /// reader decompress four times as much for one page. One thread for each processor.
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options { compression: Compression::default(), block_size: 256 << 10, time: 0, threads }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let size = self.block_size;
        if !size.is_power_of_two() || !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&size) {
            return Err(Error::usage(format!("squashfs has no blocks of {size} bytes"))
                .hint("the block size is a power of two from 4096 to 1048576"));
        }
        Ok(())
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image with its padding.
    pub size: u64,
    /// Bytes of the image without its padding.
    pub bytes_used: u64,
    /// Number of inodes.
    pub inodes: u32,
    /// Number of fragment blocks.
    pub fragments: u32,
    /// Files whose content was stored already.
    pub duplicates: u64,
    /// Different sets of extended attributes.
    pub xattr_sets: u32,
    /// Path and name of each extended attribute that the format has no place for.
    pub lost_xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}
