//! CDs whose root is a file system under dm-verity (`iso-efi` and `iso`, with `root:` in the blueprint): root and hash tree
//! are partitions of the table that makes the CD a disk too. So one image is verified the same way on a CD, where stage1
//! maps the partitions since the kernel makes none, and on a USB stick.
//!
//! Rejected: the root as a file of the CD. The kernel would have to read a file system that nothing vouches for first, and
//! an image of more than 4 GiB would lie in several extents.

use std::sync::Arc;

use super::iso::{CONFIGURATION, INITRD, isolinux, label, put, write_image};
use super::uefi_disk::{program_path, volume};
use super::verified_root::DiskRoot;
use super::{Format, Options, OutputFile, System, bios, signing, uki};
use crate::blueprint::Root;
use crate::error::{Error, Result};
use crate::formats::iso9660::{BootImage, Hybrid, Iso, Options as IsoOptions};
use crate::formats::source::Source;
use crate::rootfs::{Content, Tree};

/// Where the kernel lies for BIOS.
const KERNEL: &str = "boot/kernel";

/// The root that goes onto a CD under dm-verity, if the format and the blueprint have one.
pub fn root(format: Format, system: &System) -> Option<&Root> {
    let takes = matches!(format, Format::IsoEfi | Format::Iso);
    // Without a hash tree a root of its own has no use here: ISO 9660 is read-only too.
    system.root.as_ref().filter(|root| takes && root.verity())
}

/// Writes the image.
pub fn write(format: Format, root: &Root, system: &System, out: &OutputFile, options: &Options<'_>) -> Result<()> {
    let by_bios = format == Format::Iso;
    if by_bios && root.signature_required() {
        return Err(Error::usage(
            "the blueprint has root: {signature: required}, and where BIOS boots nobody vouches for the kernel that would \
             check it",
        )
        .hint("take iso-efi"));
    }
    if system.disk.slots() > 1 {
        options
            .ui
            .warn(format!("{}: one root; nothing is updated on a CD (disk: {{slots: 2}})", format.description().name));
    }
    let made = DiskRoot::make(root, system, options)?;
    let starter = made.starter(system, &made.places())?;
    let kernel = uki::kernel(&starter)?;
    let mut tree = Tree::new(options.time);
    let scratch = options.store.temporary_folder()?;
    let mut boot = Vec::new();
    let mut boot_code = Vec::new();
    if by_bios {
        let (program, code) = isolinux(&mut tree, &starter, scratch.path(), options)?;
        let configuration = bios::configuration(&format!("/{KERNEL}"), &format!("/{INITRD}"), &kernel.cmdline)?;
        put(&mut tree, KERNEL, kernel.image.clone(), options)?;
        put(&mut tree, CONFIGURATION, Content::bytes(configuration.into_bytes()), options)?;
        boot.push(program);
        boot_code = code;
    }
    let image = Arc::new(uki::image(&starter, options)?);
    let image = signing::finish(image, Some(program_path(system.arch)), options)?;
    boot.push(BootImage::Volume(Arc::new(volume(system.arch, image, None, 0, options.time)?)));
    let hybrid = Some(Hybrid { boot_code, partitions: made.partitions(system.arch, "") });
    let mut iso_options = IsoOptions { time: options.time, boot, hybrid, ..IsoOptions::default() };
    iso_options.label = label(&Iso::new(&tree, &iso_options)?.identity());
    write_image(&Iso::new(&tree, &iso_options)?, out, options)
}
