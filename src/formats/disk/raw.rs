//! Raw disks: files with holes, bytes in memory, and parts of another image.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{DiskImage, check_range};
use crate::error::{Error, IoContext, Result};

/// A file whose bytes are the disk's. Its holes are known where the file system tells them (`SEEK_DATA`, lseek(2));
/// elsewhere all of it counts as data, which is slower and gives the same results.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    path: PathBuf,
    size: u64,
}

impl RawFile {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> Result<RawFile> {
        RawFile::new(File::open(path).at("opening", path)?, path)
    }

    /// A file that is open already; `path` is its name in messages. Its seek position is not kept.
    pub fn new(file: File, path: &Path) -> Result<RawFile> {
        let metadata = file.metadata().at("reading", path)?;
        if !metadata.is_file() {
            return Err(Error::usage(format!("{} is not a file", path.display())));
        }
        Ok(RawFile { file, path: path.to_path_buf(), size: metadata.len() })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl DiskImage for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start.max(offset),
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..self.size)),
            Err(error) => return Err(Error::io("looking for data in", &self.path, error.into())),
        };
        // The file may have been cut meanwhile; the read then says so.
        let end = match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) if end > start => end.min(self.size),
            _ => self.size,
        };
        Ok((start < end).then_some(start..end))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.file.read_exact_at(buffer, offset).at("reading", &self.path)
    }
}

/// A disk in memory, all of it data.
#[derive(Clone, Debug)]
pub struct Bytes(pub Vec<u8>);

impl DiskImage for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let start = offset as usize;
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

/// A part of another image: a member of an archive, a partition.
#[derive(Debug)]
pub struct Window<S> {
    inner: S,
    start: u64,
    size: u64,
}

impl<S: DiskImage> Window<S> {
    /// `size` bytes from `start` of `inner`, which must have them.
    pub fn new(inner: S, start: u64, size: u64) -> Result<Window<S>> {
        match start.checked_add(size) {
            Some(end) if end <= inner.size() => Ok(Window { inner, start, size }),
            _ => Err(Error::refused(format!(
                "a part of {size} bytes at {start} does not fit into {} bytes",
                inner.size()
            ))),
        }
    }
}

impl<S: DiskImage> DiskImage for Window<S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        let found = self.inner.next_data(self.start + offset)?;
        Ok(found
            .map(|range| range.start - self.start..(range.end - self.start).min(self.size))
            .filter(|range| range.start < range.end))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.inner.read_at(buffer, self.start + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_of_a_file_are_seen() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"data", 5 << 20).unwrap();
        let disk = RawFile::new(file, Path::new("x")).unwrap();
        let range = disk.next_data(0).unwrap().unwrap();
        assert!(range.start <= 5 << 20 && range.end > 5 << 20 && range.end <= 10 << 20, "{range:?}");
        assert!(disk.next_data(10 << 20).unwrap().is_none());
        let mut buffer = [0; 4];
        disk.read_at(&mut buffer, 5 << 20).unwrap();
        assert_eq!(&buffer, b"data");
        assert!(disk.read_at(&mut buffer, (10 << 20) - 3).is_err());
        assert!(disk.read_at(&mut buffer, u64::MAX).is_err());
    }

    #[test]
    fn windows_keep_to_their_part() {
        let window = Window::new(Bytes((0..100).collect()), 10, 20).unwrap();
        let mut buffer = [0; 5];
        window.read_at(&mut buffer, 15).unwrap();
        assert_eq!(buffer, [25, 26, 27, 28, 29]);
        assert!(window.read_at(&mut buffer, 16).is_err());
        assert_eq!(window.next_data(3).unwrap(), Some(3..20));
        assert!(window.next_data(20).unwrap().is_none());
        assert!(Window::new(Bytes(vec![0; 100]), 90, 11).is_err());
    }
}
