//! The GUID partition table (UEFI 2.10, section 5.3), changed so that power may fail at any time.
//!
//! The kernel takes the backup of a damaged table only when its command line says `gpt`; so the first copy must be right
//! at every moment. Its entries are kept twice: new ones are written where the valid header does not point, and
//! the header, one sector, then changes over to them. Entries begin in sector 2 or right behind that place.
//!
//! Not supported: sectors of 4096 bytes, entries of another size than 128 bytes, more than 128 entries.

use super::bytes::{crc32, put, slice, u16_at, u32_at, u64_at};
use super::device::{Device, SECTOR, bytes_at};
use super::failure::{Doing, Failure, Result};

const ENTRY: usize = 128;
const MOST_ENTRIES: u32 = 128;
const NAME: usize = 72;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for, as stored.
    pub kind: [u8; 16],
    /// Its own identifier, as stored.
    pub guid: [u8; 16],
    /// First sector.
    pub first: u64,
    /// Last sector, part of it.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Its name.
    pub name: String,
}

impl Entry {
    /// The byte at which it starts.
    pub fn start(&self) -> u64 {
        self.first.saturating_mul(SECTOR)
    }

    /// Bytes that it has.
    pub fn size(&self) -> u64 {
        (self.last - self.first + 1).saturating_mul(SECTOR)
    }
}

/// The right to write the table of a disk. Who has it reads the table first: what was read before may have been changed
/// by another program since, and the place where new entries may be written follows from the header that is valid now.
#[derive(Debug)]
pub struct Lock<'d> {
    device: &'d dyn Device,
}

impl<'d> Lock<'d> {
    /// Waits until no other program has it.
    pub fn take(device: &'d dyn Device) -> Result<Lock<'d>> {
        device.lock().doing("waiting for the lock of the disk")?;
        Ok(Lock { device })
    }

    /// The table as it is now.
    pub fn read(&self) -> Result<Table> {
        Table::read(self.device)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.device.unlock();
    }
}

/// A table in memory.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<u8>,
    entries: Vec<u8>,
    /// Whether it was read from its first place.
    first_copy: bool,
}

impl Table {
    /// Reads the table of a disk; its backup if the first copy is damaged.
    pub fn read(device: &dyn Device) -> Result<Table> {
        let first = Table::read_first(device);
        let Err(failure) = first else { return first };
        let last = (device.size() / SECTOR).saturating_sub(1);
        match Table::read_at(device, last) {
            Ok(table) => Ok(Table { first_copy: false, ..table }),
            Err(_) => Err(failure),
        }
    }

    /// Reads the first copy only.
    pub fn read_first(device: &dyn Device) -> Result<Table> {
        Table::read_at(device, 1)
    }

    fn read_at(device: &dyn Device, sector: u64) -> Result<Table> {
        let wrong = |what: &str| Failure::refused(format!("the GUID partition table in sector {sector} {what}"));
        if device.size() < 4096 {
            return Err(wrong("is not there: the disk is too small"));
        }
        let header = bytes_at(device, sector * SECTOR, SECTOR as usize).doing("reading the partition table")?;
        if slice(&header, 0, 8) != Some(b"EFI PART") {
            return Err(wrong("is not there"));
        }
        let word = |at| u32_at(&header, at).unwrap_or_default();
        let long = |at| u64_at(&header, at).unwrap_or_default();
        let size = word(12) as usize;
        let mut counted = slice(&header, 0, size).filter(|_| size >= 92).ok_or_else(|| wrong("has no size"))?.to_vec();
        put(&mut counted, 16, &[0; 4]);
        if crc32(&counted) != word(16) {
            return Err(wrong("has a wrong checksum"));
        }
        let (count, entry) = (word(80), word(84) as usize);
        if long(24) != sector || entry != ENTRY || !(4..=MOST_ENTRIES).contains(&count) {
            return Err(wrong("is of an unusual kind"));
        }
        let place = long(72).checked_mul(SECTOR).ok_or_else(|| wrong("has its entries nowhere"))?;
        let entries = bytes_at(device, place, count as usize * ENTRY).doing("reading the partition table")?;
        if crc32(&entries) != word(88) {
            return Err(wrong("has entries with a wrong checksum"));
        }
        let table = Table { header, entries, first_copy: true };
        table.check(device.size()).map_err(|what| wrong(&what))?;
        Ok(table)
    }

    /// Partitions lie on the disk, and not on each other.
    fn check(&self, size: u64) -> Result<(), String> {
        let all: Vec<_> = self.all().collect();
        for (number, entry) in &all {
            if entry.first < 34 || entry.first > entry.last || entry.last >= size / SECTOR {
                return Err(format!("has partition {number} at sectors {} to {}", entry.first, entry.last));
            }
            if let Some((other, _)) = all.iter().find(|(other, entry_of)| {
                other < number && entry_of.first <= entry.last && entry.first <= entry_of.last
            }) {
                return Err(format!("has partitions {other} and {number} at the same place"));
            }
        }
        Ok(())
    }

    /// Every partition with its number, from 1 on.
    pub fn all(&self) -> impl Iterator<Item = (u32, Entry)> {
        (1..).zip(self.entries.chunks(ENTRY)).filter_map(|(number, bytes)| Some((number, decode(bytes)?)))
    }

    /// The partition with a number.
    pub fn get(&self, number: u32) -> Option<Entry> {
        self.all().find(|(known, _)| *known == number).map(|(_, entry)| entry)
    }

    /// Sets the partition with a number.
    pub fn set(&mut self, number: u32, entry: &Entry) {
        let at = (number as usize).saturating_sub(1) * ENTRY;
        put(&mut self.entries, at, &encode(entry));
    }

    /// Takes a partition out.
    pub fn remove(&mut self, number: u32) {
        let at = (number as usize).saturating_sub(1) * ENTRY;
        put(&mut self.entries, at, &[0; ENTRY]);
    }

    /// The identifier of the disk, as stored.
    pub fn disk(&self) -> [u8; 16] {
        slice(&self.header, 56, 16).and_then(|bytes| bytes.first_chunk().copied()).unwrap_or_default()
    }

    /// The last sector that partitions may use.
    pub fn last_usable(&self) -> u64 {
        u64_at(&self.header, 48).unwrap_or_default()
    }

    /// Whether the first copy is damaged and this is the backup.
    pub fn is_backup(&self) -> bool {
        !self.first_copy
    }

    /// The sector of the backup's header.
    pub fn backup_sector(&self) -> u64 {
        u64_at(&self.header, if self.first_copy { 32 } else { 24 }).unwrap_or_default()
    }

    /// Writes the table, which was read under this lock, both copies. The first copy is whole at every moment.
    pub fn write(&mut self, lock: &Lock<'_>) -> Result<()> {
        self.write_with_backup_at(lock.device, self.backup_sector())
    }

    /// Writes the table with its backup at the end of the disk, and lets partitions use everything before.
    pub fn write_to_the_end(&mut self, lock: &Lock<'_>) -> Result<()> {
        self.write_with_backup_at(lock.device, (lock.device.size() / SECTOR).saturating_sub(1))
    }

    fn write_with_backup_at(&mut self, device: &dyn Device, backup: u64) -> Result<()> {
        let length = (self.entries.len() as u64).div_ceil(SECTOR);
        let old = u64_at(&self.header, 72).unwrap_or_default();
        let place = if self.first_copy && old == 2 { 2 + length } else { 2 };
        let free_from = 2 + 2 * length;
        if self.all().any(|(_, entry)| entry.first < free_from) {
            return Err(Failure::refused(format!(
                "a partition starts before sector {free_from}: there is no room for changing the partition table safely"
            )));
        }
        let moved = backup != self.backup_sector();
        let mut header = self.header.clone();
        put(&mut header, 88, &crc32(&self.entries).to_le_bytes());
        let first_usable = u64_at(&header, 40).unwrap_or_default().max(free_from);
        put(&mut header, 40, &first_usable.to_le_bytes());
        if moved {
            put(&mut header, 48, &backup.saturating_sub(length + 1).to_le_bytes());
        }
        let first = sealed(&header, 1, backup, place);
        let second = sealed(&header, backup, 1, backup.saturating_sub(length));
        let copy = |place: u64, at: u64, header: &[u8]| -> std::io::Result<()> {
            device.write(place * SECTOR, &self.entries)?;
            device.flush()?;
            device.write(at * SECTOR, header)?;
            device.flush()
        };
        // A backup at a new place disturbs nothing: it is there before something points to it.
        if moved {
            copy(backup.saturating_sub(length), backup, &second).doing("writing the backup of the partition table")?;
        }
        copy(place, 1, &first).doing("writing the partition table")?;
        if !moved {
            copy(backup.saturating_sub(length), backup, &second).doing("writing the backup of the partition table")?;
        }
        (self.header, self.first_copy) = (first, true);
        Ok(())
    }
}

/// A header for a place, with its checksum.
fn sealed(header: &[u8], own: u64, other: u64, entries: u64) -> Vec<u8> {
    let mut header = header.to_vec();
    put(&mut header, 24, &own.to_le_bytes());
    put(&mut header, 32, &other.to_le_bytes());
    put(&mut header, 72, &entries.to_le_bytes());
    put(&mut header, 16, &[0; 4]);
    let size = u32_at(&header, 12).unwrap_or(92) as usize;
    let sum = crc32(slice(&header, 0, size).unwrap_or_default());
    put(&mut header, 16, &sum.to_le_bytes());
    header
}

fn decode(bytes: &[u8]) -> Option<Entry> {
    let kind = *slice(bytes, 0, 16)?.first_chunk::<16>()?;
    if kind == [0; 16] {
        return None;
    }
    let units: Vec<u16> =
        (0..NAME / 2).filter_map(|at| u16_at(bytes, 56 + 2 * at)).take_while(|unit| *unit != 0).collect();
    Some(Entry {
        kind,
        guid: *slice(bytes, 16, 16)?.first_chunk()?,
        first: u64_at(bytes, 32)?,
        last: u64_at(bytes, 40)?,
        attributes: u64_at(bytes, 48)?,
        name: String::from_utf16_lossy(&units),
    })
}

fn encode(entry: &Entry) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    put(&mut bytes, 0, &entry.kind);
    put(&mut bytes, 16, &entry.guid);
    put(&mut bytes, 32, &entry.first.to_le_bytes());
    put(&mut bytes, 40, &entry.last.to_le_bytes());
    put(&mut bytes, 48, &entry.attributes.to_le_bytes());
    for (at, unit) in entry.name.encode_utf16().take(NAME / 2).enumerate() {
        put(&mut bytes, 56 + 2 * at, &unit.to_le_bytes());
    }
    bytes
}
