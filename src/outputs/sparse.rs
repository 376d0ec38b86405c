//! Disk images as files with holes.

use std::io::{self, Write};

use crate::error::{Error, IoContext, Result};
use crate::formats::disk::{Output, is_zero};
use crate::formats::source::{Sequential, Source};
use crate::rootfs::write_error;

/// What is looked at for zeros: a page, which is a block of most file systems.
const BLOCK: usize = 4096;
/// What is written at once.
const BUFFER: usize = 256 << 10;

/// Writes a source into a file; blocks of zeros become holes. The file is empty, or has parts of the source where they
/// belong.
pub fn write(source: &dyn Source, output: Output<'_>) -> Result<()> {
    let mut apart = Vec::new();
    for part in source.files() {
        if !part.lies_in(output.file()).at("reading", part.path)? {
            apart.push(part);
        } else if part.from != part.offset {
            let message = format!("a part of a disk lies at byte {} instead of {}", part.from, part.offset);
            return Err(Error::failed(message));
        }
    }
    write_without_files(source, output)?;
    apart.iter().try_for_each(|part| output.copy_at(part, part.offset))
}

/// The same with holes in the place of the source's files.
pub fn write_without_files(source: &dyn Source, output: Output<'_>) -> Result<()> {
    let mut sparse = Sparse { output, buffer: Vec::with_capacity(BUFFER), position: 0 };
    Sequential::new(&mut sparse).source_without_files(source)?;
    sparse.flush().map_err(write_error)?;
    output.set_length(source.size())
}

struct Sparse<'a> {
    output: Output<'a>,
    buffer: Vec<u8>,
    /// Of the buffer's first byte.
    position: u64,
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == BUFFER {
            self.flush()?;
        }
        // Whole blocks of zeros, as of a large hole, are not copied first; what stands before them is filled up to a block.
        let (lacking, whole) =
            (self.buffer.len().next_multiple_of(BLOCK) - self.buffer.len(), bytes.len() / BLOCK * BLOCK);
        if lacking == 0 && whole > 0 && is_zero(bytes.get(..whole).unwrap_or_default()) {
            self.flush()?;
            self.position += whole as u64;
            return Ok(whole);
        }
        let room = if lacking > 0 { lacking } else { BUFFER - self.buffer.len() };
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let blocks: Vec<&[u8]> = self.buffer.chunks(BLOCK).collect();
        let mut offset = self.position;
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let length: usize = run.iter().map(|block| block.len()).sum();
            if run.first().is_some_and(|block| !is_zero(block)) {
                let start = (offset - self.position) as usize;
                let bytes = self.buffer.get(start..start + length).unwrap_or_default();
                self.output.write_at(bytes, offset).map_err(io::Error::other)?;
            }
            offset += length as u64;
        }
        self.position = offset;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    #[test]
    fn zeros_are_holes_and_nothing_is_lost() {
        let mut bytes = vec![0; 3 << 20];
        for at in [0, 4095, 4096, 300_000, BUFFER - 1, BUFFER, (3 << 20) - 4097] {
            bytes[at] = 1;
        }
        for length in [bytes.len(), bytes.len() - 1, 10] {
            let file = tempfile::tempfile().unwrap();
            let source = bytes[..length].to_vec();
            write(&source, Output::new(&file, Path::new("image")).unwrap()).unwrap();
            let found = crate::formats::disk::RawFile::new(file.try_clone().unwrap(), Path::new("image")).unwrap();
            let mut read = vec![0; length];
            crate::formats::disk::DiskImage::read_at(&found, &mut read, 0).unwrap();
            assert!(read == source);
            assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10);
        }
    }

    /// Mostly nothing, from a place that is no multiple of anything.
    #[derive(Debug)]
    struct Hole(u64);

    impl Source for Hole {
        fn size(&self) -> u64 {
            self.0
        }

        fn identity(&self) -> crate::store::Digest {
            crate::store::Digest::of(b"hole")
        }

        fn write_to(&self, out: &mut dyn Write) -> Result<()> {
            let mut out = Sequential::new(out);
            out.bytes(&[1; 17_001])?;
            out.zeros_to(self.0 - 1)?;
            out.bytes(&[2])
        }
    }

    /// Looking at all of it took minutes.
    #[test]
    fn a_large_hole_takes_no_time() {
        let file = tempfile::tempfile().unwrap();
        let size = (200 << 30) + 5;
        let start = std::time::Instant::now();
        write(&Hole(size), Output::new(&file, Path::new("image")).unwrap()).unwrap();
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        let found = file.metadata().unwrap();
        assert!(found.len() == size && found.blocks() * 512 <= 64 << 10);
        let mut ends = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut ends, size - 3).unwrap();
        assert_eq!(ends, [0, 0, 2]);
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut ends, 16_999).unwrap();
        assert_eq!(ends, [1, 1, 0]);
    }
}
