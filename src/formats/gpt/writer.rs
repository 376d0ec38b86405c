//! A disk with a GUID partition table, written front to back.
//!
//! Partitions start and end at multiples of 1 MiB, in the order given: no disk, erase block or RAID stripe is crossed.
//! The disk is as large as its partitions need, in whole MiB, or larger on request: what is behind the last
//! partition is for the guest to grow into.

use std::io::Write;
use std::sync::Arc;

use super::format::{ENTRY_COUNT, Entry, NAME_LENGTH};
use super::{Guid, SectorSize, Table};
use crate::error::{Error, Result};
use crate::formats::mbr::{self, BOOT_CODE_SIZE};
use crate::formats::source::{FilePart, Sequential, Source};
use crate::store::{Digest, Hasher};

/// Where partitions start and end.
const ALIGNMENT: u64 = 1 << 20;
/// Entries of the boot record beside the protective one.
const HYBRID_LIMIT: usize = mbr::ENTRIES - 1;

/// Attribute bit 0: firmware and installers must leave the partition alone.
pub const REQUIRED: u64 = 1;
/// Attribute bit 2: BIOS boot programs for GPT (syslinux's gptmbr.bin) start this partition.
pub const LEGACY_BIOS_BOOTABLE: u64 = 1 << 2;
/// Attribute bit 59: grow the file system to the partition when it is mounted (discoverable partitions specification).
pub const GROW_FILE_SYSTEM: u64 = 1 << 59;
/// Attribute bit 60: mount read-only.
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute bit 63: do not mount without being asked.
pub const NO_AUTO: u64 = 1 << 63;

/// A partition to be written.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its type.
    pub kind: Guid,
    /// Its GUID; derived from the disk's content if there is none. A root under dm-verity takes the two halves of its
    /// root hash for itself and its hash tree.
    pub guid: Option<Guid>,
    /// Its name, at most 36 UTF-16 units.
    pub name: String,
    /// Attribute bits.
    pub attributes: u64,
    /// Bytes that it has at least; its content may be shorter and is followed by zeros.
    pub size: u64,
    /// What is in it.
    pub content: Arc<dyn Source>,
}

impl Partition {
    /// A partition of the size of its content.
    pub fn new(kind: Guid, name: &str, content: Arc<dyn Source>) -> Partition {
        Partition { kind, guid: None, name: name.to_owned(), attributes: 0, size: 0, content }
    }

    /// Puts everything that its bytes and its entry depend on into the identity of what it is a part of.
    pub fn put_into(&self, hasher: &mut Hasher) {
        hasher.field(&self.kind.0);
        hasher.field(self.guid.as_ref().map_or(&[][..], |guid| &guid.0));
        hasher.field(self.name.as_bytes());
        hasher.update(&self.attributes.to_le_bytes());
        hasher.update(&self.size.to_le_bytes());
        hasher.field(self.content.identity().as_bytes());
    }
}

/// A partition that stands in the boot record too, for machines that know no GPT.
#[derive(Clone, Copy, Debug)]
pub struct Hybrid {
    /// Index of the partition.
    pub partition: usize,
    /// Its type there, one of [`mbr::kind`].
    pub kind: u8,
    /// Whether BIOS boot programs take it.
    pub active: bool,
}

/// How the disk is laid out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bytes of a sector.
    pub sector_size: SectorSize,
    /// The disk's GUID; derived from its content if there is none.
    pub guid: Option<Guid>,
    /// Bytes that the disk has at least.
    pub size: u64,
    /// What BIOS runs from the boot record: at most 440 bytes.
    pub boot_code: Vec<u8>,
    /// Marks the protective entry active: some BIOSes start no disk without an active entry. UEFI forbids it (2.10,
    /// 5.2.3), and some UEFI firmware then takes the disk for one without GPT.
    pub protective_active: bool,
    /// Partitions that stand in the boot record too, at most three.
    pub hybrid: Vec<Hybrid>,
}

/// A planned disk: every place is known, nothing is written yet.
#[derive(Debug)]
pub struct Disk {
    partitions: Vec<Partition>,
    table: Table,
    record: mbr::Record,
    identity: Digest,
}

impl Disk {
    /// Plans a disk. Refuses what the table cannot say.
    pub fn new(partitions: Vec<Partition>, options: Options) -> Result<Disk> {
        check(&partitions, &options)?;
        let identity = identity(&partitions, &options);
        let sector = options.sector_size.bytes();
        let too_large = || Error::refused("the partitions are larger together than a disk can be");
        let mut end = options.sector_size.front() * sector;
        let mut entries = Vec::with_capacity(partitions.len());
        for (index, partition) in partitions.iter().enumerate() {
            let start = end.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_large)?;
            let size = partition.size.max(partition.content.size()).max(1);
            end = start
                .checked_add(size)
                .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
                .ok_or_else(too_large)?;
            let derived = || Guid::derived(identity, &format!("partition {}", index + 1));
            entries.push(Entry {
                kind: partition.kind,
                guid: partition.guid.unwrap_or_else(derived),
                first_lba: start / sector,
                last_lba: end / sector - 1,
                attributes: partition.attributes,
                name: partition.name.encode_utf16().collect(),
            });
        }
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|other| other.guid == entry.guid) {
                return Err(Error::usage(format!("two partitions have the GUID {}", entry.guid)));
            }
        }
        let size = end
            .checked_add(options.sector_size.back() * sector)
            .map(|size| size.max(options.size))
            .and_then(|size| size.checked_next_multiple_of(ALIGNMENT))
            .ok_or_else(too_large)?;
        let table = Table {
            disk: options.guid.unwrap_or_else(|| Guid::derived(identity, "disk")),
            entries,
            sector_size: options.sector_size,
            sectors: size / sector,
        };
        let record = record(&table, &options)?;
        Ok(Disk { partitions, table, record, identity })
    }

    /// The table with every partition's place.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn write(&self, out: &mut dyn Write, partition: fn(&mut Sequential<'_>, &dyn Source) -> Result<()>) -> Result<()> {
        let sector = self.table.sector_size.bytes();
        let mut out = Sequential::new(out);
        out.bytes(&self.record.encode())?;
        out.zeros_to(sector)?;
        out.bytes(&self.table.primary())?;
        for (one, entry) in self.partitions.iter().zip(&self.table.entries) {
            out.zeros_to(entry.first_lba * sector)?;
            partition(&mut out, one.content.as_ref())?;
        }
        out.zeros_to((self.table.sectors - self.table.sector_size.back()) * sector)?;
        out.bytes(&self.table.backup())
    }

    /// The first byte of a partition. `None` if there is none of that index.
    pub fn offset(&self, partition: usize) -> Option<u64> {
        self.table.entries.get(partition).map(|entry| entry.first_lba * self.table.sector_size.bytes())
    }
}

impl Source for Disk {
    fn size(&self) -> u64 {
        self.table.sectors * self.table.sector_size.bytes()
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        self.write(out, |out, partition| out.source(partition))
    }

    fn files(&self) -> Vec<FilePart<'_>> {
        let mut files = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            let start = self.offset(index).unwrap_or(0);
            files.extend(
                partition.content.files().into_iter().map(|part| FilePart { offset: start + part.offset, ..part }),
            );
        }
        files
    }

    fn write_without_files(&self, out: &mut dyn Write) -> Result<()> {
        self.write(out, |out, partition| out.source_without_files(partition))
    }
}

fn check(partitions: &[Partition], options: &Options) -> Result<()> {
    if partitions.len() > ENTRY_COUNT as usize {
        return Err(Error::usage(format!("{} partitions; a GPT has {ENTRY_COUNT}", partitions.len())));
    }
    for partition in partitions {
        let length = partition.name.encode_utf16().count();
        if length > NAME_LENGTH || partition.name.contains('\0') {
            return Err(Error::usage(format!(
                "the partition name \"{}\" has {length} UTF-16 units; a GPT holds {NAME_LENGTH}",
                partition.name.escape_debug()
            )));
        }
        if partition.kind == Guid::ZERO {
            return Err(Error::usage(format!("the partition \"{}\" has no type", partition.name.escape_debug())));
        }
    }
    if options.boot_code.len() > BOOT_CODE_SIZE {
        return Err(Error::refused(format!(
            "the boot program for the master boot record has {} bytes; {BOOT_CODE_SIZE} fit",
            options.boot_code.len()
        )));
    }
    if options.hybrid.len() > HYBRID_LIMIT {
        return Err(Error::usage(format!(
            "{} partitions are to stand in the boot record; beside the protective entry {HYBRID_LIMIT} fit",
            options.hybrid.len()
        )));
    }
    Ok(())
}

/// Names, sizes and contents of everything on the disk.
fn identity(partitions: &[Partition], options: &Options) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"gpt");
    hasher.update(&options.sector_size.bytes().to_le_bytes());
    hasher.update(&options.size.to_le_bytes());
    hasher.field(options.guid.as_ref().map_or(&[][..], |guid| &guid.0));
    hasher.field(&options.boot_code);
    hasher.update(&[u8::from(options.protective_active)]);
    for hybrid in &options.hybrid {
        hasher.update(&(hybrid.partition as u64).to_le_bytes());
        hasher.update(&[hybrid.kind, u8::from(hybrid.active)]);
    }
    for partition in partitions {
        partition.put_into(&mut hasher);
    }
    hasher.finish()
}

/// The protective record, or a hybrid one.
fn record(table: &Table, options: &Options) -> Result<mbr::Record> {
    let mut record = mbr::Record { boot_code: options.boot_code.clone(), ..mbr::Record::default() };
    let mut protected = table.sectors - 1;
    for (place, hybrid) in record.entries[1..].iter_mut().zip(&options.hybrid) {
        let entry = table.entries.get(hybrid.partition).ok_or_else(|| {
            Error::usage(format!(
                "partition {} is to stand in the boot record and does not exist",
                hybrid.partition + 1
            ))
        })?;
        let (Ok(first_lba), Ok(sectors)) =
            (u32::try_from(entry.first_lba), u32::try_from(entry.last_lba - entry.first_lba + 1))
        else {
            return Err(Error::refused(format!(
                "partition {} does not lie within the 2 TiB that a boot record reaches",
                hybrid.partition + 1
            )));
        };
        *place = Some(mbr::Entry { active: hybrid.active, kind: hybrid.kind, first_lba, sectors });
        // Entries must not overlap: the protective one ends where the first other one starts.
        protected = protected.min(entry.first_lba - 1);
    }
    record.entries[0] = Some(mbr::Entry {
        active: options.protective_active,
        kind: mbr::kind::PROTECTIVE,
        first_lba: 1,
        sectors: u32::try_from(protected).unwrap_or(u32::MAX),
    });
    Ok(record)
}
