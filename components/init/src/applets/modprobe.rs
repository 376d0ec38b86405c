//! `modprobe NAME...`: loads modules with what they need. The kernel itself calls it, for file systems and the like.

use crate::error::{Failure, Result};
use crate::modules::Loader;

/// Flags that the kernel and scripts give and that need nothing here: quiet, by alias, several names.
const FLAGS: [&str; 6] = ["-q", "-a", "-b", "-s", "--", "--quiet"];

/// Loads every name or alias. Status 1 if one of them is nothing that this kernel has.
pub fn run(arguments: &[String]) -> Result<i32> {
    let quiet = arguments.iter().any(|argument| argument == "-q" || argument == "--quiet");
    let names: Vec<String> = arguments.iter().filter(|argument| !FLAGS.contains(&argument.as_str())).cloned().collect();
    if let Some(flag) = names.iter().find(|name| name.starts_with('-')) {
        return Err(Failure::new(format!("{flag}: not known; use: modprobe NAME...")));
    }
    let mut loader = Loader::open()?;
    let mut status = 0;
    for name in names {
        if !loader.knows(&name) {
            if !quiet {
                eprintln!("modprobe: {name}: no such module");
            }
            status = 1;
        }
        for failure in loader.load_aliases(&[name]) {
            eprintln!("modprobe: {failure}");
            status = 1;
        }
    }
    Ok(status)
}
