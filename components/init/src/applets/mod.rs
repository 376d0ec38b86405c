//! The small programs, by name.

mod getty;
mod modprobe;
mod power;
mod sysctl;

use std::path::Path;

use crate::error::Result;

/// The last part of the name that the program was called by, without a login shell's dash.
pub fn name_of(argument: &str) -> String {
    let name = Path::new(argument).file_name().unwrap_or_default().to_string_lossy();
    name.trim_start_matches('-').to_owned()
}

/// Runs the program `name`; `None` if there is none of that name. The result is its exit status.
pub fn run(name: &str, arguments: &[String]) -> Option<Result<i32>> {
    Some(match name {
        "poweroff" | "reboot" | "halt" => power::run(name, arguments),
        "modprobe" => modprobe::run(arguments),
        "sysctl" => sysctl::run(arguments),
        "getty" => getty::run(),
        "dhcp" => crate::dhcp::run(arguments),
        _ => return None,
    })
}
