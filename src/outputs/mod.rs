//! Named outputs: the files that a person asks for with `--format`.
//!
//! An output is written under a temporary name beside its target, synced and renamed when all of it is whole; a
//! failed build leaves the old files or none.

mod bios;
mod disk;
mod docker;
mod file;
mod filesystem;
mod initrd;
mod iso_bios;
mod kernel_initrd;
mod loader;
mod raw_bios;
mod tar;
mod tar_kernel_initrd;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use file::{OutputFile, Target};
pub use filesystem::write_filesystem;

use crate::component::Components;
use crate::error::{Error, Result};
use crate::formats::compress::Method;
pub use crate::rootfs::assemble::{Kernel, System};
use crate::store::Store;
use crate::ui::Ui;

/// How outputs are made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Where derived data is kept.
    pub store: &'a Store,
    /// Where loaders come from.
    pub components: &'a Components<'a>,
    /// Where progress is shown.
    pub ui: &'a Ui,
    /// How an initrd is compressed.
    pub compression: Method,
    /// The time of everything that has none of its own, in seconds since the epoch.
    pub time: i64,
}

/// The outputs that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The root file system as one tar archive.
    Tar,
    /// The same with a Dockerfile, to be piped into an image builder.
    Docker,
    /// Kernel, initrd and command line as three files.
    KernelInitrd,
    /// Kernel, initrd and command line in one tar archive.
    TarKernelInitrd,
    /// A disk for BIOS.
    RawBios,
    /// The same as qcow2.
    Qcow2Bios,
    /// A CD for BIOS, and a disk at the same time.
    IsoBios,
}

/// One row of `--format list`.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The format.
    pub format: Format,
    /// Its name on the command line.
    pub name: &'static str,
    /// What is put behind the base name, one for each file.
    pub suffixes: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
}

impl Format {
    /// Every format, in the order of the list.
    pub const ALL: [Description; 7] = [
        Description {
            format: Format::KernelInitrd,
            name: "kernel+initrd",
            suffixes: &["-kernel", "-initrd.img", "-cmdline"],
            purpose: "direct kernel boot: QEMU, PXE, kexec",
        },
        Description {
            format: Format::TarKernelInitrd,
            name: "tar-kernel-initrd",
            suffixes: &["-initrd.tar"],
            purpose: "the same as one archive",
        },
        Description { format: Format::Tar, name: "tar", suffixes: &[".tar"], purpose: "the root file system" },
        Description {
            format: Format::Docker,
            name: "docker",
            suffixes: &[".docker"],
            purpose: "the root file system with a Dockerfile, for docker or podman build",
        },
        Description {
            format: Format::RawBios,
            name: "raw-bios",
            suffixes: &["-bios.img"],
            purpose: "a disk for BIOS (amd64)",
        },
        Description {
            format: Format::Qcow2Bios,
            name: "qcow2-bios",
            suffixes: &[".qcow2"],
            purpose: "the same for QEMU, libvirt, OpenStack (amd64)",
        },
        Description {
            format: Format::IsoBios,
            name: "iso-bios",
            suffixes: &[".iso"],
            purpose: "a CD for BIOS, or a USB stick (amd64)",
        },
    ];

    /// The format's row of the list.
    pub fn description(self) -> Description {
        let [first, ..] = Format::ALL;
        Format::ALL.into_iter().find(|row| row.format == self).unwrap_or(first)
    }

    /// Whether the output is one stream that may go to standard output or a file of any name.
    pub fn streams(self) -> bool {
        matches!(self, Format::Tar | Format::Docker)
    }

    /// The files that the format makes from a base path.
    pub fn files(self, base: &Path) -> Vec<PathBuf> {
        self.description().suffixes.iter().map(|suffix| with_suffix(base, suffix)).collect()
    }

    /// Makes the output's files.
    pub fn write(self, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
        match self {
            Format::Tar => tar::write(system, target, options),
            Format::Docker => docker::write(system, target, options),
            Format::KernelInitrd => kernel_initrd::write(system, target, options),
            Format::TarKernelInitrd => tar_kernel_initrd::write(system, target, options),
            Format::RawBios => raw_bios::write_raw(system, target, options),
            Format::Qcow2Bios => raw_bios::write_qcow2(system, target, options),
            Format::IsoBios => iso_bios::write(system, target, options),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format, Error> {
        Format::ALL.into_iter().find(|row| row.name == text).map(|row| row.format).ok_or_else(|| {
            let names: Vec<_> = Format::ALL.iter().map(|row| row.name).collect();
            Error::usage(format!("unknown format \"{text}\"")).hint(format!("formats are {}", names.join(", ")))
        })
    }
}

fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
