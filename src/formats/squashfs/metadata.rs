//! Tables of metadata: bytes in blocks of 8 KiB, each compressed on its own, in memory until the data is written.

use std::io;

use super::compression::{Compression, Encoder};
use super::format::{METADATA_RAW, METADATA_SIZE, Reference};

/// A table that grows.
pub(super) struct MetadataTable {
    encoder: Encoder,
    packed: Vec<u8>,
    block: Vec<u8>,
    buffer: Vec<u8>,
    /// Where each block starts in `packed`.
    starts: Vec<u64>,
}

impl MetadataTable {
    /// An empty table.
    pub(super) fn new(compression: Compression) -> io::Result<MetadataTable> {
        Ok(MetadataTable {
            encoder: Encoder::new(compression, METADATA_SIZE)?,
            packed: Vec::new(),
            block: Vec::with_capacity(METADATA_SIZE),
            buffer: Vec::new(),
            starts: Vec::new(),
        })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> Reference {
        // A full block is closed by `write`, so the offset is below METADATA_SIZE.
        Reference { block: self.packed.len() as u64, offset: self.block.len() as u16 }
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(METADATA_SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == METADATA_SIZE {
                self.close_block()?;
            }
        }
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        self.starts.push(self.packed.len() as u64);
        let compressed = self.encoder.encode(&self.block, &mut self.buffer)?;
        let (bytes, flag) = if compressed { (&self.buffer, 0) } else { (&self.block, METADATA_RAW) };
        // At most 8192, so it fits into 15 bits.
        self.packed.extend_from_slice(&(bytes.len() as u16 | flag).to_le_bytes());
        self.packed.extend_from_slice(bytes);
        self.block.clear();
        Ok(())
    }

    /// The blocks as they stand on disk, and where each of them starts.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if !self.block.is_empty() {
            self.close_block()?;
        }
        Ok((self.packed, self.starts))
    }
}
