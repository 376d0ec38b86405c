//! What changes disks of the machine that runs from them, in one static program: the name that it is called by decides
//! what it is. `update` writes the slot that does not run, `boot-complete` marks a good boot, `data` makes, grows and
//! mounts the data partition.

mod boot_complete;
mod data;
mod machine;
// The host program is made of it too, and uses what is not used here.
#[allow(dead_code)]
mod slots;
mod sys;
mod update;

use std::path::Path;

use slots::failure::Result;

fn main() {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let path = arguments.next().unwrap_or_default();
    let name = Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result: Result<()> = match name.as_str() {
        "boot-complete" => boot_complete::run(&rest),
        "data" => data::run(&rest),
        _ => update::run(&rest),
    };
    if let Err(failure) = result {
        eprintln!("{name}: {failure}");
        std::process::exit(if failure.is_refusal() { 3 } else { 1 });
    }
}
