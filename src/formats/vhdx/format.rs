//! The structures of VHDX (MS-VHDX section 2). All integers are little-endian.

use super::checksum::crc32c;
use crate::error::{Error, Result};
use crate::formats::disk::{le16, le32, le64, put};

/// The unit of the file's layout: every region and block starts at a multiple of it.
pub const MIB: u64 = 1 << 20;
/// Where the two headers stand (2.2.2).
pub const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes of a header.
pub const HEADER_SIZE: usize = 4096;
/// Where the two copies of the region table stand (2.2.3).
pub const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a region table, and of the table that a metadata region starts with.
pub const TABLE_SIZE: usize = 64 << 10;
/// Where the log stands, and its length: the smallest that is allowed, as it is empty (2.3).
pub const LOG: (u64, u64) = (MIB, MIB);
/// Where the metadata region stands, and its length.
pub const METADATA: (u64, u64) = (2 * MIB, MIB);
/// Where the block allocation table stands.
pub const TABLE: u64 = 3 * MIB;
/// Bytes of a sector to the guest.
pub const LOGICAL_SECTOR: u32 = 512;
/// Bytes of a sector below, which guests align to; what Hyper-V gives new disks.
const PHYSICAL_SECTOR: u32 = 4096;

/// Region "BAT", GUID 2dc27766-f623-4200-9d64-115e9bfd4a08 (2.2.3.2).
const REGION_TABLE: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
/// Region "Metadata", GUID 8b7ca206-4790-4b9a-b8fe-575f050f886e.
const REGION_METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
/// "File Parameters", GUID caa16737-fa36-4d43-b3b6-33f0aa44e76b (2.6.2.1).
const FILE_PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
/// "Virtual Disk Size", GUID 2fa54224-cd1b-4876-b211-5dbed83bf4b8 (2.6.2.2).
const DISK_SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
/// "Virtual Disk ID", GUID beca12ab-b2e6-4523-93ef-c309e000c746 (2.6.2.3).
const DISK_ID: [u8; 16] = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";
/// "Logical Sector Size", GUID 8141bf1d-a96f-4709-ba47-f233a8faab5f (2.6.2.4).
const LOGICAL_SECTOR_SIZE: [u8; 16] = *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
/// "Physical Sector Size", GUID cda348c7-445d-4471-9cc9-e9885251c556 (2.6.2.5).
const PHYSICAL_SECTOR_SIZE: [u8; 16] = *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";

/// Whether all blocks of the file are there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All blocks have their place; what is zero is a hole of the file.
    Fixed,
    /// Only blocks that are not zero have one.
    Dynamic,
}

/// States of a block in its table entry (2.5.1.1): the lowest three bits.
pub const STATE: u64 = 7;
/// The block reads as zeros.
pub const BLOCK_ZERO: u64 = 2;
/// The block is in the file; the entry's bits from 20 on are its offset.
pub const BLOCK_PRESENT: u64 = 6;
/// The entry's offset.
pub const BLOCK_OFFSET: u64 = !(MIB - 1);

/// The file type identifier (2.2.1): the signature and the creator's name in UTF-16.
pub fn file_identifier() -> Vec<u8> {
    let mut out = b"vhdxfile".to_vec();
    out.extend("moby".encode_utf16().flat_map(u16::to_le_bytes));
    out
}

/// A header (2.2.2). `sequence` tells which of the two is the newer. A log GUID of zero says that the log is empty.
pub fn header(sequence: u64, file_write: &[u8; 16], data_write: &[u8; 16]) -> Vec<u8> {
    let mut out = vec![0; HEADER_SIZE];
    put(&mut out, 0, b"head");
    put(&mut out, 8, &sequence.to_le_bytes());
    put(&mut out, 16, file_write);
    put(&mut out, 32, data_write);
    put(&mut out, 66, &1u16.to_le_bytes());
    put(&mut out, 68, &(LOG.1 as u32).to_le_bytes());
    put(&mut out, 72, &LOG.0.to_le_bytes());
    seal(&mut out);
    out
}

/// The sequence number of a header, if it is whole; whether its log is empty.
pub fn decode_header(bytes: &[u8]) -> Option<(u64, bool)> {
    let whole = bytes.starts_with(b"head") && is_sealed(bytes) && le16(bytes, 66) == 1;
    whole.then(|| (le64(bytes, 8), bytes[48..64].iter().all(|byte| *byte == 0)))
}

/// The region table (2.2.3), for a block allocation table of `table_length` bytes.
pub fn region_table(table_length: u64) -> Vec<u8> {
    let mut out = vec![0; TABLE_SIZE];
    put(&mut out, 0, b"regi");
    put(&mut out, 8, &2u32.to_le_bytes());
    let regions = [(REGION_TABLE, TABLE, table_length), (REGION_METADATA, METADATA.0, METADATA.1)];
    for (index, (guid, offset, length)) in regions.into_iter().enumerate() {
        let at = 16 + index * 32;
        put(&mut out, at, &guid);
        put(&mut out, at + 16, &offset.to_le_bytes());
        put(&mut out, at + 24, &(length as u32).to_le_bytes());
        put(&mut out, at + 28, &1u32.to_le_bytes());
    }
    seal(&mut out);
    out
}

/// Offsets and lengths of the block allocation table and of the metadata region.
pub fn decode_region_table(bytes: &[u8]) -> Result<[(u64, u32); 2]> {
    if !bytes.starts_with(b"regi") || !is_sealed(bytes) {
        return Err(Error::refused("the VHDX's region table is damaged"));
    }
    let mut found = [None; 2];
    for entry in bytes[16..].chunks_exact(32).take(le32(bytes, 8) as usize) {
        let place = Some((le64(entry, 16), le32(entry, 24)));
        if entry[..16] == REGION_TABLE {
            found[0] = place;
        } else if entry[..16] == REGION_METADATA {
            found[1] = place;
        } else if le32(entry, 28) & 1 != 0 {
            return Err(Error::refused("the VHDX requires a region that is not known"));
        }
    }
    match found {
        [Some(table), Some(metadata)] => Ok([table, metadata]),
        _ => Err(Error::refused("the VHDX has no block allocation table or no metadata")),
    }
}

/// What the metadata say (2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Fixed or dynamic.
    pub kind: Kind,
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// The disk's GUID, in Microsoft's byte order.
    pub id: [u8; 16],
    /// Bytes of a sector to the guest.
    pub logical_sector: u32,
}

impl Metadata {
    /// The metadata table and the items behind it.
    pub fn encode(&self) -> Vec<u8> {
        /// Flags of an entry: required, and of the disk rather than of the file.
        const REQUIRED: u32 = 4;
        const OF_DISK: u32 = 2;
        let leave_allocated = u32::from(self.kind == Kind::Fixed);
        let parameters = [self.block.to_le_bytes(), leave_allocated.to_le_bytes()].concat();
        let items = [
            (FILE_PARAMETERS, parameters, REQUIRED),
            (DISK_SIZE, self.size.to_le_bytes().to_vec(), REQUIRED | OF_DISK),
            (DISK_ID, self.id.to_vec(), REQUIRED | OF_DISK),
            (LOGICAL_SECTOR_SIZE, self.logical_sector.to_le_bytes().to_vec(), REQUIRED | OF_DISK),
            (PHYSICAL_SECTOR_SIZE, PHYSICAL_SECTOR.to_le_bytes().to_vec(), REQUIRED | OF_DISK),
        ];
        let mut out = vec![0; TABLE_SIZE];
        put(&mut out, 0, b"metadata");
        put(&mut out, 10, &(items.len() as u16).to_le_bytes());
        for (index, (guid, item, flags)) in items.into_iter().enumerate() {
            let at = 32 + index * 32;
            put(&mut out, at, &guid);
            let offset = out.len() as u32;
            put(&mut out, at + 16, &offset.to_le_bytes());
            put(&mut out, at + 20, &(item.len() as u32).to_le_bytes());
            put(&mut out, at + 24, &flags.to_le_bytes());
            out.extend(item);
        }
        out
    }

    /// Reads a metadata region.
    pub fn decode(region: &[u8]) -> Result<Metadata> {
        let refuse = |what: &str| Err(Error::refused(format!("the VHDX's metadata {what}")));
        if !region.starts_with(b"metadata") || region.len() < TABLE_SIZE {
            return refuse("are damaged");
        }
        let item = |guid: &[u8; 16], length: usize| {
            let entries = region[32..TABLE_SIZE].chunks_exact(32).take(usize::from(le16(region, 10)));
            let entry = entries.into_iter().find(|entry| entry[..16] == *guid);
            entry
                .and_then(|entry| region.get(le32(entry, 16) as usize..)?.get(..length))
                .ok_or_else(|| Error::refused("the VHDX's metadata lack an item"))
        };
        let parameters = item(&FILE_PARAMETERS, 8)?;
        let (block, flags) = (le32(parameters, 0), le32(parameters, 4));
        if flags & 2 != 0 {
            return refuse("name a parent, of which the disk is only a difference");
        }
        let mut id = [0; 16];
        id.copy_from_slice(item(&DISK_ID, 16)?);
        let metadata = Metadata {
            kind: if flags & 1 != 0 { Kind::Fixed } else { Kind::Dynamic },
            block,
            size: le64(item(&DISK_SIZE, 8)?, 0),
            id,
            logical_sector: le32(item(&LOGICAL_SECTOR_SIZE, 4)?, 0),
        };
        if !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block) {
            return refuse(&format!("say that blocks have {block} bytes"));
        }
        if ![512, 4096].contains(&metadata.logical_sector) {
            return refuse(&format!("say that sectors have {} bytes", metadata.logical_sector));
        }
        if metadata.size == 0 || metadata.size > 64 << 40 {
            return refuse(&format!("say that the disk has {} bytes", metadata.size));
        }
        Ok(metadata)
    }

    /// Blocks between two entries for bitmaps: a bitmap of 1 MiB has a bit for each of 2^23 sectors (2.5.1).
    pub fn chunk(&self) -> u64 {
        (u64::from(self.logical_sector) << 23) / u64::from(self.block)
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.block))
    }

    /// Index of a block's entry in the table, behind the bitmaps' entries before it.
    pub fn entry(&self, block: u64) -> u64 {
        block + block / self.chunk()
    }
}

/// Places the checksum of a header or region table.
pub fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    put(bytes, 4, &sum.to_le_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    le32(bytes, 4) == checksum(bytes)
}

/// The checksum with its own field taken as zero.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c(bytes.iter().enumerate().map(|(index, byte)| if (4..8).contains(&index) { 0 } else { *byte }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_round_trip() {
        let bytes = header(7, &[1; 16], &[2; 16]);
        assert_eq!(decode_header(&bytes), Some((7, true)));
        let mut bad = bytes;
        bad[100] = 1;
        assert_eq!(decode_header(&bad), None);
        assert_eq!(decode_region_table(&region_table(MIB)).unwrap(), [(3 << 20, 1 << 20), (2 << 20, 1 << 20)]);
        let metadata =
            Metadata { kind: Kind::Fixed, block: 1 << 20, size: 10 << 30, id: [9; 16], logical_sector: LOGICAL_SECTOR };
        assert_eq!(Metadata::decode(&metadata.encode()).unwrap(), metadata);
        assert_eq!((metadata.blocks(), metadata.chunk(), metadata.entry(4096)), (10_240, 4096, 4097));
        assert!(Metadata::decode(&[]).is_err() && decode_region_table(&[]).is_err() && decode_header(&[]).is_none());
    }
}
