//! Runs the built `moby`, and drives machines over their console.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a boot may take: seconds on an idle machine, much more on a shared one that emulates.
pub const BOOT: Duration = Duration::from_secs(180);

/// The built program, with the cache that all tests share so that packages are fetched once.
pub fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("MOBY_CACHE", cache_dir());
    command
}

/// What a run of `moby` gave.
#[derive(Debug)]
pub struct Finished {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Finished {
    /// Fails the test, with everything that was printed, unless the program succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Finished {
        assert_eq!(self.status, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs `moby` to its end.
pub fn moby(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    command(arguments).stdin(Stdio::null()).output().expect("starting moby").into()
}

/// `test-cache` in the target folder.
pub fn cache_dir() -> PathBuf {
    // The program lies in TARGET/release or TARGET/debug.
    let program = Path::new(env!("CARGO_BIN_EXE_moby"));
    program.ancestors().nth(2).expect("a target folder").join("test-cache")
}

/// Whether `program` is there. Where it is not, says which test was left out; fails in CI.
#[track_caller]
pub fn available(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed");
        eprintln!("left out: {program} is not installed (./tests/run installs it as root)");
    }
    found
}

/// A port of the loopback address that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// How many machines run now. An emulated processor keeps one of ours busy: more machines than processors would only
/// wait for each other, and for their own clocks.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of the places for running machines.
struct Place;

impl Place {
    fn take() -> Place {
        let most = thread::available_parallelism().map_or(1, |count| count.get());
        let mut running = RUNNING.0.lock().expect("the count of machines");
        while *running >= most {
            running = RUNNING.1.wait(running).expect("the count of machines");
        }
        *running += 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.0.lock().expect("the count of machines") -= 1;
        RUNNING.1.notify_one();
    }
}

/// A machine started with `moby run`. Dropping it ends it.
pub struct Machine {
    _place: Place,
    child: Child,
    console: Arc<(Mutex<Console>, Condvar)>,
    /// Where `expect` goes on reading.
    position: usize,
}

#[derive(Default)]
struct Console {
    bytes: Vec<u8>,
    closed: bool,
}

impl Machine {
    /// Starts `moby run ARGUMENTS`.
    pub fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Machine {
        let mut run = command(["run"]);
        run.args(arguments);
        Machine::start_command(run)
    }

    /// Starts a command that runs a machine.
    pub fn start_command(mut run: Command) -> Machine {
        let place = Place::take();
        run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = run.spawn().expect("starting moby run");
        let mut output = child.stdout.take().expect("the console");
        let console = Arc::new((Mutex::new(Console::default()), Condvar::new()));
        let shared = Arc::clone(&console);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = output.read(&mut buffer).unwrap_or(0);
                let mut console = shared.0.lock().expect("the console");
                console.bytes.extend_from_slice(&buffer[..count]);
                console.closed = count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Machine { _place: place, child, console, position: 0 }
    }

    /// Waits for `text` behind what was found before. Fails the test, showing the console, at the deadline or the end.
    #[track_caller]
    pub fn expect(&mut self, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut console = self.console.0.lock().expect("the console");
        loop {
            let rest = &console.bytes[self.position..];
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.position += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if console.closed || left.is_zero() {
                let why = if console.closed { "before the machine ended" } else { "in time" };
                let shown = String::from_utf8_lossy(&console.bytes).into_owned();
                drop(console); // A panic under the lock would take the reader down too.
                panic!("\"{text}\" did not come {why}; the console:\n{shown}");
            }
            console = self.console.1.wait_timeout(console, left).expect("the console").0;
        }
    }

    /// Types at the console.
    pub fn send(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("the console's input");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("typing");
    }

    /// Everything that the console showed so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.0.lock().expect("the console").bytes).into_owned()
    }

    /// Waits for the end; the exit status of `moby run`.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> i32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for moby run") {
                return status.code().expect("an exit status");
            }
            assert!(Instant::now() < deadline, "the machine did not end; the console:\n{}", self.console());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Process id of `moby run`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // QEMU ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects to a published port and asks, again and again until `right` likes the answer: QEMU accepts connections
/// long before the guest listens. The answer, or the test fails.
#[track_caller]
pub fn ask(port: u16, question: &[u8], patience: Duration, right: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut answer = [0; 16384];
            if stream.write_all(question).is_ok() {
                let count = stream.read(&mut answer).unwrap_or(0);
                last = String::from_utf8_lossy(&answer[..count]).into_owned();
                if right(&last) {
                    return last;
                }
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
    panic!("port {port} did not give the answer in time; the last one: {last:?}");
}
