//! `uki`: kernel, initrd and command line as one program for UEFI, `NAME.efi`; and the same as a part of disks and CDs.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::initrd::Initrd;
use super::{Kernel, Options, OutputFile, System, Target, signing};
use crate::Arch;
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::formats::uki::{Section, Uki};
use crate::rootfs::{Kind, stage1, write_error};
use crate::run::kernel_header;

/// The component that has systemd's stub.
const STUB: &str = "components/systemd-stub";
/// Bytes of a stub, at most; systemd's have 100 KB.
const STUB_LIMIT: u64 = 16 << 20;
/// What a root without an os-release is called in boot menus.
pub const OS_RELEASE: &str = "ID=moby\nNAME=moby\nPRETTY_NAME=moby\n";
/// Bytes of an os-release, at most.
pub const OS_RELEASE_LIMIT: u64 = 64 << 10;
/// Where a root has its os-release.
pub const OS_RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// Writes the image and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let uki = program(system, None, options)?;
    let task = options.ui.task("write", "uki", None);
    let mut out = BufWriter::with_capacity(256 << 10, OutputFile::stream(target, ".efi")?);
    uki.write_to(&mut out)?;
    out.flush().map_err(write_error)?;
    task.advance(uki.size());
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}

/// The image of a system as outputs carry it, signed if that was asked for. `path` is its place in the EFI system
/// partition.
pub fn program(system: &System, path: Option<&str>, options: &Options<'_>) -> Result<Arc<dyn Source>> {
    signing::finish(Arc::new(image(system, options)?), path, options)
}

/// Plans the image of a system whose root is the initrd.
pub fn image(system: &System, options: &Options<'_>) -> Result<Uki> {
    let command_line = &kernel(system)?.cmdline;
    image_of(system, os_release(system)?, command_line, system, options)
}

/// Plans the image of a system that starts with another initramfs and command line.
pub fn image_of(
    system: &System,
    os_release: Arc<dyn Source>,
    command_line: &str,
    initramfs: &System,
    options: &Options<'_>,
) -> Result<Uki> {
    let kernel = kernel(system)?;
    check_program(kernel)?;
    let mut sections = vec![Section::new(".osrel", os_release)];
    let stub = options.component_file(STUB, system.arch, stub_path(system.arch))?.read(STUB_LIMIT)?;
    if !command_line.is_empty() {
        sections.push(Section::new(".cmdline", Arc::new(command_line.as_bytes().to_vec())));
    }
    sections.extend(options.extras.sections());
    if let Some(release) = release(system, kernel)? {
        sections.push(Section::new(".uname", Arc::new(release.into_bytes())));
    }
    sections.push(Section::new(".initrd", Arc::new(Initrd::make(initramfs, options)?.source()?)));
    sections.push(Section::new(".linux", Arc::new(kernel.image.clone())));
    Uki::new(&stub, sections)
}

/// Refuses a kernel that UEFI cannot start.
fn check_program(kernel: &Kernel) -> Result<()> {
    let mut magic = [0; 2];
    let found = kernel.image.read_at(0, &mut magic)?;
    if magic.get(..found) == Some(b"MZ") {
        return Ok(());
    }
    Err(Error::refused("the kernel is no program for UEFI: it does not begin with \"MZ\"")
        .hint("use a kernel built with CONFIG_EFI_STUB, and for ARM64 one that is not compressed as a whole"))
}

/// The kernel, which everything that boots by itself needs.
pub fn kernel(system: &System) -> Result<&Kernel> {
    system.kernel.as_ref().ok_or_else(|| {
        Error::usage("the blueprint has no kernel")
            .hint("add kernel: {image: ...}, or make a format without one, such as tar")
    })
}

/// What the stub of an architecture is called in systemd's package.
fn stub_path(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        Arch::Arm64 => "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
    }
}

/// The root's own os-release, if it has one.
pub fn os_release(system: &System) -> Result<Arc<dyn Source>> {
    let tree = &system.tree;
    let found = OS_RELEASES.into_iter().find_map(|path| tree.resolve(path.as_bytes()));
    Ok(match found.map(|id| &tree.inode(id).kind) {
        Some(Kind::File(content)) if (1..=OS_RELEASE_LIMIT).contains(&content.size) => Arc::new(content.clone()),
        _ => Arc::new(OS_RELEASE.as_bytes().to_vec()),
    })
}

/// The kernel's release: that of its modules, else what its header says.
fn release(system: &System, kernel: &Kernel) -> Result<Option<String>> {
    if let Some(release) = stage1::release(&system.tree)? {
        return Ok(Some(release));
    }
    let mut head = vec![0; kernel_header::HEAD as usize];
    let count = kernel.image.read_at(0, &mut head)?;
    head.truncate(count);
    Ok(kernel_header::parse(&head).and_then(|header| header.release))
}
