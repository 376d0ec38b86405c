//! The EFI programs inside an image: a program by itself, or those in the EFI system partition of a disk.
//!
//! Limits: partitions by GPT, which every image of ours for UEFI has, CDs too; programs that lie in one piece, as a FAT
//! volume that was written once has them.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::formats::disk::{DiskImage, RawFile};
use crate::formats::fat::{Listed, Volume};
use crate::formats::source::Source;
use crate::formats::{gpt, qcow2, vhd, vhdx, vmdk};
use crate::rootfs::write_error;
use crate::store::{Digest, Hasher};

/// Largest program: what UEFI loads has 32-bit offsets.
const PROGRAM_LIMIT: u64 = u32::MAX as u64;

/// An image that is open for reading.
#[derive(Clone)]
pub struct Image {
    path: PathBuf,
    disk: Arc<dyn DiskImage>,
    /// Whether offsets of the disk are offsets of the file.
    raw: bool,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("path", &self.path).field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// A program in an image.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path in the EFI system partition; nothing for a file of its own.
    pub path: Option<String>,
    /// Where it begins in the image.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The partition that it lies in: where that begins, and its size.
    pub partition: Option<(u64, u64)>,
}

impl Program {
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        self.path.as_deref().unwrap_or("the program")
    }
}

impl Image {
    /// Opens an image: raw, or in a container that its name's ending says.
    pub fn open(path: &Path) -> Result<Image> {
        let file = RawFile::open(path)?;
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let disk: Arc<dyn DiskImage> = match ending.as_str() {
            "qcow2" => Arc::new(qcow2::Reader::open(file)?),
            "vmdk" => Arc::new(vmdk::Reader::open(file)?),
            "vhd" => Arc::new(vhd::Reader::open(file)?),
            "vhdx" => Arc::new(vhdx::Reader::open(file)?),
            _ => return Ok(Image { path: path.to_owned(), disk: Arc::new(file), raw: true }),
        };
        Ok(Image { path: path.to_owned(), disk, raw: false })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its bytes are the disk's own, so that a program in it can be changed in place.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// The programs, in the order in which they stand. An image without any is refused.
    pub fn programs(&self) -> Result<Vec<Program>> {
        self.find().context(self.path.display())
    }

    fn find(&self) -> Result<Vec<Program>> {
        let mut start = [0; 2];
        if self.disk.size() >= 2 {
            self.disk.read_at(&mut start, 0)?;
        }
        if start == *b"MZ" {
            return Ok(vec![Program { path: None, offset: 0, size: self.disk.size(), partition: None }]);
        }
        let mut reader = self.reader();
        let Some(found) = gpt::read(&mut reader)? else {
            return Err(Error::refused("this is neither an EFI program nor an image with a GUID partition table")
                .hint(
                    "images for UEFI have one: uki, raw-efi, iso-efi-initrd and others of moby build --format list",
                ));
        };
        let sector = found.table.sector_size.bytes();
        let mut programs = Vec::new();
        for entry in found.table.entries.iter().filter(|entry| entry.kind == gpt::EFI_SYSTEM) {
            let (start, size) = (entry.first_lba * sector, (entry.last_lba - entry.first_lba + 1) * sector);
            let mut volume = Volume::open(self.reader(), start, size)?;
            let files = volume.list()?;
            for file in files.iter().filter(|file| is_program(file)) {
                if !volume.in_one_piece(file)? {
                    return Err(Error::refused(format!("{} does not lie in one piece", file.path))
                        .hint("the image was changed since it was built; build it again"));
                }
                let offset = start + volume.first_sector(file) * volume.geometry().sector;
                let size = u64::from(file.size);
                programs.push(Program {
                    path: Some(file.path.clone()),
                    offset,
                    size,
                    partition: Some((start, entry.last_lba * sector + sector - start)),
                });
            }
        }
        if programs.is_empty() {
            return Err(Error::refused("no EFI system partition of it has a program"));
        }
        Ok(programs)
    }

    /// The first `size` bytes of a program.
    pub fn part(&self, program: &Program, size: u64) -> Result<Part> {
        let end = program.offset.checked_add(size).filter(|end| *end <= self.disk.size());
        if end.is_none() {
            return Err(Error::refused(format!("{} lies behind the end of the image", program.name()))
                .hint("the image may be cut off"));
        }
        if size > PROGRAM_LIMIT || size > program.size {
            return Err(Error::refused(format!("{} has {} bytes, not {size}", program.name(), program.size)));
        }
        let mut part = Part { image: self.clone(), offset: program.offset, size, identity: Digest::of(b"") };
        let mut hasher = Hasher::new();
        part.write_to(&mut hasher)?;
        part.identity = hasher.finish();
        Ok(part)
    }

    /// A reader of the whole disk.
    pub fn reader(&self) -> Reader {
        Reader { disk: Arc::clone(&self.disk), position: 0 }
    }
}

fn is_program(file: &Listed) -> bool {
    !file.folder && file.path.to_lowercase().ends_with(".efi")
}

/// A part of an image.
#[derive(Clone, Debug)]
pub struct Part {
    image: Image,
    offset: u64,
    size: u64,
    identity: Digest,
}

impl Source for Part {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let (mut at, end) = (self.offset, self.offset + self.size);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..count];
            self.image.disk.read_at(bytes, at)?;
            out.write_all(bytes).map_err(write_error)?;
            at += count as u64;
        }
        Ok(())
    }
}

/// Reads a disk as a file.
pub struct Reader {
    disk: Arc<dyn DiskImage>,
    position: u64,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.disk.size().saturating_sub(self.position);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if count > 0 {
            self.disk.read_at(&mut buffer[..count], self.position).map_err(io::Error::other)?;
            self.position += count as u64;
        }
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.disk.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
