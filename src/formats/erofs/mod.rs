//! EROFS, the kernel's read-only file system: the root of disk images.
//!
//! Not supported: block sizes other than 4096, chunk-based files, several devices, images above 16 TiB, sockets
//! (a tree has none), extended attributes of kinds that erofs has no number for (refused, never dropped).
//! Uncompressed images mount on Linux 5.4 and later. Of LZ4 images Linux 6.1 says that the "compressed inline data
//! feature" is experimental, and reads them; without it each compressed file would take half a block more.
//!
//! The image is written in one pass, in this order, with one seek back at the end:
//!
//! ```text
//! block 0         superblock, the root's inode, shared extended attributes (as many blocks as they take)
//! then            data of files, in the order of the tree; after each 2 MiB of inodes, these inodes as a group
//! then            the inodes of folders, and between them those of files that fit there
//! then            folders' blocks
//! ```
//!
//! Memory: 50 bytes for each inode and 70 for each file of a block or more, 4 bytes for each 8 KiB of a compressed file
//! while it is written, 4 MiB for inodes that wait, and 4 MiB for each thread.
//!
//! An inode holds the place of its data, and a folder the numbers of its inodes: so data goes first, folders last, and
//! nothing but 4 MiB of inodes is kept in memory. The last bytes of a file lie behind its inode where they fit into
//! one block with it. Files of equal content share their blocks.
//!
//! Threads read, hash and compress; their results are written in order, so the bytes do not depend on their number.

mod compress;
mod crc32c;
mod directory;
mod dump;
mod files;
mod foreign;
pub mod format;
mod group;
mod index;
mod large;
mod lz4;
mod piece;
mod reader;
mod scan;
mod seen;
mod source;
mod writer;
mod xattrs;

pub use dump::dump;
pub use reader::{Found, Name, Reader};
pub use writer::{Beside, write, write_with_pieces};

/// How the data of files is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// LZ4, quickly. For Linux 5.17 and later.
    Lz4Fast,
    /// LZ4, as small as it gets. Read as fast as the other. For Linux 5.17 and later.
    Lz4,
}

/// How an image is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// How the data of files is stored.
    pub compression: Compression,
    /// The file system's identity; derived from the tree and these options if it is not given.
    pub uuid: Option<[u8; 16]>,
    /// The file system's name, at most 16 bytes.
    pub label: &'a str,
    /// The time of the file system, in seconds since the epoch. Inodes of this very time take 32 bytes less.
    pub time: i64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image, a multiple of 4096.
    pub size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// The file system's identity.
    pub uuid: [u8; 16],
}
