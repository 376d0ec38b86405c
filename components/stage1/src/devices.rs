//! The block devices that are there, and what is on them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::file_system::{FileSystem, LOOKED_AT, recognise};
use crate::partitions::{Names, Table};
use crate::source::Source;

/// A device that could not be read (a drive without a disc) is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes of a sector where the kernel makes no partitions: images for CDs have the tables of disks, so that they can be
/// written to one.
const DISK_SECTOR: u32 = 512;

/// Made by this program or empty by nature; floppy drives keep one waiting.
const PASSED_OVER: [&str; 6] = ["loop", "ram", "zram", "dm-", "fd", "nbd"];

/// A block device as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name, with `/` where sysfs has `!`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Of a partition: its number, the byte that it starts at, and the name of its disk.
    partition: Option<(u32, u64, String)>,
    /// Bytes of a logical sector of the disk.
    sector: u32,
    /// Whether the kernel makes no partitions of it: a CD-ROM drive.
    undivided: bool,
    /// Of a partition for which there is no device: the byte of `name` that it starts at.
    inside: Option<u64>,
}

impl Device {
    /// Whether it is a partition of `disk`.
    pub fn is_part_of(&self, disk: &Device) -> bool {
        self.partition.as_ref().is_some_and(|(_, _, name)| *name == disk.name)
    }

    /// Its node; of a partition without one, that of the whole.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The device mapper's line for a partition that has no device, and its sectors of 512 bytes.
    pub fn mapping(&self) -> Option<(String, u64)> {
        let start = self.inside?;
        Some((format!("{} {}", self.node().display(), start / 512), self.size / 512))
    }
}

/// A device and what was found on it.
#[derive(Clone, Debug)]
struct Seen {
    device: Device,
    names: Names,
    /// Of a whole disk.
    table: Option<Table>,
    /// Of one that the kernel makes no partitions of: what its table tells of.
    parts: Vec<(Names, Device)>,
    file_system: Option<FileSystem>,
    /// Why it could not be read, and when that was if it need not be tried again at once.
    trouble: Option<(String, Option<Instant>)>,
}

/// Every block device, by name: disks come before their partitions.
#[derive(Debug, Default)]
pub struct Inventory {
    seen: BTreeMap<String, Seen>,
}

impl Inventory {
    /// Looks again: at what is new, has changed its size, or could not be read.
    pub fn refresh(&mut self) {
        let devices = list(Path::new("/sys/class/block"));
        self.seen.retain(|name, _| devices.iter().any(|device| device.name == *name));
        let mut looked_at = HashSet::new();
        for device in devices {
            // A disk that was looked at again may have another table.
            let anew = device.partition.as_ref().is_some_and(|(_, _, disk)| looked_at.contains(disk));
            if let Some(seen) = self.seen.get(&device.name) {
                let rest =
                    seen.trouble.as_ref().is_none_or(|(_, when)| when.is_some_and(|when| when.elapsed() < RETRY));
                if seen.device == device && rest && !anew {
                    continue;
                }
            }
            looked_at.insert(device.name.clone());
            let table = device.partition.as_ref().and_then(|(_, _, disk)| self.seen.get(disk)?.table.clone());
            self.seen.insert(device.name.clone(), look_at(device, table.as_ref()));
        }
    }

    /// The devices that answer to `source`.
    pub fn find(&self, source: &Source) -> Vec<&Device> {
        let named = |names: &Names| match source {
            Source::PartitionUuid(uuid) => names.uuid.as_ref() == Some(uuid),
            Source::PartitionLabel(label) => names.label.as_ref() == Some(label),
            _ => false,
        };
        let answers = |seen: &&Seen| match source {
            Source::PartitionUuid(_) | Source::PartitionLabel(_) => named(&seen.names),
            Source::Uuid(uuid) => seen.file_system.as_ref().is_some_and(|found| found.uuid.as_ref() == Some(uuid)),
            Source::Label(label) => seen.file_system.as_ref().is_some_and(|found| found.label.as_ref() == Some(label)),
            Source::Device(name) => seen.device.name == *name && seen.trouble.is_none(),
        };
        let devices = self.seen.values().filter(answers).map(|seen| &seen.device);
        let parts = self.seen.values().flat_map(|seen| &seen.parts).filter(|(names, _)| named(names));
        devices.chain(parts.map(|(_, device)| device)).collect()
    }

    /// One line for every device.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.seen.values().map(Seen::to_string)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {} KiB", self.device.name, self.device.size >> 10)?;
        if let Some((trouble, _)) = &self.trouble {
            return write!(out, ", cannot be read: {trouble}");
        }
        if let Some(table) = &self.table {
            write!(out, ", {}", table.word())?;
        }
        let mut name = |key: &str, value: &Option<String>| match value {
            Some(value) => write!(out, ", {key}={value}"),
            None => Ok(()),
        };
        name("PARTUUID", &self.names.uuid)?;
        name("PARTLABEL", &self.names.label)?;
        name("type", &self.names.kind)?;
        for (names, _) in &self.parts {
            name("partition with PARTUUID", &names.uuid)?;
        }
        if let Some(found) = &self.file_system {
            name("file system", &Some(found.kind.to_owned()))?;
            name("UUID", &found.uuid)?;
            name("LABEL", &found.label)?;
        }
        out.write_str("")
    }
}

fn list(folder: &Path) -> Vec<Device> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut devices: Vec<Device> = entries
        .filter(|entry| !PASSED_OVER.iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind)))
        .filter_map(|entry| describe(&entry.path()))
        .collect();
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    devices
}

/// Reads a device's attributes. Sizes and starts are in units of 512 bytes there, whatever the disk's sector is.
fn describe(link: &Path) -> Option<Device> {
    let folder = fs::canonicalize(link).ok()?;
    let name_of = |folder: &Path| Some(folder.file_name()?.to_string_lossy().replace('!', "/"));
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let size = number(folder.join("size"))?.checked_mul(512)?;
    let (partition, disk) = match number(folder.join("partition")) {
        Some(partition) => {
            let start = number(folder.join("start"))?.checked_mul(512)?;
            let disk = folder.parent()?.to_owned();
            (Some((u32::try_from(partition).ok()?, start, name_of(&disk)?)), disk)
        }
        None => (None, folder.clone()),
    };
    let sector = number(disk.join("queue/logical_block_size")).and_then(|sector| u32::try_from(sector).ok());
    // The kernel's word for "no partitions" (block/genhd.c, GENHD_FL_NO_PART).
    let undivided = partition.is_none() && number(folder.join("ext_range")) == Some(1);
    let sector = if undivided { DISK_SECTOR } else { sector.unwrap_or(DISK_SECTOR) };
    Some(Device { name: name_of(&folder)?, size, partition, sector, undivided, inside: None })
}

fn look_at(device: Device, disk: Option<&Table>) -> Seen {
    let names = match (&device.partition, disk) {
        (Some((number, start, _)), Some(table)) => table.names(*number, *start, device.sector),
        _ => Names::default(),
    };
    let mut seen = Seen { device, names, table: None, parts: Vec::new(), file_system: None, trouble: None };
    if let Err(error) = seen.read() {
        // Linux has no text for it that a person would understand.
        let text = match error.raw_os_error() {
            Some(libc::ENOMEDIUM) => "no medium".to_owned(),
            _ => error.to_string(),
        };
        // A device is in sysfs a moment before it has its node.
        let when = if error.kind() == io::ErrorKind::NotFound { None } else { Some(Instant::now()) };
        seen.trouble = Some((text, when));
    }
    seen
}

impl Seen {
    fn read(&mut self) -> io::Result<()> {
        if self.device.size == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOMEDIUM));
        }
        let file = File::open(self.device.node())?;
        if self.device.partition.is_none() {
            let read = |offset, length| read_at(&file, offset, length);
            let table = Table::read(&read, self.device.sector, self.device.size)?;
            if self.device.undivided {
                let part = |(start, size, names)| {
                    (names, Device { size, undivided: false, inside: Some(start), ..self.device.clone() })
                };
                let places = table.places(self.device.sector, self.device.size);
                self.parts = places.into_iter().map(part).collect();
            }
            self.table = Some(table);
        }
        let length = self.device.size.min(LOOKED_AT as u64) as usize;
        self.file_system = recognise(&read_at(&file, 0, length)?);
        Ok(())
    }
}

/// Reads exactly `length` bytes from `offset` on. Callers bound the length.
pub fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// For messages: lines with the same indentation.
pub fn indented(lines: impl Iterator<Item = String>) -> String {
    lines.fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n  {line}");
        text
    })
}
