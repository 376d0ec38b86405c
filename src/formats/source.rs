//! Bytes whose size is known before they are written: what a container format (a partition table, a file system, an
//! executable) is given to put inside it. Containers are sources themselves, so a disk image of a FAT of a kernel
//! image is written in one pass, with no intermediate file and no buffer of its size.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::formats::disk::ZEROS;
use crate::rootfs::{Content, write_error};
use crate::store::{Digest, Hasher};

/// Bytes of known size that can be written any number of times.
pub trait Source: Debug + Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;

    /// A digest of everything that the bytes depend on: two sources of equal identity write equal bytes. It need not
    /// be the digest of the bytes. Identifiers inside images (GUIDs, volume numbers) come from it.
    fn identity(&self) -> Digest;

    /// Writes the bytes, exactly [`Source::size`] of them, the same every time.
    fn write_to(&self, out: &mut dyn Write) -> Result<()>;

    /// The content that the source is, if it is nothing else: who has buffers of their own reads it into them.
    fn content(&self) -> Option<&Content> {
        None
    }

    /// Large parts that lie in files, in their order: who writes to a file has the kernel copy them, who reads needs no
    /// copy.
    fn files(&self) -> Vec<FilePart<'_>> {
        Vec::new()
    }

    /// Writes the bytes with zeros in the place of those of [`Source::files`].
    fn write_without_files(&self, out: &mut dyn Write) -> Result<()> {
        self.write_to(out)
    }
}

/// A part of a source that is a part of a file.
#[derive(Clone, Copy, Debug)]
pub struct FilePart<'a> {
    /// Where in the source it starts.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Where in the file it starts.
    pub from: u64,
    /// The file.
    pub file: &'a File,
    /// Its name in messages.
    pub path: &'a Path,
}

impl FilePart<'_> {
    /// Whether it lies in this very file.
    pub fn lies_in(&self, file: &File) -> io::Result<bool> {
        let (one, other) = (self.file.metadata()?, file.metadata()?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    }
}

impl Source for Content {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.digest
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        self.copy_to(out)
    }

    fn content(&self) -> Option<&Content> {
        Some(self)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn identity(&self) -> Digest {
        Digest::of(self)
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        out.write_all(self).map_err(write_error)
    }
}

/// Sources one after another, as an initrd is a run of archives.
#[derive(Clone, Debug, Default)]
pub struct Joined(pub Vec<Arc<dyn Source>>);

impl Source for Joined {
    fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.size()))
    }

    fn identity(&self) -> Digest {
        let mut hasher = Hasher::new();
        for part in &self.0 {
            hasher.field(part.identity().as_bytes());
        }
        hasher.finish()
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        self.0.iter().try_for_each(|part| out.source(part.as_ref()))
    }
}

/// An image as it is written from its first byte to its last. Knows its position, so that what lies at planned places
/// is checked against the plan and not trusted.
pub struct Sequential<'a> {
    out: &'a mut dyn Write,
    position: u64,
}

impl Debug for Sequential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequential").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<'a> Sequential<'a> {
    /// An image that starts with the next byte of `out`.
    pub fn new(out: &'a mut dyn Write) -> Sequential<'a> {
        Sequential { out, position: 0 }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(write_error)
    }

    /// Writes a source, which must keep to its size.
    pub fn source(&mut self, source: &dyn Source) -> Result<()> {
        self.counted(source, |out| source.write_to(out))
    }

    /// The same with zeros in the place of its files.
    pub fn source_without_files(&mut self, source: &dyn Source) -> Result<()> {
        self.counted(source, |out| source.write_without_files(out))
    }

    fn counted(&mut self, source: &dyn Source, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let start = self.position;
        write(self)?;
        let written = self.position - start;
        if written != source.size() {
            return Err(Error::failed(format!(
                "{} bytes were announced and {written} written at byte {start} of an image",
                source.size()
            )));
        }
        Ok(())
    }

    /// Writes zeros up to a position. Going back is an error of the plan.
    pub fn zeros_to(&mut self, position: u64) -> Result<()> {
        let mut left = position.checked_sub(self.position).ok_or_else(|| {
            Error::failed(format!("an image is at byte {} where byte {position} was to be written", self.position))
        })?;
        while left > 0 {
            // Up to a boundary first: whoever leaves out blocks of zeros then gets whole ones.
            let room = ZEROS.len() - (self.position % ZEROS.len() as u64) as usize;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(room);
            self.bytes(&ZEROS[..count])?;
            left -= count as u64;
        }
        Ok(())
    }
}

impl Write for Sequential<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Liar;

    impl Source for Liar {
        fn size(&self) -> u64 {
            3
        }

        fn identity(&self) -> Digest {
            Digest::of(b"")
        }

        fn write_to(&self, out: &mut dyn Write) -> Result<()> {
            out.write_all(b"four").map_err(write_error)
        }
    }

    #[test]
    fn joined_sources_are_written_in_order() {
        let joined = Joined(vec![Arc::new(b"ab".to_vec()), Arc::new(Content::bytes(&b"cd"[..]))]);
        let mut out = Vec::new();
        joined.write_to(&mut out).unwrap();
        assert_eq!((out.as_slice(), joined.size()), (&b"abcd"[..], 4));
        let swapped = Joined(joined.0.iter().rev().cloned().collect());
        assert_ne!(joined.identity(), swapped.identity());
    }

    #[test]
    fn a_source_that_breaks_its_word_is_refused() {
        let mut out = Vec::new();
        let error = Sequential::new(&mut out).source(&Liar).unwrap_err();
        assert_eq!(error.message(), "3 bytes were announced and 4 written at byte 0 of an image");
    }

    #[test]
    fn zeros_go_forward_only() {
        let mut bytes = Vec::new();
        let mut out = Sequential::new(&mut bytes);
        out.zeros_to(70_000).unwrap();
        assert_eq!(out.position(), 70_000);
        assert!(out.zeros_to(1).is_err());
        assert_eq!(bytes, vec![0; 70_000]);
    }
}
