//! The GUID partition table (UEFI 2.10, section 5.3). It names partitions; where they lie is the kernel's to say, but for
//! drives of which it makes no partitions.
//!
//! Not supported: entries of another size than 128 bytes (the kernel refuses them too), more than 1024 entries.

use crate::bytes::{guid, slice, u32_at, u64_at};

/// Everything that is needed of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1 on: the kernel's number of the partition.
    pub number: u32,
    /// First sector, in logical sectors of the disk.
    pub first: u64,
    /// Last sector.
    pub last: u64,
    /// What it is for.
    pub kind: String,
    /// Its own identifier: PARTUUID.
    pub guid: String,
    /// Its name: PARTLABEL.
    pub label: String,
}

/// A header whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First sector of the entries.
    pub entries_at: u64,
    /// Bytes of all entries.
    pub length: usize,
    checksum: u32,
}

const ENTRY: usize = 128;
const MOST_ENTRIES: u32 = 1024;

/// Reads the header that stands in sector `at`. `Err` says what is wrong with it.
pub fn header(sector: &[u8], at: u64) -> Result<Header, &'static str> {
    let word = |offset| u32_at(sector, offset).ok_or("is cut off");
    if slice(sector, 0, 8) != Some(b"EFI PART") {
        return Err("is not there");
    }
    let size = word(12)? as usize;
    if !(92..=sector.len()).contains(&size) {
        return Err("has an impossible size");
    }
    let mut bytes = slice(sector, 0, size).ok_or("is cut off")?.to_vec();
    bytes.iter_mut().skip(16).take(4).for_each(|byte| *byte = 0);
    if crc32(&bytes) != word(16)? {
        return Err("has a wrong checksum");
    }
    if u64_at(sector, 24) != Some(at) {
        return Err("belongs to another sector");
    }
    let count = word(80)?;
    if word(84)? as usize != ENTRY || count > MOST_ENTRIES {
        return Err("has entries of an unusual size or number");
    }
    let entries_at = u64_at(sector, 72).ok_or("is cut off")?;
    Ok(Header { entries_at, length: count as usize * ENTRY, checksum: word(88)? })
}

/// Reads the entries; `bytes` are those that the header tells of.
pub fn entries(header: &Header, bytes: &[u8]) -> Result<Vec<Entry>, &'static str> {
    if bytes.len() != header.length || crc32(bytes) != header.checksum {
        return Err("has entries with a wrong checksum");
    }
    let entry = |(number, bytes): (u32, &[u8])| {
        // An entry of no type is unused.
        let kind = guid(slice(bytes, 0, 16)?)?;
        let name = slice(bytes, 56, 72)?.chunks(2).filter_map(|pair| pair.first_chunk::<2>());
        let name: Vec<u16> = name.map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0).collect();
        Some(Entry {
            number,
            first: u64_at(bytes, 32)?,
            last: u64_at(bytes, 40)?,
            kind,
            guid: guid(slice(bytes, 16, 16)?).unwrap_or_default(),
            label: String::from_utf16_lossy(&name),
        })
    };
    Ok((1..).zip(bytes.chunks(ENTRY)).filter_map(entry).collect())
}

/// CRC-32 as Ethernet has it (reversed polynomial 0xEDB88320). Bit by bit: 16 KiB take under a millisecond.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A header in sector 1 with entries in sector 2, and the entries: one partition as number 2 of 4.
    pub fn sample() -> (Vec<u8>, Vec<u8>) {
        sample_at(1)
    }

    /// The same with the header in another sector, up to 255.
    pub fn sample_at(sector: u8) -> (Vec<u8>, Vec<u8>) {
        let mut entries = vec![0; 4 * ENTRY];
        entries[128..144].copy_from_slice(&(1..=16).collect::<Vec<u8>>());
        entries[144..160].copy_from_slice(&(17..=32).collect::<Vec<u8>>());
        entries[160..168].copy_from_slice(&2048_u64.to_le_bytes());
        entries[168..176].copy_from_slice(&3999_u64.to_le_bytes());
        entries[184..190].copy_from_slice(&[b'r', 0, 0xe4, 0, b't', 0]);
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"EFI PART");
        header[12] = 92;
        header[24] = sector;
        header[72] = 2;
        header[80] = 4;
        header[84] = 128;
        header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        let sum = crc32(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        (header, entries)
    }

    #[test]
    fn checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn reads() {
        let (sector, bytes) = sample();
        let found = header(&sector, 1).unwrap();
        assert_eq!((found.entries_at, found.length), (2, 512));
        let list = entries(&found, &bytes).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].number, list[0].first, list[0].last), (2, 2048, 3999));
        assert_eq!(list[0].label, "rät");
        assert_eq!(list[0].guid, "14131211-1615-1817-191a-1b1c1d1e1f20");
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let (sector, bytes) = sample();
        let good = header(&sector, 1).unwrap();
        for at in 0..92 {
            let mut bad = sector.clone();
            bad[at] ^= 0x10;
            assert!(header(&bad, 1).is_err(), "{at}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(entries(&good, &bad).is_err());
        }
        assert!(header(&sector, 7).is_err());
        assert!(entries(&good, &bytes[..511]).is_err());
        for length in 0..512 {
            let _ = header(&sector[..length], 1);
        }
    }

    #[test]
    fn absurd_headers() {
        for (at, value) in [(80, u32::MAX), (84, 0), (84, 1 << 31), (12, 0), (12, u32::MAX), (12, 513)] {
            let (mut sector, _) = sample();
            sector[at..at + 4].copy_from_slice(&value.to_le_bytes());
            sector[16..20].fill(0);
            let sum = crc32(&sector[..92]);
            sector[16..20].copy_from_slice(&sum.to_le_bytes());
            assert!(header(&sector, 1).is_err(), "{at} {value}");
        }
    }
}
