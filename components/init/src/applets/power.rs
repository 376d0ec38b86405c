//! `poweroff`, `reboot`, `halt`: ask PID 1.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::boot::PROCESS_NAME;
use crate::error::{Doing, Failure, Result};

/// Sends PID 1 the signal for `name`. An argument is a time to wait first, in seconds; `-f` and other flags of such
/// programs elsewhere change nothing.
pub fn run(name: &str, arguments: &[String]) -> Result<i32> {
    let signal = match name {
        "halt" => Signal::USR1,
        "poweroff" => Signal::USR2,
        _ => Signal::TERM,
    };
    if let Some(seconds) = arguments.iter().find_map(|argument| argument.parse::<u32>().ok()) {
        std::thread::sleep(std::time::Duration::from_secs(seconds.into()));
    }
    // Without this check the program would stop the machine of someone who only tries it.
    let first = fs::read_to_string("/proc/1/comm").doing("looking who is PID 1")?;
    if first.trim().as_bytes() != PROCESS_NAME.to_bytes() {
        return Err(Failure::new(format!(
            "PID 1 is {:?} and not moby's init: in a container this needs `pid: host`",
            first.trim()
        )));
    }
    kill_process(Pid::INIT, signal).doing("asking PID 1")?;
    Ok(0)
}
