//! `data`: the data partition of the disk that the machine runs from. Makes it on the first boot, grows it with the disk,
//! checks it, mounts it. What is wanted is in /etc/moby/disk.json, which belongs to the verified root.
//!
//! A partition named `_reset` instead of its own name is formatted: it was just made and power failed before its file
//! system was complete, or somebody asked for it. One with its own name is never formatted, whatever is in it.

mod file_system;
mod partition;
mod wanted;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::machine::{self, Disk};
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::program::{options, value};
use crate::slots::reset::{self, RESET};
use crate::slots::table::{Lock, Table};
use wanted::Wanted;

/// Where the blueprint's mount point is bound to in this container.
const TARGET: &str = "/data";
const CONFIGURATION: &str = "/etc/moby/disk.json";
/// The kernel option that asks for a factory reset.
const OPTION: &str = "moby.data.reset";

/// Runs the program.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(word) = arguments.first() {
        return Err(Failure::new(format!("{word}: data takes no arguments; the blueprint's `disk.data` has them")));
    }
    let text = fs::read_to_string(CONFIGURATION).doing(format_args!("reading {CONFIGURATION}"))?;
    let wanted = Wanted::parse(&text).map_err(|failure| failure.context(CONFIGURATION))?;
    let line = fs::read("/proc/cmdline").doing("reading /proc/cmdline")?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let Some(guid) = machine::root_partition(&line) else {
        println!("the root of this machine is in memory: nothing is kept, {} is empty at every start", wanted.mount);
        return Ok(());
    };
    if machine::runs_from_cd() {
        println!("this machine runs from a CD: nothing is kept, {} is empty at every start", wanted.mount);
        return Ok(());
    }
    let disk = Disk::with_partition(guid)?;
    let reset = options(&line).any(|word| word == OPTION) || value(&line, OPTION) == Some("1");
    let number = partition::prepare(&disk, &wanted, reset)?;
    let node = disk.partition(number)?;
    if Table::read(&disk.device)?.get(number).is_some_and(|entry| entry.name == RESET) {
        println!("formatting {}", node.display());
        file_system::make(&node, &wanted.label)?;
        // The name says that the file system is complete.
        let lock = Lock::take(&disk.device)?;
        let mut table = lock.read()?;
        if let Some(mut entry) = table.get(number) {
            wanted.label.clone_into(&mut entry.name);
            table.set(number, &entry);
            table.write(&lock)?;
        }
    } else {
        file_system::check_and_grow(&node)?;
    }
    mount(&node, TARGET, "ext4", flags(&wanted.mount), None).doing(format_args!(
        "mounting {} on {}",
        node.display(),
        wanted.mount
    ))?;
    println!("{} is mounted on {}", node.display(), wanted.mount);
    if wanted.mount == "/var" {
        var_folders(Path::new(TARGET))?;
    }
    Ok(())
}

/// The flags of the mount. No root hash covers this partition: somebody who has the disk can put set-user-ID programs and
/// device nodes there, which never count. On /var it takes the place of a file system in memory that nothing can be run
/// from (the table in init's mounts.rs), and stays like that. At a place of its own programs can be run from it: container
/// engines keep theirs there.
fn flags(place: &str) -> MountFlags {
    let flags = MountFlags::RELATIME | MountFlags::NODEV | MountFlags::NOSUID;
    if place == "/var" { flags | MountFlags::NOEXEC } else { flags }
}

/// Has the next boot format the partition.
pub fn request_reset() -> Result<()> {
    let line = fs::read("/proc/cmdline").doing("reading /proc/cmdline")?;
    let guid = machine::root_partition(&String::from_utf8_lossy(&line));
    let disk = Disk::with_partition(guid.ok_or_else(|| Failure::refused("this machine does not run from a disk"))?)?;
    let number = reset::request(&disk.device)?;
    println!("the next boot formats partition {number} of {}", disk.name);
    Ok(())
}

/// What init made in the /var that is now below: services count on it.
fn var_folders(var: &Path) -> Result<()> {
    let folders = [("empty", 0o555), ("tmp", 0o1777)];
    let others = ["cache", "lib", "local", "lock", "log", "opt", "spool"].map(|name| (name, 0o755));
    for (name, mode) in folders.into_iter().chain(others) {
        let path = var.join(name);
        // What is there is not followed: the disk may have been changed by somebody else.
        if let Ok(there) = path.symlink_metadata() {
            if !there.is_dir() {
                println!("/var/{name} is no folder: it stays, and nothing here uses it");
            }
            continue;
        }
        fs::create_dir(&path).doing(format_args!("creating {}", path.display()))?;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, mode).doing(format_args!("setting the mode of {}", path.display()))?;
    }
    for (name, target) in [("run", "/run"), ("log/onboot", "/run/log/onboot")] {
        let link = var.join(name);
        let folder = link.parent().is_some_and(|parent| parent.symlink_metadata().is_ok_and(|there| there.is_dir()));
        if folder && link.symlink_metadata().is_err() {
            symlink(target, &link).doing(format_args!("linking {}", link.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_partition_has_rights() {
        for place in ["/var", "/var/lib", "/data"] {
            assert!(flags(place).contains(MountFlags::NODEV | MountFlags::NOSUID), "{place}");
            assert_eq!(flags(place).contains(MountFlags::NOEXEC), place == "/var");
        }
    }

    #[test]
    fn planted_links_are_not_followed() {
        let folder = std::env::temp_dir().join(format!("moby-update-var-{}", std::process::id()));
        let (var, other) = (folder.join("var"), folder.join("other"));
        fs::create_dir_all(&var).unwrap();
        fs::create_dir_all(&other).unwrap();
        symlink(&other, var.join("log")).unwrap();
        symlink(other.join("made"), var.join("lib")).unwrap();
        var_folders(&var).unwrap();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        assert!(var.join("log").is_symlink() && var.join("cache").is_dir() && var.join("run").is_symlink());
        // And what init made before is what it was.
        fs::remove_file(var.join("log")).unwrap();
        var_folders(&var).unwrap();
        assert_eq!(fs::read_link(var.join("log/onboot")).unwrap(), Path::new("/run/log/onboot"));
        fs::remove_dir_all(folder).unwrap();
    }
}
