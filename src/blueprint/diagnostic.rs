//! One mistake in a blueprint or recipe, with its place.

use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::nearest::nearest;
use super::source::{Place, line_column};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing can be built.
    Mistake,
    /// It builds, but is likely not what was meant.
    Warning,
}

/// Another place that belongs to a mistake ("first here").
#[derive(Clone, Debug)]
pub struct Related {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The whole text of that file.
    pub source: Arc<str>,
    /// The bytes of `source`.
    pub span: Range<usize>,
    /// What is said under the marked bytes.
    pub label: String,
}

/// A mistake: what is wrong, where, and what would be right.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
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
    /// Other places that belong to it.
    pub related: Vec<Related>,
    /// What to do ("did you mean `command`?").
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(place: &Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Mistake,
            message: message.into(),
            file: place.source().name().clone(),
            source: place.source().text().clone(),
            span: place.span(),
            label: String::new(),
            related: Vec::new(),
            help: None,
        }
    }

    /// The same as a warning.
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }

    /// The same with words under the marked bytes.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// The same with what to do.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same with what to do, if that is known.
    pub fn help_if(mut self, help: Option<String>) -> Diagnostic {
        self.help = help.or(self.help);
        self
    }

    /// The same with another place that belongs to it.
    pub fn related(mut self, place: &Place, label: impl Into<String>) -> Diagnostic {
        self.related.push(Related {
            file: place.source().name().clone(),
            source: place.source().text().clone(),
            span: place.span(),
            label: label.into(),
        });
        self
    }

    /// Line and column of the first wrong byte, both counted from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        line_column(&self.source, self.span.start)
    }

    /// Text for people: the message, the file, line and column, the line itself with the wrong part marked, and the
    /// help. Without a newline at the end. `colour` adds terminal colours.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Mistake => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        group = Excerpt::of(&self.source, &self.span).add(group, &self.file, AnnotationKind::Primary, &self.label);
        for related in &self.related {
            let excerpt = Excerpt::of(&related.source, &related.span);
            group = excerpt.add(group, &related.file, AnnotationKind::Context, &related.label);
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// The same for machines: message, file, line, column, the bytes, label, help and related places.
    pub fn to_json(&self) -> serde_json::Value {
        let (line, column) = self.line_column();
        let (end_line, end_column) = line_column(&self.source, self.span.end);
        let related: Vec<serde_json::Value> = self
            .related
            .iter()
            .map(|related| {
                let (line, column) = line_column(&related.source, related.span.start);
                serde_json::json!({
                    "file": &*related.file, "line": line, "column": column,
                    "start": related.span.start, "end": related.span.end, "label": related.label,
                })
            })
            .collect();
        serde_json::json!({
            "severity": match self.severity { Severity::Mistake => "error", Severity::Warning => "warning" },
            "message": self.message, "file": &*self.file,
            "line": line, "column": column, "end_line": end_line, "end_column": end_column,
            "start": self.span.start, "end": self.span.end,
            "label": self.label, "help": self.help, "related": related,
        })
    }
}

/// The lines of a text that a span takes. Only these are given to the renderer: it would walk the whole text for every
/// mistake otherwise.
struct Excerpt<'a> {
    text: &'a str,
    first_line: usize,
    span: Range<usize>,
}

impl<'a> Excerpt<'a> {
    /// A span over several lines (a whole list, say) is cut to the first of them: the place is what is asked for.
    fn of(text: &'a str, span: &Range<usize>) -> Excerpt<'a> {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let mut end = span.end.clamp(start, line_end);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let end = start + text[start..end].trim_end().len();
        Excerpt {
            text: &text[line_start..line_end],
            first_line: text[..line_start].matches('\n').count() + 1,
            span: start - line_start..end - line_start,
        }
    }

    /// Longer lines (a label that a program wrote) are not shown: the renderer's memory is fifty times a line's.
    const LONGEST_LINE: usize = 16 << 10;

    fn add(self, group: Group<'a>, file: &'a str, kind: AnnotationKind, label: &'a str) -> Group<'a> {
        if self.text.len() > Self::LONGEST_LINE {
            let column = self.text[..self.span.start].chars().count() + 1;
            let group = group.element(Origin::path(file).line(self.first_line).char_column(column));
            return if label.is_empty() { group } else { group.element(Level::NOTE.message(label)) };
        }
        let annotation = kind.span(self.span);
        let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
        group.element(Snippet::source(self.text).path(file).line_start(self.first_line).annotation(annotation))
    }
}

/// The mistakes and warnings found so far.
///
/// Limited: a file with thousands of mistakes is not a blueprint, and the first hundred say enough.
#[derive(Debug, Default)]
pub struct Diagnostics {
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    dropped: usize,
}

impl Diagnostics {
    /// How many mistakes, and how many warnings, are kept.
    pub const LIMIT: usize = 100;

    /// Adds one; after [`Diagnostics::LIMIT`] it is only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let list = match diagnostic.severity {
            Severity::Mistake => &mut self.mistakes,
            Severity::Warning => &mut self.warnings,
        };
        if list.len() < Self::LIMIT {
            list.push(diagnostic);
        } else if diagnostic.severity == Severity::Mistake {
            self.dropped += 1;
        }
    }

    /// "Did you mean" for a mistake that is about to be added; nothing once no more are kept, since the search costs.
    pub fn suggest<'a>(&self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
        if self.mistakes.len() >= Self::LIMIT {
            return None;
        }
        nearest(written, known).map(|near| format!("did you mean `{near}`?"))
    }

    /// Whether there is a mistake.
    pub fn any_mistake(&self) -> bool {
        !self.mistakes.is_empty()
    }

    /// How many mistakes there are, those that were not kept too.
    pub fn count(&self) -> usize {
        self.mistakes.len() + self.dropped
    }

    /// The mistakes as an error, or `value` with the warnings if there are none.
    pub fn finish<T>(mut self, value: Option<T>) -> crate::Result<(T, Vec<Diagnostic>)> {
        let count = self.count();
        in_reading_order(&mut self.mistakes);
        in_reading_order(&mut self.warnings);
        match value {
            Some(value) if count == 0 => Ok((value, self.warnings)),
            _ => {
                let mut files: Vec<&str> = Vec::new();
                for mistake in &self.mistakes {
                    if !files.contains(&&*mistake.file) {
                        files.push(&mistake.file);
                    }
                }
                let files = files.join(", ");
                let message = match count {
                    1 => format!("1 mistake in {files}"),
                    count if self.dropped > 0 => {
                        format!("{count} mistakes in {files}, the first {} shown", Self::LIMIT)
                    }
                    count => format!("{count} mistakes in {files}"),
                };
                let mut shown = self.mistakes;
                shown.extend(self.warnings);
                Err(crate::Error::mistakes(message, shown))
            }
        }
    }
}

/// File by file, from top to bottom: the decoder goes through keys in an order of its own.
fn in_reading_order(list: &mut [Diagnostic]) {
    let mut files: Vec<Arc<str>> = Vec::new();
    for diagnostic in list.iter() {
        if !files.contains(&diagnostic.file) {
            files.push(diagnostic.file.clone());
        }
    }
    list.sort_by_key(|diagnostic| {
        (files.iter().position(|file| *file == diagnostic.file), diagnostic.span.start, diagnostic.span.end)
    });
}
