//! Writing a raw disk front to back into a file with holes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::is_zero;

/// What is looked at in one piece, and a block of nearly every file system: smaller holes save nothing.
const BLOCK: u64 = 4096;

/// Writes into an empty file, and leaves out whole blocks of zeros. The file has the bytes that were written all the
/// same; only the room that it takes is less.
#[derive(Debug)]
pub struct SparseFile<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> SparseFile<'a> {
    /// Starts at the beginning of a file, which has to be empty.
    pub fn new(file: &'a File) -> SparseFile<'a> {
        SparseFile { file, position: 0 }
    }

    /// Gives the file its length, which zeros at the end have not. Returns it.
    pub fn finish(self) -> io::Result<u64> {
        self.file.set_len(self.position)?;
        Ok(self.position)
    }
}

impl Write for SparseFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        // The run of data that is to be written in one call.
        let mut pending: &[u8] = &[];
        let mut pending_at = self.position;
        while !rest.is_empty() {
            let room = (BLOCK - self.position % BLOCK).min(rest.len() as u64);
            let (block, later) = rest.split_at(room as usize);
            // A part of a block may get its other part later, so only whole blocks are left out.
            if room == BLOCK && is_zero(block) {
                self.file.write_all_at(pending, pending_at)?;
                pending = &[];
                pending_at = self.position + room;
            } else {
                pending = &bytes[bytes.len() - rest.len() - pending.len()..][..pending.len() + block.len()];
            }
            self.position += room;
            rest = later;
        }
        self.file.write_all_at(pending, pending_at)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_file_has_the_bytes_and_little_room() {
        let file = tempfile::tempfile().unwrap();
        let mut bytes = vec![0; 3 << 20];
        for at in [0, 5000, 8191, 8192, 1 << 20, (2 << 20) - 1] {
            bytes[at] = at as u8 | 1;
        }
        let mut out = SparseFile::new(&file);
        let mut rest = bytes.as_slice();
        for size in [1, 4095, 4096, 10_000, 3, 500_000].iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*size));
            out.write_all(now).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(out.finish().unwrap(), 3 << 20);
        let mut read = vec![1; 3 << 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 3 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} bytes", metadata.blocks() * 512);
    }
}
