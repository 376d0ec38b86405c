//! `getty`: a login on every console. Runs in a container with the devices and `pid: host`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Doing, Failure, Result};
use crate::kernel_options::KernelOptions;
use crate::sys;

/// A login that ends at once must not keep a processor busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a login on every `console=` of the kernel command line, or on tty1 without any. With `INSECURE=true` in the
/// environment it is a shell at once; otherwise `login` asks for a name and a password.
pub fn run() -> Result<i32> {
    let mut consoles = KernelOptions::read()?.consoles;
    if consoles.is_empty() {
        consoles.push("tty1".to_owned());
    }
    // tty0 stands for whatever virtual terminal is in front; a login belongs to the first.
    for console in consoles.iter_mut().filter(|console| *console == "tty0") {
        *console = "tty1".to_owned();
    }
    consoles.retain(|console| Path::new("/dev").join(console).exists());
    consoles.dedup();
    if consoles.is_empty() {
        return Err(Failure::new("none of the kernel's consoles is in /dev: bind it into the container"));
    }
    // As the first process of a container it would not be ended by signals that it does not take.
    let signals = sys::signal_descriptor(&[libc::SIGTERM, libc::SIGINT]).doing("taking over the signals")?;
    let insecure = std::env::var("INSECURE").is_ok_and(|value| value == "true" || value == "1");
    let mut logins: HashMap<String, Child> = HashMap::new();
    loop {
        for console in &consoles {
            let ended = logins.get_mut(console).is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                match login(console, insecure) {
                    Ok(child) => drop(logins.insert(console.clone(), child)),
                    Err(failure) => eprintln!("getty: {failure}"),
                }
            }
        }
        let timeout = Timespec { tv_sec: PAUSE.as_secs() as i64, tv_nsec: 0 };
        let mut descriptors = [PollFd::new(&signals, PollFlags::IN)];
        if matches!(poll(&mut descriptors, Some(&timeout)), Ok(1)) {
            return Ok(0);
        }
    }
}

fn login(console: &str, insecure: bool) -> Result<Child> {
    let path = Path::new("/dev").join(console);
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path);
    let terminal = terminal.at("opening", &path)?;
    let mut command = match insecure {
        true => Command::new("/bin/sh"),
        false => Command::new("/bin/login"),
    };
    if insecure {
        command.arg0("-sh");
    }
    // Serial lines know nothing of the terminal behind them; vt102 is what all of those understand.
    let kind = if console.starts_with("tty") && console.get(3..).is_some_and(|rest| rest.parse::<u8>().is_ok()) {
        "linux"
    } else {
        "vt102"
    };
    command.env("TERM", kind).env("HOME", "/root").current_dir("/");
    command.stdin(terminal.try_clone().at("opening", &path)?);
    command.stdout(terminal.try_clone().at("opening", &path)?).stderr(terminal);
    sys::start_on_terminal(&mut command).spawn().doing(format_args!("starting a login on {console}"))
}
