//! Partition tables and the volumes that firmware reads.

use std::sync::Arc;

use super::boot::Words;
use super::{Finding, Step, Walk, window};
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage, Extents};
use crate::formats::{fat, gpt, mbr};
use crate::inspect::{Image, bytes_text, count};

/// Partitions begin at multiples of this: what every disk's own pages and erase blocks divide.
const ALIGNMENT: u64 = 1 << 20;
/// What partitions without content are called.
pub(super) const EMPTY: &str = "_empty";
/// Bytes of a loader's configuration.
const CONFIGURATION_LIMIT: u64 = 64 << 10;

/// A disk's partitions, where a root is looked for.
pub(super) struct Disk {
    partitions: Vec<Partition>,
}

struct Partition {
    number: u32,
    /// What Linux calls it: the GUID, or signature and number.
    uuid: String,
    content: Image,
}

impl Disk {
    /// The partitions of a CD that has more than the volume for UEFI: then its root is one of them, else it may be on
    /// another disk. What is wrong with the table is said where it is looked at.
    pub(super) fn on_cd(image: &Image) -> Result<Option<Disk>> {
        let Some(found) = gpt::read(&mut Cursor::new(image))? else { return Ok(None) };
        let disk = Guids { table: found.table, numbers: found.numbers }.disk(image)?;
        Ok(Some(disk).filter(|disk| disk.partitions.len() > 1))
    }

    /// The partition of a PARTUUID: its number and content.
    pub(super) fn partition(&self, uuid: &str) -> Option<(u32, Image)> {
        let found = self.partitions.iter().find(|partition| partition.uuid.eq_ignore_ascii_case(uuid))?;
        Some((found.number, Arc::clone(&found.content)))
    }
}

/// A GUID partition table that was read and checked.
struct Guids {
    table: gpt::Table,
    numbers: Vec<u32>,
}

impl Guids {
    fn entries(&self) -> impl Iterator<Item = (&gpt::Entry, u32)> {
        self.table.entries.iter().zip(self.numbers.iter().copied())
    }

    fn disk(&self, image: &Image) -> Result<Disk> {
        let partition = |(entry, number): (&gpt::Entry, u32)| {
            Ok(Partition { number, uuid: entry.guid.to_string(), content: content(image, &self.table, entry)? })
        };
        Ok(Disk { partitions: self.entries().map(partition).collect::<Result<_>>()? })
    }
}

fn content(image: &Image, table: &gpt::Table, entry: &gpt::Entry) -> Result<Image> {
    let sector = table.sector_size.bytes();
    window(image, entry.first_lba * sector, (entry.last_lba - entry.first_lba + 1) * sector)
}

fn label(entry: &gpt::Entry) -> String {
    String::from_utf16_lossy(&entry.name).trim_end_matches('\0').to_owned()
}

/// A file of a volume.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) path: String,
    pub(super) image: Image,
}

impl Walk<'_> {
    /// A disk with a GPT.
    pub(super) fn gpt(&mut self, image: &Image) -> Step {
        let (guids, disk) = self.link("partition table", |_| {
            let guids = read_gpt(image)?;
            let evidence = describe(&guids)?;
            let disk = guids.disk(image)?;
            Ok(((guids, disk), Finding::Good(evidence)))
        })?;
        let esps: Vec<_> = guids.entries().filter(|(entry, _)| entry.kind == gpt::EFI_SYSTEM).collect();
        if esps.is_empty() {
            return self.link("ESP", |_| Err(Error::refused("no partition is an EFI system partition")));
        }
        for (entry, number) in &esps {
            let name = if esps.len() > 1 { format!("ESP {number}") } else { "ESP".to_owned() };
            let esp = content(image, &guids.table, entry)
                .or_else(|error| self.link(&name, |_| Err::<(Image, Finding), _>(error)))?;
            let files = self.esp(&esp, &name, Some(&disk))?;
            if entry.attributes & gpt::LEGACY_BIOS_BOOTABLE != 0 {
                self.bios_files(files, &disk)?;
            }
        }
        Ok(())
    }

    /// A disk with a master boot record.
    pub(super) fn mbr(&mut self, image: &Image) -> Step {
        let (entries, disk) = self.link("partition table", |_| {
            let record = mbr::read(&mut Cursor::new(image))?;
            let record = record.ok_or_else(|| Error::refused("there is no master boot record with partitions"))?;
            let entries: Vec<mbr::Entry> = record.entries.iter().flatten().copied().collect();
            for entry in &entries {
                aligned(u64::from(entry.first_lba) * 512)?;
            }
            let evidence = format!(
                "MBR, signature {:08x}, {}, boot program of {}; aligned to 1 MiB, none overlaps another",
                record.signature,
                count(entries.len() as u64, "partition"),
                count(record.boot_code.len() as u64, "byte")
            );
            let partition = |(index, entry): (usize, &Option<mbr::Entry>)| {
                let (entry, number) = ((*entry)?, index as u32 + 1);
                let content = window(image, u64::from(entry.first_lba) * 512, u64::from(entry.sectors) * 512);
                let uuid = format!("{:08x}-{number:02x}", record.signature);
                Some(content.map(|content| Partition { number, uuid, content }))
            };
            let partitions = record.entries.iter().enumerate().filter_map(partition).collect::<Result<_>>()?;
            Ok(((entries, Disk { partitions }), Finding::Good(evidence)))
        })?;
        let fat = |entry: &&mbr::Entry| {
            matches!(
                entry.kind,
                mbr::kind::FAT12 | mbr::kind::FAT16 | mbr::kind::FAT16_SMALL | mbr::kind::FAT32 | mbr::kind::EFI_SYSTEM
            )
        };
        let Some(entry) = entries.iter().find(|entry| entry.active).filter(fat).or_else(|| entries.iter().find(fat))
        else {
            return self.link("boot volume", |_| Err(Error::refused("no partition is a FAT volume")));
        };
        let volume = window(image, u64::from(entry.first_lba) * 512, u64::from(entry.sectors) * 512)
            .or_else(|error| self.link("boot volume", |_| Err::<(Image, Finding), _>(error)))?;
        let files = self.volume(&volume, "boot volume", Some(entry.first_lba))?;
        self.bios_files(files, &disk)
    }

    /// An EFI system partition and the programs that firmware or a loader starts from it. Returns all its files.
    pub(super) fn esp(&mut self, volume: &Image, name: &str, disk: Option<&Disk>) -> Step<Vec<Program>> {
        let files = self.volume(volume, name, None)?;
        let is = |path: &str, prefix: &str| {
            let path = path.to_ascii_uppercase();
            path.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(".EFI") && !rest.contains('/'))
        };
        let firmware: Vec<_> = files.iter().filter(|file| is(&file.path, "EFI/BOOT/BOOT")).cloned().collect();
        let menu: Vec<_> = files.iter().filter(|file| is(&file.path, "EFI/LINUX/")).cloned().collect();
        if firmware.is_empty() && name != "volume" {
            return self.link("UKI", |_| {
                Err(Error::refused("the EFI system partition has no EFI/BOOT/BOOT*.EFI, which firmware looks for"))
            });
        }
        for file in firmware.iter().chain(&menu) {
            self.program(&file.path, &file.image, disk)?;
        }
        if firmware.is_empty() && menu.is_empty() {
            self.because.get_or_insert("the volume has no program for firmware".to_owned());
        }
        Ok(files)
    }

    /// A FAT volume, whole. Returns its files.
    pub(super) fn volume(&mut self, volume: &Image, name: &str, hidden: Option<u32>) -> Step<Vec<Program>> {
        self.link(name, |_| {
            let (files, evidence) = read_volume(volume, hidden)?;
            Ok((files, Finding::Good(evidence)))
        })
    }

    /// What syslinux reads from a volume. BIOS and syslinux verify nothing.
    fn bios_files(&mut self, files: Vec<Program>, disk: &Disk) -> Step {
        let (kernel, initrd, words) = self.link("BIOS", |_| {
            let find = |path: &str| {
                let wanted = path.trim_start_matches('/');
                files.iter().find(|file| file.path.eq_ignore_ascii_case(wanted)).map(|file| Arc::clone(&file.image))
            };
            let configuration = find("syslinux.cfg").ok_or_else(|| Error::refused("there is no syslinux.cfg"))?;
            for loader in ["ldlinux.sys", "ldlinux.c32"] {
                find(loader).ok_or_else(|| Error::refused(format!("the loader's file {loader} is missing")))?;
            }
            let entry = loader_entry(&configuration)?;
            let evidence = format!("syslinux starts {} with {}", entry.kernel, entry.initrd);
            let kernel = find(&entry.kernel)
                .ok_or_else(|| Error::refused(format!("syslinux.cfg names {}, which is not there", entry.kernel)))?;
            let initrd = find(&entry.initrd)
                .ok_or_else(|| Error::refused(format!("syslinux.cfg names {}, which is not there", entry.initrd)))?;
            Ok(((kernel, initrd, entry.words), open_bios(evidence)))
        })?;
        self.kernel(&kernel)?;
        self.initrd("initrd", &initrd, Some(&words))?;
        let words = self.link("command line", |_| {
            let words = Words::read(&words)?;
            Ok((words.describe(), words)).map(|(finding, words)| (words, finding))
        })?;
        match words.root_hash {
            Some(hash) => self.verified_root(&str::to_owned, hash, &words, disk),
            None => Ok(()),
        }
    }
}

/// BIOS verifies nothing, whatever it starts.
pub(super) fn open_bios(evidence: String) -> Finding {
    Finding::Open(
        format!("{evidence}; BIOS and its loader verify nothing"),
        "BIOS verifies nothing: who can write to the disk decides what is booted".to_owned(),
    )
}

/// What a configuration of syslinux or isolinux boots.
pub(super) struct LoaderEntry {
    pub(super) kernel: String,
    pub(super) initrd: String,
    pub(super) words: String,
}

/// Reads the first entry of a configuration.
pub(super) fn loader_entry(configuration: &Image) -> Result<LoaderEntry> {
    let size = configuration.size();
    if size > CONFIGURATION_LIMIT {
        return Err(Error::refused(format!("the loader's configuration has {size} bytes")));
    }
    let mut bytes = vec![0; size as usize];
    configuration.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(&bytes);
    let value = |word: &str| {
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(' '));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(word)).map(|(_, value)| value.trim().to_owned())
    };
    let (Some(kernel), Some(initrd)) = (value("LINUX"), value("INITRD")) else {
        return Err(Error::refused("the loader's configuration does not say LINUX and INITRD"));
    };
    Ok(LoaderEntry { kernel, initrd, words: value("APPEND").unwrap_or_default() })
}

fn aligned(start: u64) -> Result<()> {
    if start.is_multiple_of(ALIGNMENT) {
        return Ok(());
    }
    Err(Error::refused(format!("a partition begins at byte {start}, which is no multiple of 1 MiB")))
}

/// Reads both copies of a table and the record in front of it.
fn read_gpt(image: &Image) -> Result<Guids> {
    let found = gpt::read(&mut Cursor::new(image))?
        .ok_or_else(|| Error::refused("there is no GUID partition table behind the protective record"))?;
    if let Some(what) = &found.backup {
        return Err(Error::refused(format!("the copy of the table at the end of the disk: {what}")));
    }
    let mut sector = [0; mbr::SIZE];
    image.read_at(&mut sector, 0)?;
    let record = mbr::Record::decode(&sector);
    let protects = |entry: &mbr::Entry| entry.kind == mbr::kind::PROTECTIVE && entry.first_lba == 1;
    if !record.is_some_and(|record| record.entries.iter().flatten().any(protects)) {
        return Err(Error::refused("the first sector has no record that protects the table"));
    }
    Ok(Guids { table: found.table, numbers: found.numbers })
}

fn describe(guids: &Guids) -> Result<String> {
    let sector = guids.table.sector_size.bytes();
    let mut names = Vec::new();
    for (entry, number) in guids.entries() {
        aligned(entry.first_lba * sector)?;
        let size = bytes_text((entry.last_lba - entry.first_lba + 1) * sector);
        let label = label(entry);
        let empty = if label == EMPTY { ", an empty slot" } else { "" };
        names.push(format!("{number} {} {size}{empty}", label.escape_debug()));
    }
    let different: std::collections::BTreeSet<_> = guids.entries().map(|(entry, _)| entry.guid).collect();
    if different.len() != guids.table.entries.len() {
        return Err(Error::refused("two partitions have the same GUID"));
    }
    Ok(format!(
        "GPT, both copies equal, checksums right; {}; aligned to 1 MiB, none overlaps another",
        names.join(", ")
    ))
}

/// Reads a volume and checks all that can be wrong with it.
pub(super) fn read_volume(image: &Image, hidden: Option<u32>) -> Result<(Vec<Program>, String)> {
    let size = image.size();
    let mut volume = fat::Volume::open(Cursor::new(Arc::clone(image)), 0, size)?;
    let checked = volume.check()?;
    let geometry = *volume.geometry();
    if let Some(hidden) = hidden {
        let mut field = [0; 4];
        image.read_at(&mut field, 28)?;
        if u32::from_le_bytes(field) != hidden {
            let said = u32::from_le_bytes(field);
            return Err(Error::refused(format!("it says that it begins at sector {said}, and lies at {hidden}")));
        }
    }
    let mut files = Vec::new();
    for file in volume.list()?.into_iter().filter(|file| !file.folder) {
        let places = volume.places(&file)?;
        let content = Extents::new(Arc::clone(image), places, u64::from(file.size))?;
        files.push(Program { path: file.path, image: Arc::new(content) });
    }
    let evidence = format!(
        "{:?}, {} clusters of {}, as many as that type has; {} equal, {} in {}, no chain crosses another",
        geometry.kind,
        geometry.clusters,
        bytes_text(geometry.cluster()),
        count(checked.tables, "allocation table"),
        count(checked.files as u64, "file"),
        count(checked.folders as u64, "folder")
    );
    Ok((files, evidence.replace("Fat", "FAT")))
}
