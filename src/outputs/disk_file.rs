//! The file of a disk, into which the root is written where it will stay before the rest of the disk is known.
//!
//! The root hash stands in the kernel image, in front of the root. But sizes do not depend on hashes: in a raw disk the
//! place of the root follows from a plan with another hash, and in a qcow2 image clusters may stand in any order, so the
//! root comes first. Writing it to a file of its own and copying that took as long again as `cp` of the whole disk.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::OutputFile;
use crate::error::{Error, IoContext, Result};
use crate::formats::disk::is_zero;
use crate::formats::qcow2::{Front, Placed};
use crate::rootfs::write_error;

/// What is looked at for zeros: a block of most file systems. Smaller holes save nothing.
const BLOCK: u64 = 4096;
/// What is written at once.
const BUFFER: usize = 256 << 10;

/// Where a root can be written before its disk is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nowhere: the disk is compressed, or a stream.
    None,
    /// In a raw disk, at the root's partition.
    Raw,
    /// In the first clusters of a qcow2 image.
    Qcow2,
}

/// The output file of a disk. It is made when something is written.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    room: Room,
    out: Mutex<Option<OutputFile>>,
}

/// Where a root was written.
#[derive(Debug)]
pub struct Place {
    /// The disk's file.
    pub file: File,
    /// Its name in messages.
    pub path: PathBuf,
    /// The parts of the root in the order in which they lie there. What is between them is zero.
    pub parts: Vec<Placed>,
}

impl DiskFile {
    /// A disk that will be `path`.
    pub fn new(path: &Path, room: Room) -> DiskFile {
        DiskFile { path: path.to_owned(), room, out: Mutex::new(None) }
    }

    /// Where a root can go.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Writes a root; in a raw disk, from byte `start` on. `write` returns the size first.
    pub fn write_root<T>(
        &self,
        start: u64,
        write: impl FnOnce(&mut BufWriter<RootWriter<'_>>) -> Result<(u64, T)>,
    ) -> Result<(u64, T, Place)> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let out = match &mut *out {
            Some(out) => out,
            none => none.insert(OutputFile::create(&self.path)?),
        };
        let map = match self.room {
            Room::None => return Err(Error::failed("a root has no place in this disk before all of it is there")),
            Room::Raw => Map::Raw(start),
            Room::Qcow2 => Map::Qcow2(Front::default()),
        };
        let mut writer = BufWriter::with_capacity(BUFFER, RootWriter { out, map, position: 0, end: 0 });
        let (size, made) = write(&mut writer)?;
        let RootWriter { out, map, .. } = writer.into_inner().map_err(|error| write_error(error.into_error()))?;
        let parts = match map {
            Map::Raw(place) => vec![Placed { offset: 0, place, size }],
            Map::Qcow2(front) => {
                let cut = |run: &Placed| Placed { size: run.size.min(size.saturating_sub(run.offset)), ..*run };
                front.runs().iter().map(cut).filter(|run| run.size > 0).collect()
            }
        };
        let file = out.file().ok_or_else(|| Error::failed("a disk image cannot go to standard output"))?;
        let file = file.try_clone().at("opening", out.path())?;
        Ok((size, made, Place { file, path: out.path().to_owned(), parts }))
    }

    /// Takes back what was written.
    pub fn empty(&self) -> Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.as_mut().map_or(Ok(()), OutputFile::empty)
    }

    /// The file, with the root in it or empty.
    pub fn into_output(self) -> Result<OutputFile> {
        let out = self.out.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.map_or_else(|| OutputFile::create(&self.path), Ok)
    }
}

/// From where in the root to where in the file.
#[derive(Debug)]
enum Map {
    /// The root's first byte.
    Raw(u64),
    Qcow2(Front),
}

/// A root as it is written into the file of its disk. Blocks of zeros are left out: the file has holes there.
#[derive(Debug)]
pub struct RootWriter<'a> {
    out: &'a mut OutputFile,
    map: Map,
    position: u64,
    /// What is in front of this may have been written.
    end: u64,
}

impl Write for RootWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What goes to the file at once: where it goes, and where in `bytes` it starts and ends.
        let mut run = (0, 0, 0);
        let mut done = 0;
        while done < bytes.len() {
            let position = self.position + done as u64;
            let length = ((BLOCK - position % BLOCK) as usize).min(bytes.len() - done);
            let block = bytes.get(done..done + length).unwrap_or_default();
            // A part of a block may get its other part later; what is written again may not be zero.
            if length as u64 != BLOCK || position < self.end || !is_zero(block) {
                let place = match &mut self.map {
                    Map::Raw(start) => *start + position,
                    Map::Qcow2(front) => front.place(position),
                };
                let (at, from, to) = run;
                if to != done || at + (to - from) as u64 != place {
                    self.out.write_at(bytes.get(from..to).unwrap_or_default(), at)?;
                    run = (place, done, done);
                }
                run.2 = done + length;
            }
            done += length;
        }
        let (at, from, to) = run;
        self.out.write_at(bytes.get(from..to).unwrap_or_default(), at)?;
        self.position += bytes.len() as u64;
        self.end = self.end.max(self.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RootWriter<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self.position.saturating_add_signed(by),
            SeekFrom::End(by) => self.end.saturating_add_signed(by),
        };
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn root() -> Vec<u8> {
        let mut bytes = vec![0; 700_000 / 4096 * 4096];
        for at in [4096, 4097, 100_000, 300_000, 330_000, 600_000] {
            bytes[at..at + 9000].fill(at as u8 | 1);
        }
        bytes
    }

    /// Writes in pieces of several sizes, and the first block again at the end.
    fn write(writer: &mut BufWriter<RootWriter<'_>>, bytes: &[u8]) -> Result<(u64, ())> {
        let mut rest = bytes;
        for size in [4096, 1, 4095, 300_000, 8192].iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*size));
            writer.write_all(now).map_err(write_error)?;
            writer.flush().map_err(write_error)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        writer.seek(SeekFrom::Start(0)).map_err(write_error)?;
        writer.write_all(&[9; 4096]).map_err(write_error)?;
        Ok((bytes.len() as u64, ()))
    }

    #[test]
    fn a_root_lies_where_it_is_said_to_and_has_holes() {
        for room in [Room::Raw, Room::Qcow2] {
            let dir = tempfile::tempdir().unwrap();
            let disk = DiskFile::new(&dir.path().join("disk"), room);
            let mut expected = root();
            let (size, (), place) = disk.write_root(1 << 20, |writer| write(writer, &root())).unwrap();
            expected[..4096].fill(9);
            assert_eq!(size, expected.len() as u64);
            place.file.set_len(3 << 20).unwrap();
            let mut found = vec![0; expected.len()];
            let mut end = 0;
            for part in &place.parts {
                assert!(part.offset >= end, "{:?}", place.parts);
                end = part.offset + part.size;
                place.file.read_exact_at(&mut found[part.offset as usize..end as usize], part.place).unwrap();
            }
            assert!(found == expected, "{room:?}");
            let metadata = place.file.metadata().unwrap();
            assert!(metadata.blocks() * 512 < 200 << 10, "{}", metadata.blocks());
            match room {
                Room::Qcow2 => assert!(place.parts.len() > 2 && place.parts.iter().all(|part| part.place >= 2 << 16)),
                _ => assert_eq!(place.parts, [Placed { offset: 0, place: 1 << 20, size }]),
            }
            disk.empty().unwrap();
            assert_eq!(place.file.metadata().unwrap().len(), 0);
            drop(disk);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        let nowhere = DiskFile::new(Path::new("disk"), Room::None);
        assert!(nowhere.write_root(0, |writer| write(writer, &root())).is_err());
    }
}
