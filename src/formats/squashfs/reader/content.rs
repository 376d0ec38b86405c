//! Contents of files, read.

use std::io::{Read, Seek, Write};

use super::metadata::damaged;
use super::{File, Reader};
use crate::error::Result;
use crate::formats::squashfs::format::{DATA_RAW, FRAGMENT_ENTRY, Fields, NONE};
use crate::rootfs::write_error;

impl<R: Read + Seek> Reader<R> {
    /// Writes a file's content to `out`. A block of zeros takes 4 bytes of the image: who is afraid of large files
    /// looks at [`File::size`] before.
    pub fn content(&mut self, file: &File, out: &mut dyn Write) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size);
        let mut list = file.blocks;
        let mut left = file.size;
        let mut position = file.start;
        while left > 0 && (file.fragment == NONE || left >= block_size) {
            // At most a block, which is at most 1 MiB.
            let expected = left.min(block_size) as usize;
            let stored = u32::from_le_bytes(self.blocks.array(&mut list)?);
            let size = stored & !DATA_RAW;
            if size == 0 {
                zeros(expected, out)?;
            } else {
                let block = self.blocks.data(position, size as usize, stored & DATA_RAW == 0, block_size as usize)?;
                if block.len() != expected {
                    let found = block.len();
                    return Err(damaged(format!("the block at {position} has {found} bytes, not {expected}")));
                }
                out.write_all(block).map_err(write_error)?;
            }
            position = position.saturating_add(u64::from(size));
            left -= expected as u64;
        }
        if left > 0 {
            let end = left as usize;
            let from = file.offset as usize;
            let block = self.fragment(file.fragment)?;
            let Some(bytes) = from.checked_add(end).and_then(|to| block.get(from..to)) else {
                return Err(damaged(format!("{end} bytes at {from} of fragment {}", file.fragment)));
            };
            out.write_all(bytes).map_err(write_error)?;
        }
        Ok(())
    }

    /// A fragment; the last one is kept.
    fn fragment(&mut self, number: u32) -> Result<&[u8]> {
        if self.kept_fragment.0 != number {
            if number >= self.superblock.fragment_count {
                return Err(damaged(format!("fragment {number} of {}", self.superblock.fragment_count)));
            }
            let entry: [u8; FRAGMENT_ENTRY] = self.blocks.entry(self.superblock.fragment_table, number)?;
            let mut entry = Fields(&entry);
            let (position, stored) = (entry.u64(), entry.u32());
            let (size, limit) = ((stored & !DATA_RAW) as usize, self.superblock.block_size as usize);
            let block = self.blocks.data(position, size, stored & DATA_RAW == 0, limit)?;
            self.kept_fragment = (number, block.to_vec());
        }
        Ok(&self.kept_fragment.1)
    }
}

fn zeros(mut count: usize, out: &mut dyn Write) -> Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let now = count.min(ZEROS.len());
        out.write_all(&ZEROS[..now]).map_err(write_error)?;
        count -= now;
    }
    Ok(())
}
