//! One mistake in a blueprint or recipe, with its place.

use std::ops::Range;
use std::sync::Arc;

/// A mistake: what is wrong, where, and what would be right.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// The file as the user named it (`-` is shown as `<standard input>`).
    pub file: Arc<str>,
    /// The whole text of that file.
    pub source: Arc<str>,
    /// The bytes of `source` that are wrong.
    pub span: Range<usize>,
    /// What is said under the marked bytes; may be empty.
    pub label: String,
    /// What to do ("did you mean `command`?").
    pub help: Option<String>,
}
