//! `raw-bios`, `qcow2-bios`: a disk with a master boot record and one FAT volume, in which syslinux finds kernel and
//! initrd.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Options, OutputFile, System, Target, bios, disk, initrd, loader};
use crate::error::Result;
use crate::formats::fat::{self, Fat};
use crate::formats::mbr;
use crate::formats::source::Source;
use crate::formats::syslinux::Carrier;

/// Where the partition starts, in sectors.
const START: u32 = 2048;
/// Bytes that are free, so that whoever mounts the volume can change the configuration.
const FREE: u64 = 1 << 20;
/// The loader's file, which it must be told the place of.
const LOADER: &str = "ldlinux.sys";

/// Writes the raw disk and returns its name.
pub fn write_raw(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    write(system, target, "-bios.img", options, |disk, out| disk::write_raw(disk, out))
}

/// Writes the disk as qcow2 and returns its name.
pub fn write_qcow2(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    write(system, target, ".qcow2", options, |disk, out| disk::write_qcow2(disk, out, options))
}

fn write(
    system: &System,
    target: &Target,
    suffix: &str,
    options: &Options<'_>,
    put: impl FnOnce(&dyn Source, &OutputFile) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let kernel = bios::kernel(system)?;
    let configuration = bios::configuration("/kernel", "/initrd.img", &kernel.cmdline)?;
    let syslinux = loader::component("syslinux", system, options)?;
    let out = OutputFile::stream(target, suffix)?;
    let initrd = initrd::Made::new(system, options)?;
    let task = options.ui.task("write", suffix.trim_start_matches(['-', '.']), None);
    let files: [(&str, Arc<dyn Source>); 3] = [
        ("kernel", Arc::new(kernel.image.clone())),
        ("initrd.img", Arc::new(initrd.content.clone())),
        ("syslinux.cfg", Arc::new(configuration.into_bytes())),
    ];
    let carrier = Carrier::find(&loader::bytes(&syslinux, "usr/bin/syslinux")?)?;
    let boot_code = loader::bytes(&syslinux, "usr/lib/syslinux/mbr/mbr.bin")?;
    let volume = volume(&carrier, files, options.time)?;
    let partition = mbr::Partition { kind: partition_kind(&volume), active: true, size: 0, content: Arc::new(volume) };
    let disk = mbr::Disk::new(vec![partition], mbr::Options { boot_code, ..mbr::Options::default() })?;
    put(&disk, &out)?;
    task.advance(disk.size());
    Ok(vec![out.commit()?])
}

/// A FAT volume that starts at sector 2048 of a disk, with syslinux installed and these files beside it.
pub fn volume(
    carrier: &Carrier,
    files: impl IntoIterator<Item = (&'static str, Arc<dyn Source>)>,
    time: i64,
) -> Result<Fat> {
    let file = |path: &str, content| fat::File { path: path.to_owned(), content: Some(content) };
    // Its place depends on sizes only: what the file says follows when the place is known.
    let blank = vec![0u8; usize::try_from(carrier.file_size()).unwrap_or(0)];
    let mut all =
        vec![file(LOADER, Arc::new(blank) as Arc<dyn Source>), file("ldlinux.c32", Arc::new(carrier.module.clone()))];
    all.extend(files.into_iter().map(|(path, content)| file(path, content)));
    let options = fat::Options {
        label: "BOOT".into(),
        time,
        hidden_sectors: START,
        free: FREE,
        loader: Some(carrier.boot_sector),
        ..fat::Options::default()
    };
    let mut volume = Fat::new(&all, &options)?;
    let sectors = volume.sectors_of(LOADER).unwrap_or_default();
    let installed = carrier.install(sectors)?;
    volume.replace(LOADER, Arc::new(installed.file))?;
    volume.set_loader(installed.boot_sector);
    Ok(volume)
}

fn partition_kind(volume: &Fat) -> u8 {
    match volume.geometry().kind {
        fat::Kind::Fat12 => mbr::kind::FAT12,
        fat::Kind::Fat16 => mbr::kind::FAT16,
        fat::Kind::Fat32 => mbr::kind::FAT32,
    }
}
