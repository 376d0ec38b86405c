//! Writing an image for GCP: one pass finds the runs of data, a second one writes them.

use std::io::Write;

use super::format::{self, BLOCK, Run};
use crate::error::{Error, Result};
use crate::formats::compress::Gzip;
use crate::formats::disk::{DiskImage, Span, checked_size, scan, write_failed};

/// What a disk's size has to be a multiple of.
const UNIT: u64 = 1 << 30;
/// Largest disk.
pub const LIMIT: u64 = 1 << 40;

/// How an image is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The file's time, in seconds since 1970-01-01 UTC.
    pub time: i64,
    /// gzip's level from 1 to 9.
    pub level: u32,
}

impl Options {
    /// Level 9: in zlib-rs that is as small as gzip's own level 6. The level 6 of zlib-rs is 3 % larger and takes 40 %
    /// of the time.
    pub fn new(time: i64) -> Options {
        Options { time, level: 9 }
    }
}

/// Bytes in which holes are looked for: 64 KiB up to disks of 16 GiB; larger ones of larger disks keep the map of
/// runs below 32 MiB.
fn granule(size: u64) -> usize {
    (size >> 18).next_power_of_two().clamp(64 << 10, 256 << 10) as usize
}

/// Writes `disk` and returns the length of what was written.
pub fn write(disk: &dyn DiskImage, out: impl Write + Send, options: &Options) -> Result<u64> {
    let size = checked_size(disk, "disk image for GCP", LIMIT)?.next_multiple_of(UNIT);
    let granule = granule(size);
    let mut runs: Vec<Run> = Vec::new();
    let places = |span: Span| Ok(span.runs().map(|(offset, run)| (offset, run.len() as u64)).collect::<Vec<_>>());
    scan(disk, granule, places, |found| {
        for (offset, length) in found {
            match runs.last_mut() {
                Some((start, before)) if *start + *before == offset => *before += length,
                _ => runs.push((offset, length)),
            }
        }
        Ok(())
    })?;
    let mut gzip = Gzip::new(out, options.level).map_err(write_failed)?;
    gzip.write_all(&format::encode(size, &runs, options.time)).map_err(write_failed)?;
    let expected: u64 = runs.iter().map(|(_, length)| length).sum();
    let mut written = 0;
    scan(disk, granule, Ok, |span: Span| {
        span.runs().try_for_each(|(_, run)| {
            written += run.len() as u64;
            gzip.write_all(run).map_err(write_failed)
        })
    })?;
    if written != expected {
        return Err(Error::failed(format!(
            "the disk changed while it was read: {expected} bytes of data, then {written}"
        )));
    }
    // Runs are whole blocks, so that no padding follows; two blocks of zeros end the archive.
    gzip.write_all(&[0; 2 * BLOCK]).map_err(write_failed)?;
    gzip.finish().map_err(write_failed)
}
