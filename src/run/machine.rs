//! The running QEMU: watching it, ending it, leaving it in the background.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal, test_kill_process};

use super::Options;
use super::accelerator::Qemu;
use super::console::{Console, Verdict};
use crate::error::{Error, IoContext, Result};
use crate::ui::Ui;

/// Process id of a machine in the background, in its state folder. QEMU writes and removes it.
pub const PID_FILE: &str = "qemu.pid";
/// Console of a machine in the background, in its state folder.
pub const CONSOLE_FILE: &str = "console.log";

/// A kernel that panicked may still print; without `panic=` on its command line it then hangs for ever.
const PANIC_GRACE: Duration = Duration::from_secs(5);
/// Firmware that refused one image may try another.
const REFUSAL_GRACE: Duration = Duration::from_secs(5);
/// How long QEMU may take to end when it is asked to.
const TERM_GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// Runs QEMU in the foreground with the guest's console on ours, until it ends. The result is the exit status.
pub fn watch(qemu: &Qemu, arguments: &[OsString], options: &Options, ui: &Ui) -> Result<i32> {
    let mut command = match &options.launcher {
        Some(launcher) => {
            let mut command = Command::new(launcher);
            command.args(["run", "--end-with", &std::process::id().to_string(), "--"]).arg(&qemu.program);
            command
        }
        None => Command::new(&qemu.program),
    };
    // QEMU reads the terminal itself and sets it to raw mode; only what the guest prints comes through us.
    command.args(arguments).arg("-serial").arg(if options.interactive { "mon:stdio" } else { "stdio" });
    if !options.interactive {
        command.args(["-monitor", "none"]);
    }
    let child = command.stdin(Stdio::inherit()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| Error::failed(format!("starting {}: {error}", qemu.program.display())))?;
    let started = Instant::now();
    let output = child.stdout.take().ok_or_else(|| Error::failed("QEMU has no output"))?;

    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut told = None;
        let console = pass_on(output, |verdict| {
            if told != verdict {
                told = verdict;
                // Nobody listens any more once QEMU has ended; the console's own verdict is read then.
                let _ = sender.send(verdict);
            }
        });
        console.verdict()
    });

    let mut panicked: Option<Instant> = None;
    let mut refused: Option<Instant> = None;
    let mut timed_out = false;
    let status = loop {
        match receiver.recv_timeout(POLL) {
            Ok(Some(Verdict::Panic)) => panicked = panicked.or(Some(Instant::now())),
            // Only where it is looked for: a guest may print anything.
            Ok(Some(Verdict::Refused)) if options.secure_boot.is_some() => refused = refused.or(Some(Instant::now())),
            Ok(None) => refused = None,
            Ok(Some(Verdict::Exit(_) | Verdict::Refused)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
        }
        if let Some(status) = child.try_wait().map_err(|error| Error::failed(format!("waiting for QEMU: {error}")))? {
            break status;
        }
        if panicked.is_some_and(|at| at.elapsed() > PANIC_GRACE) {
            break end(&mut child)?;
        }
        if refused.is_some_and(|at| at.elapsed() > REFUSAL_GRACE) {
            break end(&mut child)?;
        }
        if options.timeout.is_some_and(|limit| started.elapsed() > limit) {
            timed_out = true;
            break end(&mut child)?;
        }
    };
    let verdict = reader.join().map_err(|_| Error::failed("the reader of the console ended unexpectedly"))?;
    outcome(status, verdict, timed_out.then_some(options.timeout).flatten(), ui)
}

fn outcome(status: ExitStatus, verdict: Option<Verdict>, timed_out: Option<Duration>, ui: &Ui) -> Result<i32> {
    if let Some(limit) = timed_out {
        return Err(Error::failed(format!(
            "the machine did not end within {} second{} and was stopped",
            limit.as_secs(),
            if limit.as_secs() == 1 { "" } else { "s" }
        ))
        .hint("give more time with --timeout, or look at the console above for what it waits for"));
    }
    match verdict {
        Some(Verdict::Panic) => {
            Err(Error::failed("the guest's kernel panicked").hint("the console above has the kernel's reason"))
        }
        Some(Verdict::Exit(code)) => Ok(i32::from(code)),
        Some(Verdict::Refused) => Err(Error::refused(
            "the firmware refused to start the image: it has no signature by a key that is enrolled, or was altered",
        )
        .hint("sign it with the keys that --secure-boot names: moby build --sign DIR, or moby sign FILE --keys DIR")),
        None if status.success() => Ok(0),
        None => {
            ui.event(serde_json::json!({"event": "qemu", "status": status.code()}));
            Err(Error::failed(format!("QEMU ended with {status}")).hint("QEMU's own message is above"))
        }
    }
}

/// Copies the console to standard output, and looks at it.
fn pass_on(mut output: impl Read, mut tell: impl FnMut(Option<Verdict>)) -> Console {
    let mut console = Console::default();
    let mut buffer = [0; 4096];
    let mut open = true;
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return console,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                // A closed standard output does not end the machine: its exit status may still be wanted.
                open = open && write_all(bytes).is_ok();
                console.feed(bytes);
                tell(console.verdict());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return console,
        }
    }
}

/// Like `Write::write_all`, but waits where the terminal is busy: QEMU makes the terminal non-blocking for itself, and
/// that holds for everybody who has it open.
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    loop {
        match out.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            done => return done,
        }
    }
}

/// Ends our child: politely, so that QEMU puts the terminal right, then by force.
fn end(child: &mut Child) -> Result<ExitStatus> {
    let failed = |error: io::Error| Error::failed(format!("ending QEMU: {error}"));
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let asked = Instant::now();
    while asked.elapsed() < TERM_GRACE {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
    child.kill().map_err(failed)?;
    child.wait().map_err(failed)
}

/// Becomes QEMU, after having asked the kernel to end this process when `parent` ends, however that ends: `kill -9`
/// of `moby run` must not leave a machine behind. The request lasts across exec, and only the process itself can make
/// it, which is why `moby run` starts QEMU through a second `moby`. Returns only if that failed.
pub fn become_qemu(parent: u32, program_and_arguments: &[String]) -> Error {
    let Some((program, arguments)) = program_and_arguments.split_first() else {
        return Error::usage("--end-with is for moby itself");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return Error::failed(format!("asking to end with moby: {error}"));
    }
    // It may have ended before the request was made.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != i32::try_from(parent).ok() {
        return Error::failed("moby run has ended");
    }
    let error = Command::new(program).args(arguments).exec();
    Error::failed(format!("starting {program}: {error}"))
}

/// Refuses to start a second machine on the same state folder.
pub fn refuse_second(state: &Path) -> Result<()> {
    match running(state)? {
        None => Ok(()),
        Some(pid) => Err(Error::failed(format!("a machine runs already: process {}", pid.as_raw_nonzero()))
            .hint(format!("stop it with moby run --stop, or use another --state than {}", state.display()))),
    }
}

/// Starts QEMU in the background.
pub fn detach(qemu: &Qemu, arguments: &[OsString], state: &Path, name: &str, ui: &Ui) -> Result<i32> {
    let (pid_file, console) = (state.join(PID_FILE), state.join(CONSOLE_FILE));
    let escaped = console.to_string_lossy().replace(',', ",,");
    // QEMU returns when the machine is set up, so a mistake is still ours to report.
    let status = Command::new(&qemu.program)
        .args(arguments)
        .args([
            "-monitor",
            "none",
            "-chardev",
            &format!("file,id=console,path={escaped}"),
            "-serial",
            "chardev:console",
        ])
        .args(["-daemonize", "-pidfile"])
        .arg(&pid_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Error::failed(format!("starting {}: {error}", qemu.program.display())))?;
    if !status.success() {
        return Err(Error::failed(format!("QEMU ended with {status}")).hint("QEMU's own message is above"));
    }
    let pid = running(state)?.map(|pid| pid.as_raw_nonzero().get());
    ui.event(serde_json::json!({"event": "machine", "name": name, "pid": pid, "console": console}));
    ui.note(format!(
        "{name} runs in the background (process {}); console: {}; stop it with: moby run --stop --state {} {name}",
        pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
        console.display(),
        state.display()
    ));
    Ok(0)
}

/// Stops the machine in the background whose state folder this is.
pub fn stop(state: &Path, ui: &Ui) -> Result<i32> {
    let Some(pid) = running(state)? else {
        return Err(Error::failed(format!("no machine runs on {}", state.display())));
    };
    let failed =
        |error: rustix::io::Errno| Error::failed(format!("stopping process {}: {error}", pid.as_raw_nonzero()));
    kill_process(pid, Signal::TERM).map_err(failed)?;
    let asked = Instant::now();
    while test_kill_process(pid).is_ok() {
        if asked.elapsed() > TERM_GRACE {
            kill_process(pid, Signal::KILL).map_err(failed)?;
            break;
        }
        thread::sleep(POLL);
    }
    ui.note(format!("stopped process {}", pid.as_raw_nonzero()));
    Ok(0)
}

/// The machine of a state folder, if it runs. A process id may have gone to another program since: the process must
/// have this very pid file on its command line.
fn running(state: &Path) -> Result<Option<Pid>> {
    let Ok(state) = fs::canonicalize(state) else { return Ok(None) };
    let path = state.join(PID_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.at("reading", &path)?,
    };
    // What is not positive would mean a group of processes to kill(2).
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    let Some(pid) = number.and_then(Pid::from_raw) else { return Ok(None) };
    let Ok(line) = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())) else { return Ok(None) };
    use std::os::unix::ffi::OsStrExt;
    Ok(line.split(|&byte| byte == 0).any(|word| word == path.as_os_str().as_bytes()).then_some(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Mode;
    use std::os::unix::fs::PermissionsExt;

    /// A program that behaves as QEMU would, to see what is made of it.
    fn run_script(body: &str, timeout: Option<Duration>) -> Result<i32> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let qemu = Qemu { program, version: None };
        watch(&qemu, &[], &Options { timeout, ..Options::default() }, &Ui::new(Mode::Quiet))
    }

    #[test]
    fn the_guests_status_is_ours() {
        assert_eq!(run_script("printf 'moby: exit status 42\\r\\n'", None).unwrap(), 42);
        assert_eq!(run_script("echo done", None).unwrap(), 0);
        // QEMU's own status is QEMU's own business once the guest has spoken.
        assert_eq!(run_script("echo moby: exit status 3; exit 9", None).unwrap(), 3);
    }

    #[test]
    fn failures() {
        assert!(run_script("exit 1", None).unwrap_err().message().contains("QEMU ended"));
        let error = run_script("echo '[ 1.0] Kernel panic - not syncing: no init'", None).unwrap_err();
        assert!(error.message().contains("panicked"));
    }

    #[test]
    fn a_hanging_machine_is_ended() {
        let started = Instant::now();
        let error = run_script("exec sleep 100", Some(Duration::from_millis(300))).unwrap_err();
        assert!(error.message().contains("did not end"), "{error}");
        // Also one that panicked and hangs.
        let error = run_script("echo 'Kernel panic - not syncing: x'; exec sleep 100", None).unwrap_err();
        assert!(error.message().contains("panicked"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_foreign_process_is_never_taken_for_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PID_FILE), std::process::id().to_string()).unwrap();
        assert!(running(dir.path()).unwrap().is_none());
        assert!(stop(dir.path(), &Ui::new(Mode::Quiet)).is_err());
        fs::write(dir.path().join(PID_FILE), "-1").unwrap();
        assert!(running(dir.path()).unwrap().is_none());
    }
}
