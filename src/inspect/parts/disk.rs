//! Disks: their wrappings, their partition tables, FAT.

use std::sync::Arc;

use super::super::{Image, Kind, container, detect};
use super::{Content, Field, Opened, Part};
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage, Extents, Window};
use crate::formats::{fat, gpt, mbr};

/// Opens what wraps a disk.
pub fn container(kind: Kind, image: &Image) -> Result<Opened> {
    let inner = container::open(kind, image)?;
    let mut fields = inner.fields;
    fields.push(("size of the disk", inner.disk.size().to_string()));
    let disk_kind = detect(&inner.disk)?;
    // A wrapping in a wrapping would be opened without end.
    let disk_kind = if disk_kind.is_container() { Kind::Unknown } else { disk_kind };
    let disk = Part { name: "disk".into(), kind: disk_kind, fields: Vec::new(), content: Content::Image(inner.disk) };
    Ok(Opened { fields, parts: vec![disk] })
}

/// Opens a disk with a GPT.
pub fn gpt(image: &Image) -> Result<Opened> {
    let found =
        gpt::read(&mut Cursor::new(image))?.ok_or_else(|| Error::refused("there is no GUID partition table"))?;
    let table = &found.table;
    let sector = table.sector_size.bytes();
    let mut parts = vec![boot_program(image)?];
    for (entry, number) in table.entries.iter().zip(&found.numbers) {
        parts.push(partition(image, sector, entry, *number)?);
    }
    let mut fields = vec![
        ("disk GUID", table.disk.to_string()),
        ("size of a sector", sector.to_string()),
        ("sectors", table.sectors.to_string()),
    ];
    fields.extend(found.backup.map(|what| ("backup", what)));
    Ok(Opened { fields, parts })
}

/// A partition of a disk with a GPT; `sector` is in bytes.
pub(super) fn partition(image: &Image, sector: u64, entry: &gpt::Entry, number: u32) -> Result<Part> {
    let label = String::from_utf16_lossy(&entry.name);
    let kind = gpt::type_name(entry.kind).map_or_else(|| entry.kind.to_string(), str::to_owned);
    let fields = vec![
        ("type", kind),
        ("GUID", entry.guid.to_string()),
        ("first sector", entry.first_lba.to_string()),
        ("sectors", (entry.last_lba - entry.first_lba + 1).to_string()),
        ("attributes", format!("{:#x}", entry.attributes)),
    ];
    let size = (entry.last_lba - entry.first_lba + 1) * sector;
    let content = window(image, entry.first_lba * sector, size)?;
    let label = label.trim_end_matches('\0').escape_debug().to_string();
    Part::found(format!("partition {number} ({label})"), fields, content)
}

/// Opens a disk with a master boot record.
pub fn mbr(image: &Image) -> Result<Opened> {
    let record = mbr::read(&mut Cursor::new(image))?.ok_or_else(|| Error::refused("there is no master boot record"))?;
    let mut parts = vec![boot_program(image)?];
    for (index, entry) in record.entries.iter().enumerate() {
        let Some(entry) = entry else { continue };
        let fields = vec![
            ("type", format!("{:#04x}", entry.kind)),
            ("active", entry.active.to_string()),
            ("first sector", entry.first_lba.to_string()),
            ("sectors", entry.sectors.to_string()),
        ];
        let content = window(image, u64::from(entry.first_lba) * 512, u64::from(entry.sectors) * 512)?;
        parts.push(Part::found(format!("partition {}", index + 1), fields, content)?);
    }
    let fields = vec![("signature", format!("{:08x}", record.signature)), ("size", image.size().to_string())];
    Ok(Opened { fields, parts })
}

fn boot_program(image: &Image) -> Result<Part> {
    let size = (mbr::BOOT_CODE_SIZE as u64).min(image.size());
    Ok(Part::leaf("boot program", Vec::new(), Content::Image(window(image, 0, size)?)))
}

/// Opens a FAT volume.
pub fn fat(image: &Image) -> Result<Opened> {
    let mut volume = fat::Volume::open(Cursor::new(Arc::clone(image)), 0, image.size())?;
    // Chains in a circle and shared ones are found before any is followed.
    volume.check()?;
    let geometry = *volume.geometry();
    let fields = vec![
        ("type", format!("{:?}", geometry.kind)),
        ("serial number", format!("{:08x}", volume.id())),
        ("clusters", geometry.clusters.to_string()),
        ("size of a cluster", geometry.cluster().to_string()),
    ];
    let mut parts = Vec::new();
    for file in volume.list()? {
        let name = format!("/{}", file.path.escape_debug());
        if file.folder {
            parts.push(Part::leaf(name, Vec::new(), Content::None));
            continue;
        }
        let places = volume.places(&file)?;
        let content: Image = Arc::new(Extents::new(Arc::clone(image), places, u64::from(file.size))?);
        let fields: Vec<Field> = vec![("size", file.size.to_string())];
        parts.push(Part::found(name, fields, content)?);
    }
    Ok(Opened { fields, parts })
}

pub(super) fn window(image: &Image, start: u64, size: u64) -> Result<Image> {
    Ok(Arc::new(Window::new(Arc::clone(image), start, size)?))
}
