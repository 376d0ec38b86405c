//! Disks that UEFI boots: one EFI system partition with a unified kernel image under the name that firmware looks for
//! where nothing else is set up. As a raw file, and in the containers of clouds and hypervisors.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::disk_file::{DiskFile, Room};
use super::{Format, Options, OutputFile, System, Target, sealed_disk, sparse, uki, with_suffix};
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::formats::disk::{Assembled, DiskImage, Identity, Output, RawFile};
use crate::formats::fat::{self, Fat};
use crate::formats::gpt::{self, Disk};
use crate::formats::qcow2::Placed;
use crate::formats::source::{FilePart, Source};
use crate::formats::{gcp, ova, qcow2, vhd, vhdx, vmdk};
use crate::rootfs::write_error;

/// What firmware and people see.
const LABEL: &str = "ESP";
/// Room for what firmware and guests put there beside the kernel.
const FREE: u64 = 1 << 20;
/// Google's images are whole GiB, and the backup of the partition table belongs at the end.
const GIB: u64 = 1 << 30;

/// How the disk's bytes are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Not at all; zeros are holes of the file.
    Raw,
    /// QEMU's.
    Qcow2,
    /// Microsoft's newer one, growing.
    Vhdx,
    /// VMware's, as a compressed stream.
    Vmdk,
    /// Microsoft's older one.
    Vhd(vhd::Kind),
    /// The older one as Azure takes it.
    Azure,
    /// A tar archive with `disk.raw`, compressed.
    Gcp,
    /// A VMDK with the description of a machine.
    Ova,
}

/// Writes the disk in a container and returns the file's name.
pub fn write(
    format: Format,
    container: Container,
    system: &System,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    let multiple = if container == Container::Gcp { GIB } else { 1 };
    let plan = |file: &DiskFile| plan(system, multiple, file, options);
    write_disk(format, container, plan, target, options)
}

/// The same for any disk.
pub fn write_disk<D: Source>(
    format: Format,
    container: Container,
    plan: impl FnOnce(&DiskFile) -> Result<D>,
    target: &Target,
    options: &Options<'_>,
) -> Result<Vec<PathBuf>> {
    let description = format.description();
    let suffix = description.suffixes.first().copied().unwrap_or_default();
    let path = match target {
        Target::Base(base) => with_suffix(base, suffix),
        Target::File(path) => path.clone(),
        Target::Stdout => {
            return Err(
                Error::usage(format!("{} cannot go to standard output", description.name)).hint("use --dir and --name")
            );
        }
    };
    let room = match container {
        Container::Raw => Room::Raw,
        Container::Qcow2 if options.extras.qcow2.is_none() => Room::Qcow2,
        _ => Room::None,
    };
    let file = DiskFile::new(&path, room);
    let disk = plan(&file)?;
    let task = options.ui.task("write", description.name, None);
    let mut out = file.into_output()?;
    if container == Container::Raw {
        sparse::write(&disk, output(&out)?)?;
    } else {
        // Containers say in front what is behind, so the disk is read more than once.
        let raw = options.store.temporary_file()?;
        sparse::write_without_files(&disk, Output::new(raw.as_file(), raw.path())?)?;
        let file = raw.as_file().try_clone().at("opening", raw.path())?;
        let (placed, files) = placed(disk.files(), &out)?;
        let image = Assembled { around: RawFile::new(file, raw.path())?, files };
        let identity = Identity::from_digest(&disk.identity());
        out = contain(container, &image, &placed, identity, out, target, options)?;
    }
    task.advance(disk.size());
    Ok(vec![out.commit()?])
}

/// Takes what lies in the output already out of a disk's parts.
fn placed<'a>(parts: Vec<FilePart<'a>>, out: &OutputFile) -> Result<(Vec<Placed>, Vec<FilePart<'a>>)> {
    let (mut placed, mut files) = (Vec::new(), Vec::new());
    for part in parts {
        match out.file().map_or(Ok(false), |file| part.lies_in(file)).at("reading", part.path)? {
            true => placed.push(Placed { offset: part.offset, place: part.from, size: part.size }),
            false => files.push(part),
        }
    }
    Ok((placed, files))
}

/// Writes the container. Only in qcow2 can parts of the disk be there already.
fn contain(
    container: Container,
    disk: &dyn DiskImage,
    placed: &[Placed],
    identity: Identity,
    out: OutputFile,
    target: &Target,
    options: &Options<'_>,
) -> Result<OutputFile> {
    let time = options.time;
    match container {
        Container::Raw => return Err(Error::failed("a raw disk has no container")),
        Container::Qcow2 => {
            let made = qcow2::Options { compression: options.extras.qcow2 };
            qcow2::write_around(disk, placed, output(&out)?, &made)?
        }
        _ if !placed.is_empty() => return Err(Error::failed("a root is where its container has no place for it")),
        Container::Vhdx => vhdx::write(disk, output(&out)?, &vhdx::Options { kind: vhdx::Kind::Dynamic, identity })?,
        Container::Vhd(kind) => vhd::write(disk, output(&out)?, &vhd::Options { kind, identity, time, azure: false })?,
        Container::Azure => {
            let kind = vhd::Kind::Fixed;
            vhd::write(disk, output(&out)?, &vhd::Options { kind, identity, time, azure: true })?
        }
        Container::Ova => {
            let machine = ova::Machine { firmware: ova::Firmware::Efi, ..ova::Machine::new(&machine_name(target)) };
            let vmdk = vmdk::Options::new(identity);
            ova::write(disk, output(&out)?, &ova::Options { machine, vmdk, time })?
        }
        Container::Vmdk => {
            return stream(out, |out| vmdk::write_stream(disk, out, &vmdk::Options::new(identity)));
        }
        Container::Gcp => return stream(out, |out| gcp::write(disk, out, &gcp::Options { time, level: 6 })),
    };
    Ok(out)
}

fn stream(out: OutputFile, write: impl FnOnce(&mut BufWriter<OutputFile>) -> Result<u64>) -> Result<OutputFile> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    write(&mut out)?;
    out.flush().map_err(write_error)?;
    out.into_inner().map_err(|error| write_error(error.into_error()))
}

fn output(out: &OutputFile) -> Result<Output<'_>> {
    let file = out.file().ok_or_else(|| Error::failed("a disk image cannot go to standard output"))?;
    Ok(Output::around(file, out.path()))
}

/// The machine's name in an OVA: that of the output, without what such names cannot have.
fn machine_name(target: &Target) -> String {
    let path = match target {
        Target::Base(path) => path.file_name(),
        Target::File(path) => path.file_stem(),
        Target::Stdout => None,
    };
    let name = path.unwrap_or_default().to_string_lossy().into_owned();
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-._+".contains(c) { c } else { '-' };
    let name: String = name.trim_start_matches(['.', ' ']).chars().take(80).map(legal).collect();
    if name.is_empty() { "moby".to_owned() } else { name }
}

/// Plans the disk. Its size is a multiple of `multiple` bytes, and of whole MiB.
fn plan(system: &System, multiple: u64, file: &DiskFile, options: &Options<'_>) -> Result<Disk> {
    if let Some(root) = &system.root {
        return sealed_disk::plan(root, system, multiple, file, options);
    }
    let image = uki::program(system, Some(program_path(system.arch)), options)?;
    // UEFI asks for FAT32 on fixed disks (2.10, 13.3); some firmware takes nothing else.
    let volume = Arc::new(volume(system.arch, image, Some(fat::Kind::Fat32), FREE, options.time)?);
    let disk = |size| {
        let partition = gpt::Partition::new(gpt::EFI_SYSTEM, LABEL, Arc::clone(&volume) as Arc<dyn Source>);
        Disk::new(vec![partition], gpt::Options { size, ..gpt::Options::default() })
    };
    let wanted = wanted_size(disk(0)?.size(), options)?;
    disk(wanted.checked_next_multiple_of(multiple).unwrap_or(wanted))
}

/// The size that was asked for; `least` if none was.
pub fn wanted_size(least: u64, options: &Options<'_>) -> Result<u64> {
    let wanted = options.size.unwrap_or(least);
    if wanted < least {
        return Err(Error::usage(format!("--size gives {wanted} bytes, and the disk needs {least}"))
            .hint(format!("--size {}M, or leave it away", least.div_ceil(1 << 20))));
    }
    Ok(wanted)
}

/// A FAT volume with an image under the name that firmware starts by itself (UEFI 2.10, 3.5.1.1).
pub fn volume(arch: Arch, image: Arc<dyn Source>, kind: Option<fat::Kind>, free: u64, time: i64) -> Result<Fat> {
    let file = fat::File { path: program_path(arch).to_owned(), content: Some(image) };
    Fat::new(&[file], &fat::Options { kind, label: LABEL.to_owned(), time, free, ..fat::Options::default() })
}

/// The name in an EFI system partition that firmware starts by itself.
pub fn program_path(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "EFI/BOOT/BOOTX64.EFI",
        Arch::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
    }
}
