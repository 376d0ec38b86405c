//! Writing VHD, fixed and dynamic.

use super::format::{BLOCK, Footer, HEADER_OFFSET, Header, Kind, TABLE_OFFSET, UNUSED};
use crate::error::{Error, Result};
use crate::formats::disk::{DiskImage, Identity, Output, SECTOR, Span, checked_size, scan};

/// What zeros are looked for in: a page of the file system, so that the file has the holes that the disk has.
const GRANULE: usize = 4096;
/// Largest disk of the dynamic form in every product.
const DYNAMIC_LIMIT: u64 = 2040 << 30;
/// Bytes of a dynamic block's bitmap, one bit a sector, filled up to a sector.
const BITMAP: u64 = BLOCK / SECTOR / 8;

/// How a VHD is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fixed or dynamic.
    pub kind: Kind,
    /// Where the disk's UUID comes from.
    pub identity: Identity,
    /// When the disk was made, in seconds since 1970-01-01 UTC.
    pub time: i64,
    /// What Azure asks of an upload: the fixed form, and a size rounded up to a whole number of MiB. A backup GPT
    /// belongs at the end of the disk, so partitioned disks should have that size from the start.
    pub azure: bool,
}

/// Writes `disk` and returns the length of the file.
pub fn write(disk: &dyn DiskImage, output: Output<'_>, options: &Options) -> Result<u64> {
    if options.azure && options.kind == Kind::Dynamic {
        return Err(Error::usage("Azure takes no dynamic VHD").hint("use the fixed form"));
    }
    let limit = if options.kind == Kind::Dynamic { DYNAMIC_LIMIT } else { i64::MAX.cast_unsigned() - (1 << 21) };
    let mut size = checked_size(disk, "VHD", limit)?;
    if options.azure {
        size = size.next_multiple_of(1 << 20);
    }
    let footer = Footer::new(options.kind, size, options.time, options.identity.uuid("vhd disk")).encode();
    match options.kind {
        Kind::Fixed => write_fixed(disk, size, output, &footer),
        Kind::Dynamic => write_dynamic(disk, size, output, &footer),
    }
}

fn write_fixed(disk: &dyn DiskImage, size: u64, output: Output<'_>, footer: &[u8]) -> Result<u64> {
    // Zeros that fill up the last granule are overwritten by the footer or cut off.
    scan(disk, GRANULE, Ok, |span: Span| span.runs().try_for_each(|(offset, run)| output.write_at(run, offset)))?;
    output.write_at(footer, size)?;
    let length = size + SECTOR;
    output.set_length(length)?;
    Ok(length)
}

fn write_dynamic(disk: &dyn DiskImage, size: u64, output: Output<'_>, footer: &[u8]) -> Result<u64> {
    let entries = size.div_ceil(BLOCK);
    let mut table = vec![UNUSED; entries.next_multiple_of(SECTOR / 4) as usize];
    let mut next = TABLE_OFFSET + table.len() as u64 * 4;
    scan(disk, GRANULE, Ok, |span: Span| {
        for (offset, run) in span.runs() {
            // A run lies within a span, and a span within a block.
            let entry = &mut table[(offset / BLOCK) as usize];
            if *entry == UNUSED {
                // Below 2^32 up to 2 TiB, which is over the limit of the disk.
                *entry = (next / SECTOR) as u32;
                output.write_at(&[0xff; BITMAP as usize], next)?;
                next += BITMAP + BLOCK;
            }
            output.write_at(run, u64::from(*entry) * SECTOR + BITMAP + offset % BLOCK)?;
        }
        Ok(())
    })?;
    let header = Header { table: TABLE_OFFSET, entries: entries as u32, block: BLOCK as u32 };
    output.write_at(footer, 0)?;
    output.write_at(&header.encode(), HEADER_OFFSET)?;
    let table: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    output.write_at(&table, TABLE_OFFSET)?;
    output.write_at(footer, next)?;
    let length = next + SECTOR;
    output.set_length(length)?;
    Ok(length)
}
