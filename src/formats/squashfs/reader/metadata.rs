//! Metadata blocks, read where they are asked for.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::formats::squashfs::compression::Decoder;
use crate::formats::squashfs::format::{METADATA_RAW, METADATA_SIZE, Reference};

/// Decompressed metadata blocks that are kept; 512 KiB.
const KEPT: usize = 64;

/// A place in metadata from which bytes are read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Where the block is in the image.
    block: u64,
    /// Bytes into the block after decompression; may point to its end.
    offset: usize,
}

impl Cursor {
    /// What `reference` points to in the table that starts at `table`.
    pub(super) fn new(table: u64, reference: Reference) -> Cursor {
        Cursor { block: table.saturating_add(reference.block), offset: usize::from(reference.offset) }
    }
}

/// A decompressed block, and where the next one is.
type Block = (Arc<[u8]>, u64);

/// The image's bytes, decompressed.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    input: R,
    decoder: Decoder,
    /// Nothing is read behind this.
    end: u64,
    kept: HashMap<u64, Block>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::refused(format!("the squashfs image is damaged: {what}"))
}

impl<R: Read + Seek> Blocks<R> {
    /// The blocks of an image that ends at `end`.
    pub(super) fn new(input: R, decoder: Decoder, end: u64) -> Blocks<R> {
        Blocks { input, decoder, end, kept: HashMap::new(), packed: Vec::new(), unpacked: Vec::new() }
    }

    /// Reads bytes as they stand in the image.
    pub(super) fn exact(&mut self, position: u64, bytes: &mut [u8]) -> Result<()> {
        let end = position.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.end) {
            return Err(damaged(format!("{} bytes at {position} lie behind its end", bytes.len())));
        }
        let read = self.input.seek(SeekFrom::Start(position)).and_then(|_| self.input.read_exact(bytes));
        read.map_err(|error| Error::failed(format!("reading {} bytes at {position}: {error}", bytes.len())))
    }

    /// A data block of `size` bytes in the image and at most `limit` after decompression.
    pub(super) fn data(&mut self, position: u64, size: usize, compressed: bool, limit: usize) -> Result<&[u8]> {
        if size > limit {
            return Err(damaged(format!("the block at {position} has {size} bytes, where {limit} are the most")));
        }
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(size, 0);
        let read = self.exact(position, &mut packed);
        self.packed = packed;
        read?;
        if !compressed {
            return Ok(&self.packed);
        }
        let decoded = self.decoder.decode(&self.packed, limit, &mut self.unpacked);
        decoded.map_err(|error| damaged(format!("the block at {position}: {error}")))?;
        Ok(&self.unpacked)
    }

    fn metadata(&mut self, position: u64) -> Result<Block> {
        if let Some(block) = self.kept.get(&position) {
            return Ok(block.clone());
        }
        let mut header = [0; 2];
        self.exact(position, &mut header)?;
        let header = u16::from_le_bytes(header);
        let size = header & !METADATA_RAW;
        let raw = header & METADATA_RAW != 0;
        let start = position + 2;
        let bytes: Arc<[u8]> = self.data(start, usize::from(size), !raw, METADATA_SIZE)?.into();
        if bytes.is_empty() {
            return Err(damaged(format!("the metadata block at {position} is empty")));
        }
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let block = (bytes, start + u64::from(size));
        self.kept.insert(position, block.clone());
        Ok(block)
    }

    /// Reads metadata from the cursor on and moves it.
    pub(super) fn read(&mut self, cursor: &mut Cursor, bytes: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let (block, next) = self.metadata(cursor.block)?;
            let Some(rest) = block.get(cursor.offset..) else {
                return Err(damaged(format!("offset {} in the metadata block at {}", cursor.offset, cursor.block)));
            };
            if rest.is_empty() {
                *cursor = Cursor { block: next, offset: 0 };
                continue;
            }
            let count = rest.len().min(bytes.len() - filled);
            bytes[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            cursor.offset += count;
        }
        Ok(())
    }

    /// Reads a fixed number of bytes.
    pub(super) fn array<const N: usize>(&mut self, cursor: &mut Cursor) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(cursor, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads as many bytes as the image says; callers have bounded the number.
    pub(super) fn vector(&mut self, cursor: &mut Cursor, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read(cursor, &mut bytes)?;
        Ok(bytes)
    }

    /// The entry `number` of a table whose metadata blocks are listed from `list` on.
    pub(super) fn entry<const N: usize>(&mut self, list: u64, number: u32) -> Result<[u8; N]> {
        let at = u64::from(number) * N as u64;
        let mut position = [0; 8];
        self.exact(list.saturating_add(at / METADATA_SIZE as u64 * 8), &mut position)?;
        let offset = at as usize % METADATA_SIZE;
        self.array(&mut Cursor { block: u64::from_le_bytes(position), offset })
    }
}
