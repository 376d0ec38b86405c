//! Progress of long work, in three forms: bars, lines, JSON events.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::timings::{Span, Timings};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bars, redrawn in place; for a terminal.
    Bars,
    /// One line when a task ends; for logs.
    Plain,
    /// One JSON object a line: `{"event":"start"|"end"|"note"|"warning",...}`.
    Json,
    /// Warnings only.
    Quiet,
}

impl Mode {
    /// Bars if standard error is a terminal, lines if not.
    pub fn detect() -> Mode {
        if std::io::stderr().is_terminal() { Mode::Bars } else { Mode::Plain }
    }
}

/// The handle through which every stage reports. Cheap to clone and safe to share between threads.
#[derive(Clone, Debug)]
pub struct Ui {
    mode: Mode,
    bars: MultiProgress,
    timings: Option<Arc<Timings>>,
}

impl Ui {
    /// A handle that shows progress in the given form.
    pub fn new(mode: Mode) -> Ui {
        let target = if mode == Mode::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Ui { mode, bars: MultiProgress::with_draw_target(target), timings: None }
    }

    /// The same handle, and a recording of all that is reported through it and its clones.
    pub fn recorded(&self) -> (Ui, Arc<Timings>) {
        let timings = Arc::new(Timings::default());
        (Ui { timings: Some(timings.clone()), ..self.clone() }, timings)
    }

    /// Notes for the recording, if there is one, that work begins which nobody needs to see otherwise.
    pub fn span(&self, stage: &'static str, subject: impl Into<String>) -> Span {
        // Without a recording the name is not even made.
        let subject = if self.timings.is_some() { subject.into() } else { String::new() };
        Span::new(self.timings.as_ref(), stage, subject)
    }

    /// Starts a task. `verb` is the stage ("pull", "inflate", "compress"), `subject` what it works on, `total` the
    /// number of bytes if known.
    pub fn task(&self, verb: &'static str, subject: impl Into<String>, total: Option<u64>) -> Task {
        let subject = subject.into();
        let bar = (self.mode == Mode::Bars).then(|| {
            let bar = self.bars.add(match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::new_spinner(),
            });
            let template = match total {
                Some(_) => "{prefix:>9} {wide_msg} {bytes:>10}/{total_bytes:<10} [{bar:24}]",
                None => "{prefix:>9} {wide_msg} {bytes:>10} {spinner}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(verb);
            bar.set_message(subject.clone());
            bar
        });
        if self.mode == Mode::Json {
            self.event(serde_json::json!({"event": "start", "stage": verb, "subject": subject, "total": total}));
        }
        let span = Span::new(self.timings.as_ref(), verb, subject.clone());
        Task(Arc::new(TaskInner { ui: self.clone(), verb, subject, bar, span }))
    }

    /// Says something worth knowing.
    pub fn note(&self, text: impl AsRef<str>) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Json => self.event(serde_json::json!({"event": "note", "text": text.as_ref()})),
            Mode::Bars | Mode::Plain => self.line(text.as_ref()),
        }
    }

    /// Says something that the user should act on.
    pub fn warn(&self, text: impl AsRef<str>) {
        match self.mode {
            Mode::Json => self.event(serde_json::json!({"event": "warning", "text": text.as_ref()})),
            _ => self.line(&format!("warning: {}", text.as_ref())),
        }
    }

    /// Emits one JSON event, in JSON mode only.
    pub fn event(&self, value: serde_json::Value) {
        if self.mode == Mode::Json {
            self.line(&value.to_string());
        }
    }

    /// The form that was chosen.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn line(&self, text: &str) {
        // A closed standard error must not stop a build.
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}

/// A running task. It ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Task(Arc<TaskInner>);

#[derive(Debug)]
struct TaskInner {
    ui: Ui,
    verb: &'static str,
    subject: String,
    bar: Option<ProgressBar>,
    span: Span,
}

impl Task {
    /// Adds bytes that were worked off.
    pub fn advance(&self, bytes: u64) {
        self.0.span.advance(bytes);
        if let Some(bar) = &self.0.bar {
            bar.inc(bytes);
        }
    }
}

impl Drop for TaskInner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let done = self.span.bytes();
        match self.ui.mode {
            Mode::Json => self
                .ui
                .event(serde_json::json!({"event": "end", "stage": self.verb, "subject": self.subject, "bytes": done})),
            Mode::Plain if done > 0 => self.ui.line(&format!("{:>9} {} ({})", self.verb, self.subject, size(done))),
            Mode::Plain => self.ui.line(&format!("{:>9} {}", self.verb, self.subject)),
            Mode::Bars | Mode::Quiet => {}
        }
    }
}

/// A size as people read it, in powers of 1024.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
