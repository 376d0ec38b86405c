//! Named outputs: the files that a person asks for with `--format`.
//!
//! An output is written under a temporary name beside its target, synced and renamed when all of it is whole; a
//! failed build leaves the old files or none.
//!
//! Most files are formats by their names. The others:
//!
//! | file | does |
//! |---|---|
//! | `format.rs` | the table of formats |
//! | `file.rs`, `sparse.rs` | files that appear whole, with holes |
//! | `disk_file.rs` | a disk's file that gets its root first |
//! | `verified_root.rs`, `finder.rs` | a root on a disk with its hash tree, the initramfs that finds it |
//! | `sealed_disk.rs`, `sealed_bios_disk.rs`, `sealed_iso.rs` | where such a root lies |
//! | `segments.rs` | archives of an initrd that are kept |
//! | `pieces.rs`, `pack.rs`, `shared_pieces.rs` | compressed pieces of file systems: kept, in one file, of other machines |
//! | `up_to_date.rs` | whether there is anything to do |

mod bios;
mod bios_disk;
mod component;
mod disk_file;
mod docker;
mod extras;
mod file;
mod filesystem;
mod finder;
mod format;
mod initrd;
mod iso;
mod iso_efi_initrd;
mod kernel_initrd;
mod oci;
mod pack;
mod pieces;
mod pxe;
mod raspberry_pi;
mod root_file_system;
mod sealed_bios_disk;
mod sealed_disk;
mod sealed_iso;
mod segments;
mod shared_pieces;
pub mod signing;
pub(crate) mod sparse;
mod tar;
mod tar_kernel_initrd;
mod uefi_disk;
mod uki;
mod up_to_date;
mod verified_root;

use std::path::{Path, PathBuf};

pub use extras::Extras;
pub use file::{OutputFile, Target};
pub use filesystem::write_filesystem;
pub use format::{Description, Format};
use root_file_system::FileSystem;
use uefi_disk::Container;
pub use uefi_disk::program_path;
pub use up_to_date::Loaders;

use crate::component::Components;
use crate::error::Result;
use crate::formats::compress::Method;
use crate::formats::vhd;
pub use crate::rootfs::assemble::{Kernel, System};
use crate::secure_boot::signing::Signing;
use crate::store::{Hasher, Store};
use crate::ui::Ui;

/// How outputs are made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Where derived data is kept.
    pub store: &'a Store,
    /// Where progress is shown.
    pub ui: &'a Ui,
    /// Where loaders and other tools come from.
    pub components: &'a Components<'a>,
    /// Bytes that a disk has; `None` for what its content needs.
    pub size: Option<u64>,
    /// How EFI programs are signed; `None` leaves them unsigned.
    pub sign: Option<&'a Signing>,
    /// How an initrd is compressed.
    pub compression: Method,
    /// What was asked for beside the blueprint.
    pub extras: Extras,
    /// The time of everything that has none of its own, in seconds since the epoch.
    pub time: i64,
    /// Which loader components were taken; none to begin with.
    pub loaders: Loaders,
}

impl Options<'_> {
    /// Adds what an output's bytes depend on to its digest. Every new option belongs here.
    fn add_to(&self, hasher: &mut Hasher) {
        let Options { store: _, ui: _, components: _, loaders: _, sign, size, compression, extras, time } = self;
        extras.add_to(hasher);
        hasher.field(format!("{size:?} {compression} {time}").as_bytes());
        hasher.field(sign.map_or(&[], |signing| signing.certificate().der()));
    }
}

impl Format {
    /// Makes the output's files, if they are not there already.
    pub fn write(self, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
        up_to_date::write(self, system, target, options, || self.make(system, target, options))
    }

    fn make(self, system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
        match self {
            Format::Tar => tar::write(system, target, options),
            Format::Docker => docker::write(system, target, options),
            Format::KernelInitrd => kernel_initrd::write(system, target, options),
            Format::Rpi => raspberry_pi::write(self, system, target, options),
            Format::Rpi3 => raspberry_pi::write_tar(system, target, options),
            Format::Oci => oci::write(system, target, options),
            Format::Pxe => pxe::write(system, target, options),
            Format::TarKernelInitrd => tar_kernel_initrd::write(system, target, options),
            Format::Raw => bios_disk::write_both(self, Container::Raw, system, target, options),
            Format::RawBios => bios_disk::write(self, Container::Raw, system, target, options),
            Format::Qcow2Bios => bios_disk::write(self, Container::Qcow2, system, target, options),
            Format::Qcow2 => bios_disk::write_both(self, Container::Qcow2, system, target, options),
            Format::IsoBios | Format::IsoEfi | Format::Iso => iso::write(self, system, target, options),
            Format::KernelIso => iso::write_with_kernel(system, target, options),
            Format::KernelSquashfs => {
                root_file_system::write_with_kernel(FileSystem::Squashfs, self, system, target, options)
            }
            Format::KernelErofs => {
                root_file_system::write_with_kernel(FileSystem::Erofs, self, system, target, options)
            }
            Format::Squashfs => root_file_system::write(FileSystem::Squashfs, system, target, options),
            Format::Erofs => root_file_system::write(FileSystem::Erofs, system, target, options),
            Format::Uki => uki::write(system, target, options),
            Format::IsoEfiInitrd => iso_efi_initrd::write(system, target, options),
            Format::RawEfi | Format::Aws => uefi_disk::write(self, Container::Raw, system, target, options),
            Format::Qcow2Efi => uefi_disk::write(self, Container::Qcow2, system, target, options),
            Format::Vhdx => uefi_disk::write(self, Container::Vhdx, system, target, options),
            Format::Vhd => uefi_disk::write(self, Container::Vhd(vhd::Kind::Fixed), system, target, options),
            Format::DynamicVhd => uefi_disk::write(self, Container::Vhd(vhd::Kind::Dynamic), system, target, options),
            Format::Azure => uefi_disk::write(self, Container::Azure, system, target, options),
            Format::Vmdk => uefi_disk::write(self, Container::Vmdk, system, target, options),
            Format::Ova => uefi_disk::write(self, Container::Ova, system, target, options),
            Format::Gcp => uefi_disk::write(self, Container::Gcp, system, target, options),
        }
    }
}

fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
