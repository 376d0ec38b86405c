//! The running machine: its root hash, the disk that its root is on, and keeping others away from what is changed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::slots::bytes::swap_guid;
use crate::slots::device::FileDevice;
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::layout::root_guid;
use crate::slots::program::root_hash;
use crate::slots::table::Table;

const BLOCK_DEVICES: &str = "/sys/class/block";

/// The root hash of the running system.
pub fn running() -> Result<[u8; 32]> {
    let line = fs::read("/proc/cmdline").doing("reading /proc/cmdline")?;
    root_hash(&String::from_utf8_lossy(&line))
        .ok_or_else(|| Failure::refused("the kernel command line has no roothash=: this is no disk with a verified root"))
}

/// The GUID of the partition of the running root, as stored; nothing if the command line names none.
pub fn root_partition(line: &str) -> Option<[u8; 16]> {
    if let Some(hash) = root_hash(line) {
        return Some(root_guid(&hash));
    }
    let words = line.split_ascii_whitespace().take_while(|word| *word != "--");
    let digits = words.filter_map(|word| word.strip_prefix("root=PARTUUID=")).last()?.replace('-', "");
    let guid = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(swap_guid(guid.to_be_bytes()))
}

/// A whole disk that is open for reading and writing.
#[derive(Debug)]
pub struct Disk {
    /// Its name without /dev.
    pub name: String,
    /// Its bytes.
    pub device: FileDevice,
}

impl Disk {
    /// Opens a disk by its path.
    pub fn open(path: &Path) -> Result<Disk> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.doing(format_args!("opening {}", path.display()))?;
        let device = FileDevice::new(file).doing(format_args!("asking for the size of {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Disk { name, device })
    }

    /// The disk that has the running root.
    pub fn of_running(hash: &[u8; 32]) -> Result<Disk> {
        Disk::with_partition(root_guid(hash))
    }

    /// The disk that has a partition with this GUID; nothing is opened for writing on the way.
    pub fn with_partition(guid: [u8; 16]) -> Result<Disk> {
        let mut found: Vec<String> = Vec::new();
        for entry in fs::read_dir(BLOCK_DEVICES).doing(format_args!("reading {BLOCK_DEVICES}"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let whole = !entry.path().join("partition").exists();
            // Loop and device-mapper devices show what is on others.
            if !whole || ["loop", "dm-", "ram", "zram", "sr", "fd"].iter().any(|kind| name.starts_with(kind)) {
                continue;
            }
            let Ok(file) = File::open(Path::new("/dev").join(&name)) else { continue };
            let Ok(device) = FileDevice::new(file) else { continue };
            // Drives without a medium and disks without a table are not what is looked for.
            if Table::read(&device).is_ok_and(|table| table.all().any(|(_, partition)| partition.guid == guid)) {
                found.push(name);
            }
        }
        found.sort();
        match found.as_slice() {
            [] => Err(Failure::refused("no disk has the running root; is /dev of the machine bound to /dev here?")),
            [name] => Disk::open(&Path::new("/dev").join(name)),
            several => Err(Failure::refused(format!(
                "several disks have the running root: {}; name one with --disk",
                several.join(", ")
            ))),
        }
    }

    /// The node of one of its partitions.
    pub fn partition(&self, number: u32) -> Result<PathBuf> {
        let folder = Path::new(BLOCK_DEVICES).join(&self.name);
        let entries = fs::read_dir(&folder).doing(format_args!("reading {}", folder.display()))?;
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path().join("partition")).unwrap_or_default();
            if text.trim() == number.to_string() {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        Err(Failure::new(format!("the kernel knows no partition {number} of {}", self.name)))
    }

    /// Takes partitions for this program alone. A mounted one is refused, and cannot be mounted while this lasts.
    pub fn claim(&self, numbers: &[u32]) -> Result<Vec<File>> {
        let mut claims = Vec::new();
        for number in numbers {
            let path = self.partition(*number)?;
            let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
            let file = OpenOptions::new().read(true).custom_flags(exclusive).open(&path);
            claims.push(file.doing(format_args!("taking {} for the update (it must not be mounted)", path.display()))?);
        }
        Ok(claims)
    }
}

/// Asks PID 1 of the machine to reboot.
pub fn reboot() -> Result<()> {
    if std::process::id() == 1 {
        return Err(Failure::new("rebooting: this is a container of its own; it needs `pid: host`"));
    }
    let Some(init) = Pid::from_raw(1) else { return Err(Failure::new("rebooting: no PID 1")) };
    kill_process(init, Signal::TERM).doing("asking PID 1 to reboot (needs `pid: host`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_roots() {
        let stored = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        let line = "quiet root=PARTUUID=00010203-0405-0607-0809-0a0b0c0d0e0f rootwait";
        assert_eq!(root_partition(line), Some(stored));
        let hash: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(root_partition(&format!("roothash={hash} {line}")), Some(stored));
        for none in ["", "root=/dev/vda", "root=PARTUUID=1-2", "-- root=PARTUUID=00010203-0405-0607-0809-0a0b0c0d0e0f"] {
            assert_eq!(root_partition(none), None, "{none}");
        }
    }
}
