//! CDs: the file system, and what firmware boots from them.

use std::sync::Arc;

use super::boot::Words;
use super::disk::{Disk, loader_entry, open_bios};
use super::{Finding, Step, Walk, window};
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage, Extents};
use crate::formats::iso9660::{self, Bootable, Listed, Volume};
use crate::formats::{fat, gpt, mbr};
use crate::inspect::files::Files;
use crate::inspect::{Image, bytes_text, count};

/// El Torito's numbers of platforms.
const BIOS: u8 = 0;
const EFI: u8 = 0xef;
/// Where the configuration of isolinux lies.
const CONFIGURATION: &[u8] = b"boot/isolinux/isolinux.cfg";

struct Cd {
    files: Files,
    boot: Vec<Bootable>,
    /// Kernel, initrd and configuration of the loader, as far as they are there.
    loaded: Vec<(Vec<u8>, Image)>,
}

impl Walk<'_> {
    /// An ISO 9660 image.
    pub(super) fn cd(&mut self, image: &Image) -> Step {
        let cd = self.link("file system", |_| {
            let (cd, evidence) = read(image)?;
            Ok((cd, Finding::Good(evidence)))
        })?;
        let tables = self.link("boot records", |_| {
            let mut names: Vec<String> = Vec::new();
            for one in &cd.boot {
                names.push(match one.platform {
                    BIOS => "a program for BIOS".into(),
                    EFI => "a volume for UEFI".into(),
                    other => format!("platform {other:#x}, which is not known here"),
                });
            }
            if names.is_empty() {
                let because = "nothing boots from this CD".to_owned();
                return Ok((None, Finding::Open("no El Torito catalog: it does not boot".into(), because)));
            }
            names.extend(disk_tables(image)?);
            Ok((Disk::on_cd(image)?, Finding::Good(format!("El Torito catalog, checksum right: {}", names.join(", ")))))
        });
        let disk = tables?;
        for one in &cd.boot {
            match one.platform {
                EFI => {
                    let volume = self.link("UEFI volume", |_| {
                        let volume = efi_volume(image, one)?;
                        let text = format!("FAT in {}", bytes_text(volume.size()));
                        Ok((volume, Finding::Good(text)))
                    })?;
                    self.esp(&volume, "ESP", disk.as_ref())?;
                }
                BIOS => self.isolinux(&cd, disk.as_ref())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn isolinux(&mut self, cd: &Cd, disk: Option<&Disk>) -> Step {
        let find = |path: &str| {
            let wanted = path.trim_start_matches('/').as_bytes();
            cd.loaded.iter().find(|(path, _)| path == wanted).map(|(_, image)| Arc::clone(image))
        };
        let (kernel, initrd, words) = self.link("BIOS", |_| {
            let configuration =
                find("boot/isolinux/isolinux.cfg").ok_or_else(|| Error::refused("isolinux has no configuration"))?;
            let entry = loader_entry(&configuration)?;
            let missing = |path: &str| Error::refused(format!("isolinux.cfg names {path}, which is not there"));
            let kernel = find(&entry.kernel).ok_or_else(|| missing(&entry.kernel))?;
            let initrd = find(&entry.initrd).ok_or_else(|| missing(&entry.initrd))?;
            let evidence = format!("isolinux starts {} with {}", entry.kernel, entry.initrd);
            Ok(((kernel, initrd, entry.words), open_bios(evidence)))
        })?;
        self.kernel(&kernel)?;
        self.initrd("initrd", &initrd, Some(&words))?;
        let parsed = self.link("command line", |_| {
            let words = Words::read(&words)?;
            Ok((words.describe(), words)).map(|(finding, words)| (words, finding))
        })?;
        if let (Some(hash), Some(disk)) = (parsed.root_hash, disk) {
            return self.verified_root(&str::to_owned, hash, &parsed, disk);
        }
        if !words.split_whitespace().any(|word| word.starts_with("root=")) {
            return Ok(());
        }
        self.link("root", |_| match cd.files.init(None) {
            Ok(path) => Ok(((), Finding::Good(format!("the CD itself, with {path}; no hash covers it")))),
            Err(what) => Err(Error::refused(format!("the CD is the root, and {what}"))),
        })
    }
}

fn read(image: &Image) -> Result<(Cd, String)> {
    let volume = Volume::open(Arc::clone(image))?;
    let mut cd = Cd { files: Files::default(), boot: volume.boot.clone(), loaded: Vec::new() };
    let mut content = 0u64;
    volume.walk(|listed| {
        let target = match &listed.kind {
            iso9660::Kind::Symlink(target) => Some(target.as_slice()),
            _ => None,
        };
        cd.files.add(&listed.path, listed.mode, target);
        content += listed.size;
        if is_loaded(&listed) {
            let file = Extents::new(Arc::clone(image), listed.places.iter().cloned(), listed.size)?;
            cd.loaded.push((listed.path.clone(), Arc::new(file)));
        }
        Ok(())
    })?;
    let joliet = if volume.joliet { ", with Joliet" } else { "" };
    let evidence = format!(
        "ISO 9660 \"{}\", {} sectors of 2048{joliet}; {} with Rock Ridge, {} in them, path table in order; contents have no checksums",
        volume.label.escape_debug(),
        volume.sectors,
        count(cd.files.len() as u64, "name"),
        bytes_text(content)
    );
    Ok((cd, evidence))
}

/// What a loader may read.
fn is_loaded(listed: &Listed) -> bool {
    listed.kind == iso9660::Kind::File && (listed.path == CONFIGURATION || listed.path.starts_with(b"boot/"))
}

/// What makes the image boot as a disk: a record, a table with its copy.
fn disk_tables(image: &Image) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if mbr::read(&mut Cursor::new(image))?.is_some() {
        found.push("an MBR for disks".to_owned());
    }
    if let Some(table) = gpt::read(&mut Cursor::new(image))? {
        if let Some(what) = table.backup {
            return Err(Error::refused(format!("the partition table's copy at the end: {what}")));
        }
        found.push("a GPT for disks, both copies equal".to_owned());
    }
    Ok(found)
}

/// The volume of a catalog's entry: as long as it says itself, since the entry's 16 bits may not be enough.
pub(in crate::inspect) fn efi_volume(image: &Image, one: &Bootable) -> Result<Image> {
    let rest = image.size().checked_sub(one.start).ok_or_else(|| Error::refused("it lies behind the image's end"))?;
    let volume = fat::Volume::open(Cursor::new(Arc::clone(image)), one.start, rest)?;
    let size = volume.geometry().sectors * volume.geometry().sector;
    if one.loaded > 0 && u64::from(one.loaded) * 512 < size {
        let said = u64::from(one.loaded) * 512;
        return Err(Error::refused(format!("the catalog says {said} bytes, and the volume has {size}")));
    }
    window(image, one.start, size)
}
