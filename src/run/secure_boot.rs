//! Programs for UEFI under Secure Boot.

use std::path::Path;
use std::sync::Arc;

use super::image::{Boot, Image};
use crate::Arch;
use crate::error::{IoContext, Result};
use crate::formats::disk::Output;
use crate::formats::fat::{self, Fat};
use crate::formats::gpt::{self, Disk};
use crate::formats::source::Source;
use crate::outputs::{program_path, sparse};
use crate::rootfs::Content;

/// A unified kernel image as the only program of a disk, made in the state folder. QEMU would hand the program to the
/// firmware itself, and firmware that refuses a program from there has QEMU's loader start the kernel in it all the
/// same: whoever gives QEMU a kernel is trusted.
pub fn on_disk(image: Image, arch: Arch, state: &Path) -> Result<Image> {
    let Boot::Uki { path } = &image.boot else { return Ok(image) };
    let program: Arc<dyn Source> = Arc::new(Content::host_file(path)?);
    let file = fat::File { path: program_path(arch).to_owned(), content: Some(program) };
    let options = fat::Options { kind: Some(fat::Kind::Fat32), label: "ESP".to_owned(), ..fat::Options::default() };
    let volume: Arc<dyn Source> = Arc::new(Fat::new(&[file], &options)?);
    let disk = Disk::new(vec![gpt::Partition::new(gpt::EFI_SYSTEM, "ESP", volume)], gpt::Options::default())?;
    let to = state.join("secure-boot.img");
    let file = std::fs::File::create(&to).at("writing", &to)?;
    sparse::write(&disk, Output::new(&file, &to)?)?;
    Ok(Image { boot: Boot::Disk { path: to, format: "raw" }, ..image })
}
