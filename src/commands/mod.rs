//! One file per verb: flags and printing only. What the verbs do is in the library.

pub mod build;
pub mod cache;
pub mod check;
pub mod extras;
pub mod global;
pub mod keys;
pub mod lock;
pub mod measure;
pub mod pkg;
pub mod run;
pub mod schema;
pub mod shared_cache;
pub mod sign;
pub mod update;
pub mod verify;
pub mod watch;

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::Arch;
use crate::blueprint::{ArchiveReference, Diagnostic, Reference, nearest};
use crate::error::{Error, Result};
use crate::store::{Descriptor, Store};
use crate::ui::{Mode, Ui};

/// Prints an error once: the mistakes that it stands for with their lines, the message, the hint. In JSON mode it is
/// one event.
pub fn report(error: &Error, ui: &Ui) {
    if ui.mode() == Mode::Json {
        let mistakes: Vec<_> = error.diagnostics().iter().map(|mistake| mistake.to_json()).collect();
        ui.event(serde_json::json!({
            "event": "error", "status": error.exit() as u8, "message": error.message(),
            "hint": error.hint_text(), "mistakes": mistakes,
        }));
        return;
    }
    let colour = std::io::stderr().is_terminal();
    let mut text = String::new();
    for mistake in error.diagnostics() {
        text.push_str(&mistake.render(colour));
        text.push_str("\n\n");
    }
    text.push_str(&format!("error: {}\n", error.message()));
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // There is nobody left to tell that standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A mistake on the command line, with the hint of the value's own error.
pub fn with_hint(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
    if let Some(hint) = cause.and_then(Error::hint_text).map(|hint| hint.to_owned().into()) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint]));
    }
    error
}

/// Shows what is odd in a blueprint and no mistake.
pub fn show_warnings(warnings: &[Diagnostic], ui: &Ui) {
    let colour = std::io::stderr().is_terminal();
    for warning in warnings {
        match ui.mode() {
            Mode::Json => ui.event(serde_json::json!({"event": "warning", "mistake": warning.to_json()})),
            _ => ui.note(warning.render(colour)),
        }
    }
}

/// An image in a file, brought into the store: its reference, with its digest, and what that stands for.
pub fn image_in_file(store: &Store, archive: &ArchiveReference) -> Result<(String, Descriptor)> {
    let canonical = |text: &str| Reference::parse(text).ok().map(|reference| reference.to_string());
    store.import_archive(archive, &canonical)
}

/// A file that was named on the command line, which must be there.
pub fn given(path: &Path) -> Result<&Path> {
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::usage(format!("there is no file {}", path.display()));
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let names: Vec<String> = std::fs::read_dir(folder.unwrap_or(Path::new(".")))
                .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
                .unwrap_or_default();
            let written = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let built = Path::new("images-out").join(path);
            Err(match nearest(written, names.iter().map(String::as_str)) {
                _ if built.exists() => error.hint(format!("did you mean {}?", built.display())),
                Some(near) => error.hint(format!("did you mean {}?", path.with_file_name(near).display())),
                None => error.hint("a path that does not begin with / is relative to the current folder"),
            })
        }
        _ => Ok(path),
    }
}

/// The architecture that was asked for, or this machine's.
pub fn arch(asked: Option<Arch>) -> Result<Arch> {
    asked
        .or_else(Arch::host)
        .ok_or_else(|| Error::usage("this machine is of no architecture that images can have").hint("say --arch"))
}

/// Prints a line of the result on standard output.
pub fn print_line(line: &str) -> Result<()> {
    print(&format!("{line}\n"))
}

/// Prints a result on standard output. Who has closed it (`| head`) has read enough, which is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("writing", "standard output".as_ref(), error))
        }
        _ => Ok(()),
    }
}
