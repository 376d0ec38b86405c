//! The file that a container is written into.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, IoContext, Result};

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

    /// Writes `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).at("writing", self.path)
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
