//! The life of one container, and the sections whose containers run one after the other.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::bundle::Bundle;
use crate::console::say;
use crate::error::{Doing, Failure, Result};
use crate::kernel_options::{Ending, KernelOptions};
use crate::logs::LogPlace;
use crate::mounts::report;
use crate::runtime::{OciRuntime, STATE};
use crate::supervisor::{Exit, Interrupted, Supervisor};

/// A container that runs: its name for the runtime, and its first process.
#[derive(Debug)]
pub struct Running {
    id: String,
    /// The first process, a child of ours since the runtime has ended.
    pub pid: Pid,
}

/// Creates and starts the container of a prepared bundle. `Ok(Err(_))` when the machine is asked to stop meanwhile.
pub fn start(
    supervisor: &mut Supervisor,
    runtime: &OciRuntime,
    bundle: &Bundle,
    id: &str,
    log: &LogPlace,
) -> Result<Result<Running, Interrupted>> {
    let pids = Path::new(STATE);
    fs::create_dir_all(pids).at("creating", pids)?;
    let pid_file = pids.join(format!("{id}.pid"));
    supervisor.forget_exits();
    let Ok(created) = supervisor.run(&mut runtime.create(id, &bundle.path, &pid_file)?, Some(log))? else {
        return Ok(Err(Interrupted));
    };
    if created != Exit::Status(0) {
        return Err(Failure::new(format!("creating the container: {created}{}", last_words(log))));
    }
    let text = fs::read_to_string(&pid_file).at("reading", &pid_file)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new(format!("{}: {text:?} is no process id", pid_file.display())))?;
    supervisor.watch(pid);
    bundle.connect(pid.as_raw_pid())?;
    let Ok(started) = supervisor.run(&mut runtime.start(id), Some(log))? else { return Ok(Err(Interrupted)) };
    match started {
        Exit::Status(0) => Ok(Ok(Running { id: id.to_owned(), pid })),
        exit => Err(Failure::new(format!("starting the container: {exit}{}", last_words(log)))),
    }
}

/// Removing a container is quick; one that is not done by now hangs.
const DELETE: Duration = Duration::from_secs(20);

/// Removes what is left of the container `id`.
pub fn delete(supervisor: &mut Supervisor, runtime: &OciRuntime, id: &str) {
    // Whether there was anything to delete is the runtime's business, and it has no way to ask.
    let quiet = LogPlace { folder: PathBuf::from(STATE), name: "delete".to_owned(), console: None };
    match supervisor.run_briefly(&mut runtime.delete(id), Some(&quiet), DELETE) {
        Ok(Some(_)) => {}
        Ok(None) => say(&format!("{id}: the runtime does not finish deleting it")),
        Err(failure) => say(&failure.to_string()),
    }
    for suffix in ["pid", "json"] {
        let _ = fs::remove_file(Path::new(STATE).join(format!("{id}.{suffix}")));
    }
}

/// The last line that the runtime wrote, which says why; the whole is in the log.
fn last_words(log: &LogPlace) -> String {
    match String::from_utf8_lossy(&log.end()).lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!(" ({})", line.trim().chars().take(300).collect::<String>()),
        None => String::new(),
    }
}

/// The containers of a section, by name: `/containers/onboot/000-sysctl`, ...
pub fn section(name: &str) -> Vec<PathBuf> {
    let folder = Path::new("/containers").join(name);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut bundles: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join("config.json").is_file()).collect();
    bundles.sort();
    bundles
}

/// The folder name of a bundle.
pub fn name_of(bundle: &Path) -> String {
    bundle.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs every container of `onboot` or `onshutdown` to its end, in order. Returns the first exit code that is not 0.
/// A container that cannot be run counts as exit code 125, as docker has it.
pub fn run_section(
    supervisor: &mut Supervisor,
    options: &KernelOptions,
    section_name: &str,
    on_failure: Option<Ending>,
) -> i32 {
    let bundles = section(section_name);
    if bundles.is_empty() {
        return 0;
    }
    let runtime = match OciRuntime::find(options.runtime.as_deref(), options.runtime_debug) {
        Ok(runtime) => runtime,
        Err(failure) => {
            say(&format!("{section_name}: {failure}"));
            fail(supervisor, on_failure);
            return 125;
        }
    };
    if section_name == "onboot" {
        report(note_failures(None));
    }
    let kind = section_name.strip_prefix("on").filter(|kind| *kind == "shutdown").unwrap_or("onboot");
    let mut first = 0;
    for path in bundles {
        let name = name_of(&path);
        let short = name.split_once('-').map_or(name.as_str(), |(_, rest)| rest).to_owned();
        let log = LogPlace {
            folder: PathBuf::from("/run/log/onboot"),
            name: format!("{kind}.{name}"),
            console: (!options.quiet).then_some(short),
        };
        let begin = Instant::now();
        let result = run_one(supervisor, &runtime, &path, &format!("{section_name}-{name}"), &log);
        let took = seconds(begin.elapsed());
        let code = match result {
            Ok(Ok(exit)) => {
                say(&format!("{section_name} {name}: {exit} after {took}"));
                exit.code()
            }
            Ok(Err(Interrupted)) => {
                say(&format!("{section_name} {name}: interrupted after {took}"));
                return first;
            }
            Err(failure) => {
                say(&format!("{section_name} {name}: failed: {failure}"));
                125
            }
        };
        if code != 0 {
            if first == 0 {
                first = code;
            }
            if section_name == "onboot" {
                report(note_failures(Some(&format!("onboot {name}: status {code}\n"))));
            }
            fail(supervisor, on_failure);
        }
        if supervisor.request().is_some() {
            break;
        }
    }
    first
}

/// Tells programs that decide whether this boot is good (component `boot-complete`) which onboot containers failed.
fn note_failures(line: Option<&str>) -> Result<()> {
    let folder = Path::new("/run/moby");
    fs::create_dir_all(folder).at("creating", folder)?;
    let Some(line) = line else { return Ok(()) };
    let path = folder.join("onboot.failed");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).at("opening", &path)?;
    file.write_all(line.as_bytes()).at("writing", &path)
}

fn fail(supervisor: &mut Supervisor, on_failure: Option<Ending>) {
    if let Some(ending) = on_failure {
        say(&format!("moby.onfailure: {ending:?}"));
        supervisor.ask(ending);
    }
}

fn run_one(
    supervisor: &mut Supervisor,
    runtime: &OciRuntime,
    path: &Path,
    id: &str,
    log: &LogPlace,
) -> Result<Result<Exit, Interrupted>> {
    let bundle = Bundle::read(path)?;
    bundle.prepare()?;
    let exit = match start(supervisor, runtime, &bundle, id, log) {
        Ok(Ok(running)) => Ok(supervisor.wait_for(running.pid)),
        Ok(Err(interrupted)) => Ok(Err(interrupted)),
        Err(failure) => Err(failure),
    };
    delete(supervisor, runtime, id);
    bundle.release();
    exit
}

impl Running {
    /// The name that the runtime knows it by.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A time for people: `0.61 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
