//! Writing `streamOptimized`: from start to end, into any stream.
//!
//! Header and descriptor; then for every 32 MiB of the disk that have data their compressed grains and their grain
//! table; then the grain directory, the footer, which names the directory, and the end mark.

use std::io::Write;

use super::descriptor::{self, Options};
use super::format::{AT_END, DESCRIPTOR, GRAIN, GRAIN_SECTORS, Header, Marker, TABLE_ENTRIES, TABLE_SECTORS};
use crate::error::{Error, Result};
use crate::formats::disk::{Deflate, DiskImage, SECTOR, Span, put, scan, write_failed};

/// Writes `disk` and returns the length of what was written.
pub fn write_stream(disk: &dyn DiskImage, out: impl Write + Send, options: &Options) -> Result<u64> {
    let capacity = descriptor::capacity(disk)?;
    let descriptor = descriptor::encode(capacity, "streamOptimized", options)?;
    let mut header = Header {
        stream: true,
        capacity,
        grain_sectors: GRAIN_SECTORS,
        redundant_directory: 0,
        directory: AT_END,
        overhead: GRAIN_SECTORS,
    };
    let mut stream = Stream {
        out,
        sector: 0,
        directory: vec![0; header.tables() as usize],
        table: vec![0; TABLE_ENTRIES as usize],
        index: None,
    };
    stream.write(&header.encode())?;
    stream.write(&descriptor)?;
    stream.write(&vec![0; ((header.overhead - DESCRIPTOR.0 - DESCRIPTOR.1) * SECTOR) as usize])?;
    let deflate = Deflate { level: options.level, zlib: true, window_bits: 15 };
    scan(
        disk,
        GRAIN as usize,
        |span| encode_span(&span, deflate),
        |grains| grains.iter().try_for_each(|(offset, grain)| stream.grain(*offset / GRAIN, grain)),
    )?;
    stream.end_table()?;
    let directory = stream.directory_bytes();
    stream.write(&Marker::Directory.encode(directory.len() as u64 / SECTOR))?;
    header.directory = stream.sector;
    stream.write(&directory)?;
    stream.write(&Marker::Footer.encode(1))?;
    stream.write(&header.encode())?;
    stream.write(&Marker::End.encode(0))?;
    stream.out.flush().map_err(write_failed)?;
    Ok(stream.sector * SECTOR)
}

/// Grains with their markers, filled up to sectors, and their offsets in the disk.
fn encode_span(span: &Span, deflate: Deflate) -> Result<Vec<(u64, Vec<u8>)>> {
    let one = |(offset, grain): (u64, &[u8])| {
        // The marker of a grain is its first sector and its compressed length, directly before the bytes.
        let mut out = [&(offset / SECTOR).to_le_bytes()[..], &[0; 4]].concat();
        deflate.append(grain, &mut out)?;
        let length = (out.len() - 12) as u32;
        put(&mut out, 8, &length.to_le_bytes());
        out.resize(out.len().next_multiple_of(SECTOR as usize), 0);
        Ok((offset, out))
    };
    span.blocks().map(one).collect()
}

struct Stream<W> {
    out: W,
    sector: u64,
    directory: Vec<u32>,
    table: Vec<u32>,
    /// Index of the table that is being filled.
    index: Option<usize>,
}

impl<W: Write> Stream<W> {
    /// Writes whole sectors.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_failed)?;
        self.sector += bytes.len() as u64 / SECTOR;
        Ok(())
    }

    fn here(&self) -> Result<u32> {
        u32::try_from(self.sector).map_err(|_| Error::refused("a VMDK of more than 2 TiB: its sectors have 32 bits"))
    }

    fn grain(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        let index = (number / TABLE_ENTRIES) as usize;
        if self.index != Some(index) {
            self.end_table()?;
            self.index = Some(index);
        }
        self.table[(number % TABLE_ENTRIES) as usize] = self.here()?;
        self.write(bytes)
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some(index) = self.index.take() {
            self.write(&Marker::Table.encode(TABLE_SECTORS))?;
            self.directory[index] = self.here()?;
            let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            self.write(&bytes)?;
            self.table.fill(0);
        }
        Ok(())
    }

    fn directory_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.directory.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        bytes
    }
}
