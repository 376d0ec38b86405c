//! Where the bytes of a file lie.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Hasher};

/// The content of a regular file: its size, its digest and its place, never its bytes unless they are few.
#[derive(Clone, Debug)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// The digest of the bytes.
    pub digest: Digest,
    /// Where they are.
    pub place: Place,
}

/// Where content is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In memory: what was generated here or stood in a blueprint.
    Bytes(Arc<[u8]>),
    /// In a file of the store or of the host, from an offset on.
    File {
        /// The file.
        file: Arc<Path>,
        /// Where the content starts in it.
        offset: u64,
    },
}

impl Content {
    /// Content in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Content {
        let bytes = bytes.into();
        Content { size: bytes.len() as u64, digest: Digest::of(&bytes), place: Place::Bytes(bytes) }
    }

    /// A whole file of the host, read once here for its digest.
    pub fn host_file(path: &Path) -> Result<Content> {
        let mut file = File::open(path).at("opening", path)?;
        let mut hasher = Hasher::new();
        let size = io::copy(&mut file, &mut hasher).at("reading", path)?;
        Ok(Content { size, digest: hasher.finish(), place: Place::File { file: path.into(), offset: 0 } })
    }

    /// A part of a file that is known to have the given size and digest.
    pub fn part(file: Arc<Path>, offset: u64, size: u64, digest: Digest) -> Content {
        Content { size, digest, place: Place::File { file, offset } }
    }

    /// Opens the content for reading; the reader ends after `size` bytes.
    pub fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        match &self.place {
            Place::Bytes(bytes) => Ok(Box::new(bytes.as_ref())),
            Place::File { file, offset } => {
                let mut opened = File::open(file).at("opening", file)?;
                opened.seek(SeekFrom::Start(*offset)).at("seeking in", file)?;
                Ok(Box::new(opened.take(self.size)))
            }
        }
    }

    /// Reads the part of the content from `offset` on into `buffer` and returns how much there was: less than asked for
    /// only at the end. The digest is not checked; what is written into an image goes through [`Content::copy_to`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        match &self.place {
            Place::Bytes(bytes) => {
                // The size is that of the bytes, and the offset below it.
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = bytes.get(start..).and_then(|bytes| bytes.get(..wanted)).unwrap_or_default();
                buffer.get_mut(..part.len()).unwrap_or_default().copy_from_slice(part);
                Ok(part.len())
            }
            Place::File { file, offset: start } => {
                let opened = File::open(file).at("opening", file)?;
                opened.read_exact_at(buffer, start.saturating_add(offset)).at("reading", file)?;
                Ok(wanted)
            }
        }
    }

    /// Copies the content to `out`, checking size and digest on the way: a store that was damaged since, or a host
    /// file that changed during the build, is an error and never a wrong byte.
    pub fn copy_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
        let mut input = self.checked()?;
        loop {
            match input.next(&mut buffer)? {
                0 => return Ok(()),
                count => out.write_all(&buffer[..count]).map_err(write_error)?,
            }
        }
    }

    /// The same for who has buffers of their own.
    pub fn checked(&self) -> Result<CheckedContent<'_>> {
        Ok(CheckedContent { content: self, input: self.open()?, hasher: Hasher::new(), read: 0 })
    }

    /// The whole content in memory, if it has at most `limit` bytes.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::refused(format!("{} bytes where at most {limit} are expected", self.size)));
        }
        // All at once: a vector that grows takes three times as much while it moves.
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    fn file_name(&self) -> &Path {
        match &self.place {
            Place::Bytes(_) => Path::new("content in memory"),
            Place::File { file, .. } => file,
        }
    }
}

/// Content as it is read from its start to its end, where its digest is checked.
pub struct CheckedContent<'c> {
    content: &'c Content,
    input: Box<dyn Read + Send + 'c>,
    hasher: Hasher,
    read: u64,
}

impl std::fmt::Debug for CheckedContent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedContent")
            .field("content", self.content)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

impl CheckedContent<'_> {
    /// Reads the next bytes into a buffer that is not empty; nothing at the end, once it is sure that all was right.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = loop {
            match self.input.read(buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("reading", self.content.file_name(), error)),
            }
        };
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.read += count as u64;
        if count == 0 && (self.read != self.content.size || self.hasher.clone().finish() != self.content.digest) {
            return Err(Error::refused(format!(
                "{} changed since it was read, or is damaged",
                self.content.file_name().display()
            ))
            .hint("if it lies in the store, remove that file; it will be made again"));
        }
        Ok(count)
    }
}

/// An error while writing output, where only the writer knows the file's name. An error of this program that went
/// through `io::Write` comes back as it was.
pub fn write_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(inner) => inner,
        Err(error) => Error::io("writing", Path::new("the output"), error),
    }
}
