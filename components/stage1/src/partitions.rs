//! How the partitions of a disk are named: GPT, else MBR.

use std::io;

use crate::bytes::{slice, u32_at};
use crate::gpt;

/// The partition table of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// A GUID partition table.
    Gpt(Vec<gpt::Entry>),
    /// One whose primary is damaged: the kernel takes it only if its command line has the word `gpt`.
    BackupGpt(Vec<gpt::Entry>),
    /// A master boot record with this signature.
    Mbr(u32),
    /// None that is understood.
    None,
}

/// The names of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// PARTUUID, lower case.
    pub uuid: Option<String>,
    /// PARTLABEL.
    pub label: Option<String>,
    /// GPT's type.
    pub kind: Option<String>,
}

/// Reads bytes of a disk: from an offset on, so many.
pub type Read<'r> = &'r dyn Fn(u64, usize) -> io::Result<Vec<u8>>;

impl Table {
    /// Reads the table of a disk of `size` bytes with logical sectors of `sector` bytes. A damaged primary GPT is
    /// replaced by the backup in the last sector.
    pub fn read(read: Read<'_>, sector: u32, size: u64) -> io::Result<Table> {
        let sector = sector.clamp(512, 65_536);
        let length = sector as usize;
        let count = size / u64::from(sector);
        if count < 3 {
            return Ok(Table::None);
        }
        let first = read(0, length)?;
        if slice(&first, 510, 2) != Some(&[0x55, 0xaa]) {
            return Ok(Table::None);
        }
        // Four entries of 16 bytes, with the type as the fifth; 0xEE says that a GPT follows.
        let protective = (0..4).any(|entry| first.get(450 + entry * 16) == Some(&0xee));
        if protective {
            for at in [1, count - 1] {
                let Ok(header) = gpt::header(&read(at * u64::from(sector), length)?, at) else { continue };
                let offset = header.entries_at.checked_mul(sector.into());
                let Some(offset) = offset.filter(|offset| offset.saturating_add(header.length as u64) <= size) else {
                    continue;
                };
                if let Ok(entries) = gpt::entries(&header, &read(offset, header.length)?) {
                    return Ok(if at == 1 { Table::Gpt(entries) } else { Table::BackupGpt(entries) });
                }
            }
        }
        match u32_at(&first, 440) {
            Some(signature) if signature != 0 => Ok(Table::Mbr(signature)),
            _ => Ok(Table::None),
        }
    }

    /// The names of partition `number`, which the kernel says starts at byte `start`.
    pub fn names(&self, number: u32, start: u64, sector: u32) -> Names {
        match self {
            Table::Gpt(entries) | Table::BackupGpt(entries) => {
                let here = |entry: &&gpt::Entry| {
                    entry.number == number && entry.first.checked_mul(sector.into()) == Some(start)
                };
                entries.iter().find(here).map_or_else(Names::default, names_of)
            }
            Table::Mbr(signature) => Names { uuid: Some(format!("{signature:08x}-{number:02x}")), ..Names::default() },
            Table::None => Names::default(),
        }
    }

    /// The partitions of a disk of `size` bytes by the table alone: first byte, bytes, names. Those that do not lie on
    /// the disk are left out.
    pub fn places(&self, sector: u32, size: u64) -> Vec<(u64, u64, Names)> {
        let (Table::Gpt(entries) | Table::BackupGpt(entries)) = self else { return Vec::new() };
        let place = |entry: &gpt::Entry| {
            let first = entry.first.checked_mul(sector.into())?;
            let end = entry.last.checked_add(1)?.checked_mul(sector.into()).filter(|end| *end <= size)?;
            Some((first, end.checked_sub(first).filter(|length| *length > 0)?, names_of(entry)))
        };
        entries.iter().filter_map(place).collect()
    }

    /// For messages.
    pub fn word(&self) -> &'static str {
        match self {
            Table::Gpt(_) => "GPT",
            Table::BackupGpt(_) => "damaged GPT with a good backup (\"gpt\" on the kernel command line uses it)",
            Table::Mbr(_) => "MBR",
            Table::None => "no partition table",
        }
    }
}

fn names_of(entry: &gpt::Entry) -> Names {
    Names {
        uuid: Some(entry.guid.clone()).filter(|guid| !guid.is_empty()),
        label: Some(entry.label.clone()).filter(|label| !label.is_empty()),
        kind: Some(entry.kind.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(disk: &[u8]) -> Table {
        let read = |offset: u64, length: usize| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            slice(disk, at, length).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        Table::read(&read, 512, disk.len() as u64).unwrap()
    }

    fn disk() -> Vec<u8> {
        let (header, entries) = gpt::tests::sample();
        let mut disk = vec![0; 512 * 8];
        disk[450] = 0xee;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[512..1024].copy_from_slice(&header);
        disk[1024..1536].copy_from_slice(&entries);
        disk
    }

    #[test]
    fn gpt_names() {
        let table = read_of(&disk());
        let names = table.names(2, 2048 * 512, 512);
        assert_eq!(names.uuid.as_deref(), Some("14131211-1615-1817-191a-1b1c1d1e1f20"));
        assert_eq!(names.label.as_deref(), Some("rät"));
        assert_eq!(table.names(2, 2049 * 512, 512), Names::default());
        assert_eq!(table.names(1, 2048 * 512, 512), Names::default());
    }

    #[test]
    fn places() {
        let of = |size| read_of(&disk()).places(512, size).into_iter().map(|(at, length, _)| (at, length));
        assert!(of(4000 * 512).eq([(2048 * 512, 1952 * 512)]));
        assert!(of(4000 * 512 - 1).eq([]), "it ends behind the disk");
        assert_eq!(Table::Mbr(1).places(512, u64::MAX), []);
    }

    #[test]
    fn mbr_names() {
        let mut disk = disk();
        disk[450] = 0x83;
        disk[440..444].copy_from_slice(&0x00c0_ffee_u32.to_le_bytes());
        assert_eq!(read_of(&disk).names(11, 0, 512).uuid.as_deref(), Some("00c0ffee-0b"));
    }

    #[test]
    fn backup() {
        let mut disk = disk();
        disk[600] ^= 1;
        // Not a true backup, which would say that it lies in the last sector: its place is checked.
        disk.extend_from_within(512..1024);
        assert_eq!(read_of(&disk), Table::None);
        let (header, _) = gpt::tests::sample_at(8);
        disk[512 * 8..512 * 9].copy_from_slice(&header);
        let table = read_of(&disk);
        assert!(matches!(table, Table::BackupGpt(_)));
        assert!(table.names(2, 2048 * 512, 512).uuid.is_some());
    }

    #[test]
    fn damage() {
        let mut broken = disk();
        broken[600] ^= 1;
        broken[515] ^= 1;
        assert_eq!(read_of(&broken), Table::None);
        assert_eq!(read_of(&[0; 4096]), Table::None);
        assert_eq!(read_of(&disk()[..1024]), Table::None);
        // Entries that lie outside of the disk.
        assert_eq!(read_of(&disk()[..1536 - 1]), Table::None);
    }
}
