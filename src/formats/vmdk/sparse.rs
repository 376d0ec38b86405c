//! Writing `monolithicSparse`: header, descriptor, both sets of tables, then grains in the order of the disk.

use super::descriptor::{self, Options};
use super::format::{DESCRIPTOR, GRAIN, GRAIN_SECTORS, Header, TABLE_ENTRIES, TABLE_SECTORS};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Output, SECTOR, Span, scan};

/// Writes `disk` and returns the length of the file.
pub fn write_sparse(disk: &dyn DiskImage, output: Output<'_>, options: &Options) -> Result<u64> {
    let capacity = descriptor::capacity(disk)?;
    let descriptor = descriptor::encode(capacity, "monolithicSparse", options)?;
    let mut header = Header {
        stream: false,
        capacity,
        grain_sectors: GRAIN_SECTORS,
        redundant_directory: DESCRIPTOR.0 + DESCRIPTOR.1,
        directory: 0,
        overhead: 0,
    };
    // Each set is a directory and all its tables, whose places follow from the disk's size alone.
    let directory_sectors = (header.tables() * 4).div_ceil(SECTOR);
    let set_sectors = directory_sectors + header.tables() * TABLE_SECTORS;
    header.directory = header.redundant_directory + set_sectors;
    header.overhead = (header.directory + set_sectors).next_multiple_of(GRAIN_SECTORS);
    output.write_at(&header.encode(), 0)?;
    output.write_at(&descriptor, DESCRIPTOR.0 * SECTOR)?;
    let mut image = Image {
        output,
        sets: [header.redundant_directory, header.directory],
        directory_sectors,
        table: vec![0; TABLE_ENTRIES as usize],
        index: None,
        next: header.overhead * SECTOR,
    };
    image.write_directories(header.tables())?;
    scan(disk, GRAIN as usize, Ok, |span: Span| image.write_span(&span))?;
    image.end_table()?;
    output.set_length(image.next)?;
    Ok(image.next)
}

struct Image<'a> {
    output: Output<'a>,
    sets: [u64; 2],
    directory_sectors: u64,
    table: Vec<u32>,
    /// Index of the table that is being filled.
    index: Option<u64>,
    /// Offset of the next grain.
    next: u64,
}

impl Image<'_> {
    fn table_sector(&self, set: u64, index: u64) -> u64 {
        set + self.directory_sectors + index * TABLE_SECTORS
    }

    fn write_directories(&self, tables: u64) -> Result<()> {
        for set in self.sets {
            // Below 2^32: a disk of 2 TiB has 2^18 sectors of tables.
            let bytes: Vec<u8> =
                (0..tables).flat_map(|index| (self.table_sector(set, index) as u32).to_le_bytes()).collect();
            self.output.write_at(&bytes, set * SECTOR)?;
        }
        Ok(())
    }

    fn write_span(&mut self, span: &Span) -> Result<()> {
        for (offset, run) in span.runs() {
            self.output.write_at(run, self.next)?;
            for number in offset / GRAIN..(offset + run.len() as u64) / GRAIN {
                if self.index != Some(number / TABLE_ENTRIES) {
                    self.end_table()?;
                    self.index = Some(number / TABLE_ENTRIES);
                }
                self.table[(number % TABLE_ENTRIES) as usize] = u32::try_from(self.next / SECTOR)
                    .map_err(|_| Error::refused("a VMDK of more than 2 TiB: its sectors have 32 bits"))?;
                self.next += GRAIN;
            }
        }
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some(index) = self.index.take() {
            let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            for set in self.sets {
                self.output.write_at(&bytes, self.table_sector(set, index) * SECTOR)?;
            }
            self.table.fill(0);
        }
        Ok(())
    }
}
