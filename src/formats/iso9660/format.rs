//! The structures of ISO 9660 (ECMA-119, 4th edition). Most numbers stand in both byte orders.

use crate::formats::calendar::Civil;

/// Bytes of a sector, which is also the logical block.
pub const SECTOR: u64 = 2048;
/// Sectors that are not the file system's: boot programs of disks.
pub const SYSTEM_AREA: u64 = 16;
/// Bytes of one extent: the largest multiple of a sector that a 32-bit size holds.
pub const EXTENT_LIMIT: u64 = (1 << 32) - SECTOR;
/// Bytes of a record in front of its identifier.
pub const RECORD_SIZE: usize = 33;
/// Bytes of a record at most: its length is one byte, and even.
pub const RECORD_LIMIT: usize = 254;
/// Record flag: a folder.
pub const FOLDER: u8 = 0x02;
/// Record flag: the file goes on in the next record.
pub const MULTI_EXTENT: u8 = 0x80;

/// A number of 16 bits in both orders (7.2.3).
pub fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

/// A number of 32 bits in both orders (7.3.3).
pub fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

/// A record's date (9.1.5), in UTC.
pub fn record_date(time: i64) -> [u8; 7] {
    let Civil { year, month, day, hour, minute, second } = Civil::of(time);
    [(year - 1900) as u8, month as u8, day as u8, hour as u8, minute as u8, second as u8, 0]
}

/// A descriptor's date (8.4.26.1), in UTC.
fn descriptor_date(time: i64) -> Vec<u8> {
    let Civil { year, month, day, hour, minute, second } = Civil::of(time);
    let mut out = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00").into_bytes();
    out.push(0);
    out
}

/// Where something lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First sector.
    pub sector: u32,
    /// Bytes.
    pub size: u32,
}

/// A directory record (9.1) without what stands behind its identifier; `system_use` is that.
pub fn record(identifier: &[u8], extent: Extent, flags: u8, time: i64, system_use: &[u8]) -> Vec<u8> {
    let named = (RECORD_SIZE + identifier.len()).next_multiple_of(2);
    let length = (named + system_use.len()).next_multiple_of(2);
    let mut out = Vec::with_capacity(length);
    out.extend([length as u8, 0]);
    out.extend(both32(extent.sector));
    out.extend(both32(extent.size));
    out.extend(record_date(time));
    out.extend([flags, 0, 0]);
    out.extend(both16(1));
    out.push(identifier.len() as u8);
    out.extend(identifier);
    out.resize(named, 0);
    out.extend(system_use);
    out.resize(length, 0);
    out
}

/// Where the tables of one tree lie.
#[derive(Clone, Copy, Debug)]
pub struct TreePlaces {
    /// Bytes of its path table.
    pub path_table_size: u32,
    /// Path table in little-endian order.
    pub little_path_table: u32,
    /// Path table in big-endian order.
    pub big_path_table: u32,
    /// Its root.
    pub root: Extent,
}

/// What the descriptor of a tree says.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    /// Whether it is Joliet's.
    pub joliet: bool,
    /// Label.
    pub label: &'a str,
    /// Sectors of the volume.
    pub sectors: u32,
    /// Its tables.
    pub places: TreePlaces,
    /// Time of the volume and its root.
    pub time: i64,
}

impl Descriptor<'_> {
    /// The primary descriptor (8.4), or the supplementary one of Joliet (8.5).
    pub fn encode(&self) -> Vec<u8> {
        let Descriptor { joliet, places, .. } = *self;
        let mut out = Vec::with_capacity(SECTOR as usize);
        out.push(if joliet { 2 } else { 1 });
        out.extend(b"CD001\x01\0");
        out.extend(self.text("LINUX", 32));
        out.extend(self.text(self.label, 32));
        out.extend([0; 8]);
        out.extend(both32(self.sectors));
        // The escape sequence of UCS-2 level 3.
        out.extend(if joliet { b"%/E" } else { b"\0\0\0" });
        out.extend([0; 29]);
        out.extend(both16(1)); // volumes in the set
        out.extend(both16(1)); // number of this one
        out.extend(both16(SECTOR as u16));
        out.extend(both32(places.path_table_size));
        out.extend(places.little_path_table.to_le_bytes());
        out.extend([0; 4]);
        out.extend(places.big_path_table.to_be_bytes());
        out.extend([0; 4]);
        out.extend(record(&[0], places.root, FOLDER, self.time, &[]));
        // Volume set, publisher, preparer, application, copyright, abstract, bibliography.
        for (text, size) in [("", 128), ("", 128), ("", 128), ("MOBY", 128), ("", 37), ("", 37), ("", 37)] {
            out.extend(self.text(text, size));
        }
        // Creation, modification; expiry and effect are not given.
        out.extend(descriptor_date(self.time));
        out.extend(descriptor_date(self.time));
        out.extend([&b"0000000000000000\0"[..]; 2].concat());
        out.push(1);
        out.resize(SECTOR as usize, 0);
        out
    }

    fn text(&self, text: &str, size: usize) -> Vec<u8> {
        let mut out = if self.joliet { utf16(text) } else { text.as_bytes().to_vec() };
        while out.len() < size {
            out.extend_from_slice(if self.joliet { b"\0 " } else { b" " });
        }
        out.truncate(size);
        out
    }
}

/// The descriptor that ends the list (8.3).
pub fn terminator() -> Vec<u8> {
    let mut out = b"\xffCD001\x01".to_vec();
    out.resize(SECTOR as usize, 0);
    out
}

/// UTF-16 in big-endian order.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}
