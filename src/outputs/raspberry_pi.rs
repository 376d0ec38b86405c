//! `rpi`: `NAME-rpi.img`, an SD card or USB stick for Raspberry Pis; and `rpi3`, the same files in a tar archive, as
//! LinuxKit has them, for a card that is formatted already.
//!
//! The boards' own firmware reads a FAT volume: its programs, `config.txt`, a device tree, the kernel and the initrd. No
//! other loader is needed (LinuxKit puts U-Boot in between).

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::initrd::Initrd;
use super::uefi_disk::{Container, wanted_size, write_disk};
use super::{Format, Options, OutputFile, System, Target, uki};
use crate::error::{Error, Result};
use crate::formats::fat::{self, Fat};
use crate::formats::mbr;
use crate::formats::source::Source;
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::rootfs::{Kind, Tree, write_error};
use crate::store::Xattrs;

/// The component with the firmware, and where it has it.
const FIRMWARE: &str = "components/raspberry-pi-firmware";
const FIRMWARE_FOLDER: &str = "usr/lib/raspi-firmware";
/// Where kernels of this project have device trees.
const DEVICE_TREES: &str = "boot/dtb/broadcom";
/// What the firmware is told (raspberrypi.com/documentation/computers/config_txt.html). `upstream_kernel`: device trees
/// have the names that Linux gives them. `enable_uart`: the serial port of the header works, at a fixed clock.
const CONFIGURATION: &str = "arm_64bit=1\nupstream_kernel=1\nenable_uart=1\nkernel=kernel.img\n\
                             initramfs initrd.img followkernel\n";
/// Bytes of `cmdline.txt`: what the kernel takes (COMMAND_LINE_SIZE on ARM64), less what the firmware adds.
const COMMAND_LINE_LIMIT: usize = 2048 - 512;
/// Where the partition starts, in sectors.
const START: u32 = 2048;
/// Bytes that are free, so that whoever mounts the volume can change the configuration.
const FREE: u64 = 1 << 20;
/// What people see.
const LABEL: &str = "BOOT";

/// A file of the volume.
type Named = (String, Arc<dyn Source>);

/// Writes the card and returns the file's name.
pub fn write(format: Format, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    write_disk(format, Container::Raw, |_| card(system, options), target, options)
}

/// Writes the archive and returns its name.
pub fn write_tar(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    if matches!(target, Target::Stdout) {
        return Err(Error::usage("rpi3 cannot go to standard output").hint("use -o with a file's name"));
    }
    let files = files(system, options)?;
    let task = options.ui.task("write", "rpi3", None);
    let mut archive = Writer::new(OutputFile::stream(target, "-rpi3.tar")?);
    let xattrs = Xattrs::new();
    for (path, content) in &files {
        let (path, mtime, kind) = (path.as_bytes(), options.time, MemberKind::File(content.size()));
        let member = Member { path, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: &xattrs, records: &[], kind };
        archive.member(&member).map_err(write_error)?;
        content.write_to(&mut archive)?;
        task.advance(content.size());
    }
    let mut out = archive.finish().map_err(write_error)?;
    out.flush().map_err(write_error)?;
    Ok(vec![out.commit()?])
}

fn card(system: &System, options: &Options<'_>) -> Result<mbr::Disk> {
    let files: Vec<_> =
        files(system, options)?.into_iter().map(|(path, content)| fat::File { path, content: Some(content) }).collect();
    let made = fat::Options {
        // The Pi 3's own program reads nothing else surely.
        kind: Some(fat::Kind::Fat32),
        label: LABEL.to_owned(),
        time: options.time,
        hidden_sectors: START,
        free: FREE,
        ..fat::Options::default()
    };
    let volume: Arc<dyn Source> = Arc::new(Fat::new(&files, &made)?);
    let disk = |size| {
        let content = Arc::clone(&volume);
        let partition = mbr::Partition { kind: mbr::kind::FAT32, active: true, size: 0, content };
        mbr::Disk::new(vec![partition], mbr::Options { size, ..mbr::Options::default() })
    };
    disk(wanted_size(disk(0)?.size(), options)?)
}

/// Everything that the firmware reads, sorted.
fn files(system: &System, options: &Options<'_>) -> Result<Vec<Named>> {
    let kernel = uki::kernel(system)?;
    let command_line = kernel.cmdline.trim();
    if command_line.len() > COMMAND_LINE_LIMIT || command_line.contains(char::is_control) {
        return Err(Error::usage(format!(
            "the kernel command line must have at most {COMMAND_LINE_LIMIT} bytes and no control characters"
        )));
    }
    let mut files = content_of(&system.tree, DEVICE_TREES);
    if !files.iter().any(|(name, _)| name.ends_with(".dtb")) {
        return Err(Error::usage(format!("the kernel has no device trees of Raspberry Pis ({DEVICE_TREES}/*.dtb)"))
            .hint("use @pkg:../kernels/6.12-generic, which has those of the Pi 3, 4 and 5"));
    }
    let firmware = content_of(&options.component(FIRMWARE, system.arch)?, FIRMWARE_FOLDER);
    if !firmware.iter().any(|(name, _)| name.starts_with("start")) {
        return Err(Error::refused(format!("the component {FIRMWARE} has no /{FIRMWARE_FOLDER}/start*.elf")));
    }
    files.extend(firmware);
    let file = |path: &str, content| (path.to_owned(), content);
    files.extend([
        file("config.txt", Arc::new(CONFIGURATION.as_bytes().to_vec()) as Arc<dyn Source>),
        file("cmdline.txt", Arc::new(format!("{command_line}\n").into_bytes())),
        file("kernel.img", Arc::new(kernel.image.clone())),
        file("initrd.img", Arc::new(Initrd::make(system, options)?.source()?)),
    ]);
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// The files of a folder.
fn content_of(tree: &Tree, folder: &str) -> Vec<Named> {
    let names = tree.resolve(folder.as_bytes()).into_iter().flat_map(|folder| tree.names(folder));
    names
        .filter_map(|(name, id)| match &tree.inode(id).kind {
            Kind::File(content) => {
                Some((String::from_utf8(name.to_vec()).ok()?, Arc::new(content.clone()) as Arc<dyn Source>))
            }
            _ => None,
        })
        .collect()
}
