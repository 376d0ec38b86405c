//! Reading an image for GCP back into a raw disk: a compressed stream has no offsets to read at.

use std::io::{self, Read};

use super::format::{BLOCK, decode};
use super::writer::LIMIT;
use crate::error::{Error, Result};
use crate::formats::disk::Output;

/// Most runs of data that are held in memory: 32 MiB of them.
const MOST_RUNS: usize = 2 << 20;

/// Unpacks `disk.raw` and returns its size, which may be up to `limit` bytes. What the archive has behind it is not
/// looked at.
pub fn unpack(packed: impl Read, output: Output<'_>, limit: u64) -> Result<u64> {
    let damaged = |error: io::Error| Error::refused(format!("the image for GCP is damaged: {error}"));
    let mut tar = flate2::read::MultiGzDecoder::new(packed);
    let next = || {
        let mut block = [0; BLOCK];
        tar.read_exact(&mut block).map_err(damaged)?;
        Ok(block)
    };
    let (size, runs) = decode(next, MOST_RUNS)?;
    if size > limit.min(LIMIT) {
        return Err(Error::refused(format!("the image for GCP has a disk of {size} bytes, over {}", limit.min(LIMIT))));
    }
    let mut buffer = vec![0; 1 << 20];
    for (offset, length) in runs {
        let mut done = 0;
        while done < length {
            let count = (length - done).min(buffer.len() as u64) as usize;
            tar.read_exact(&mut buffer[..count]).map_err(damaged)?;
            output.write_at(&buffer[..count], offset + done)?;
            done += count as u64;
        }
    }
    output.set_length(size)?;
    Ok(size)
}
