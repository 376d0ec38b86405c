//! Reading a GUID partition table from an image that may be anything.

use std::io::{Read, Seek, SeekFrom};

use super::format::{Entry, Header, crc32};
use super::{Guid, SectorSize, Table};
use crate::error::{Error, Result};

/// Entries that are read: what Linux reads.
const ENTRY_LIMIT: u32 = 256;
/// Bytes of one entry that are read at most.
const ENTRY_SIZE_LIMIT: u32 = 4096;

/// A table that was read and checked: signature, checksums, places.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it says. The entries are the used ones, in order.
    pub table: Table,
    /// Numbers of the entries, from 1.
    pub numbers: Vec<u32>,
    /// What is wrong with the backup copy, if anything is. A table whose first copy is bad is refused.
    pub backup: Option<String>,
}

/// Reads the table of an image. `None` if there is none: no header after the first sector, for either sector size.
pub fn read(image: &mut (impl Read + Seek)) -> Result<Option<Found>> {
    let size = image.seek(SeekFrom::End(0)).map_err(input)?;
    for sector_size in [SectorSize::Bytes512, SectorSize::Bytes4096] {
        let sector = sector_size.bytes();
        if size < (sector_size.front() + sector_size.back()) * sector {
            continue;
        }
        let bytes = bytes_at(image, sector, sector)?;
        if bytes.starts_with(super::format::SIGNATURE) {
            return found(image, size, sector_size, &bytes).map(Some);
        }
    }
    Ok(None)
}

fn found(image: &mut (impl Read + Seek), size: u64, sector_size: SectorSize, bytes: &[u8]) -> Result<Found> {
    let refused = |what: String| Error::refused(format!("the partition table is damaged: {what}"));
    let sectors = size / sector_size.bytes();
    let header = Header::decode(bytes).map_err(|what| refused(what.to_owned()))?;
    if header.own_lba != 1 {
        return Err(refused(format!("its header lies in sector 1 and says {}", header.own_lba)));
    }
    if header.first_usable_lba > header.last_usable_lba || header.last_usable_lba >= sectors {
        return Err(refused(format!(
            "partitions may use sectors {} to {} of an image of {sectors}",
            header.first_usable_lba, header.last_usable_lba
        ))
        .hint("the image may be cut off"));
    }
    let entries = entries(image, &header, sector_size, sectors).map_err(|error| refused(error.message().to_owned()))?;
    let mut numbers = Vec::new();
    let mut used: Vec<Entry> = Vec::new();
    for (index, chunk) in entries.chunks_exact(header.entry_size as usize).enumerate() {
        let Some(entry) = Entry::decode(chunk) else { continue };
        let number = index as u32 + 1;
        if entry.first_lba < header.first_usable_lba
            || entry.last_lba > header.last_usable_lba
            || entry.first_lba > entry.last_lba
        {
            return Err(refused(format!("partition {number} lies at {} to {}", entry.first_lba, entry.last_lba)));
        }
        if let Some(other) =
            used.iter().position(|other| entry.first_lba <= other.last_lba && other.first_lba <= entry.last_lba)
        {
            return Err(refused(format!("partitions {} and {number} overlap", numbers[other])));
        }
        numbers.push(number);
        used.push(entry);
    }
    let backup = backup(image, &header, &entries, sector_size, sectors).err();
    let table = Table { disk: header.disk, entries: used, sector_size, sectors };
    Ok(Found { table, numbers, backup: backup.map(|error| error.message().to_owned()) })
}

fn backup(
    image: &mut (impl Read + Seek),
    primary: &Header,
    primary_entries: &[u8],
    sector_size: SectorSize,
    sectors: u64,
) -> Result<()> {
    let last = sectors - 1;
    if primary.other_lba != last {
        return Err(Error::refused(format!(
            "the backup is said to lie in sector {}, the image ends with sector {last}",
            primary.other_lba
        )));
    }
    let bytes = bytes_at(image, last * sector_size.bytes(), sector_size.bytes())?;
    let header = Header::decode(&bytes).map_err(|what| Error::refused(format!("the backup header has {what}")))?;
    let same = Header { own_lba: last, other_lba: 1, entries_lba: header.entries_lba, ..primary.clone() };
    if header != same || entries(image, &header, sector_size, sectors)? != primary_entries {
        return Err(Error::refused("the backup differs from the first copy"));
    }
    Ok(())
}

/// The entry array of a header, its checksum checked.
fn entries(image: &mut (impl Read + Seek), header: &Header, sector_size: SectorSize, sectors: u64) -> Result<Vec<u8>> {
    let (count, size) = (header.entry_count, header.entry_size);
    if count > ENTRY_LIMIT || !(128..=ENTRY_SIZE_LIMIT).contains(&size) || header.entries_lba >= sectors {
        return Err(Error::refused(format!("{count} entries of {size} bytes at sector {}", header.entries_lba)));
    }
    let bytes = bytes_at(image, header.entries_lba * sector_size.bytes(), u64::from(count * size))?;
    if crc32(&bytes) != header.entries_crc {
        return Err(Error::refused("a wrong checksum of the entries"));
    }
    Ok(bytes)
}

fn bytes_at(image: &mut (impl Read + Seek), offset: u64, size: u64) -> Result<Vec<u8>> {
    image.seek(SeekFrom::Start(offset)).map_err(input)?;
    let mut bytes = Vec::new();
    image.take(size).read_to_end(&mut bytes).map_err(input)?;
    if bytes.len() as u64 != size {
        return Err(Error::refused(format!("the image ends within {size} bytes at byte {offset}")));
    }
    Ok(bytes)
}

fn input(error: std::io::Error) -> Error {
    Error::failed(format!("reading the image: {error}"))
}

/// The table in readable lines.
pub fn dump(found: &Found) -> String {
    let Found { table, numbers, backup } = found;
    let mut out = format!("gpt disk {} sectors {} of {} bytes\n", table.disk, table.sectors, table.sector_size.bytes());
    for (entry, number) in table.entries.iter().zip(numbers) {
        let kind = super::type_name(entry.kind).map_or_else(|| entry.kind.to_string(), str::to_owned);
        out.push_str(&format!(
            "{number}: {}-{} {kind} guid {} attributes {:#x} \"{}\"\n",
            entry.first_lba,
            entry.last_lba,
            entry.guid,
            entry.attributes,
            String::from_utf16_lossy(&entry.name).escape_debug()
        ));
    }
    out.push_str(&format!("backup: {}\n", backup.as_deref().unwrap_or("equal")));
    out
}

/// The partition of a given type, if there is exactly one.
pub fn only(table: &Table, kind: Guid) -> Option<&Entry> {
    let mut found = table.entries.iter().filter(|entry| entry.kind == kind);
    found.next().filter(|_| found.next().is_none())
}
