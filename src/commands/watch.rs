//! `moby build --watch`: builds again when a blueprint, a recipe, a component's file or a file of the `files` section
//! changes, and with `--run` starts the machine again.
//!
//! Files are looked at five times a second, not watched through the kernel: it works on network file systems, with
//! editors that rename, and has no limit on their number. Ten thousand files take 10 ms of each second.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ui::Ui;

/// How often files are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// What is looked at in one folder. More is no component, but somebody's whole disk.
const ENTRIES: usize = 100_000;
/// Folders that builds of programs write themselves.
const NOT_INPUTS: [&str; 2] = ["target", ".git"];

/// What a build read, for the next one to wait for.
#[derive(Debug, Default)]
pub struct Watched(Mutex<BTreeSet<PathBuf>>);

impl Watched {
    /// Adds a file or folder, there or not.
    pub fn add(&self, path: impl Into<PathBuf>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into());
    }

    fn take(self) -> BTreeSet<PathBuf> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one state of a file from another: inode, size, times of content and change.
type Marks = (u64, u64, (i64, i64), (i64, i64));

/// The state of everything that is watched.
fn look(paths: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Marks> {
    let mut seen = BTreeMap::new();
    let mut stack: Vec<PathBuf> = paths.iter().cloned().collect();
    while let Some(path) = stack.pop() {
        // What is not there has no marks; when it comes it will have.
        let Ok(meta) = path.metadata() else { continue };
        if meta.is_dir() && seen.len() < ENTRIES {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            stack.extend(entries.filter(|e| !NOT_INPUTS.iter().any(|n| e.file_name() == *n)).map(|e| e.path()));
        } else {
            let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
            seen.insert(path, (meta.ino(), meta.size(), modified, changed));
        }
    }
    seen
}

/// Builds, waits, builds again, until it is ended from outside. `build` gives the image to run.
pub fn run(build: impl Fn(&Watched) -> Result<PathBuf>, run: Option<&[String]>, ui: &Ui) -> Result<i32> {
    let mut paths = BTreeSet::new();
    let mut machine = None;
    loop {
        let before = look(&paths);
        let watched = Watched::default();
        match build(&watched) {
            Ok(image) => {
                if let Some(arguments) = run {
                    machine = Some(Machine::start(machine.take(), &image, arguments)?);
                }
                paths = watched.take();
            }
            // What was read before the mistake may be less than all.
            Err(error) => {
                super::report(&error, ui);
                paths.extend(watched.take());
            }
        }
        let mut last = look(&paths);
        ui.note(format!("{:>9} {} files", "watch", last.len()));
        // What changed during the build was perhaps read before that.
        let missed = last.iter().any(|(path, marks)| before.get(path).is_some_and(|before| before != marks));
        let mut changed = missed;
        loop {
            std::thread::sleep(PERIOD);
            let now = look(&paths);
            // An editor or a checkout writes several files: it is over when nothing changed for a while.
            if changed && now == last {
                break;
            }
            changed |= now != last;
            last = now;
        }
    }
}

/// A machine that runs what was built.
struct Machine(Child);

impl Machine {
    /// Starts the image, after the machine before it was stopped.
    fn start(before: Option<Machine>, image: &Path, arguments: &[String]) -> Result<Machine> {
        drop(before);
        let failed = |error| Error::failed(format!("starting moby run: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        // It ends with this process, however that ends.
        let mut command = Command::new(&program);
        command.args(["run", "--end-with", &std::process::id().to_string(), "--"]).arg(&program);
        command.arg("run").args(arguments).arg(image);
        command.spawn().map(Machine).map_err(failed)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended already cannot be stopped, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let paths = BTreeSet::from([folder.path().to_path_buf(), at("missing/file")]);
        let mut last = look(&paths);
        let mut changed = || {
            let now = look(&paths);
            std::mem::replace(&mut last, now.clone()) != now
        };
        std::fs::create_dir_all(at("deep/er")).unwrap();
        std::fs::write(at("deep/er/a"), "1").unwrap();
        assert!(changed());
        assert!(!changed());
        std::fs::write(at("deep/er/b"), "1").unwrap();
        std::fs::rename(at("deep/er/b"), at("deep/er/a")).unwrap();
        assert!(changed(), "another file under the same name");
        std::fs::create_dir(at("missing")).unwrap();
        std::fs::write(at("missing/file"), "").unwrap();
        assert!(changed());
        std::fs::create_dir(at("target")).unwrap();
        std::fs::write(at("target/made"), "x").unwrap();
        assert!(!changed());
        std::fs::remove_file(at("deep/er/a")).unwrap();
        assert!(changed());
    }
}
