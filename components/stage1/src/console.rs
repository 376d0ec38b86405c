//! What people see: the console.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdout};

/// A console that takes nothing for this long (a stopped terminal, a virtual console that nobody reads) is given up
/// until it takes something again: PID 1 must not stand still for it.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

static STALLED: AtomicBool = AtomicBool::new(false);

/// Makes /dev/console the standard input and output: the kernel could not if the image has no such node.
pub fn open_console() {
    // Without O_NOCTTY the console would become our controlling terminal, and its interrupt key would end PID 1's
    // children.
    // Nothing else has this open file: what programs print comes through pipes.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/console");
    if let Ok(console) = opened {
        let _ = dup2_stdin(&console);
        let _ = dup2_stdout(&console);
        let _ = dup2_stderr(&console);
    }
}

/// A line of this program on the console. A console that takes nothing is no reason to stop.
pub fn say(message: &str) {
    print_line("stage1", message.as_bytes());
}

/// A line of `who` on the console, written at once so that lines do not mix. Control characters, which could drive
/// the terminal, are shown as `?`; tabs stay.
pub fn print_line(who: &str, line: &[u8]) {
    let mut text = Vec::with_capacity(who.len() + line.len() + 4);
    text.extend_from_slice(who.as_bytes());
    text.extend_from_slice(b": ");
    text.extend(line.iter().map(|&byte| if byte.is_ascii_control() && byte != b'\t' { b'?' } else { byte }));
    text.push(b'\n');
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        match write(stdout(), rest) {
            Ok(length) => {
                STALLED.store(false, Ordering::Relaxed);
                rest = rest.get(length..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !STALLED.load(Ordering::Relaxed) && wait_for_console() => {}
            Err(_) => return,
        }
    }
}

/// Waits until all that was written has left, unless the console takes nothing.
pub fn drain() {
    if !STALLED.load(Ordering::Relaxed) {
        let _ = rustix::termios::tcdrain(stdout());
    }
}

fn wait_for_console() -> bool {
    let console = stdout();
    let mut descriptors = [PollFd::new(&console, PollFlags::OUT)];
    let ready = !matches!(poll(&mut descriptors, Some(&PATIENCE)), Ok(0));
    STALLED.store(!ready, Ordering::Relaxed);
    ready
}
