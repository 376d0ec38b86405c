//! A disk with a master boot record, written front to back, for machines that boot by BIOS.

use std::io::Write;
use std::sync::Arc;

use super::{BOOT_CODE_SIZE, ENTRIES, Entry, Record};
use crate::error::{Error, Result};
use crate::formats::source::{Sequential, Source};
use crate::store::{Digest, Hasher};

const SECTOR: u64 = 512;
/// Where partitions start and end.
const ALIGNMENT: u64 = 1 << 20;

/// A partition to be written.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its type, one of [`super::kind`].
    pub kind: u8,
    /// Whether BIOS boot programs take it.
    pub active: bool,
    /// Bytes that it has at least.
    pub size: u64,
    /// What is in it.
    pub content: Arc<dyn Source>,
}

/// How the disk is laid out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What BIOS runs: at most 440 bytes.
    pub boot_code: Vec<u8>,
    /// What lies between the record and the first partition, from sector 1 on: GRUB's core image.
    pub gap: Vec<u8>,
    /// The disk's signature; derived from its content if there is none.
    pub signature: Option<u32>,
    /// Bytes that the disk has at least.
    pub size: u64,
}

/// A planned disk.
#[derive(Debug)]
pub struct Disk {
    partitions: Vec<Partition>,
    record: Record,
    gap: Vec<u8>,
    size: u64,
    identity: Digest,
}

impl Disk {
    /// Plans a disk. Refuses what the record cannot say.
    pub fn new(partitions: Vec<Partition>, options: Options) -> Result<Disk> {
        if partitions.len() > ENTRIES {
            return Err(Error::usage(format!("{} partitions; a master boot record has {ENTRIES}", partitions.len())));
        }
        if options.boot_code.len() > BOOT_CODE_SIZE {
            return Err(Error::refused(format!(
                "the boot program for the master boot record has {} bytes; {BOOT_CODE_SIZE} fit",
                options.boot_code.len()
            )));
        }
        if options.gap.len() as u64 > ALIGNMENT - SECTOR {
            return Err(Error::refused(format!(
                "{} bytes are to lie in front of the first partition; {} fit",
                options.gap.len(),
                ALIGNMENT - SECTOR
            )));
        }
        let identity = identity(&partitions, &options);
        let [a, b, c, d, ..] = *identity.as_bytes();
        let mut record = Record {
            boot_code: options.boot_code,
            // Zero means that a disk has none, and Windows would write one.
            signature: options.signature.unwrap_or(u32::from_le_bytes([a, b, c, d]).max(1)),
            ..Record::default()
        };
        let too_large =
            || Error::refused("the partitions reach beyond the 2 TiB of a master boot record").hint("use a GPT");
        let mut end = SECTOR;
        for (place, partition) in record.entries.iter_mut().zip(&partitions) {
            let start = end.next_multiple_of(ALIGNMENT);
            let size = partition.size.max(partition.content.size()).max(1);
            end = start
                .checked_add(size)
                .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
                .ok_or_else(too_large)?;
            let first_lba = u32::try_from(start / SECTOR).map_err(|_| too_large())?;
            let sectors = u32::try_from((end - start) / SECTOR).map_err(|_| too_large())?;
            first_lba.checked_add(sectors).ok_or_else(too_large)?;
            *place = Some(Entry { active: partition.active, kind: partition.kind, first_lba, sectors });
        }
        let size = end.max(options.size).checked_next_multiple_of(ALIGNMENT).ok_or_else(too_large)?;
        Ok(Disk { partitions, record, gap: options.gap, size, identity })
    }

    /// The record with every partition's place.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Source for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn identity(&self) -> Digest {
        self.identity
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let mut out = Sequential::new(out);
        out.bytes(&self.record.encode())?;
        out.bytes(&self.gap)?;
        for (partition, entry) in self.partitions.iter().zip(self.record.entries.iter().flatten()) {
            out.zeros_to(u64::from(entry.first_lba) * SECTOR)?;
            out.source(partition.content.as_ref())?;
        }
        out.zeros_to(self.size)
    }
}

fn identity(partitions: &[Partition], options: &Options) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"mbr");
    hasher.field(&options.boot_code);
    hasher.field(&options.gap);
    hasher.field(&options.signature.map_or_else(Vec::new, |signature| signature.to_le_bytes().to_vec()));
    hasher.update(&options.size.to_le_bytes());
    for partition in partitions {
        hasher.update(&[partition.kind, u8::from(partition.active)]);
        hasher.update(&partition.size.to_le_bytes());
        hasher.field(partition.content.identity().as_bytes());
    }
    hasher.finish()
}
