//! `raw-bios`, `qcow2-bios`: a disk with a master boot record and one FAT volume, in which syslinux finds kernel and
//! initrd.

use std::path::PathBuf;
use std::sync::Arc;

use super::initrd::Initrd;
use super::uefi_disk::{self, Container};
use super::{Format, Options, System, Target, bios};
use crate::error::Result;
use crate::formats::fat::{self, Fat};
use crate::formats::mbr;
use crate::formats::source::Source;
use crate::formats::syslinux::{self, Template};

/// Where the partition starts, in sectors.
const START: u32 = 2048;
/// Bytes that are free, so that whoever mounts the volume can change the configuration.
const FREE: u64 = 1 << 20;
/// Where the loader comes from.
const COMPONENT: &str = "components/syslinux";
/// Largest file of the loader that is read into memory; the program that carries it has 201 KB.
const LOADER_LIMIT: u64 = 4 << 20;

/// Writes the disk in a container and returns the file's name.
pub fn write(
    format: Format,
    container: Container,
    system: &System,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    let kernel = bios::kernel(system)?;
    let configuration = bios::configuration("/kernel", "/initrd.img", &kernel.cmdline)?;
    let bytes = |path: &str| options.component_file(COMPONENT, system.arch, path)?.read(LOADER_LIMIT);
    let template = Template::from_program(&bytes("usr/bin/syslinux")?)?;
    let boot_code = bytes("usr/lib/syslinux/mbr/mbr.bin")?;
    let initrd = Initrd::make(system, options)?.source()?;
    let files: [(&str, Arc<dyn Source>); 3] = [
        ("kernel", Arc::new(kernel.image.clone())),
        ("initrd.img", Arc::new(initrd)),
        ("syslinux.cfg", Arc::new(configuration.into_bytes())),
    ];
    let volume = volume(&template, files, options.time)?;
    let size = options.size.unwrap_or(0);
    let partition = mbr::Partition { kind: partition_kind(&volume), active: true, size: 0, content: Arc::new(volume) };
    let disk = mbr::Disk::new(vec![partition], mbr::Options { boot_code, size, ..mbr::Options::default() })?;
    uefi_disk::write_disk(format, container, &disk, target, options)
}

/// A FAT volume that starts at sector 2048 of a disk, with syslinux installed and these files beside it.
fn volume(
    template: &Template,
    files: impl IntoIterator<Item = (&'static str, Arc<dyn Source>)>,
    time: i64,
) -> Result<Fat> {
    let mut all = syslinux::files(template).to_vec();
    all.extend(files.into_iter().map(|(path, content)| fat::File { path: path.to_owned(), content: Some(content) }));
    let options =
        fat::Options { label: "BOOT".into(), time, hidden_sectors: START, free: FREE, ..fat::Options::default() };
    let mut volume = Fat::new(&all, &options)?;
    syslinux::install(template, &mut volume)?;
    Ok(volume)
}

fn partition_kind(volume: &Fat) -> u8 {
    match volume.geometry().kind {
        fat::Kind::Fat12 => mbr::kind::FAT12,
        fat::Kind::Fat16 => mbr::kind::FAT16,
        fat::Kind::Fat32 => mbr::kind::FAT32,
    }
}
