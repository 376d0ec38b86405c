//! Errors of the guest: a sentence for the console. Nobody branches on them.

use std::fmt;
use std::io;
use std::path::Path;

/// `Result` with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What failed, where, and why, as one line without a full stop.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Says what was being done when the operating system refused.
pub trait Doing<T> {
    /// `doing` is a gerund with its object: "mounting /proc".
    fn doing(self, doing: impl fmt::Display) -> Result<T>;

    /// The same with a path: `at("reading", path)`.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {}", error.into())))
    }

    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.doing(format_args!("{doing} {}", path.display()))
    }
}
