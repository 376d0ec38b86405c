//! gzip on all cores, in one member.
//!
//! Input is cut into blocks of a fixed size, each deflated up to a byte boundary with the 32 KiB before it as its
//! dictionary; together they are one deflate stream. Several members would be simpler and legal, but not every reader
//! goes on behind the first.

use std::io::{self, Write};

use flate2::Crc;
use rayon::prelude::*;

use crate::formats::disk::Deflate;

/// Input of one block.
const BLOCK: usize = 256 << 10;
/// Blocks that are compressed at once.
const ROUND: usize = 16;
/// What deflate can refer back to.
const WINDOW: usize = 32 << 10;

/// Compresses into `out`.
pub struct Gzip<W> {
    out: W,
    level: u32,
    /// The window before the round, then the round's input.
    pending: Vec<u8>,
    window: usize,
    crc: Crc,
    length: u64,
}

impl<W> std::fmt::Debug for Gzip<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").field("level", &self.level).field("length", &self.length).finish_non_exhaustive()
    }
}

impl<W: Write> Gzip<W> {
    /// Starts a member. Its header tells no name, no time and an unknown system (RFC 1952 section 2.3).
    pub fn new(mut out: W, level: u32) -> io::Result<Gzip<W>> {
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        out.write_all(&header)?;
        Ok(Gzip { out, level, pending: Vec::new(), window: 0, crc: Crc::new(), length: header.len() as u64 })
    }

    fn round(&mut self, last: bool) -> io::Result<()> {
        let (pending, end) = (&self.pending, self.pending.len());
        // An empty round still has to end the stream.
        let starts: Vec<usize> = (self.window..end.max(self.window + 1)).step_by(BLOCK).collect();
        let compressed: Vec<_> = starts
            .into_par_iter()
            .map(|start| {
                let block = &pending[start..end.min(start + BLOCK)];
                let window = &pending[start.saturating_sub(WINDOW)..start];
                deflate(window, block, self.level, last && start + block.len() == end)
            })
            .collect::<io::Result<_>>()?;
        for (crc, bytes) in compressed {
            self.crc.combine(&crc);
            self.out.write_all(&bytes)?;
            self.length += bytes.len() as u64;
        }
        self.pending.drain(..end.saturating_sub(WINDOW));
        self.window = self.pending.len();
        Ok(())
    }

    /// Ends the member; returns how many bytes it has.
    pub fn finish(mut self) -> io::Result<u64> {
        self.round(true)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        // The length modulo 2^32, which is what `amount` counts.
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.length + 8)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() == self.window + ROUND * BLOCK {
            self.round(false)?;
        }
        let count = bytes.len().min(self.window + ROUND * BLOCK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Does nothing: blocks end where their size says.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deflate(window: &[u8], block: &[u8], level: u32, last: bool) -> io::Result<(Crc, Vec<u8>)> {
    let mut crc = Crc::new();
    crc.update(block);
    let mut out = Vec::new();
    let deflate = Deflate { level, zlib: false, window_bits: 15 };
    deflate.append_part(window, block, last, &mut out).map_err(io::Error::other)?;
    Ok((crc, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn one_member_of_many_blocks() {
        for length in [0, 1, BLOCK, BLOCK + 1, ROUND * BLOCK, ROUND * BLOCK + 5] {
            let input: Vec<u8> = (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let mut bytes = Vec::new();
            let mut gzip = Gzip::new(&mut bytes, 6).unwrap();
            gzip.write_all(&input).unwrap();
            let said = gzip.finish().unwrap();
            assert_eq!(said, bytes.len() as u64);
            let mut back = Vec::new();
            let mut decoder = flate2::bufread::GzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == input && decoder.into_inner().is_empty(), "{length}");
        }
    }
}
