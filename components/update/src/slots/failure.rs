//! Errors of updates: a sentence, and whether the image or disk was refused before anything was written.

use std::fmt;
use std::io;

/// `Result` with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What failed, where, and why, as one line without a full stop.
#[derive(Debug)]
pub struct Failure {
    message: String,
    refused: bool,
}

impl Failure {
    /// Something failed.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), refused: false }
    }

    /// An image or a disk is not what it must be; nothing was written.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), refused: true }
    }

    /// Whether nothing was written because of what was found.
    pub fn is_refusal(&self) -> bool {
        self.refused
    }

    /// The same failure with its place in front.
    pub fn context(mut self, place: &str) -> Failure {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// Says what was being done when the operating system refused.
pub trait Doing<T> {
    /// `doing` is a gerund with its object: "reading the partition table".
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{doing}: {}", error.into())))
    }
}
