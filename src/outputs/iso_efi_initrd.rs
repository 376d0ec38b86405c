//! `iso-efi-initrd`: `NAME-efi-initrd.iso`, a CD that UEFI boots. Its only content is the boot image, a FAT volume with
//! the unified kernel image. The partition tables in front make the same file bootable from a USB stick.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Options, OutputFile, System, Target, uefi_disk, uki};
use crate::error::Result;
use crate::formats::iso9660::{self, BootImage, Hybrid, Iso};
use crate::formats::source::Source;
use crate::rootfs::{Tree, write_error};

/// The volume's name.
const LABEL: &str = "MOBY";

/// Writes the image and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let image = uki::program(system, Some(uefi_disk::program_path(system.arch)), options)?;
    let volume = uefi_disk::volume(system.arch, image, None, 0, options.time)?;
    let made = iso9660::Options {
        label: LABEL.to_owned(),
        time: options.time,
        boot: vec![BootImage::Volume(Arc::new(volume))],
        hybrid: Some(Hybrid { boot_code: Vec::new(), partitions: Vec::new() }),
        ..iso9660::Options::default()
    };
    let iso = Iso::new(&Tree::new(options.time), &made)?;
    let task = options.ui.task("write", "iso-efi-initrd", None);
    let mut out = BufWriter::with_capacity(256 << 10, OutputFile::stream(target, "-efi-initrd.iso")?);
    iso.write_to(&mut out)?;
    out.flush().map_err(write_error)?;
    task.advance(iso.size());
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}
