//! The structures of FAT12, FAT16 and FAT32 (Microsoft, "FAT: General Overview of On-Disk Format", 1.03). All numbers
//! are little-endian.

use crate::formats::calendar::Civil;

/// Bytes of a folder's entry.
pub const ENTRY_SIZE: u64 = 32;
/// UTF-16 units in one entry of a long name.
const LONG_NAME_UNITS: usize = 13;
/// Bytes of the boot sector that hold the parameters; larger sectors are zero behind them.
pub const BOOT_SECTOR_SIZE: usize = 512;
/// Where the second boot sector of FAT32 lies.
pub const BACKUP_SECTOR: u64 = 6;
/// Entries of the fixed root folder of FAT12 and FAT16, if no more are needed.
pub const ROOT_ENTRIES: u64 = 512;
/// Bytes that a folder may have: 65,536 entries, what every driver's 16-bit counters hold.
pub const FOLDER_LIMIT: u64 = 65_536 * ENTRY_SIZE;

/// A folder's entry is a folder.
pub const FOLDER: u8 = 0x10;
/// A folder's entry is the volume's label.
pub const VOLUME_LABEL: u8 = 0x08;
/// A folder's entry is a file that no backup has seen, as every new file.
pub const ARCHIVE: u8 = 0x20;
/// A folder's entry is a part of a long name.
pub const LONG_NAME: u8 = 0x0f;

/// Which of the three it is. Readers decide by the number of clusters alone, so the number must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Up to 4,084 clusters.
    Fat12,
    /// 4,085 to 65,524 clusters.
    Fat16,
    /// From 65,525 clusters on.
    Fat32,
}

impl Kind {
    /// The kind that readers see in a volume of so many clusters.
    pub fn of_clusters(clusters: u64) -> Kind {
        match clusters {
            0..=4084 => Kind::Fat12,
            4085..=65_524 => Kind::Fat16,
            _ => Kind::Fat32,
        }
    }

    /// Numbers of clusters that are used: the specification advises to stay 16 away from the borders, because many
    /// drivers have them wrong by a few.
    pub fn clusters(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Kind::Fat12 => 1..=4_068,
            Kind::Fat16 => 4_101..=65_508,
            Kind::Fat32 => 65_541..=0x0fff_fff5 - 2,
        }
    }

    /// Bits of an entry of the allocation table.
    pub fn bits(self) -> u64 {
        match self {
            Kind::Fat12 => 12,
            Kind::Fat16 => 16,
            Kind::Fat32 => 32,
        }
    }

    /// The entry that ends a chain.
    pub fn end_of_chain(self) -> u32 {
        match self {
            Kind::Fat12 => 0xfff,
            Kind::Fat16 => 0xffff,
            Kind::Fat32 => 0x0fff_ffff,
        }
    }

    fn name(self) -> &'static [u8; 8] {
        match self {
            Kind::Fat12 => b"FAT12   ",
            Kind::Fat16 => b"FAT16   ",
            Kind::Fat32 => b"FAT32   ",
        }
    }
}

/// Where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Which FAT.
    pub kind: Kind,
    /// Bytes of a sector.
    pub sector: u64,
    /// Sectors of a cluster, a power of two.
    pub cluster_sectors: u64,
    /// Sectors in front of the first allocation table.
    pub reserved: u64,
    /// Sectors of one of the two allocation tables.
    pub table_sectors: u64,
    /// Sectors of the fixed root folder; 0 for FAT32.
    pub root_sectors: u64,
    /// Clusters; the first has the number 2.
    pub clusters: u64,
    /// All sectors.
    pub sectors: u64,
}

impl Geometry {
    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        self.cluster_sectors * self.sector
    }

    /// First sector of the clusters.
    pub fn data(&self) -> u64 {
        self.reserved + 2 * self.table_sectors + self.root_sectors
    }

    /// First sector of a cluster.
    pub fn sector_of(&self, cluster: u32) -> u64 {
        self.data() + u64::from(cluster).saturating_sub(2) * self.cluster_sectors
    }
}

/// What the boot sector says beside the geometry.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Serial number.
    pub id: u32,
    /// Label, filled up with spaces.
    pub label: [u8; 11],
    /// Sectors in front of the volume on its disk.
    pub hidden_sectors: u32,
    /// First cluster of the root folder of FAT32.
    pub root_cluster: u32,
    /// A loader's boot sector, of which everything but the parameters is taken.
    pub loader: Option<[u8; BOOT_SECTOR_SIZE]>,
}

/// The boot sector (sections 3.1 to 3.3).
pub fn boot_sector(geometry: &Geometry, volume: &Volume) -> [u8; BOOT_SECTOR_SIZE] {
    // "int 18h": nothing to boot here, BIOS goes on; then halt for ever.
    const NO_LOADER: [u8; 5] = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];
    let large = geometry.kind == Kind::Fat32;
    let extended = if large { 64 } else { 36 };
    let mut out = volume.loader.unwrap_or_else(|| {
        let mut out = [0; BOOT_SECTOR_SIZE];
        // A jump over the parameters. FAT12 and FAT16 use FAT32's longer one: loaders do, and one check is simpler.
        out[..11].copy_from_slice(b"\xeb\x58\x90moby    ");
        out[0x5a..0x5a + NO_LOADER.len()].copy_from_slice(&NO_LOADER);
        out
    });
    out[11..0x5a].fill(0);
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let root_entries = geometry.root_sectors * geometry.sector / ENTRY_SIZE;
    put(11, &low16(geometry.sector));
    put(13, &[geometry.cluster_sectors as u8]);
    put(14, &low16(geometry.reserved));
    put(16, &[2]);
    put(17, &low16(root_entries));
    let small = !large && geometry.sectors < 0x1_0000;
    put(19, &if small { low16(geometry.sectors) } else { [0; 2] });
    put(21, &[0xf8]);
    put(22, &if large { [0; 2] } else { low16(geometry.table_sectors) });
    // Sectors and heads of the geometry that BIOSes assume for large disks.
    put(24, &63u16.to_le_bytes());
    put(26, &255u16.to_le_bytes());
    put(28, &volume.hidden_sectors.to_le_bytes());
    put(32, &if small { [0; 4] } else { low32(geometry.sectors) });
    if large {
        put(36, &low32(geometry.table_sectors));
        put(44, &volume.root_cluster.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &low16(BACKUP_SECTOR));
    }
    put(extended, &[0x80, 0, 0x29]);
    put(extended + 3, &volume.id.to_le_bytes());
    put(extended + 7, &volume.label);
    put(extended + 18, geometry.kind.name());
    put(510, &[0x55, 0xaa]);
    out
}

/// FAT32's count of free clusters (section 5).
pub fn information_sector(free: u32, next: u32) -> [u8; BOOT_SECTOR_SIZE] {
    let mut out = [0; BOOT_SECTOR_SIZE];
    out[..4].copy_from_slice(b"RRaA");
    out[484..488].copy_from_slice(b"rrAa");
    out[488..492].copy_from_slice(&free.to_le_bytes());
    out[492..496].copy_from_slice(&next.to_le_bytes());
    out[508..].copy_from_slice(&0xaa55_0000u32.to_le_bytes());
    out
}

/// A time as FAT has it: date and time of day, both in UTC, in steps of two seconds from 1980 to 2107.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Years since 1980, month, day.
    pub date: u16,
    /// Hours, minutes, double seconds.
    pub time: u16,
}

impl Stamp {
    /// The stamp of seconds since the epoch; times that FAT does not have become the nearest that it has.
    pub fn of(time: i64) -> Stamp {
        const FIRST: i64 = 315_532_800; // 1980-01-01
        const LAST: i64 = 4_354_819_198; // 2107-12-31 23:59:58
        let Civil { year, month, day, hour, minute, second } = Civil::of(time.clamp(FIRST, LAST));
        let date = (year - 1980) << 9 | month << 5 | day;
        let time = hour << 11 | minute << 5 | (second / 2);
        Stamp { date: date as u16, time: time as u16 }
    }
}

/// An entry of a folder with its 8.3 name (section 6).
pub fn entry(name: &[u8; 11], attributes: u8, stamp: Stamp, cluster: u32, size: u32) -> [u8; 32] {
    let mut out = [0; 32];
    out[..11].copy_from_slice(name);
    out[11] = attributes;
    let (cluster_low, cluster_high) = (cluster as u16, (cluster >> 16) as u16);
    // Created: tenths, time, date; last access: date only.
    out[14..16].copy_from_slice(&stamp.time.to_le_bytes());
    out[16..18].copy_from_slice(&stamp.date.to_le_bytes());
    out[18..20].copy_from_slice(&stamp.date.to_le_bytes());
    out[20..22].copy_from_slice(&cluster_high.to_le_bytes());
    out[22..24].copy_from_slice(&stamp.time.to_le_bytes());
    out[24..26].copy_from_slice(&stamp.date.to_le_bytes());
    out[26..28].copy_from_slice(&cluster_low.to_le_bytes());
    out[28..].copy_from_slice(&size.to_le_bytes());
    out
}

/// Entries that a long name takes.
pub fn long_name_entries(name: &str) -> u64 {
    name.encode_utf16().count().div_ceil(LONG_NAME_UNITS) as u64
}

/// The entries of a long name, in the order in which they stand in front of the 8.3 entry (section 7).
pub fn long_name(name: &str, short: &[u8; 11]) -> Vec<[u8; 32]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let sum = checksum(short);
    let last = units.len().div_ceil(LONG_NAME_UNITS);
    let parts = units.chunks(LONG_NAME_UNITS).enumerate().map(|(at, part)| {
        let mut out = [0; 32];
        let number = at as u8 + 1;
        out[0] = if at + 1 == last { number | 0x40 } else { number };
        out[11] = LONG_NAME;
        out[13] = sum;
        let mut padded = [0xffff; LONG_NAME_UNITS];
        padded[..part.len()].copy_from_slice(part);
        if part.len() < LONG_NAME_UNITS {
            padded[part.len()] = 0;
        }
        for (place, unit) in long_name_places().zip(padded) {
            out[place..place + 2].copy_from_slice(&u16::to_le_bytes(unit));
        }
        out
    });
    let mut entries: Vec<_> = parts.collect();
    entries.reverse();
    entries
}

/// Where the 13 units of a long name's entry lie.
pub fn long_name_places() -> impl Iterator<Item = usize> {
    (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2))
}

/// What ties a long name to its 8.3 name.
pub fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn low16(value: u64) -> [u8; 2] {
    (value as u16).to_le_bytes()
}

fn low32(value: u64) -> [u8; 4] {
    (value as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let stamp = |date: (u16, u16, u16), time: (u16, u16, u16)| Stamp {
            date: (date.0 - 1980) << 9 | date.1 << 5 | date.2,
            time: time.0 << 11 | time.1 << 5 | (time.2 / 2),
        };
        assert_eq!(Stamp::of(0), stamp((1980, 1, 1), (0, 0, 0)));
        assert_eq!(Stamp::of(951_782_400), stamp((2000, 2, 29), (0, 0, 0)));
        assert_eq!(Stamp::of(1_492_533_000), stamp((2017, 4, 18), (16, 30, 0)));
        assert_eq!(Stamp::of(4_107_542_399), stamp((2100, 2, 28), (23, 59, 58)));
        assert_eq!(Stamp::of(4_107_542_400), stamp((2100, 3, 1), (0, 0, 0)));
        assert_eq!(Stamp::of(i64::MAX), stamp((2107, 12, 31), (23, 59, 58)));
    }

    #[test]
    fn long_names_end_in_a_zero_where_there_is_room() {
        let full = long_name("thirteen.unit", b"THIRTE~1UNI");
        assert_eq!(full.len(), 1);
        assert_eq!(full[0][0], 0x41);
        assert_eq!(&full[0][28..], b"i\0t\0");
        let two = long_name("fourteen.units", b"FOURTE~1UNI");
        assert_eq!((two[0][0], two[1][0]), (0x42, 1));
        assert_eq!(two[0][1..11], [b's', 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
