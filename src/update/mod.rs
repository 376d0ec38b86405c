//! Disks with two slots (`docs/verified-boot.md`): what is on them, and updates. The code is that of the guest's program,
//! which cannot take it from here: a component is built from its own folder.
//!
//! | file | what |
//! |---|---|
//! | `components/update/src/slots/` | reading and changing such disks |
//! | here | images and disks in files |

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;

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
    let disk = to_change(disk)?;
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
    let device = to_change(disk)?;
    Ok(slots::reset::request(&device).map_err(|failure| failure.context(&disk.display().to_string()))?)
}

/// Opens a disk that nothing else uses, and keeps others away from it: block devices by `O_EXCL`, which a mount of any of
/// their partitions has too; both kinds by a lock of all bytes (fcntl(2), "Advisory record locking"), which every QEMU
/// that has the disk holds in part, as does another of us.
fn to_change(path: &Path) -> Result<FileDevice> {
    let in_use = |what: &str, hint: &str| {
        Err(Error::refused(format!("{}: {what}; nothing was written", path.display())).hint(hint.to_owned()))
    };
    // Without O_CREAT it means nothing for files.
    let exclusive = OFlags::EXCL.bits() as i32;
    let opened = match OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            return in_use(
                "the disk is in use: it or a partition of it is mounted, or another device is made of it",
                "unmount it first (findmnt and lsblk show what is mounted)",
            );
        }
        other => other.at("opening for writing", path)?,
    };
    match fcntl_lock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FileDevice::new(opened).at("asking for the size of", path)?),
        Err(Errno::AGAIN | Errno::ACCESS) => in_use(
            "another program has locked the disk: a machine that runs from it, or another update",
            "stop the machine first; inside of it, the component `update` does the same",
        ),
        Err(error) => Err(std::io::Error::from(error)).at("locking", path),
    }
}

fn device(path: &Path) -> Result<FileDevice> {
    let file = File::open(path).at("opening", path)?;
    FileDevice::new(file).at("asking for the size of", path)
}
