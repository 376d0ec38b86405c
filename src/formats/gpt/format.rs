//! The structures of a GUID partition table (UEFI 2.10, 5.3). All numbers are little-endian.

use super::Guid;

/// `EFI PART`.
pub const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Revision 1.0, the only one.
pub const REVISION: u32 = 0x0001_0000;
/// Bytes of the header that the checksum covers; the rest of its sector is zero.
pub const HEADER_SIZE: u32 = 92;
/// Bytes of an entry. Larger ones are allowed; nobody writes them.
pub const ENTRY_SIZE: u32 = 128;
/// Entries of a table. Tables must have room for 128 (5.3.1: 16,384 bytes), and Linux reads no more than 256.
pub const ENTRY_COUNT: u32 = 128;
/// UTF-16 units of a partition's name.
pub const NAME_LENGTH: usize = 36;
/// Bytes of the entry array.
pub const ENTRIES_SIZE: u64 = (ENTRY_SIZE * ENTRY_COUNT) as u64;

/// The header, primary or backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sector of this header.
    pub own_lba: u64,
    /// Sector of the other header.
    pub other_lba: u64,
    /// First sector that partitions may use.
    pub first_usable_lba: u64,
    /// Last sector that partitions may use.
    pub last_usable_lba: u64,
    /// The disk's GUID.
    pub disk: Guid,
    /// Sector of this header's copy of the entries.
    pub entries_lba: u64,
    /// Number of entries, used or not.
    pub entry_count: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// CRC-32 of the entries.
    pub entries_crc: u32,
}

impl Header {
    /// The header's 92 bytes with its checksum.
    pub fn encode(&self) -> [u8; HEADER_SIZE as usize] {
        let mut out = [0; HEADER_SIZE as usize];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(SIGNATURE);
        put(&REVISION.to_le_bytes());
        put(&HEADER_SIZE.to_le_bytes());
        put(&[0; 8]); // checksum, reserved
        put(&self.own_lba.to_le_bytes());
        put(&self.other_lba.to_le_bytes());
        put(&self.first_usable_lba.to_le_bytes());
        put(&self.last_usable_lba.to_le_bytes());
        put(&self.disk.to_disk());
        put(&self.entries_lba.to_le_bytes());
        put(&self.entry_count.to_le_bytes());
        put(&self.entry_size.to_le_bytes());
        put(&self.entries_crc.to_le_bytes());
        let crc = crc32(&out);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header from its sector. The error says what is wrong with it.
    pub fn decode(sector: &[u8]) -> Result<Header, &'static str> {
        let size = match sector.get(..16) {
            Some(start) if &start[..8] == SIGNATURE => u32_at(start, 12),
            _ => return Err("no \"EFI PART\" signature"),
        };
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        let mut bytes = match sector.get(..size) {
            Some(bytes) if size >= HEADER_SIZE as usize => bytes.to_vec(),
            _ => return Err("an impossible header size"),
        };
        let expected = u32_at(&bytes, 16);
        bytes[16..20].fill(0);
        if expected != Some(crc32(&bytes)) {
            return Err("a wrong header checksum");
        }
        let read = || {
            Some(Header {
                own_lba: u64_at(&bytes, 24)?,
                other_lba: u64_at(&bytes, 32)?,
                first_usable_lba: u64_at(&bytes, 40)?,
                last_usable_lba: u64_at(&bytes, 48)?,
                disk: Guid::from_disk(bytes.get(56..72)?.try_into().ok()?),
                entries_lba: u64_at(&bytes, 72)?,
                entry_count: u32_at(&bytes, 80)?,
                entry_size: u32_at(&bytes, 84)?,
                entries_crc: u32_at(&bytes, 88)?,
            })
        };
        read().ok_or("a header that is cut off")
    }
}

/// One partition's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition's type.
    pub kind: Guid,
    /// The partition's own GUID.
    pub guid: Guid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, which belongs to it.
    pub last_lba: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// The name in UTF-16 units, without the zeros behind it.
    pub name: Vec<u16>,
}

impl Entry {
    /// The entry's bytes. Units of the name beyond [`NAME_LENGTH`] are cut.
    pub fn encode(&self) -> [u8; ENTRY_SIZE as usize] {
        let mut out = [0; ENTRY_SIZE as usize];
        out[..16].copy_from_slice(&self.kind.to_disk());
        out[16..32].copy_from_slice(&self.guid.to_disk());
        out[32..40].copy_from_slice(&self.first_lba.to_le_bytes());
        out[40..48].copy_from_slice(&self.last_lba.to_le_bytes());
        out[48..56].copy_from_slice(&self.attributes.to_le_bytes());
        for (place, unit) in out[56..].chunks_exact_mut(2).zip(&self.name) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
        out
    }

    /// Reads an entry; `None` if it is unused or cut off.
    pub fn decode(bytes: &[u8]) -> Option<Entry> {
        let kind = Guid::from_disk(bytes.get(..16)?.try_into().ok()?);
        if kind == Guid::ZERO {
            return None;
        }
        let units =
            bytes.get(56..ENTRY_SIZE as usize)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Some(Entry {
            kind,
            guid: Guid::from_disk(bytes.get(16..32)?.try_into().ok()?),
            first_lba: u64_at(bytes, 32)?,
            last_lba: u64_at(bytes, 40)?,
            attributes: u64_at(bytes, 48)?,
            name: units.take_while(|unit| *unit != 0).collect(),
        })
    }
}

/// CRC-32 as in Ethernet.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
