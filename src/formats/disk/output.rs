//! The file that a container is written into.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Error, IoContext, Result};
use crate::formats::source::FilePart;

/// Bytes that the kernel is asked to copy at once: between two, a signal ends the program.
const COPY: usize = 64 << 20;
/// Where it cannot, bytes of a buffer.
const BUFFER: usize = 256 << 10;

/// An empty file that a writer fills at any offset. What is not written stays a hole.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    file: &'a File,
    path: &'a Path,
}

impl<'a> Output<'a> {
    /// An output into `file`, which must be empty: writers leave out zeros. `path` is its name in messages.
    pub fn new(file: &'a File, path: &'a Path) -> Result<Output<'a>> {
        let length = file.metadata().at("reading", path)?.len();
        if length != 0 {
            return Err(Error::failed(format!("{} has {length} bytes already", path.display()))
                .hint("a disk image is written into an empty file"));
        }
        Ok(Output { file, path })
    }

    /// The same into a file in which a part of the disk lies already; what the writer leaves out must be that, or a hole.
    pub fn around(file: &'a File, path: &'a Path) -> Output<'a> {
        Output { file, path }
    }

    /// The file.
    pub fn file(&self) -> &'a File {
        self.file
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).at("writing", self.path)
    }

    /// Copies a part of a file to `offset`, by the kernel's own copying where it can (copy_file_range(2)).
    pub fn copy_at(&self, part: &FilePart<'_>, offset: u64) -> Result<()> {
        let (from, size) = (part.file, part.size);
        let mut done = 0;
        while done < size {
            let count = usize::try_from(size - done).unwrap_or(usize::MAX).min(COPY);
            let (mut read, mut write) = (part.from + done, offset + done);
            match rustix::fs::copy_file_range(from, Some(&mut read), self.file, Some(&mut write), count) {
                Ok(0) => {
                    let short = io::Error::new(io::ErrorKind::UnexpectedEof, "a part of the disk ends early");
                    return Err(Error::io("writing", self.path, short));
                }
                Ok(count) => done += count as u64,
                Err(Errno::INTR) => {}
                // Other file systems, old kernels.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    let mut bytes = vec![0; count.min(BUFFER)];
                    from.read_exact_at(&mut bytes, part.from + done).at("reading", part.path)?;
                    self.write_at(&bytes, offset + done)?;
                    done += bytes.len() as u64;
                }
                Err(error) => return Err(Error::io("writing", self.path, error.into())),
            }
        }
        Ok(())
    }

    /// Sets the length of the file, which is a hole where nothing was written.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).at("writing", self.path)
    }
}

/// An error of a stream as what it was: outputs wrap an [`Error`] that names the file.
pub fn write_failed(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("writing", Path::new("the disk image"), error),
    }
}
