//! A whole partition table: two headers and two arrays of entries, as bytes. Used by disks and by hybrid ISO images.

use super::Guid;
use super::format::{ENTRIES_SIZE, ENTRY_COUNT, ENTRY_SIZE, Entry, Header, crc32};

/// Bytes of a sector as the disk tells them to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SectorSize {
    /// Nearly every disk, and every virtual one.
    #[default]
    Bytes512,
    /// "4K native" disks. An image made for one size is not read as the other.
    Bytes4096,
}

impl SectorSize {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        match self {
            SectorSize::Bytes512 => 512,
            SectorSize::Bytes4096 => 4096,
        }
    }

    /// Sectors of the entry array.
    fn entries(self) -> u64 {
        ENTRIES_SIZE.div_ceil(self.bytes())
    }

    /// Sectors in front of what partitions may use: protective record, header, entries.
    pub fn front(self) -> u64 {
        2 + self.entries()
    }

    /// Sectors behind what partitions may use: entries, header.
    pub fn back(self) -> u64 {
        1 + self.entries()
    }
}

/// What both copies of a table say.
#[derive(Clone, Debug)]
pub struct Table {
    /// The disk's GUID.
    pub disk: Guid,
    /// Used entries, in the order of their numbers; at most 128.
    pub entries: Vec<Entry>,
    /// The disk's sectors.
    pub sector_size: SectorSize,
    /// How many there are.
    pub sectors: u64,
}

impl Table {
    /// Header and entries that follow the protective record.
    pub fn primary(&self) -> Vec<u8> {
        let mut bytes = self.padded(&self.header(1, self.sectors - 1, 2).encode());
        bytes.extend(self.padded(&self.entries()));
        bytes
    }

    /// Entries and header that end the disk.
    pub fn backup(&self) -> Vec<u8> {
        let start = self.sectors - self.sector_size.back();
        let mut bytes = self.padded(&self.entries());
        bytes.extend(self.padded(&self.header(self.sectors - 1, 1, start).encode()));
        bytes
    }

    fn header(&self, own_lba: u64, other_lba: u64, entries_lba: u64) -> Header {
        Header {
            own_lba,
            other_lba,
            first_usable_lba: self.sector_size.front(),
            last_usable_lba: self.sectors - self.sector_size.back() - 1,
            disk: self.disk,
            entries_lba,
            entry_count: ENTRY_COUNT,
            entry_size: ENTRY_SIZE,
            entries_crc: crc32(&self.entries()),
        }
    }

    fn entries(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.entries.iter().take(ENTRY_COUNT as usize).flat_map(Entry::encode).collect();
        bytes.resize(ENTRIES_SIZE as usize, 0);
        bytes
    }

    fn padded(&self, bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(self.sector_size.bytes() as usize), 0);
        padded
    }
}
