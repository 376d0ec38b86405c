//! Writing VHDX: headers, tables and metadata in the first MiBs, then the blocks in the order of the disk.

use super::format::{
    BLOCK_PRESENT, BLOCK_ZERO, HEADERS, Kind, LOGICAL_SECTOR, METADATA, MIB, Metadata, REGION_TABLES, TABLE,
    file_identifier, header, region_table,
};
use crate::error::Result;
use crate::formats::disk::{DiskImage, Identity, Output, Span, checked_size, scan};

/// What zeros are looked for in: a page of the file system, so that the file has the holes that the disk has.
const GRANULE: usize = 4096;
/// Most blocks of a disk: their table then has 8 MiB, which is also what the writer holds in memory.
const MOST_BLOCKS: u64 = 1 << 20;

/// How a VHDX is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fixed or dynamic.
    pub kind: Kind,
    /// Where the GUIDs come from.
    pub identity: Identity,
}

/// Writes `disk` and returns the length of the file.
///
/// Blocks have 1 MiB, the least that is allowed and what Microsoft advises for Linux guests, whose file systems
/// scatter small writes; disks over 1 TiB have larger ones.
pub fn write(disk: &dyn DiskImage, output: Output<'_>, options: &Options) -> Result<u64> {
    let size = checked_size(disk, "VHDX", 64 << 40)?;
    let block = size.div_ceil(MOST_BLOCKS).next_power_of_two().max(MIB);
    let identity = &options.identity;
    let metadata = Metadata {
        kind: options.kind,
        block: block as u32,
        size,
        id: identity.guid("vhdx disk"),
        logical_sector: LOGICAL_SECTOR,
    };
    let blocks = metadata.blocks();
    // Without a parent no entry follows for a bitmap behind the last block.
    let entries = metadata.entry(blocks - 1) + 1;
    let table_length = (entries * 8).next_multiple_of(MIB);
    let mut next = TABLE + table_length;
    let mut table = vec![0; entries as usize];
    for index in 0..blocks {
        table[metadata.entry(index) as usize] = match options.kind {
            Kind::Dynamic => BLOCK_ZERO,
            Kind::Fixed => (next + index * block) | BLOCK_PRESENT,
        };
    }
    if options.kind == Kind::Fixed {
        next += blocks * block;
    }
    scan(disk, GRANULE, Ok, |span: Span| {
        for (offset, run) in span.runs() {
            // A run lies within a span, and a span within a block.
            let entry = &mut table[metadata.entry(offset / block) as usize];
            if *entry == BLOCK_ZERO {
                *entry = next | BLOCK_PRESENT;
                next += block;
            }
            output.write_at(run, (*entry & !BLOCK_PRESENT) + offset % block)?;
        }
        Ok(())
    })?;
    output.write_at(&file_identifier(), 0)?;
    let (file_write, data_write) = (identity.guid("vhdx file write"), identity.guid("vhdx data write"));
    for (sequence, at) in HEADERS.into_iter().enumerate() {
        output.write_at(&header(sequence as u64 + 1, &file_write, &data_write), at)?;
    }
    for at in REGION_TABLES {
        output.write_at(&region_table(table_length), at)?;
    }
    output.write_at(&metadata.encode(), METADATA.0)?;
    let table: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    output.write_at(&table, TABLE)?;
    output.set_length(next)?;
    Ok(next)
}
