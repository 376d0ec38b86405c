//! Disks with two slots (`docs/verified-boot.md`): what is on them, and updates. The code is that of the guest's program,
//! which cannot take it from here: a component is built from its own folder.
//!
//! | file | what |
//! |---|---|
//! | `components/update/src/slots/` | reading and changing such disks |
//! | here | images and disks in files |

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::{Error, Exit, IoContext, Result};

#[path = "../../components/update/src/slots/mod.rs"]
pub mod slots;

#[cfg(test)]
mod power_failure;
#[cfg(test)]
mod sample;

use slots::device::FileDevice;
use slots::failure::Failure;
use slots::layout::Layout;
use slots::stage::{Staged, stage};

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let exit = if failure.is_refusal() { Exit::Refused } else { Exit::Failed };
        Error::new(exit, failure.to_string())
    }
}

/// Writes an image (`-` is standard input) to the slot of a disk that would not start next. `spool` is where a stream is
/// kept while it is looked at.
pub fn stage_image(image: &Path, disk: &Path, spool: &Path, tell: &mut dyn FnMut(&str)) -> Result<Staged> {
    let opened = OpenOptions::new().read(true).write(true).open(disk).at("opening for writing", disk)?;
    let disk = FileDevice::new(opened).at("asking for the size of", disk)?;
    let image = match image == Path::new("-") {
        true => slots::spool::spool(&mut io::stdin().lock(), spool)?,
        false => device(image)?,
    };
    Ok(stage(&disk, &image, None, tell)?)
}

/// What is on a disk with two slots, a line for each.
pub fn show(disk: &Path) -> Result<String> {
    let device = device(disk)?;
    let layout = Layout::read(&device).map_err(|failure| failure.context(&disk.display().to_string()))?;
    Ok(slots::show::show(&layout, None))
}

/// Has the machine of this disk format its data partition at the next boot. Gives the partition's number.
pub fn reset_data(disk: &Path) -> Result<u32> {
    let opened = OpenOptions::new().read(true).write(true).open(disk).at("opening for writing", disk)?;
    let device = FileDevice::new(opened).at("asking for the size of", disk)?;
    Ok(slots::reset::request(&device).map_err(|failure| failure.context(&disk.display().to_string()))?)
}

fn device(path: &Path) -> Result<FileDevice> {
    let file = File::open(path).at("opening", path)?;
    FileDevice::new(file).at("asking for the size of", path)
}
