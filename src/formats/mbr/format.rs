//! The structures of a master boot record (UEFI 2.10, 5.2.1). All numbers are little-endian.

/// Bytes of the sector that matter; on disks of larger sectors the rest is zero.
pub const SIZE: usize = 512;
/// Bytes that a boot program may have. From byte 440 on lie the disk's signature and the table.
pub const BOOT_CODE_SIZE: usize = 440;
/// Entries of the table.
pub const ENTRIES: usize = 4;

/// Partition types.
pub mod kind {
    /// Not used.
    pub const UNUSED: u8 = 0;
    /// FAT12.
    pub const FAT12: u8 = 0x01;
    /// FAT16 below 32 MiB, addressed by cylinder, head and sector.
    pub const FAT16_SMALL: u8 = 0x04;
    /// FAT32, addressed by sector.
    pub const FAT32: u8 = 0x0c;
    /// FAT16, addressed by sector.
    pub const FAT16: u8 = 0x0e;
    /// A Linux file system.
    pub const LINUX: u8 = 0x83;
    /// Protects a GUID partition table.
    pub const PROTECTIVE: u8 = 0xee;
    /// EFI system partition.
    pub const EFI_SYSTEM: u8 = 0xef;
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether BIOS boot programs take this one.
    pub active: bool,
    /// The type.
    pub kind: u8,
    /// First sector.
    pub first_lba: u32,
    /// Number of sectors.
    pub sectors: u32,
}

impl Entry {
    /// Cylinder, head and sector are written as the geometry of 255 heads and 63 sectors has them, which is what BIOSes
    /// and partition programs assume, and as the largest value beyond its end (UEFI 2.10, 5.2.1).
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[0] = if self.active { 0x80 } else { 0 };
        out[1..4].copy_from_slice(&cylinder_head_sector(u64::from(self.first_lba)));
        out[4] = self.kind;
        let last = u64::from(self.first_lba) + u64::from(self.sectors.max(1)) - 1;
        out[5..8].copy_from_slice(&cylinder_head_sector(last));
        out[8..12].copy_from_slice(&self.first_lba.to_le_bytes());
        out[12..].copy_from_slice(&self.sectors.to_le_bytes());
        // UEFI fixes these for the entry that covers the disk: 00 02 00, and ff ff ff where the end cannot be said.
        if self.kind == kind::PROTECTIVE && self.first_lba == 1 {
            out[1..4].copy_from_slice(&[0, 2, 0]);
            if out[5..8] == [0xfe, 0xff, 0xff] {
                out[5] = 0xff;
            }
        }
        out
    }

    /// Reads an entry; `None` if it is unused.
    pub fn decode(bytes: &[u8; 16]) -> Option<Entry> {
        let [status, _, _, _, kind, _, _, _, a, b, c, d, e, f, g, h] = *bytes;
        (kind != kind::UNUSED).then(|| Entry {
            active: status & 0x80 != 0,
            kind,
            first_lba: u32::from_le_bytes([a, b, c, d]),
            sectors: u32::from_le_bytes([e, f, g, h]),
        })
    }
}

/// The record: boot program, signature, table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// At most [`BOOT_CODE_SIZE`] bytes.
    pub boot_code: Vec<u8>,
    /// The disk's signature; Linux makes PARTUUIDs of it.
    pub signature: u32,
    /// The table.
    pub entries: [Option<Entry>; ENTRIES],
}

impl Record {
    /// The record's bytes. A boot program that is too long is cut: callers check it first.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        let code = self.boot_code.len().min(BOOT_CODE_SIZE);
        out[..code].copy_from_slice(&self.boot_code[..code]);
        out[440..444].copy_from_slice(&self.signature.to_le_bytes());
        for (place, entry) in out[446..510].chunks_exact_mut(16).zip(&self.entries) {
            if let Some(entry) = entry {
                place.copy_from_slice(&entry.encode());
            }
        }
        out[510..].copy_from_slice(&[0x55, 0xaa]);
        out
    }

    /// Reads a record; `None` if its signature is missing or it is cut off.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        if bytes.get(510..512)? != [0x55, 0xaa] {
            return None;
        }
        let mut entries = [None; ENTRIES];
        for (entry, place) in entries.iter_mut().zip(bytes.get(446..510)?.chunks_exact(16)) {
            *entry = Entry::decode(place.try_into().ok()?);
        }
        let code = bytes.get(..BOOT_CODE_SIZE)?;
        let used = code.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let signature = u32::from_le_bytes(bytes.get(440..444)?.try_into().ok()?);
        Some(Record { boot_code: code[..used].to_vec(), signature, entries })
    }
}

fn cylinder_head_sector(lba: u64) -> [u8; 3] {
    const HEADS: u64 = 255;
    const SECTORS: u64 = 63;
    let cylinder = lba / (HEADS * SECTORS);
    if cylinder > 1023 {
        return [0xfe, 0xff, 0xff];
    }
    let head = lba / SECTORS % HEADS;
    let sector = lba % SECTORS + 1;
    [head as u8, (sector | cylinder >> 2 & 0xc0) as u8, cylinder as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_there_and_back() {
        let entry = Entry { active: true, kind: kind::FAT32, first_lba: 2048, sectors: 65_536 };
        let record = Record {
            boot_code: b"\xeb\xfe".to_vec(),
            signature: 0x1234_5678,
            entries: [Some(entry), None, None, None],
        };
        let bytes = record.encode();
        assert_eq!(bytes[446..462], [0x80, 32, 33, 0, 12, 52, 48, 4, 0, 8, 0, 0, 0, 0, 1, 0]);
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        assert_eq!(Record::decode(&bytes[..511]), None);
        assert_eq!(Record::decode(&[0; 512]), None);
    }

    #[test]
    fn what_geometry_cannot_say_is_the_largest_value() {
        assert_eq!(cylinder_head_sector(0), [0, 1, 0]);
        assert_eq!(cylinder_head_sector(1024 * 255 * 63 - 1), [254, 0xff, 0xff]);
        assert_eq!(cylinder_head_sector(1024 * 255 * 63), [0xfe, 0xff, 0xff]);
    }
}
