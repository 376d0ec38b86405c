//! The partition behind the last one: made, grown with the disk, or marked for a reset. No other is touched.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use crate::machine::Disk;
use crate::slots::device::{Device, SECTOR};
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::reset::{LINUX_DATA, RESET};
use crate::slots::table::{Entry, Lock, Table};
use crate::sys::{add_partition, resize_partition};

use super::wanted::Wanted;

/// Sectors of a MiB: partitions start and end there.
const MIB: u64 = (1 << 20) / SECTOR;
/// The least that is worth a file system with a journal, in sectors.
const LEAST: u64 = 16 * MIB;

/// Has the partition be there, as large as it is wanted, and the kernel know it. Gives its number.
pub fn prepare(disk: &Disk, wanted: &Wanted, reset: bool) -> Result<u32> {
    let lock = Lock::take(&disk.device)?;
    let mut table = lock.read()?;
    let number = wanted.number;
    let last_sector = disk.device.size() / SECTOR - 1;
    let moved = table.is_backup() || table.backup_sector() != last_sector;
    let last_usable = last_sector - 33;
    let planned = plan(&table, wanted, last_usable, reset, random_guid)?;
    if moved || planned.is_some() {
        if let Some((entry, _)) = &planned {
            table.set(number, entry);
        }
        table.write_to_the_end(&lock)?;
    }
    if let Some((entry, change)) = planned {
        let what = format!("telling the kernel of partition {number}");
        let descriptor = disk.device.file().as_fd();
        match change {
            Change::Made => {
                println!("making partition {number} of {}, {} MiB", disk.name, entry.size() >> 20);
                add_partition(descriptor, number, entry.start(), entry.size()).doing(what)?;
            }
            Change::Grown => {
                println!("partition {number} of {} grows to {} MiB", disk.name, entry.size() >> 20);
                resize_partition(descriptor, number, entry.start(), entry.size()).doing(what)?;
            }
            Change::Marked => {}
        }
    }
    Ok(number)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Made,
    Grown,
    Marked,
}

/// What the entry becomes, if it changes.
fn plan(
    table: &Table,
    wanted: &Wanted,
    last_usable: u64,
    reset: bool,
    guid: impl FnOnce() -> Result<[u8; 16]>,
) -> Result<Option<(Entry, Change)>> {
    let number = wanted.number;
    let others = table.all().filter(|(other, _)| *other != number).map(|(_, entry)| entry.last).max().unwrap_or(0);
    // Partitions end with a whole MiB.
    let most = ((last_usable + 1) / MIB * MIB).saturating_sub(1);
    let end = |first: u64| wanted.size.map_or(most, |size| most.min(first + size / SECTOR - 1));
    let Some(mut entry) = table.get(number) else {
        let first = (others + 1).next_multiple_of(MIB);
        let last = end(first);
        if last < first + LEAST - 1 {
            return Err(Failure::new(format!(
                "no room for the data partition: {} MiB are free behind the others, at least {} are needed (make the disk \
                 larger, or the image with --size)",
                (most + 1).saturating_sub(first) / MIB,
                LEAST / MIB
            )));
        }
        if let Some(size) = wanted.size.filter(|size| first + size / SECTOR - 1 > last) {
            return Err(Failure::new(format!(
                "no room for the data partition: {} MiB are wanted, {} are free",
                size >> 20,
                (last + 1 - first) / MIB
            )));
        }
        let entry = Entry { kind: LINUX_DATA, guid: guid()?, first, last, attributes: 0, name: RESET.to_owned() };
        return Ok(Some((entry, Change::Made)));
    };
    if entry.kind != LINUX_DATA || ![wanted.label.as_str(), RESET].contains(&entry.name.as_str()) {
        return Err(Failure::refused(format!(
            "partition {number} is \"{}\" and not the data partition \"{}\": nothing is done with it",
            entry.name, wanted.label
        )));
    }
    let old = entry.clone();
    if reset {
        RESET.clone_into(&mut entry.name);
    }
    // It grows only if nothing is behind it, and never shrinks.
    let change = match end(entry.first) {
        last if last > entry.last && others < entry.first => {
            entry.last = last;
            Change::Grown
        }
        _ => Change::Marked,
    };
    Ok((entry != old).then_some((entry, change)))
}

/// A version 4 UUID: two machines from one image have different data.
fn random_guid() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).doing("reading /dev/urandom")?;
    // The fields with version and variant, in the order in which a GPT stores them.
    let [_, _, _, _, _, _, _, version, variant, ..] = &mut bytes;
    *variant = *variant & 0x3f | 0x80;
    *version = *version & 0x0f | 0x40;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::bytes::{crc32, put};
    use crate::slots::device::{Device, FileDevice};

    /// A disk of 64 MiB in a file, with three partitions, the last up to 8 MiB.
    fn sample(name: &str) -> FileDevice {
        let path = std::env::temp_dir().join(format!("moby-update-{name}-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        std::fs::remove_file(path).unwrap();
        let device = FileDevice::new(file).unwrap();
        let mut header = vec![0; 512];
        put(&mut header, 0, b"EFI PART");
        for (at, value) in [(12, 92_u32), (80, 128), (84, 128), (88, crc32(&[0; 128 * 128]))] {
            put(&mut header, at, &value.to_le_bytes());
        }
        for (at, value) in [(24, 1_u64), (32, 20479), (40, 34), (48, 20446), (72, 2)] {
            put(&mut header, at, &value.to_le_bytes());
        }
        let sum = crc32(&header[..92]);
        put(&mut header, 16, &sum.to_le_bytes());
        device.write(512, &header).unwrap();
        let mut table = Table::read(&device).unwrap();
        for number in 1..4 {
            let first = u64::from(number) * 2 * MIB;
            let entry = Entry {
                kind: [7; 16],
                guid: [number as u8; 16],
                first,
                last: first + MIB - 1,
                attributes: 0,
                name: "x".into(),
            };
            table.set(number, &entry);
        }
        table.write(&Lock::take(&device).unwrap()).unwrap();
        device
    }

    fn wanted(size: Option<u64>) -> Wanted {
        Wanted { number: 4, size, label: "data".to_owned(), mount: "/var".to_owned() }
    }

    #[test]
    fn it_is_made_behind_the_others_and_grows() {
        let device = sample("grow");
        let mut table = Table::read(&device).unwrap();
        let guid = || Ok([9; 16]);
        let (entry, change) = plan(&table, &wanted(None), 40 * MIB - 34, false, guid).unwrap().unwrap();
        assert_eq!((entry.first, entry.last, change), (7 * MIB, 39 * MIB - 1, Change::Made));
        assert_eq!(entry.name, RESET);
        let made = Entry { name: "data".to_owned(), ..entry };
        table.set(4, &made);
        table.write_to_the_end(&Lock::take(&device).unwrap()).unwrap();
        let mut table = Table::read(&device).unwrap();
        assert_eq!((table.backup_sector(), table.last_usable()), (64 * MIB - 1, 64 * MIB - 34));
        // The same disk: nothing to do.
        assert_eq!(plan(&table, &wanted(None), 40 * MIB - 34, false, guid).unwrap(), None);
        let (entry, change) = plan(&table, &wanted(None), 64 * MIB - 34, false, guid).unwrap().unwrap();
        assert_eq!((entry.first, entry.last, change), (7 * MIB, 63 * MIB - 1, Change::Grown));
        // As large as it is wanted, and never smaller.
        assert_eq!(plan(&table, &wanted(Some(20 << 20)), 64 * MIB - 34, false, guid).unwrap(), None);
        let (entry, _) = plan(&table, &wanted(Some(48 << 20)), 64 * MIB - 34, false, guid).unwrap().unwrap();
        assert_eq!(entry.size(), 48 << 20);
        let (entry, change) = plan(&table, &wanted(None), 40 * MIB - 34, true, guid).unwrap().unwrap();
        assert_eq!((entry.name.as_str(), change), (RESET, Change::Marked));
        // Another's partition is left alone, and one that something stands behind does not grow.
        table.set(5, &Entry { first: 50 * MIB, last: 51 * MIB, ..made.clone() });
        assert_eq!(plan(&table, &wanted(None), 64 * MIB - 34, false, guid).unwrap(), None);
        table.set(4, &Entry { name: "mine".to_owned(), ..made });
        assert!(plan(&table, &wanted(None), 64 * MIB - 34, true, guid).is_err());
    }

    #[test]
    fn too_small_a_disk() {
        let device = sample("small");
        let table = Table::read(&device).unwrap();
        assert!(plan(&table, &wanted(None), 20 * MIB, false, || Ok([9; 16])).is_err());
        assert!(plan(&table, &wanted(Some(100 << 20)), 64 * MIB - 34, false, || Ok([9; 16])).is_err());
    }
}
