//! Where blueprints come from: files, standard input, URLs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{Known, check};
use super::decode::Decoder;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Blueprint;
use super::parse::{LONGEST_TEXT, parse};
use super::source::{Origin, Place, Source};
use super::template::{Archives, Resolver, Templates};
use crate::error::IoContext;
use crate::{Error, Result};

/// The name of an image that was read from standard input.
const NAMELESS: &str = "moby";

/// One blueprint to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// `-`.
    StandardInput,
    /// An http or https URL.
    Url(String),
    /// A text that is at hand, with its name and the folder that `@pkg:` is relative to.
    Text {
        /// Shown in messages.
        name: String,
        /// The YAML.
        text: String,
        /// For `@pkg:`.
        folder: PathBuf,
    },
}

impl Input {
    /// What an argument of the command line means.
    pub fn from_argument(argument: &std::ffi::OsStr) -> Input {
        match argument.to_str() {
            Some("-") => Input::StandardInput,
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => Input::Url(url.to_owned()),
            _ => Input::File(argument.into()),
        }
    }

    /// The name of the image if none is asked for: the last part of the path without its extension.
    fn stem(&self) -> String {
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = match self {
            Input::File(path) => stem(path),
            Input::StandardInput => None,
            Input::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let after_host = path.splitn(4, '/').nth(3).unwrap_or_default();
                stem(Path::new(after_host))
            }
            Input::Text { name, .. } => stem(Path::new(name)),
        };
        name.filter(|name| !name.is_empty() && name != ".." && name != ".").unwrap_or_else(|| NAMELESS.to_owned())
    }
}

/// The name of the image that is made from these inputs if none is asked for: that of the last one.
pub fn output_name(inputs: &[Input]) -> String {
    inputs.last().map_or_else(|| NAMELESS.to_owned(), Input::stem)
}

/// Gets a URL. Must not give more than 16 MiB.
pub type Fetch<'a> = dyn Fn(&str) -> Result<Vec<u8>> + 'a;

/// What reading needs from elsewhere.
#[derive(Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// Gets a URL; without it URLs are refused.
    pub fetch: Option<&'a Fetch<'a>>,
    /// Gives the reference of the component in a folder (`@pkg:`); without it `@pkg:` is refused.
    pub resolve: Option<&'a Resolver<'a>>,
    /// Gives the reference of an image in a file; without it such images are refused.
    pub archives: Option<&'a Archives<'a>>,
}

impl std::fmt::Debug for ReadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOptions").finish_non_exhaustive()
    }
}

/// Reads blueprints, merges them from left to right and checks the result. Gives warnings too.
///
/// The error of a blueprint with mistakes has all of them: [`Error::diagnostics`].
pub fn read(inputs: &[Input], options: ReadOptions<'_>) -> Result<(Blueprint, Vec<Diagnostic>)> {
    if inputs.is_empty() {
        return Err(Error::usage("no blueprint is named"));
    }
    let mut diagnostics = Diagnostics::default();
    let mut templates = Templates::new(options.resolve).with_archives(options.archives);
    let mut merged: Option<Blueprint> = None;
    let mut known = Known::default();
    let mut complete = true;
    let sources = inputs.iter().map(|input| load(input, options)).collect::<Result<Vec<_>>>()?;
    for (name, bytes, origin) in sources {
        let Some(source) = text(&name, bytes, origin, &mut diagnostics) else {
            complete = false;
            continue;
        };
        let Some(node) = parse(&source, &mut diagnostics) else {
            complete = false;
            continue;
        };
        known.gather(&node);
        let mut decoder = Decoder { source: &source, diagnostics: &mut diagnostics, templates: &mut templates };
        match (decoder.blueprint(&node), &mut merged) {
            (None, _) => complete = false,
            (Some(next), Some(merged)) => merged.merge(next),
            (Some(first), None) => merged = Some(first),
        }
    }
    if let Some(failure) = templates.failure() {
        return Err(failure);
    }
    // With a whole text missing, what refers to it would be called unknown.
    if let (Some(blueprint), true) = (&merged, complete) {
        check(blueprint, &known, &mut diagnostics);
    }
    diagnostics.finish(merged.filter(|_| complete))
}

type Loaded = (String, Vec<u8>, Origin);

fn load(input: &Input, options: ReadOptions<'_>) -> Result<Loaded> {
    match input {
        Input::File(path) => {
            let file = std::fs::File::open(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => missing(path),
                _ => Error::io("opening", path, error),
            })?;
            if path.is_dir() {
                return Err(Error::usage(format!("{} is a folder, not a blueprint", path.display()))
                    .hint("a blueprint is a file, an http(s) URL, or - for standard input"));
            }
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let bytes = bounded(file).at("reading", path)?;
            Ok((path.display().to_string(), bytes, Origin::Folder(folder.to_owned())))
        }
        Input::StandardInput => {
            let bytes = bounded(std::io::stdin().lock()).at("reading", Path::new("standard input"))?;
            Ok(("<standard input>".into(), bytes, Origin::Folder(".".into())))
        }
        Input::Url(url) => {
            let fetch = options.fetch.ok_or_else(|| Error::usage(format!("URLs are not read here: {url}")))?;
            Ok((url.clone(), fetch(url)?, Origin::Remote))
        }
        Input::Text { name, text, folder } => {
            Ok((name.clone(), text.clone().into_bytes(), Origin::Folder(folder.clone())))
        }
    }
}

fn missing(path: &Path) -> Error {
    let error = Error::usage(format!("there is no blueprint {}", path.display()));
    let named = path.with_extension("yml");
    if path.extension().is_none() && named.exists() {
        return error.hint(format!("did you mean {}?", named.display()));
    }
    error.hint("a blueprint is a file, an http(s) URL, or - for standard input")
}

/// One byte more than the limit at most, so that the parser sees that there is too much.
fn bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes as text, without a byte order mark.
pub(super) fn text(name: &str, bytes: Vec<u8>, origin: Origin, diagnostics: &mut Diagnostics) -> Option<Arc<Source>> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            Some(Source::new(name, text, origin))
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let shown = String::from_utf8_lossy(error.as_bytes().get(..LONGEST_TEXT.min(error.as_bytes().len()))?);
            let source = Source::new(name, shown.into_owned(), origin);
            let found = error.as_bytes().get(at).copied().unwrap_or(0);
            let message = format!("the text is not UTF-8: byte 0x{found:02x} at offset {at}");
            diagnostics.push(Place::new(&source, at..at + char::REPLACEMENT_CHARACTER.len_utf8()).mistake(message));
            None
        }
    }
}
