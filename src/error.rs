//! The one error type that people see.
//!
//! A message is a diagnosis: what was tried, where, what was expected, what was found and, as a hint, what to do.
//! Modules whose callers branch on the cause have typed errors of their own (`net::Failure`); they become
//! this type where nobody branches any more. `Display` is what is printed, `Debug` never is.

use std::fmt;
use std::io;
use std::path::Path;

use crate::blueprint::Diagnostic;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was; decides the exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it failed for a reason that no other status names.
    Failed = 1,
    /// 2: wrong use, or a blueprint or recipe with a mistake.
    Usage = 2,
    /// 3: an input was refused: digest, signature, policy, lock.
    Refused = 3,
    /// 4: a registry or the network.
    Network = 4,
    /// 5: no room, or not writable.
    Room = 5,
}

/// An error with its exit status, an optional hint, and the mistakes in blueprints that it stands for.
pub struct Error(Box<Inner>);

struct Inner {
    exit: Exit,
    message: String,
    hint: Option<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Error {
    /// An error of the given kind. `message` says what, where, expected and found, in lower case, without a full stop.
    pub fn new(exit: Exit, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { exit, message: message.into(), hint: None, diagnostics: Vec::new() }))
    }

    /// Exit status 1.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Exit::Failed, message)
    }

    /// Exit status 2.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Exit::Usage, message)
    }

    /// Exit status 3.
    pub fn refused(message: impl Into<String>) -> Error {
        Error::new(Exit::Refused, message)
    }

    /// Exit status 4.
    pub fn network(message: impl Into<String>) -> Error {
        Error::new(Exit::Network, message)
    }

    /// Exit status 5.
    pub fn room(message: impl Into<String>) -> Error {
        Error::new(Exit::Room, message)
    }

    /// An operating system error at `path`; `doing` is a gerund ("reading"). A full disk, a full quota and a place that
    /// may not be written to are exit status 5, everything else is 1. What is only read is "opening" or "reading ...".
    pub fn io(doing: &str, path: &Path, error: io::Error) -> Error {
        use io::ErrorKind as K;
        let reading = doing == "opening" || doing.starts_with("reading");
        let exit = match error.kind() {
            K::PermissionDenied if reading => Exit::Failed,
            K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem | K::PermissionDenied | K::FileTooLarge => {
                Exit::Room
            }
            _ => Exit::Failed,
        };
        let hint = match error.kind() {
            K::StorageFull | K::QuotaExceeded => Some("free some space, or point --cache and --dir at a larger disk"),
            K::PermissionDenied if reading => Some("it must be readable for the user who runs moby"),
            K::PermissionDenied | K::ReadOnlyFilesystem => Some("choose a place that you may write to"),
            _ => None,
        };
        // What the tempfile crate adds is a name that nobody has chosen, behind a message that names the place already.
        let text = error.to_string();
        let text = text.split_once(" at path \"").map_or(text.as_str(), |(text, _)| text);
        let made = Error::new(exit, format!("{doing} {}: {text}", path.display()));
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }

    /// Mistakes found in blueprints or recipes; exit status 2. `message` is the closing line ("2 mistakes in x.yml").
    pub fn mistakes(message: impl Into<String>, diagnostics: Vec<Diagnostic>) -> Error {
        let mut error = Error::usage(message);
        error.0.diagnostics = diagnostics;
        error
    }

    /// The same error with a hint about what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with what was being done in front ("pulling redis:7").
    pub fn context(mut self, doing: impl fmt::Display) -> Error {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// The kind of failure.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The mistakes in blueprints or recipes that this error stands for.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.exit, self.0.message)
    }
}

impl std::error::Error for Error {}

/// Puts what was being done in front of an error.
pub trait Context<T> {
    /// See [`Error::context`].
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.context(doing))
    }
}

/// Turns an operating system's answer into an [`Error`] that names the path.
pub trait IoContext<T> {
    /// See [`Error::io`].
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(doing, path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_read_is_no_place_to_write_to() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = Path::new("db.key");
        for doing in ["opening", "reading", "reading the lock"] {
            let error = Error::io(doing, path, denied());
            assert_eq!(error.exit(), Exit::Failed, "{doing}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("readable")), "{doing}");
        }
        for doing in ["writing", "opening for writing", "making the folder"] {
            let error = Error::io(doing, path, denied());
            assert_eq!(error.exit(), Exit::Room, "{doing}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("write")), "{doing}");
        }
    }

    #[test]
    fn temporary_names_are_not_told() {
        let error = tempfile::Builder::new().tempfile_in("/nonexistent/folder").expect_err("no such folder");
        assert_eq!(
            Error::io("writing", Path::new("out/x.img"), error).message(),
            "writing out/x.img: No such file or directory (os error 2)"
        );
    }
}
