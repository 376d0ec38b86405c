//! Getting files from a mirror: local folders here, the network behind a trait.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Hasher, Store};
use crate::ui::Task;

/// What an answer said about its own version; sent back to ask whether there is a newer one (RFC 9110 section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The header `Last-Modified`.
    pub last_modified: Option<String>,
}

/// An answer to a request for a small file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The file.
    Found(Vec<u8>, Validators),
    /// The version that is known already.
    NotModified,
    /// There is no such file (404 and 410; 403 too, which some object stores say in their place).
    Absent,
}

/// What the archive needs of the network. URLs are `http:` and `https:` only.
pub trait Fetch: Sync {
    /// Gets a small file, of at most `limit` bytes; a larger one is an error. With `known`, the request is
    /// conditional.
    fn document(&self, url: &str, limit: u64, known: &Validators) -> Result<Answer>;

    /// Gets a file of this size and digest, both checked, opened at its start. It may lie in a temporary file or
    /// in the store's blobs, and may have lost its name already: it is read once.
    fn file(&self, url: &str, store: &Store, digest: &Digest, size: u64, task: &Task) -> Result<File>;
}

/// A URL as it may be shown: apt's sources may hold a password.
pub(super) fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or(rest);
            let secret = host.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", rest.get(secret..).unwrap_or(rest))
        }
        None => url.to_string(),
    }
}

/// Gets a small file from any URL.
pub(super) fn document(fetch: &dyn Fetch, url: &str, limit: u64, known: &Validators) -> Result<Answer> {
    let Some(path) = url.strip_prefix("file:") else { return fetch.document(url, limit, known) };
    let file = match File::open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Answer::Absent);
        }
        file => file.at("opening", path.as_ref())?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).at("reading", path.as_ref())?;
    within(&bytes, limit, url)?;
    Ok(Answer::Found(bytes, Validators::default()))
}

/// Gets a file from any URL, size and digest checked.
pub(super) fn file(
    fetch: &dyn Fetch,
    url: &str,
    store: &Store,
    digest: &Digest,
    size: u64,
    task: &Task,
) -> Result<File> {
    let Some(path) = url.strip_prefix("file:") else { return fetch.file(url, store, digest, size, task) };
    let mut source = File::open(path).at("opening", path.as_ref())?;
    // Copied, although it is at hand: what is checked must be what is read afterwards.
    let mut checked = CheckedFile::new(store, url, digest, size)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match source.read(&mut buffer).at("reading", path.as_ref())? {
            0 => return checked.finish(),
            count => {
                checked.write(&buffer[..count])?;
                task.advance(count as u64);
            }
        }
    }
}

fn within(bytes: &[u8], limit: u64, url: &str) -> Result<()> {
    match bytes.len() as u64 > limit {
        true => Err(Error::refused(format!("{} is larger than {limit} bytes", shown(url)))),
        false => Ok(()),
    }
}

/// A temporary file of known size and digest that is being written.
#[derive(Debug)]
pub struct CheckedFile {
    file: File,
    hasher: Hasher,
    written: u64,
    size: u64,
    digest: Digest,
    url: String,
}

impl CheckedFile {
    /// Starts a file in the store's temporary folder. It has no name from the start, so that nothing stays behind.
    pub fn new(store: &Store, url: &str, digest: &Digest, size: u64) -> Result<CheckedFile> {
        let file = store.temporary_file()?.into_file();
        Ok(CheckedFile { file, hasher: Hasher::new(), written: 0, size, digest: *digest, url: shown(url) })
    }

    /// Adds bytes; more than the size are refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(self.refused(format!("it has more than the {} bytes that are signed for", self.size)));
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).at("writing a temporary file in", "the store".as_ref())
    }

    /// Checks size and digest and goes back to the start.
    pub fn finish(mut self) -> Result<File> {
        let found = std::mem::take(&mut self.hasher).finish();
        if self.written != self.size {
            return Err(self.refused(format!("it has {} bytes, but {} are signed for", self.written, self.size)));
        }
        if found != self.digest {
            return Err(self.refused(format!("its digest is {found}, but {} is signed for", self.digest)));
        }
        self.file.rewind().at("reading a temporary file in", "the store".as_ref())?;
        Ok(self.file)
    }

    fn refused(&self, what: String) -> Error {
        Error::refused(format!("{} is not what the archive's index says: {what}", self.url))
            .hint("the mirror may be in the middle of an update: try again later; else it is damaged")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("https://me:secret@host:80/a@b"), "https://host:80/a@b");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
        assert_eq!(shown("file:/a/b@c"), "file:/a/b@c");
    }
}
