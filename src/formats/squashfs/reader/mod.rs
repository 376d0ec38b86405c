//! Reading images: every name with its inode, and contents.
//!
//! Images of any squashfs 4.0 writer with gzip, xz or Zstandard. What comes from an image is never trusted: memory
//! stays below 4 MiB for blocks of up to 1 MiB, whatever the image says, and damage is an error.

mod content;
mod dump;
mod inode;
mod metadata;
mod walk;
mod xattrs;

use std::io::{Read, Seek, SeekFrom};

pub use dump::dump;
pub use inode::{File, Inode, Kind, Listing};
use metadata::{Blocks, damaged};

use super::compression::Decoder;
use super::format::{NONE, SUPERBLOCK_SIZE, Superblock};
use crate::error::{Error, Result};

/// An image that is open for reading.
#[derive(Debug)]
pub struct Reader<R> {
    superblock: Superblock,
    blocks: Blocks<R>,
    /// The number of the fragment that was read last, and its bytes.
    kept_fragment: (u32, Vec<u8>),
    /// Bytes of extended attributes that may still be read.
    xattr_bytes: usize,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens the image that starts at the first byte of `input`.
    pub fn open(mut input: R) -> Result<Reader<R>> {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        let failed = |error| Error::failed(format!("reading the superblock: {error}"));
        let end = input.seek(SeekFrom::End(0)).map_err(failed)?;
        input.seek(SeekFrom::Start(0)).and_then(|_| input.read_exact(&mut bytes)).map_err(failed)?;
        let superblock = Superblock::decode(&bytes).map_err(Error::refused)?;
        if superblock.bytes_used > end {
            let used = superblock.bytes_used;
            return Err(damaged(format!("it has {end} bytes and says that it has {used}")));
        }
        let decoder = Decoder::new(superblock.compressor)
            .map_err(|error| Error::failed(format!("making a decompressor: {error}")))?
            .ok_or_else(|| Error::refused(format!("compressor {} is not known", superblock.compressor)))?;
        let blocks = Blocks::new(input, decoder, superblock.bytes_used);
        Ok(Reader { superblock, blocks, kept_fragment: (NONE, Vec::new()), xattr_bytes: xattrs::TOTAL_LIMIT })
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }
}
