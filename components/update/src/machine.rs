//! The running machine: its root hash, the disk that its root is on, and keeping others away from what is changed.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::slots::bytes::swap_guid;
use crate::slots::device::FileDevice;
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::layout::root_guid;
use crate::slots::program::{root_hash, value};
use crate::slots::table::Table;

/// What stage1 calls the mapping of a root on a CD.
const CD_ROOT: &str = "disc-1";
const BLOCK_DEVICES: &str = "/sys/class/block";
/// The pause between attempts at a partition that is in use.
const BETWEEN: Duration = Duration::from_millis(500);

/// The root hash of the running system.
pub fn running() -> Result<[u8; 32]> {
    let line = fs::read("/proc/cmdline").doing("reading /proc/cmdline")?;
    root_hash(&String::from_utf8_lossy(&line)).ok_or_else(|| {
        Failure::refused("the kernel command line has no roothash=: this is no disk with a verified root")
    })
}

/// Whether the root is on a CD. The kernel makes no partitions of one, so stage1 maps the root's under this name
/// (components/stage1/src/root.rs).
pub fn runs_from_cd() -> bool {
    let names = fs::read_dir(BLOCK_DEVICES).into_iter().flatten().flatten();
    names.filter_map(|device| fs::read_to_string(device.path().join("dm/name")).ok()).any(|name| name.trim() == CD_ROOT)
}

/// The GUID of the partition of the running root, as stored; nothing if the command line names none.
pub fn root_partition(line: &str) -> Option<[u8; 16]> {
    if let Some(hash) = root_hash(line) {
        return Some(root_guid(&hash));
    }
    let digits = value(line, "root")?.strip_prefix("PARTUUID=")?.replace('-', "");
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

    /// The disk that has the root's partition, by its GUID; of several that have it the one whose partition dm-verity
    /// holds: the disk that an update came on may still be there. Nothing is opened for writing on the way.
    pub fn with_partition(guid: [u8; 16]) -> Result<Disk> {
        let mut found: Vec<(String, bool)> = Vec::new();
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
            let Ok(table) = Table::read(&device) else { continue };
            if let Some((number, _)) = table.all().find(|(_, partition)| partition.guid == guid) {
                let held = is_held(&name, number);
                found.push((name, held));
            }
        }
        if found.iter().any(|(_, held)| *held) {
            found.retain(|(_, held)| *held);
        }
        found.sort();
        match found.as_slice() {
            [] => Err(Failure::refused("no disk has the running root; is /dev of the machine bound to /dev here?")),
            [(name, _)] => Disk::open(&Path::new("/dev").join(name)),
            several => Err(Failure::refused(format!(
                "several disks have the running root: {}; name one with --disk",
                several.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// The node of one of its partitions.
    pub fn partition(&self, number: u32) -> Result<PathBuf> {
        let folder = partition_folder(&self.name, number);
        let name = folder.as_deref().and_then(Path::file_name);
        let name =
            name.ok_or_else(|| Failure::new(format!("the kernel knows no partition {number} of {}", self.name)))?;
        Ok(Path::new("/dev").join(name))
    }

    /// Takes partitions for this program alone. A mounted one cannot be had, and cannot be mounted while this lasts. What
    /// another program has (it marks a boot, it writes an update) is waited for, up to `patience`.
    pub fn claim(&self, numbers: &[u32], patience: Duration) -> Result<Vec<File>> {
        let begin = Instant::now();
        let mut claims = Vec::new();
        for number in numbers {
            let path = self.partition(*number)?;
            let mut told = false;
            let file = loop {
                let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
                match OpenOptions::new().read(true).custom_flags(exclusive).open(&path) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy && begin.elapsed() < patience => {}
                    other => break other,
                }
                if !told {
                    println!("waiting for {}, which is in use", path.display());
                    told = true;
                }
                sleep(BETWEEN);
            };
            claims.push(file.doing(format_args!("taking {} for this alone (it must not be mounted)", path.display()))?);
        }
        Ok(claims)
    }
}

/// What the kernel tells of a partition of a disk.
fn partition_folder(disk: &str, number: u32) -> Option<PathBuf> {
    let entries = fs::read_dir(Path::new(BLOCK_DEVICES).join(disk)).ok()?;
    let has = |path: &PathBuf| {
        let text = fs::read_to_string(path.join("partition")).unwrap_or_default();
        text.trim() == number.to_string()
    };
    entries.flatten().map(|entry| entry.path()).find(has)
}

/// Whether another device is made of a partition.
fn is_held(disk: &str, number: u32) -> bool {
    let holders = partition_folder(disk, number).and_then(|folder| fs::read_dir(folder.join("holders")).ok());
    holders.is_some_and(|mut holders| holders.next().is_some())
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
        for none in ["", "root=/dev/vda", "root=PARTUUID=1-2", "-- root=PARTUUID=00010203-0405-0607-0809-0a0b0c0d0e0f"]
        {
            assert_eq!(root_partition(none), None, "{none}");
        }
    }
}
