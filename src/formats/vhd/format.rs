//! The structures of VHD. All integers are big-endian.

use crate::error::{Error, Result};
use crate::formats::disk::{SECTOR, be16, be32, be64, put};

/// Seconds from 1970-01-01 to 2000-01-01, where VHD's time begins.
const EPOCH: i64 = 946_684_800;
/// "win ", Hyper-V's name. Readers take the exact size of the disk for a few known creators only, and compute it
/// from the geometry for all others, which cuts the end of the disk off (QEMU: block/vpc.c).
const CREATOR: &[u8; 4] = b"win ";
/// Hyper-V's version 6.3, of Windows Server 2012 R2.
const CREATOR_VERSION: u32 = 0x0006_0003;
/// "Wi2k": Windows; the other name in the specification is the Macintosh's.
const CREATOR_HOST: &[u8; 4] = b"Wi2k";
/// Version 1.0 of footer and header.
const VERSION: u32 = 0x0001_0000;
/// Nothing follows, or no parent.
const NOWHERE: u64 = u64::MAX;

/// Bytes of a block of a dynamic disk, the specification's default.
pub const BLOCK: u64 = 2 << 20;
/// Where the dynamic disk header stands, behind the copy of the footer.
pub const HEADER_OFFSET: u64 = 512;
/// Bytes of the dynamic disk header.
pub const HEADER_SIZE: usize = 1024;
/// Where the block allocation table stands.
pub const TABLE_OFFSET: u64 = 1536;
/// Entry of a block that is not there.
pub const UNUSED: u32 = u32::MAX;

/// Fixed or dynamic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The raw disk and a footer.
    Fixed = 2,
    /// Blocks that are not zero, with a table.
    Dynamic = 3,
}

/// Cylinders, heads and sectors per track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
}

impl Geometry {
    /// The specification's appendix "CHS Calculation".
    pub fn of(size: u64) -> Geometry {
        let total = (size / SECTOR).min(65_535 * 16 * 255);
        let (sectors, heads);
        if total >= 65_535 * 16 * 63 {
            (sectors, heads) = (255, 16);
        } else {
            let tracks = total / 17;
            let some_heads = tracks.div_ceil(1024).max(4);
            if tracks < some_heads * 1024 && some_heads <= 16 {
                (sectors, heads) = (17, some_heads);
            } else if total / 31 < 16 * 1024 {
                (sectors, heads) = (31, 16);
            } else {
                (sectors, heads) = (63, 16);
            }
        }
        let cylinders = (total / sectors / heads) as u16;
        Geometry { cylinders, heads: heads as u8, sectors: sectors as u8 }
    }
}

/// The footer ("Hard Disk Footer Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Fixed or dynamic.
    pub kind: Kind,
    /// Seconds since 2000-01-01 UTC.
    pub time: u32,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Geometry.
    pub geometry: Geometry,
    /// UUID in network byte order.
    pub uuid: [u8; 16],
}

impl Footer {
    /// A footer for a disk made at `time`, in seconds since 1970; earlier times than 2000 become 2000.
    pub fn new(kind: Kind, size: u64, time: i64, uuid: [u8; 16]) -> Footer {
        let time = u32::try_from(time.saturating_sub(EPOCH).max(0)).unwrap_or(u32::MAX);
        Footer { kind, time, size, geometry: Geometry::of(size), uuid }
    }

    /// One sector.
    pub fn encode(&self) -> [u8; SECTOR as usize] {
        let mut out = [0; SECTOR as usize];
        put(&mut out, 0, b"conectix");
        // Features: bit 1 is reserved and always set.
        put(&mut out, 8, &2u32.to_be_bytes());
        put(&mut out, 12, &VERSION.to_be_bytes());
        let next = if self.kind == Kind::Fixed { NOWHERE } else { HEADER_OFFSET };
        put(&mut out, 16, &next.to_be_bytes());
        put(&mut out, 24, &self.time.to_be_bytes());
        put(&mut out, 28, CREATOR);
        put(&mut out, 32, &CREATOR_VERSION.to_be_bytes());
        put(&mut out, 36, CREATOR_HOST);
        put(&mut out, 40, &self.size.to_be_bytes());
        put(&mut out, 48, &self.size.to_be_bytes());
        put(&mut out, 56, &self.geometry.cylinders.to_be_bytes());
        put(&mut out, 58, &[self.geometry.heads, self.geometry.sectors]);
        put(&mut out, 60, &(self.kind as u32).to_be_bytes());
        put(&mut out, 68, &self.uuid);
        seal(&mut out, 64);
        out
    }

    /// Reads a footer.
    pub fn decode(bytes: &[u8]) -> Result<Footer> {
        let refuse = |what: String| Err(Error::refused(format!("the VHD's footer {what}")));
        if bytes.get(..8) != Some(b"conectix") {
            return refuse("does not start with conectix: the file is no VHD, or was cut off".into());
        }
        if be32(bytes, 64) != checksum(bytes, 64) {
            return refuse(format!("has checksum {:#010x}, not {:#010x}", checksum(bytes, 64), be32(bytes, 64)));
        }
        let kind = match be32(bytes, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => return refuse("is of a differencing disk, which is not whole without its parent".into()),
            other => return refuse(format!("has the unknown type {other}")),
        };
        let size = be64(bytes, 48);
        if size == 0 || size > 1 << 60 || !size.is_multiple_of(SECTOR) {
            return refuse(format!("says that the disk has {size} bytes"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(bytes.get(68..84).unwrap_or(&[0; 16]));
        let field = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let geometry = Geometry { cylinders: be16(bytes, 56), heads: field(58), sectors: field(59) };
        Ok(Footer { kind, time: be32(bytes, 24), size, geometry, uuid })
    }
}

/// The header of a dynamic disk ("Dynamic Disk Header Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the block allocation table stands.
    pub table: u64,
    /// Entries of the table.
    pub entries: u32,
    /// Bytes of a block.
    pub block: u32,
}

impl Header {
    /// 1024 bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        put(&mut out, 0, b"cxsparse");
        put(&mut out, 8, &NOWHERE.to_be_bytes());
        put(&mut out, 16, &self.table.to_be_bytes());
        put(&mut out, 24, &VERSION.to_be_bytes());
        put(&mut out, 28, &self.entries.to_be_bytes());
        put(&mut out, 32, &self.block.to_be_bytes());
        seal(&mut out, 36);
        out
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<Header> {
        let refuse = |what: String| Err(Error::refused(format!("the VHD's dynamic header {what}")));
        if bytes.get(..8) != Some(b"cxsparse") {
            return refuse("does not start with cxsparse".into());
        }
        if be32(bytes, 36) != checksum(bytes, 36) {
            return refuse("has a wrong checksum".into());
        }
        let header = Header { table: be64(bytes, 16), entries: be32(bytes, 28), block: be32(bytes, 32) };
        if !header.block.is_power_of_two() || !(4096..=256 << 20).contains(&header.block) {
            return refuse(format!("says that blocks have {} bytes", header.block));
        }
        Ok(header)
    }
}

/// The one's complement of the sum of all bytes but the checksum's own.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let own = at..at + 4;
    let sum = bytes.iter().enumerate().filter(|(i, _)| !own.contains(i)).map(|(_, byte)| u32::from(*byte));
    !sum.fold(0, u32::wrapping_add)
}

/// Places the checksum of a structure at `at`.
pub fn seal(bytes: &mut [u8], at: usize) {
    let sum = checksum(bytes, at);
    put(bytes, at, &sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries() {
        // As `qemu-img create -f vpc` computes them.
        for (mib, cylinders, heads, sectors) in [
            (1, 30, 4, 17),
            (100, 1003, 12, 17),
            (1024, 2080, 16, 63),
            (6144, 12_483, 16, 63),
            (140_000, 65_535, 16, 255),
        ] {
            let size = (mib as u64) << 20;
            assert_eq!(Geometry::of(size), Geometry { cylinders, heads, sectors }, "{mib} MiB");
        }
    }

    #[test]
    fn structures_round_trip() {
        let footer = Footer::new(Kind::Dynamic, 6 << 30, EPOCH + 5, [7; 16]);
        let bytes = footer.encode();
        assert_eq!((Footer::decode(&bytes).unwrap(), footer.time), (footer, 5));
        let mut bad = bytes;
        bad[100] ^= 1;
        assert!(Footer::decode(&bad).is_err());
        assert_eq!(Footer::new(Kind::Fixed, 512, 0, [0; 16]).time, 0);
        let header = Header { table: 1536, entries: 3072, block: 2 << 20 };
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        assert!(Header::decode(&[]).is_err() && Footer::decode(&[]).is_err());
    }
}
