//! Where a value was written: the text it came from and the bytes it takes there.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Diagnostic;

/// Where a text came from; decides what a relative `@pkg:` folder is relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file or standard input: `@pkg:` folders are relative to this folder.
    Folder(PathBuf),
    /// A URL: there is no folder, `@pkg:` with a relative path is refused.
    Remote,
    /// The label of an image: no templates at all.
    Label,
}

/// One text with the name that people know it by. Kept as long as any value that came from it.
#[derive(Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    origin: Origin,
}

impl Source {
    /// A text, the name shown in messages, and where it came from.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>, origin: Origin) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into(), origin })
    }

    /// The name shown in messages.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Where the text came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The folder that relative paths of this text belong to, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Folder(folder) => Some(folder),
            Origin::Remote | Origin::Label => None,
        }
    }
}

/// Some bytes of a [`Source`].
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// Bytes `span` of `source`; cut to the text when it reaches past its end.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Place {
        let end = span.end.min(source.text.len());
        Place { source: source.clone(), span: span.start.min(end)..end }
    }

    /// A place for a value that was not read from a file (a test, a default, a flag): an empty text named `name`.
    pub fn synthetic(name: &str) -> Place {
        Place::new(&Source::new(name, "", Origin::Label), 0..0)
    }

    /// The text.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The bytes of the text.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Line and column of the first byte, both counted from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        line_column(&self.source.text, self.span.start)
    }

    /// A mistake at this place.
    pub fn mistake(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self, message)
    }
}

/// Line and column of byte `at` of `text`, both from 1, the column in characters.
pub(super) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl fmt::Display for Place {
    /// `file:line:column`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value and where it was written. Two are equal when their values are, wherever they were written.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, place: Place) -> Spanned<T> {
        Spanned { value, place }
    }

    /// Another value at the same place.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: make(self.value), place: self.place }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
