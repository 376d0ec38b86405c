//! What makes the image boot as a disk too: a boot record and a GUID partition table in the 32 KiB that ISO 9660 leaves
//! alone, and the table's backup at the end.

use super::el_torito::{Placed, Platform};
use super::format::{SECTOR, SYSTEM_AREA};
use super::layout::Data;
use crate::error::{Error, Result};
use crate::formats::gpt::{self, Entry, Guid, SectorSize, Table};
use crate::formats::mbr;
use crate::store::Digest;

/// Sectors of a disk in one of the CD's.
const DISK_SECTORS: u64 = SECTOR / 512;
/// Partition type of the whole image, as isohybrid has it: "hidden NTFS", which nothing mounts by itself.
const WHOLE_IMAGE: u8 = 0x17;
/// Where isohybrid's boot program looks for the sector of isolinux.
const LOADER_SECTOR: std::ops::Range<usize> = 432..440;

/// The tables of a disk.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// What BIOS runs from the boot record (isolinux's isohdpfx.bin); empty if BIOS is not to boot it as a disk.
    pub boot_code: Vec<u8>,
    /// Partitions behind the files, which are in no folder; each at whole MiB. They need a volume for UEFI: without one there
    /// is no GUID partition table.
    pub partitions: Vec<gpt::Partition>,
}

/// Sectors that partitions start and end at multiples of: 1 MiB.
pub const ALIGNMENT: u64 = (1 << 20) / SECTOR;

/// Sectors that the image is a multiple of: 1 MiB with a program for BIOS, as isohybrid has it, because some BIOSes give
/// a stick 64 heads of 32 sectors and want whole cylinders.
pub fn multiple(hybrid: Option<&Hybrid>) -> u64 {
    match hybrid {
        Some(hybrid) if !hybrid.boot_code.is_empty() => (1 << 20) / SECTOR,
        _ => 1,
    }
}

/// Sectors of a partition.
pub fn room(partition: &gpt::Partition) -> u64 {
    partition.size.max(partition.content.size()).div_ceil(SECTOR).next_multiple_of(ALIGNMENT)
}

/// Sectors at the end for the backup of the table.
pub fn tail() -> u64 {
    SectorSize::Bytes512.back().div_ceil(DISK_SECTORS)
}

/// The disk's bytes: the system area, and what ends the image.
/// `starts` are the sectors of the partitions.
pub fn encode(
    hybrid: &Hybrid,
    images: &[Placed],
    starts: &[Data],
    sectors: u64,
    identity: Digest,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let disk_sectors = sectors * DISK_SECTORS;
    let mut record = mbr::Record { boot_code: boot_code(hybrid, images)?, ..mbr::Record::default() };
    let [a, b, c, d, ..] = *identity.as_bytes();
    record.signature = u32::from_le_bytes([a, b, c, d]).max(1);
    let entry = |active, kind, first_lba: u64, sectors: u64| {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Some(mbr::Entry { active, kind, first_lba: number(first_lba), sectors: number(sectors) })
    };
    let bios = !hybrid.boot_code.is_empty();
    let Some(efi) = images.iter().find(|image| image.platform == Platform::Efi) else {
        if !starts.is_empty() {
            return Err(Error::failed("partitions on a CD without a volume for UEFI"));
        }
        record.entries[0] = entry(bios, WHOLE_IMAGE, 0, disk_sectors);
        return Ok((record.encode().to_vec(), Vec::new()));
    };
    let first = u64::from(efi.sector) * DISK_SECTORS;
    let count = efi.size.div_ceil(512);
    if bios {
        // BIOSes want an active entry, and it must not be the protective one, or UEFI looks no further.
        record.entries[0] = entry(false, mbr::kind::PROTECTIVE, 1, first - 1);
        record.entries[1] = entry(true, mbr::kind::EFI_SYSTEM, first, count);
    } else {
        record.entries[0] = entry(false, mbr::kind::PROTECTIVE, 1, disk_sectors - 1);
    }
    let mut entries = vec![Entry {
        kind: gpt::EFI_SYSTEM,
        guid: Guid::derived(identity, "partition 1"),
        first_lba: first,
        last_lba: first + count - 1,
        attributes: 0,
        name: "EFI system".encode_utf16().collect(),
    }];
    for (partition, (number, start)) in hybrid.partitions.iter().zip((2..).zip(starts)) {
        let first_lba = u64::from(start.sector) * DISK_SECTORS;
        entries.push(Entry {
            kind: partition.kind,
            guid: partition.guid.unwrap_or_else(|| Guid::derived(identity, &format!("partition {number}"))),
            first_lba,
            last_lba: first_lba + room(partition) * DISK_SECTORS - 1,
            attributes: partition.attributes,
            name: partition.name.encode_utf16().collect(),
        });
    }
    let table = Table {
        disk: Guid::derived(identity, "disk"),
        entries,
        sector_size: SectorSize::Bytes512,
        sectors: disk_sectors,
    };
    let mut front = record.encode().to_vec();
    front.extend(table.primary());
    debug_assert!(front.len() as u64 <= SYSTEM_AREA * SECTOR);
    Ok((front, table.backup()))
}

/// The program with the place of isolinux in it.
fn boot_code(hybrid: &Hybrid, images: &[Placed]) -> Result<Vec<u8>> {
    let mut code = hybrid.boot_code.clone();
    if code.is_empty() {
        return Ok(code);
    }
    let bios = images.iter().find(|image| image.platform == Platform::Bios);
    let (true, Some(bios)) = (code.len() <= LOADER_SECTOR.start, bios) else {
        return Err(Error::refused(format!(
            "the boot program for the disk has {} bytes where {} fit, or the image has nothing that BIOS boots",
            code.len(),
            LOADER_SECTOR.start
        )));
    };
    code.resize(LOADER_SECTOR.end, 0);
    code[LOADER_SECTOR].copy_from_slice(&(u64::from(bios.sector) * DISK_SECTORS).to_le_bytes());
    Ok(code)
}
