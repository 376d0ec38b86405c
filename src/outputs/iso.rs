//! The root file system as a CD, which boots from a USB stick or disk as well: `iso-bios`, `iso-efi`, and `iso` for both
//! kinds of firmware; and beside a kernel (`kernel+iso`).
//!
//! The root lies in the image, as in LinuxKit's, and is used from there: nothing of it is copied into memory. A small
//! initramfs with the kernel's drivers (stage1) finds it by the volume's name. With `root:` in the blueprint see
//! [`super::sealed_iso`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::initrd::Initrd;
use super::uefi_disk::program_path;
use super::{
    Format, Options, OutputFile, System, Target, bios, finder, root_file_system, sealed_iso, signing, sparse,
    uefi_disk, uki,
};
use crate::error::{Error, Result};
use crate::formats::disk::Output;
use crate::formats::iso9660::{BootImage, Hybrid, Iso, Options as IsoOptions};
use crate::formats::source::Source;
use crate::rootfs::stage1::{Purpose, RootKind, Storage};
use crate::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};
use crate::store::Digest;

/// The component that has the loader.
const ISOLINUX: &str = "components/isolinux";
/// Bytes of what BIOS runs from the boot record, at most.
const BOOT_CODE_LIMIT: u64 = 512;
/// Where the loader and the initramfs lie, beside the kernel that every root has in `boot/`.
const PROGRAM: &str = "boot/isolinux/isolinux.bin";
const MODULE: &str = "boot/isolinux/ldlinux.c32";
pub const CONFIGURATION: &str = "boot/isolinux/isolinux.cfg";
pub const INITRD: &str = "boot/initrd.img";
/// What Linux keeps file capabilities in.
const CAPABILITY: &[u8] = b"security.capability";

/// Writes the image and returns its name.
pub fn write(format: Format, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let description = format.description();
    let kernel = uki::kernel(system)?;
    if matches!(target, Target::Stdout) {
        return Err(
            Error::usage(format!("{} cannot go to standard output", description.name)).hint("use --dir and --name")
        );
    }
    let out = OutputFile::stream(target, description.suffixes.first().copied().unwrap_or_default())?;
    if let Some(root) = sealed_iso::root(format, system) {
        sealed_iso::write(format, root, system, &out, options)?;
        return Ok(vec![out.commit()?]);
    }
    warn_of_capabilities(&system.tree, options)?;
    let finder = finder(system, options)?;
    let mut tree = system.tree.clone();
    if format == Format::IsoEfi {
        // The kernel is in the unified kernel image.
        tree.remove(b"boot");
    }
    let scratch = options.store.temporary_folder()?;
    let mut iso_options = IsoOptions { time: options.time, ..IsoOptions::default() };
    let mut boot_code = Vec::new();
    let mut by_bios = None;
    if format != Format::IsoEfi {
        let (program, code) = isolinux(&mut tree, &finder, scratch.path(), options)?;
        by_bios = Some(program);
        boot_code = code;
    }
    iso_options.hybrid = Some(Hybrid { boot_code, partitions: Vec::new() });
    let mut plan = |label: String| -> Result<Iso> {
        // In front, so that the blueprint's own `root=` wins.
        let command_line = format!("root=LABEL={label} {}", kernel.cmdline);
        let command_line = command_line.trim_end();
        iso_options.label = label;
        iso_options.boot.clear();
        if let Some(program) = &by_bios {
            let configuration = bios::configuration("/boot/kernel", &format!("/{INITRD}"), command_line)?;
            put(&mut tree, CONFIGURATION, Content::bytes(configuration.into_bytes()), options)?;
            iso_options.boot.push(program.clone());
        }
        if format != Format::IsoBios {
            let image = Arc::new(uki::image_of(system, uki::os_release(system)?, command_line, &finder, options)?);
            // The first plan gives the name only, and the name cannot depend on a signature over it.
            let image = if iso_options.label.is_empty() {
                image as Arc<dyn Source>
            } else {
                signing::finish(image, Some(program_path(system.arch)), options)?
            };
            let volume = uefi_disk::volume(system.arch, image, None, 0, options.time)?;
            iso_options.boot.push(BootImage::Volume(Arc::new(volume)));
        }
        Iso::new(&tree, &iso_options)
    };
    // The name comes from everything that is in the image but itself.
    let label = label(&plan(String::new())?.identity());
    write_image(&plan(label)?, &out, options)?;
    Ok(vec![out.commit()?])
}

/// Writes kernel, initramfs, command line and the root without `boot/`.
pub fn write_with_kernel(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let Target::Base(base) = target else {
        return Err(Error::usage("kernel+iso makes several files").hint("use --dir and --name"));
    };
    let kernel = uki::kernel(system)?;
    let [kernel_name, initrd_name, cmdline_name, root_name] =
        Format::KernelIso.files(base).try_into().map_err(|_| Error::failed("kernel+iso makes four files"))?;
    let root = OutputFile::create(&root_name)?;
    warn_of_capabilities(&system.tree, options)?;
    let finder = finder(system, options)?;
    let mut tree = system.tree.clone();
    tree.remove(b"boot");
    let mut iso_options = IsoOptions { time: options.time, ..IsoOptions::default() };
    iso_options.label = label(&Iso::new(&tree, &iso_options)?.identity());
    let cmdline = root_file_system::cmdline(&kernel.cmdline, &format!("LABEL={}", iso_options.label));
    write_image(&Iso::new(&tree, &iso_options)?, &root, options)?;
    let mut initrd = OutputFile::create(&initrd_name)?;
    Initrd::make(&finder, options)?.write(&mut initrd)?;
    OutputFile::commit_all(vec![
        OutputFile::holding(&kernel_name, &kernel.image)?,
        initrd,
        OutputFile::holding(&cmdline_name, &cmdline.into_bytes())?,
        root,
    ])
}

/// What is unpacked to memory: a system whose only task is to find the root.
fn finder(system: &System, options: &Options<'_>) -> Result<System> {
    let purpose = Purpose { root: RootKind::Iso9660, storage: Storage::Plain, verity: false, container: None };
    Ok(System { tree: finder::initramfs(system, &purpose, options)?, ..system.clone() })
}

/// Puts the loader for BIOS into a tree, with the initrd of a system. Returns what BIOS starts on a CD, and the boot record's
/// program for disks.
pub fn isolinux(
    tree: &mut Tree,
    starter: &System,
    scratch: &Path,
    options: &Options<'_>,
) -> Result<(BootImage, Vec<u8>)> {
    let isolinux = |path| options.component_file(ISOLINUX, starter.arch, path);
    // A tree holds files with their digests, so the initrd becomes one.
    let initrd_path = scratch.join("initrd.img");
    let mut initrd = OutputFile::create(&initrd_path)?;
    Initrd::make(starter, options)?.write(&mut initrd)?;
    initrd.commit()?;
    put(tree, PROGRAM, isolinux("usr/lib/ISOLINUX/isolinux.bin")?, options)?;
    put(tree, MODULE, isolinux("usr/lib/syslinux/modules/bios/ldlinux.c32")?, options)?;
    put(tree, INITRD, Content::host_file(&initrd_path)?, options)?;
    let boot_code = isolinux("usr/lib/ISOLINUX/isohdpfx.bin")?.read(BOOT_CODE_LIMIT)?;
    Ok((BootImage::Program(PROGRAM.as_bytes().to_vec()), boot_code))
}

/// Puts a file into a tree, below `boot/`.
pub fn put(tree: &mut Tree, path: &str, content: Content, options: &Options<'_>) -> Result<()> {
    let origin = tree.add_origin(Origin { source: "iso".into(), location: "loader".into() });
    let inode = Inode { meta: Meta::root(0o644, options.time), kind: Kind::File(content), origin };
    tree.insert(path.as_bytes(), inode, &Meta::root(0o755, options.time)).map(drop)
}

/// Writes an image as a file with holes.
pub fn write_image(iso: &Iso, out: &OutputFile, options: &Options<'_>) -> Result<()> {
    let task = options.ui.task("write", "iso", None);
    let file = out.file().ok_or_else(|| Error::failed("a CD image cannot go to standard output"))?;
    sparse::write(iso, Output::new(file, out.path())?)?;
    task.advance(iso.size());
    Ok(())
}

/// A name that no other image has.
pub fn label(identity: &Digest) -> String {
    let hex = identity.hex().to_uppercase();
    format!("MOBY-{}", hex.get(..16).unwrap_or(&hex))
}

fn warn_of_capabilities(tree: &Tree, options: &Options<'_>) -> Result<()> {
    tree.walk_all(|path, id| {
        if tree.inode(id).meta.xattrs.iter().any(|(name, _)| name == CAPABILITY) {
            options.ui.warn(format!(
                "/{} loses its file capabilities: ISO 9660 has no extended attributes",
                path.escape_ascii()
            ));
        }
        Ok(())
    })
}
