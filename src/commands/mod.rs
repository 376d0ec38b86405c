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

use crate::Arch;
use crate::blueprint::{ArchiveReference, Diagnostic, Reference};
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

/// The architecture that was asked for, or this machine's.
pub fn arch(asked: Option<Arch>) -> Result<Arch> {
    asked
        .or_else(Arch::host)
        .ok_or_else(|| Error::usage("this machine is of no architecture that images can have").hint("say --arch"))
}

/// Prints a line of the result on standard output.
pub fn print_line(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Error::io("writing", "standard output".as_ref(), error))
}
