//! What file system a device holds, and its name: as much of a superblock as that takes.

use crate::bytes::{hex, slice, text, u16_at, u32_at, u64_at, uuid};

/// So many bytes of a device are looked at: ISO 9660's descriptor is the farthest.
pub const LOOKED_AT: usize = 36 << 10;

/// A file system that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// The kernel's name for it.
    pub kind: &'static str,
    /// As blkid writes it, in lower case.
    pub uuid: Option<String>,
    /// Its name.
    pub label: Option<String>,
    /// Bytes, where the superblock tells.
    pub size: Option<u64>,
}

/// Recognises the file system by the first bytes of a device; fewer than [`LOOKED_AT`] if the device is smaller.
pub fn recognise(bytes: &[u8]) -> Option<FileSystem> {
    squashfs(bytes).or_else(|| erofs(bytes)).or_else(|| ext4(bytes)).or_else(|| iso9660(bytes)).or_else(|| fat(bytes))
}

/// Squashfs has neither UUID nor name.
fn squashfs(bytes: &[u8]) -> Option<FileSystem> {
    let found = slice(bytes, 0, 4)? == b"hsqs";
    found.then_some(FileSystem { kind: "squashfs", uuid: None, label: None, size: u64_at(bytes, 40) })
}

fn erofs(bytes: &[u8]) -> Option<FileSystem> {
    (u32_at(bytes, 1024)? == 0xe0f5_e1e2).then_some(())?;
    // With 48-bit block numbers (EROFS_FEATURE_INCOMPAT_48BIT) the number of blocks is elsewhere.
    let long = u32_at(bytes, 1104)? & 0x80 != 0;
    let size = sized(u32_at(bytes, 1060)?.into(), u32::from(*bytes.get(1036)?)).filter(|_| !long);
    Some(FileSystem { kind: "erofs", uuid: uuid(slice(bytes, 1072, 16)?), label: text(slice(bytes, 1088, 16)?), size })
}

fn ext4(bytes: &[u8]) -> Option<FileSystem> {
    (u16_at(bytes, 1080)? == 0xef53).then_some(())?;
    // The upper half of the number counts with INCOMPAT_64BIT only.
    let high = if u32_at(bytes, 1120)? & 0x80 != 0 { u32_at(bytes, 1360)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(u32_at(bytes, 1028)?);
    let size = sized(blocks, u32_at(bytes, 1048)?.saturating_add(10));
    Some(FileSystem { kind: "ext4", uuid: uuid(slice(bytes, 1128, 16)?), label: text(slice(bytes, 1144, 16)?), size })
}

/// The primary volume descriptor is in sector 16 of 2048 bytes (ECMA-119, 8.4). Its UUID is the time of its last
/// change, as blkid has it: `2024-05-06-07-08-09-00`.
fn iso9660(bytes: &[u8]) -> Option<FileSystem> {
    (slice(bytes, 32_768, 6)? == b"\x01CD001").then_some(())?;
    let date = |at: usize| slice(bytes, 32_768 + at, 16).filter(|date| date.iter().all(u8::is_ascii_digit));
    let set = |date: &&[u8]| date.iter().any(|digit| *digit != b'0');
    let date = date(830).filter(set).or_else(|| date(813).filter(set)).and_then(text);
    let uuid = date.map(|date| {
        let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
        [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)].join("-")
    });
    let size = u64::from(u32_at(bytes, 32_848)?) * u64::from(u16_at(bytes, 32_896)?);
    Some(FileSystem { kind: "iso9660", uuid, label: text(slice(bytes, 32_808, 32)?), size: Some(size) })
}

/// A boot sector alone proves little: the name that every formatting program writes is asked for too.
fn fat(bytes: &[u8]) -> Option<FileSystem> {
    (slice(bytes, 510, 2)? == [0x55, 0xaa]).then_some(())?;
    let at = match (slice(bytes, 82, 8)?, slice(bytes, 54, 5)?) {
        (b"FAT32   ", _) => 67,
        (_, b"FAT12" | b"FAT16") => 39,
        _ => return None,
    };
    let serial: Vec<u8> = slice(bytes, at, 4)?.iter().rev().copied().collect();
    let uuid = hex(&serial);
    let uuid = [uuid.get(..4)?, uuid.get(4..)?].join("-");
    let label = text(slice(bytes, at + 4, 11)?).filter(|label| label != "NO NAME");
    Some(FileSystem { kind: "vfat", uuid: Some(uuid), label, size: None })
}

/// Bytes of `blocks` blocks of two to the power of `bits` bytes.
fn sized(blocks: u64, bits: u32) -> Option<u64> {
    blocks.checked_mul(1_u64.checked_shl(bits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; LOOKED_AT];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn recognised(parts: &[(usize, &[u8])]) -> (&'static str, Option<String>, Option<String>) {
        let found = recognise(&device(parts)).unwrap();
        (found.kind, found.uuid, found.label)
    }

    #[test]
    fn every_kind() {
        let id: Vec<u8> = (1..=16).collect();
        let uuid = Some("01020304-0506-0708-090a-0b0c0d0e0f10".to_owned());
        let name = Some("root".to_owned());
        let erofs: &[(usize, &[u8])] = &[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1072, &id), (1088, b"root")];
        assert_eq!(recognised(erofs), ("erofs", uuid.clone(), name.clone()));
        let ext4: &[(usize, &[u8])] = &[(1080, &[0x53, 0xef]), (1128, &id), (1144, b"root")];
        assert_eq!(recognised(ext4), ("ext4", uuid, name));
        assert_eq!(recognised(&[(0, b"hsqs")]), ("squashfs", None, None));
        let iso: &[(usize, &[u8])] =
            &[(32_768, b"\x01CD001"), (32_808, b"MOBY                            "), (33_598, b"2024050607080900")];
        assert_eq!(recognised(iso), ("iso9660", Some("2024-05-06-07-08-09-00".to_owned()), Some("MOBY".to_owned())));
        let fat: &[(usize, &[u8])] =
            &[(82, b"FAT32   "), (67, &[4, 3, 2, 0xa1]), (71, b"NO NAME    "), (510, &[0x55, 0xaa])];
        assert_eq!(recognised(fat), ("vfat", Some("a102-0304".to_owned()), None));
    }

    #[test]
    fn sizes() {
        let size = |parts: &[(usize, &[u8])]| recognise(&device(parts)).unwrap().size;
        let erofs: &[(usize, &[u8])] = &[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1036, &[12]), (1060, &[3])];
        assert_eq!(size(erofs), Some(3 * 4096));
        assert_eq!(size(&[erofs, &[(1104, &[0x80])]].concat()), None);
        assert_eq!(size(&[erofs, &[(1036, &[0xff])]].concat()), None);
        assert_eq!(size(&[erofs, &[(1036, &[63])]].concat()), None);
        let ext4: &[(usize, &[u8])] = &[(1080, &[0x53, 0xef]), (1028, &[5]), (1048, &[2]), (1360, &[1])];
        assert_eq!(size(ext4), Some(5 * 4096));
        assert_eq!(size(&[ext4, &[(1120, &[0x80])]].concat()), Some((5 + (1 << 32)) * 4096));
        assert_eq!(size(&[ext4, &[(1048, &[0xff; 4])]].concat()), None);
        assert_eq!(size(&[(0, b"hsqs"), (40, &[7])]), Some(7));
        let iso: &[(usize, &[u8])] = &[(32_768, b"\x01CD001"), (32_848, &[9]), (32_896, &[0, 8])];
        assert_eq!(size(iso), Some(9 * 2048));
    }

    #[test]
    fn nothing_and_too_little() {
        assert_eq!(recognise(&[]), None);
        assert_eq!(recognise(&device(&[])), None);
        let erofs = device(&[(1024, &[0xe2, 0xe1, 0xf5, 0xe0])]);
        for length in [0, 3, 1024, 1027, 1028, 1090] {
            assert_eq!(recognise(&erofs[..length]), None);
        }
        let iso = device(&[(32_768, b"\x01CD001"), (33_598, "20240506ä80900".as_bytes())]);
        assert_eq!(recognise(&iso).unwrap().uuid, None);
        assert_eq!(recognise(&iso[..32_820]), None);
    }
}
