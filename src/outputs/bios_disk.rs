//! Disks that BIOS boots, with syslinux in a FAT volume beside kernel and initrd: `raw-bios` and `qcow2-bios` with a master
//! boot record, and `raw`, which has a GPT and boots by UEFI too.

use std::path::PathBuf;
use std::sync::Arc;

use super::initrd::Initrd;
use super::uefi_disk::{Container, program_path, wanted_size, write_disk};
use super::{Format, Options, System, Target, bios, sealed_bios_disk, uki};
use crate::error::Result;
use crate::formats::fat::{self, Fat};
use crate::formats::source::Source;
use crate::formats::syslinux::{self, Template};
use crate::formats::{gpt, mbr};

/// The component that has the loader.
const SYSLINUX: &str = "components/syslinux";
/// Bytes of the program that carries it, at most; that of 6.04 has 201 KB.
const PROGRAM_LIMIT: u64 = 4 << 20;
/// Where the partition starts, in sectors.
const START: u32 = 2048;
/// Bytes that are free, so that whoever mounts the volume can change the configuration.
const FREE: u64 = 1 << 20;
/// What people see.
const LABEL: &str = "BOOT";

/// A file of the volume.
type Named = (String, Arc<dyn Source>);

/// Writes a disk for BIOS in a container and returns the file's name.
pub fn write(
    format: Format,
    container: Container,
    system: &System,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    write_disk(format, container, |_| plan(system, options), target, options)
}

/// Writes a disk for BIOS and UEFI.
pub fn write_both(
    format: Format,
    container: Container,
    system: &System,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    write_disk(format, container, |_| plan_both(system, options), target, options)
}

fn plan(system: &System, options: &Options<'_>) -> Result<mbr::Disk> {
    let root = sealed_bios_disk::on_record(system, options)?;
    let system = root.as_ref().map_or(system, |root| &root.starter);
    let volume = Arc::new(volume(files(system, options)?, None, LABEL, system, options)?);
    let kind = match volume.geometry().kind {
        fat::Kind::Fat12 => mbr::kind::FAT12,
        fat::Kind::Fat16 => mbr::kind::FAT16,
        fat::Kind::Fat32 => mbr::kind::FAT32,
    };
    let boot_code = boot_code("mbr.bin", system, options)?;
    let disk = |size| {
        let content = Arc::clone(&volume) as Arc<dyn Source>;
        let mut partitions = vec![mbr::Partition { kind, active: true, size: 0, content }];
        partitions.extend(root.iter().flat_map(|root| root.partitions.clone()));
        let signature = root.as_ref().map(|root| root.signature);
        mbr::Disk::new(partitions, mbr::Options { boot_code: boot_code.clone(), size, signature, ..Default::default() })
    };
    disk(wanted_size(disk(0)?.size(), options)?)
}

/// One EFI system partition, which both kinds of firmware read: UEFI the unified kernel image, syslinux the same kernel
/// and initrd as files. So both are there twice. (A loader for UEFI that reads the files would halve the image, and
/// could not be signed as a whole.)
fn plan_both(system: &System, options: &Options<'_>) -> Result<gpt::Disk> {
    let root = sealed_bios_disk::on_gpt(system, options)?;
    let system = root.as_ref().map_or(system, |root| &root.starter);
    let mut files = files(system, options)?;
    let path = program_path(system.arch);
    files.push((path.to_owned(), uki::program(system, Some(path), options)?));
    // UEFI asks for FAT32 on fixed disks (2.10, 13.3); some firmware takes nothing else.
    let volume = Arc::new(volume(files, Some(fat::Kind::Fat32), "ESP", system, options)?);
    let boot_code = boot_code("gptmbr.bin", system, options)?;
    let disk = |size| {
        let mut partition = gpt::Partition::new(gpt::EFI_SYSTEM, "ESP", Arc::clone(&volume) as Arc<dyn Source>);
        // By this gptmbr.bin knows which partition to start.
        partition.attributes = gpt::LEGACY_BIOS_BOOTABLE;
        let mut partitions = vec![partition];
        partitions.extend(root.iter().flat_map(|root| root.partitions.clone()));
        gpt::Disk::new(partitions, gpt::Options { boot_code: boot_code.clone(), size, ..gpt::Options::default() })
    };
    disk(wanted_size(disk(0)?.size(), options)?)
}

fn boot_code(name: &str, system: &System, options: &Options<'_>) -> Result<Vec<u8>> {
    let path = format!("usr/lib/syslinux/mbr/{name}");
    options.component_file(SYSLINUX, system.arch, &path)?.read(PROGRAM_LIMIT)
}

/// What syslinux reads: kernel, initrd and its configuration.
fn files(system: &System, options: &Options<'_>) -> Result<Vec<Named>> {
    let kernel = uki::kernel(system)?;
    let configuration = bios::configuration("/kernel", "/initrd.img", &kernel.cmdline)?;
    let file = |path: &str, content| (path.to_owned(), content);
    Ok(vec![
        file("kernel", Arc::new(kernel.image.clone()) as Arc<dyn Source>),
        file("initrd.img", Arc::new(Initrd::make(system, options)?.source()?)),
        file("syslinux.cfg", Arc::new(configuration.into_bytes())),
    ])
}

/// A FAT volume that starts at sector 2048 of a disk, with syslinux installed and these files beside it.
fn volume(
    files: Vec<Named>,
    kind: Option<fat::Kind>,
    label: &str,
    system: &System,
    options: &Options<'_>,
) -> Result<Fat> {
    let program = options.component_file(SYSLINUX, system.arch, "usr/bin/syslinux")?;
    let template = Template::from_program(&program.read(PROGRAM_LIMIT)?)?;
    let files = files.into_iter().map(|(path, content)| fat::File { path, content: Some(content) });
    let all: Vec<_> = syslinux::files(&template).into_iter().chain(files).collect();
    let made = fat::Options {
        kind,
        label: label.to_owned(),
        time: options.time,
        hidden_sectors: START,
        free: FREE,
        loader: Some(template.boot_sector),
        ..fat::Options::default()
    };
    let mut volume = Fat::new(&all, &made)?;
    syslinux::install(&template, &mut volume)?;
    Ok(volume)
}
