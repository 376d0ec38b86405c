//! Reading VHDX.

use std::ops::Range;

use super::format::{
    BLOCK_OFFSET, BLOCK_PRESENT, HEADER_SIZE, HEADERS, MIB, Metadata, REGION_TABLES, STATE, TABLE_SIZE, decode_header,
    decode_region_table,
};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, check_range, data_within, le64, pieces, read_part};

/// Entries of the table that are read at once while looking for data.
const ENTRIES: u64 = 512;

/// A VHDX as a disk. The table is read when it is needed; memory does not grow with the disk.
#[derive(Debug)]
pub struct Reader<S> {
    container: S,
    metadata: Metadata,
    table: u64,
}

impl<S: DiskImage> Reader<S> {
    /// Reads headers, region table and metadata.
    pub fn open(container: S) -> Result<Reader<S>> {
        if read_part(&container, 0, 8, "the file identifier")? != b"vhdxfile" {
            return Err(Error::refused("the file does not start with vhdxfile: it is no VHDX"));
        }
        let headers = HEADERS
            .map(|at| read_part(&container, at, HEADER_SIZE, "a header").ok().and_then(|bytes| decode_header(&bytes)));
        match headers.into_iter().flatten().max() {
            None => return Err(Error::refused("both headers of the VHDX are damaged")),
            Some((_, true)) => {}
            Some((_, false)) => {
                return Err(Error::refused("the VHDX has a log to be replayed: it was not closed properly")
                    .hint("attach it to a machine of Hyper-V once, or run qemu-img check -r all"));
            }
        }
        let regions = REGION_TABLES.map(|at| {
            read_part(&container, at, TABLE_SIZE, "a region table").and_then(|bytes| decode_region_table(&bytes))
        });
        let [first, second] = regions;
        let [(table, table_length), (metadata_at, metadata_length)] = first.or(second)?;
        // The region may be longer than what is in use; 1 MiB holds all items that are known.
        let length = metadata_length.min(MIB as u32) as usize;
        let metadata = Metadata::decode(&read_part(&container, metadata_at, length, "the metadata")?)?;
        let needed = (metadata.entry(metadata.blocks() - 1) + 1) * 8;
        if needed > u64::from(table_length) || table.saturating_add(needed) > container.size() {
            return Err(Error::refused(format!("the VHDX's block allocation table has no room for {needed} bytes")));
        }
        Ok(Reader { container, metadata, table })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Entries of blocks from `block` on, at least one, up to the next bitmap's entry.
    fn entries(&self, block: u64, most: u64) -> Result<Vec<u64>> {
        let chunk = self.metadata.chunk();
        let count = most.min(chunk - block % chunk).min(self.metadata.blocks() - block);
        let at = self.table + self.metadata.entry(block) * 8;
        let bytes = read_part(&self.container, at, count as usize * 8, "the block allocation table")?;
        Ok(bytes.chunks_exact(8).map(|entry| le64(entry, 0)).collect())
    }
}

/// All other states than "fully present" read as zeros where there is no parent.
fn is_data(entry: &u64) -> bool {
    *entry & STATE == BLOCK_PRESENT
}

impl<S: DiskImage> DiskImage for Reader<S> {
    fn size(&self) -> u64 {
        self.metadata.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let block = u64::from(self.metadata.block);
        let mut index = offset / block;
        while index < self.metadata.blocks() {
            for entry in self.entries(index, ENTRIES)? {
                let start = index * block;
                let wanted = start.max(offset)..(start + block).min(self.size());
                if is_data(&entry)
                    && let Some(range) = data_within(&self.container, start, entry & BLOCK_OFFSET, wanted)?
                {
                    return Ok(Some(range));
                }
                index += 1;
            }
        }
        Ok(None)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        for (index, within, range) in pieces(offset, buffer.len(), u64::from(self.metadata.block)) {
            let entry = self.entries(index, 1)?.first().copied().unwrap_or(0);
            let part = &mut buffer[range];
            if !is_data(&entry) {
                part.fill(0);
                continue;
            }
            let at = (entry & BLOCK_OFFSET).saturating_add(within);
            if at.saturating_add(part.len() as u64) > self.container.size() {
                return Err(Error::refused(format!("block {index} of the VHDX is behind the end of the file")));
            }
            self.container.read_at(part, at)?;
        }
        Ok(())
    }
}
