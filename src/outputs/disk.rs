//! Disk images: what formats give as a [`Source`], written as files with holes or as a virtual disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Options, OutputFile};
use crate::error::{Error, Result};
use crate::formats::disk::{Output, RawFile, is_zero};
use crate::formats::qcow2;
use crate::formats::source::Source;
use crate::rootfs::write_error;

/// Bytes of a hole: what file systems give and take.
const BLOCK: usize = 4096;

/// Writes a raw disk.
pub fn write_raw(disk: &dyn Source, out: &OutputFile) -> Result<()> {
    write_with_holes(disk, file(out)?, out.path())
}

/// Writes a qcow2, whose clusters are in the order of the disk; so the disk is made first, in the store.
pub fn write_qcow2(disk: &dyn Source, out: &OutputFile, options: &Options<'_>) -> Result<()> {
    let raw = options.store.temporary_file()?;
    write_with_holes(disk, raw.as_file(), raw.path())?;
    let raw = RawFile::open(raw.path())?;
    qcow2::write(&raw, Output::new(file(out)?, out.path())?, &qcow2::Options::default()).map(drop)
}

fn file(out: &OutputFile) -> Result<&File> {
    out.file().ok_or_else(|| {
        Error::usage("a disk image cannot go to standard output").hint("use --dir and --name, or -o FILE")
    })
}

fn write_with_holes(disk: &dyn Source, file: &File, path: &Path) -> Result<()> {
    let holes = Holes { output: Output::new(file, path)?, position: 0 };
    // Blocks stand at multiples of their size as long as the buffer is full when it is written, which it mostly is.
    let mut out = BufWriter::with_capacity(64 * BLOCK, holes);
    disk.write_to(&mut out)?;
    out.flush().map_err(write_error)?;
    let written = out.get_ref().position;
    if written != disk.size() {
        return Err(Error::failed(format!("a disk of {} bytes was announced and {written} written", disk.size())));
    }
    out.get_ref().output.set_length(written)
}

/// A file in which blocks of zeros are left out.
struct Holes<'a> {
    output: Output<'a>,
    position: u64,
}

impl Write for Holes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = BLOCK - (self.position % BLOCK as u64) as usize;
        let (head, tail) = bytes.split_at(first.min(bytes.len()));
        for block in std::iter::once(head).chain(tail.chunks(BLOCK)) {
            if !is_zero(block) {
                self.output.write_at(block, self.position).map_err(io::Error::other)?;
            }
            self.position += block.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn zeros_are_holes_and_the_length_is_kept() {
        let disk = [vec![0; 1 << 20], vec![1; 5000], vec![0; 3 << 20], vec![2], vec![0; 9999]].concat();
        let file = tempfile::tempfile().unwrap();
        write_with_holes(&disk, &file, Path::new("x")).unwrap();
        let mut found = vec![7; disk.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == disk);
        assert_eq!(file.metadata().unwrap().len(), disk.len() as u64);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512 < 1 << 20);
    }
}
