//! A disk as a file: what readers of file systems and executables take.

use std::io::{self, Read, Seek, SeekFrom};

use super::DiskImage;

/// Bytes that are read at once for small reads. Compressed containers inflate a whole block for each of them.
const BLOCK: u64 = 64 << 10;

/// Reads a disk from a position on. Small reads come from a buffer of 64 KiB.
pub struct Cursor<D> {
    disk: D,
    position: u64,
    buffer: Vec<u8>,
    /// Where the buffer's first byte lies.
    start: u64,
}

impl<D> std::fmt::Debug for Cursor<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<D: DiskImage> Cursor<D> {
    /// At the disk's first byte.
    pub fn new(disk: D) -> Cursor<D> {
        Cursor { disk, position: 0, buffer: Vec::new(), start: 0 }
    }
}

impl<D: DiskImage> Read for Cursor<D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.disk.size();
        let left = usize::try_from(size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if left == 0 || out.is_empty() {
            return Ok(0);
        }
        let length = out.len().min(left);
        if length as u64 >= BLOCK {
            self.disk.read_at(&mut out[..length], self.position).map_err(io::Error::other)?;
            self.position += length as u64;
            return Ok(length);
        }
        let start = self.position / BLOCK * BLOCK;
        if self.start != start || self.buffer.is_empty() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize((size - start).min(BLOCK) as usize, 0);
            self.disk.read_at(&mut buffer, start).map_err(io::Error::other)?;
            (self.buffer, self.start) = (buffer, start);
        }
        let within = (self.position - start) as usize;
        let there = &self.buffer[within..];
        let length = length.min(there.len());
        out[..length].copy_from_slice(&there[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl<D: DiskImage> Seek for Cursor<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.disk.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::Bytes;

    #[test]
    fn reads_are_those_of_a_file() {
        let bytes: Vec<u8> = (0..200_000u32).map(|number| (number / 7) as u8).collect();
        let mut cursor = Cursor::new(Bytes(bytes.clone()));
        for (at, length) in [(0, 10), (65_530, 20), (65_536, 65_536), (199_990, 20), (131_072, 3), (5, 150_000)] {
            cursor.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut found = Vec::new();
            cursor.by_ref().take(length as u64).read_to_end(&mut found).unwrap();
            assert!(found == bytes[at..bytes.len().min(at + length)], "{length} at {at}");
        }
        assert_eq!(cursor.seek(SeekFrom::End(-1)).unwrap(), 199_999);
        assert!(cursor.seek(SeekFrom::Current(-200_000)).is_err());
        cursor.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(cursor.read(&mut [0; 4]).unwrap(), 0);
    }
}
