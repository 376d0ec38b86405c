//! Reading VHD, fixed and dynamic.

use std::ops::Range;

use super::format::{Footer, HEADER_OFFSET, HEADER_SIZE, Header, Kind, UNUSED};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, SECTOR, be32, be64, check_range, data_within, pieces, read_part};

/// A VHD as a disk. Memory is the block allocation table.
#[derive(Debug)]
pub struct Reader<S> {
    container: S,
    footer: Footer,
    /// The sectors of the blocks' bitmaps; `None` for a fixed disk.
    table: Option<Vec<u32>>,
    block: u64,
    bitmap: u64,
}

impl<S: DiskImage> Reader<S> {
    /// Reads the footer and, of a dynamic disk, the header and the table.
    pub fn open(container: S) -> Result<Reader<S>> {
        let at = container.size().saturating_sub(SECTOR);
        let bytes = read_part(&container, at, SECTOR as usize, "the footer")?;
        let footer = Footer::decode(&bytes)?;
        if footer.kind == Kind::Fixed {
            if footer.size > at {
                return Err(Error::refused(format!("the VHD says {} bytes, but has {at}", footer.size)));
            }
            return Ok(Reader { container, footer, table: None, block: footer.size, bitmap: 0 });
        }
        if be64(&bytes, 16) != HEADER_OFFSET {
            return Err(Error::refused(format!(
                "the VHD's dynamic header is at {}, not {HEADER_OFFSET}",
                be64(&bytes, 16)
            )));
        }
        let header = Header::decode(&read_part(&container, HEADER_OFFSET, HEADER_SIZE, "the dynamic header")?)?;
        let block = u64::from(header.block);
        if u64::from(header.entries) * block < footer.size {
            return Err(Error::refused(format!("the VHD's table of {} entries does not cover it", header.entries)));
        }
        // Entries behind the disk's end are not needed.
        let entries = footer.size.div_ceil(block) as usize;
        let bytes = read_part(&container, header.table, entries * 4, "the block allocation table")?;
        let table = bytes.chunks_exact(4).map(|entry| be32(entry, 0)).collect();
        let bitmap = (block / SECTOR / 8).next_multiple_of(SECTOR);
        Ok(Reader { container, footer, table: Some(table), block, bitmap })
    }

    /// The footer.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }
}

impl<S: DiskImage> DiskImage for Reader<S> {
    fn size(&self) -> u64 {
        self.footer.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.size() {
            return Ok(None);
        }
        let Some(table) = &self.table else {
            let found = self.container.next_data(offset)?;
            let end = self.size();
            return Ok(found.map(|range| range.start..range.end.min(end)).filter(|range| range.start < range.end));
        };
        let first = (offset / self.block) as usize;
        for (index, entry) in table.iter().enumerate().skip(first).filter(|(_, entry)| **entry != UNUSED) {
            let start = index as u64 * self.block;
            let wanted = start.max(offset)..(start + self.block).min(self.size());
            let at = u64::from(*entry) * SECTOR + self.bitmap;
            if let Some(range) = data_within(&self.container, start, at, wanted)? {
                return Ok(Some(range));
            }
        }
        Ok(None)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let Some(table) = &self.table else { return self.container.read_at(buffer, offset) };
        for (index, within, range) in pieces(offset, buffer.len(), self.block) {
            let entry = table.get(index as usize).copied().unwrap_or(UNUSED);
            let part = &mut buffer[range];
            if entry == UNUSED {
                part.fill(0);
                continue;
            }
            let at = u64::from(entry) * SECTOR + self.bitmap + within;
            if at + part.len() as u64 > self.container.size() {
                return Err(Error::refused(format!("block {index} of the VHD is behind the end of the file")));
            }
            self.container.read_at(part, at)?;
        }
        Ok(())
    }
}
