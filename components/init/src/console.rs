//! What people see: the console.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Makes /dev/console the standard input and output: the kernel could not if the image has no such node.
pub fn open_console() {
    // Without O_NOCTTY the console would become our controlling terminal, and its interrupt key would end PID 1's
    // children.
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/console");
    if let Ok(console) = opened {
        let _ = dup2_stdin(&console);
        let _ = dup2_stdout(&console);
        let _ = dup2_stderr(&console);
    }
}

/// A line of this program on the console. A console that takes nothing is no reason to stop.
pub fn say(message: &str) {
    print_line("moby", message.as_bytes());
}

/// A line of `who` on the console, written at once so that lines do not mix. Control characters, which could drive
/// the terminal, are shown as `?`; tabs stay.
pub fn print_line(who: &str, line: &[u8]) {
    let mut text = Vec::with_capacity(who.len() + line.len() + 4);
    text.extend_from_slice(who.as_bytes());
    text.extend_from_slice(b": ");
    text.extend(line.iter().map(|&byte| if byte < b' ' && byte != b'\t' && byte != 0x1b { b'?' } else { byte }));
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&text);
    let _ = out.flush();
}
