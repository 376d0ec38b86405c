//! Reading parts of files' content, with the file that was read last kept open: most contents lie in a few layers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::rootfs::{Content, Place};

/// A reader of contents.
#[derive(Debug, Default)]
pub(super) struct Source {
    open: Option<(Arc<Path>, File)>,
}

impl Source {
    /// Fills `out` with the content from `offset` on.
    pub fn read(&mut self, content: &Content, offset: u64, out: &mut [u8]) -> Result<()> {
        match &content.place {
            Place::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part =
                    bytes.get(start..).and_then(|bytes| bytes.get(..out.len())).ok_or_else(|| changed(content))?;
                out.copy_from_slice(part);
            }
            Place::File { file, offset: start } => {
                let opened = match &self.open {
                    Some((known, opened)) if Arc::ptr_eq(known, file) || known == file => opened,
                    _ => &self.open.insert((file.clone(), File::open(file).at("opening", file)?)).1,
                };
                opened.read_exact_at(out, start.saturating_add(offset)).map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => changed(content),
                    _ => Error::io("reading", file, error),
                })?;
            }
        }
        Ok(())
    }
}

/// What is said when content is not what its size and digest say.
pub(super) fn changed(content: &Content) -> Error {
    let name = match &content.place {
        Place::Bytes(_) => "content in memory".into(),
        Place::File { file, .. } => file.display().to_string(),
    };
    Error::refused(format!("{name} changed since it was read, or is damaged"))
        .hint("if it lies in the store, remove that file; it will be made again")
}
