//! The initramfs of disk images: loads the modules that the hardware asks for, waits for the root file system, sets up
//! dm-verity, mounts the root read-only, and hands over to the image's own PID 1.

mod bytes;
mod console;
mod device_mapper;
mod devices;
mod ending;
mod error;
mod file_system;
mod gpt;
mod handover;
mod image_file;
mod modules;
mod mounts;
mod options;
mod partitions;
mod root;
mod search;
mod source;
mod sys;
mod verity;

use std::convert::Infallible;

use console::say;
use error::Result;
use options::Options;

fn main() {
    // Everything below changes the machine: tried by hand on a running one, this program must do nothing.
    if std::process::id() != 1 || !handover::is_initramfs() {
        eprintln!("stage1: this is PID 1 of an initramfs, and does nothing elsewhere");
        std::process::exit(2);
    }
    let mounted = mounts::mount_interfaces();
    console::open_console();
    let options = Options::read();
    let (Err(failure), ending) = match (mounted, options) {
        (Err(failure), _) | (_, Err(failure)) => (Err(failure), ending::Ending::Halt),
        (Ok(()), Ok(options)) => (boot(&options), options.on_failure),
    };
    failure.to_string().lines().for_each(say);
    ending::end_machine(ending);
}

fn boot(options: &Options) -> Result<Infallible> {
    let plan = root::Plan::of(options)?;
    let mounted = root::mount(&plan, options)?;
    if !options.quiet {
        say(&format!("root: {mounted}"));
    }
    handover::hand_over(options.init.as_deref())
}
