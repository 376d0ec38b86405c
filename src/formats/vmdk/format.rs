//! The structures of VMDK ("Virtual Disk Format 5.0"). All integers are little-endian, all places in sectors.

use crate::error::{Error, Result};
use crate::formats::disk::{SECTOR, le16, le32, le64, put};

/// `KDMV`, the magic 0x564d444b (section "Hosted Sparse Extent Header").
pub const MAGIC: &[u8; 4] = b"KDMV";
/// Sectors of a grain: 64 KiB, the default of every VMware product.
pub const GRAIN_SECTORS: u64 = 128;
/// Bytes of a grain.
pub const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Entries of a grain table; fixed by the specification. One table covers 32 MiB.
pub const TABLE_ENTRIES: u64 = 512;
/// Sectors of a grain table.
pub const TABLE_SECTORS: u64 = TABLE_ENTRIES * 4 / SECTOR;
/// Where the embedded descriptor begins, and its length, in sectors.
pub const DESCRIPTOR: (u64, u64) = (1, 20);
/// `gdOffset` of a stream: the grain directory is named by the footer.
pub const AT_END: u64 = u64::MAX;

/// The bytes that tell line ends mangled by a transfer in text mode are valid.
const NEWLINES: u32 = 1;
/// A second, redundant grain directory exists.
const REDUNDANT: u32 = 1 << 1;
/// Grains are compressed.
const COMPRESSED: u32 = 1 << 16;
/// Grains and tables stand behind markers.
const MARKERS: u32 = 1 << 17;

/// Types of markers (section "Stream-Optimized Compressed Sparse Extents"); a marker with a size is a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The end of the stream.
    End = 0,
    /// A grain table.
    Table = 1,
    /// The grain directory.
    Directory = 2,
    /// The footer.
    Footer = 3,
}

impl Marker {
    /// The marker's sector; `sectors` is the length of what follows.
    pub fn encode(self, sectors: u64) -> [u8; SECTOR as usize] {
        let mut out = [0; SECTOR as usize];
        put(&mut out, 0, &sectors.to_le_bytes());
        put(&mut out, 12, &(self as u32).to_le_bytes());
        out
    }
}

/// The header of a sparse extent; a stream ends with a second one, the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether grains are compressed and stand behind markers.
    pub stream: bool,
    /// Size of the disk in sectors.
    pub capacity: u64,
    /// Sectors of a grain.
    pub grain_sectors: u64,
    /// Sector of the redundant grain directory, 0 without one.
    pub redundant_directory: u64,
    /// Sector of the grain directory.
    pub directory: u64,
    /// Sectors before the first grain.
    pub overhead: u64,
}

impl Header {
    /// One sector.
    pub fn encode(&self) -> [u8; SECTOR as usize] {
        let (version, flags, compression) =
            if self.stream { (3u32, NEWLINES | COMPRESSED | MARKERS, 1u16) } else { (1, NEWLINES | REDUNDANT, 0) };
        let mut out = [0; SECTOR as usize];
        put(&mut out, 0, MAGIC);
        put(&mut out, 4, &version.to_le_bytes());
        put(&mut out, 8, &flags.to_le_bytes());
        put(&mut out, 12, &self.capacity.to_le_bytes());
        put(&mut out, 20, &self.grain_sectors.to_le_bytes());
        put(&mut out, 28, &DESCRIPTOR.0.to_le_bytes());
        put(&mut out, 36, &DESCRIPTOR.1.to_le_bytes());
        put(&mut out, 44, &(TABLE_ENTRIES as u32).to_le_bytes());
        put(&mut out, 48, &self.redundant_directory.to_le_bytes());
        put(&mut out, 56, &self.directory.to_le_bytes());
        put(&mut out, 64, &self.overhead.to_le_bytes());
        put(&mut out, 73, b"\n \r\n");
        put(&mut out, 77, &compression.to_le_bytes());
        out
    }

    /// Reads a header or footer.
    pub fn decode(bytes: &[u8]) -> Result<Header> {
        let refuse = |what: String| Err(Error::refused(format!("the VMDK {what}")));
        if bytes.get(..4) != Some(MAGIC) {
            return refuse(
                "does not start with KDMV: it is no sparse VMDK (descriptors of flat files are not read)".into(),
            );
        }
        let version = le32(bytes, 4);
        if !(1..=3).contains(&version) {
            return refuse(format!("has version {version}; 1 to 3 are known"));
        }
        if le32(bytes, 8) & NEWLINES != 0 && bytes.get(73..77) != Some(b"\n \r\n") {
            return refuse("was damaged by a transfer in text mode".into());
        }
        let (flags, compression) = (le32(bytes, 8), le16(bytes, 77));
        let stream = match (flags & COMPRESSED != 0, flags & MARKERS != 0, compression) {
            (false, false, _) => false,
            (true, true, 1) => true,
            _ => return refuse(format!("has flags {flags:#x} with compression {compression}, which is not known")),
        };
        let header = Header {
            stream,
            capacity: le64(bytes, 12),
            grain_sectors: le64(bytes, 20),
            redundant_directory: le64(bytes, 48),
            directory: le64(bytes, 56),
            overhead: le64(bytes, 64),
        };
        if !header.grain_sectors.is_power_of_two() || !(8..=4096).contains(&header.grain_sectors) {
            return refuse(format!("has grains of {} sectors", header.grain_sectors));
        }
        if u64::from(le32(bytes, 44)) != TABLE_ENTRIES {
            return refuse(format!("has grain tables of {} entries; {TABLE_ENTRIES} are allowed", le32(bytes, 44)));
        }
        if header.capacity == 0 || header.capacity > 1 << 48 {
            return refuse(format!("is said to have {} sectors", header.capacity));
        }
        Ok(header)
    }

    /// Grain tables that the disk needs.
    pub fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain_sectors * TABLE_ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for stream in [false, true] {
            let header = Header {
                stream,
                capacity: 12_582_912,
                grain_sectors: 128,
                redundant_directory: 21,
                directory: 800,
                overhead: 1664,
            };
            let bytes = header.encode();
            assert_eq!(Header::decode(&bytes).unwrap(), header);
            assert_eq!(header.tables(), 192);
            for (at, value) in [(0, 0), (4, 9), (73, 13), (20, 127), (45, 0), (19, 1), (10, 3 - 2 * u8::from(stream))] {
                let mut bad = bytes;
                bad[at] = value;
                assert!(Header::decode(&bad).is_err(), "{at}");
            }
        }
    }
}
