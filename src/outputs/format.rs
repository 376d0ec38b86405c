//! The formats' names, what each makes, for which machines, and what it can hold.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{System, initrd, with_suffix};
use crate::Arch;
use crate::blueprint::{Blueprint, Content, nearest};
use crate::error::{Error, Result};
use crate::formats::cpio::FILE_LIMIT;
use crate::rootfs::assemble::host_path;

/// The outputs that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The root file system as one tar archive.
    Tar,
    /// The same with a Dockerfile, to be piped into an image builder.
    Docker,
    /// An OCI layout: an image for containers, an artefact for machines.
    Oci,
    /// Kernel, initrd and command line as three files.
    KernelInitrd,
    /// Kernel, initrd and command line in one tar archive.
    TarKernelInitrd,
    /// A disk for BIOS and for UEFI.
    Raw,
    /// A disk for BIOS.
    RawBios,
    /// The same as qcow2.
    Qcow2Bios,
    /// The same disk as [`Format::Raw`] as qcow2.
    Qcow2,
    /// A CD for BIOS, and a disk at the same time.
    IsoBios,
    /// A CD for UEFI, and a disk at the same time, with the root on it.
    IsoEfi,
    /// A CD for BIOS and for UEFI, and a disk at the same time.
    Iso,
    /// Kernel, initramfs, command line, and the root as ISO 9660.
    KernelIso,
    /// Kernel and initrd with a script that loads them over the network.
    Pxe,
    /// Kernel, initramfs, command line, and the root as squashfs.
    KernelSquashfs,
    /// Kernel, initramfs, command line, and the root as erofs.
    KernelErofs,
    /// The root file system as squashfs.
    Squashfs,
    /// The root file system as erofs.
    Erofs,
    /// Kernel, initrd and command line as one program for UEFI.
    Uki,
    /// A disk for UEFI.
    RawEfi,
    /// The same as qcow2.
    Qcow2Efi,
    /// A CD for UEFI.
    IsoEfiInitrd,
    /// A disk for Hyper-V.
    Vhdx,
    /// A disk for older Hyper-V, fixed.
    Vhd,
    /// The same, growing.
    DynamicVhd,
    /// A disk for Azure.
    Azure,
    /// A disk for VMware.
    Vmdk,
    /// A machine for VMware, VirtualBox and others.
    Ova,
    /// A disk for Amazon.
    Aws,
    /// A disk for Google.
    Gcp,
    /// A card for Raspberry Pis.
    Rpi,
    /// Its files as an archive.
    Rpi3,
}

/// Both architectures.
const BOTH: &[Arch] = &[Arch::Amd64, Arch::Arm64];
/// What there are machines for on x86 only.
const AMD64: &[Arch] = &[Arch::Amd64];
/// Boards with ARM processors.
const ARM64: &[Arch] = &[Arch::Arm64];

/// Other names of formats.
const ALIASES: &[(&str, &str)] = &[("usb", "raw")];

/// One row of `--format list`.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The format.
    pub format: Format,
    /// Its name on the command line.
    pub name: &'static str,
    /// What is put behind the base name, one for each file.
    pub suffixes: &'static [&'static str],
    /// For which machines it can be made.
    pub arches: &'static [Arch],
    /// What boots it; `-` if nothing does without another loader.
    pub firmware: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

impl Format {
    /// Every format, in the order of the list.
    pub const ALL: &'static [Description] = &[
        Description {
            format: Format::KernelInitrd,
            name: "kernel+initrd",
            suffixes: &["-kernel", "-initrd.img", "-cmdline"],
            arches: BOTH,
            firmware: "-",
            purpose: "direct kernel boot: QEMU, PXE, kexec",
        },
        Description {
            format: Format::TarKernelInitrd,
            name: "tar-kernel-initrd",
            suffixes: &["-initrd.tar"],
            arches: BOTH,
            firmware: "-",
            purpose: "the same as one archive",
        },
        Description {
            format: Format::Pxe,
            name: "pxe",
            suffixes: &["-kernel", "-initrd.img", ".ipxe"],
            arches: BOTH,
            firmware: "BIOS, UEFI",
            purpose: "boot over the network with iPXE",
        },
        Description {
            format: Format::KernelSquashfs,
            name: "kernel+squashfs",
            suffixes: &["-kernel", "-initrd.img", "-cmdline", "-squashfs.img"],
            arches: BOTH,
            firmware: "-",
            purpose: "direct kernel boot with the root on a disk",
        },
        Description {
            format: Format::KernelErofs,
            name: "kernel+erofs",
            suffixes: &["-kernel", "-initrd.img", "-cmdline", "-erofs.img"],
            arches: BOTH,
            firmware: "-",
            purpose: "the same, found by its identifier",
        },
        Description {
            format: Format::KernelIso,
            name: "kernel+iso",
            suffixes: &["-kernel", "-initrd.img", "-cmdline", "-rootfs.iso"],
            arches: BOTH,
            firmware: "-",
            purpose: "the same, found by its name",
        },
        Description {
            format: Format::Tar,
            name: "tar",
            suffixes: &[".tar"],
            arches: BOTH,
            firmware: "-",
            purpose: "the root file system",
        },
        Description {
            format: Format::Docker,
            name: "docker",
            suffixes: &[".docker"],
            arches: BOTH,
            firmware: "-",
            purpose: "the root file system with a Dockerfile, for docker or podman build",
        },
        Description {
            format: Format::Oci,
            name: "oci",
            suffixes: &["-oci.tar"],
            arches: BOTH,
            firmware: "-",
            purpose: "registries: an image for containers, and kernel and initrd as an artefact",
        },
        Description {
            format: Format::RawBios,
            name: "raw-bios",
            suffixes: &["-bios.img"],
            arches: AMD64,
            firmware: "BIOS",
            purpose: "disks and USB sticks, any hypervisor",
        },
        Description {
            format: Format::Qcow2Bios,
            name: "qcow2-bios",
            suffixes: &[".qcow2"],
            arches: AMD64,
            firmware: "BIOS",
            purpose: "QEMU, libvirt, Proxmox, OpenStack",
        },
        Description {
            format: Format::IsoBios,
            name: "iso-bios",
            suffixes: &[".iso"],
            arches: AMD64,
            firmware: "BIOS",
            purpose: "CDs, virtual media, USB sticks; the root stays there",
        },
        Description {
            format: Format::IsoEfi,
            name: "iso-efi",
            suffixes: &["-efi.iso"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "CDs, virtual media, USB sticks; the root stays there",
        },
        Description {
            format: Format::Iso,
            name: "iso",
            suffixes: &["-hybrid.iso"],
            arches: AMD64,
            firmware: "BIOS, UEFI",
            purpose: "CDs, virtual media, USB sticks for any machine; the root stays there",
        },
        Description {
            format: Format::Raw,
            name: "raw",
            suffixes: &[".img"],
            arches: AMD64,
            firmware: "BIOS, UEFI",
            purpose: "disks and USB sticks for any machine (also: --format usb)",
        },
        Description {
            format: Format::Qcow2,
            name: "qcow2",
            suffixes: &["-hybrid.qcow2"],
            arches: AMD64,
            firmware: "BIOS, UEFI",
            purpose: "QEMU, libvirt, Proxmox, OpenStack, with either firmware",
        },
        Description {
            format: Format::Squashfs,
            name: "squashfs",
            suffixes: &[".squashfs"],
            arches: BOTH,
            firmware: "-",
            purpose: "the root file system as an image to mount",
        },
        Description {
            format: Format::Erofs,
            name: "erofs",
            suffixes: &[".erofs"],
            arches: BOTH,
            firmware: "-",
            purpose: "the root file system as an image to mount",
        },
        Description {
            format: Format::Uki,
            name: "uki",
            suffixes: &[".efi"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "one program: EFI system partitions, HTTP boot",
        },
        Description {
            format: Format::RawEfi,
            name: "raw-efi",
            suffixes: &["-efi.img"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "disks and USB sticks, any hypervisor",
        },
        Description {
            format: Format::Qcow2Efi,
            name: "qcow2-efi",
            suffixes: &["-efi.qcow2"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "QEMU, libvirt, Proxmox, OpenStack",
        },
        Description {
            format: Format::IsoEfiInitrd,
            name: "iso-efi-initrd",
            suffixes: &["-efi-initrd.iso"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "CDs, virtual media, USB sticks",
        },
        Description {
            format: Format::Vhdx,
            name: "vhdx",
            suffixes: &[".vhdx"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "Hyper-V, generation 2",
        },
        Description {
            format: Format::Vhd,
            name: "vhd",
            suffixes: &[".vhd"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "XenServer, VirtualBox (fixed size)",
        },
        Description {
            format: Format::DynamicVhd,
            name: "dynamic-vhd",
            suffixes: &["-dynamic.vhd"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "the same, without its zeros",
        },
        Description {
            format: Format::Azure,
            name: "azure",
            suffixes: &["-azure.vhd"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "Azure, generation 2",
        },
        Description {
            format: Format::Vmdk,
            name: "vmdk",
            suffixes: &[".vmdk"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "vSphere, Fusion, imports of clouds",
        },
        Description {
            format: Format::Ova,
            name: "ova",
            suffixes: &[".ova"],
            arches: AMD64,
            firmware: "UEFI",
            purpose: "vSphere, VirtualBox: the machine with its disk",
        },
        Description {
            format: Format::Aws,
            name: "aws",
            suffixes: &[".raw"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "Amazon EC2",
        },
        Description {
            format: Format::Gcp,
            name: "gcp",
            suffixes: &[".img.tar.gz"],
            arches: BOTH,
            firmware: "UEFI",
            purpose: "Google Compute Engine",
        },
        Description {
            format: Format::Rpi,
            name: "rpi",
            suffixes: &["-rpi.img"],
            arches: ARM64,
            firmware: "Raspberry Pi",
            purpose: "SD cards and USB sticks for Raspberry Pis",
        },
        Description {
            format: Format::Rpi3,
            name: "rpi3",
            suffixes: &["-rpi3.tar"],
            arches: ARM64,
            firmware: "Raspberry Pi",
            purpose: "the same files, for a card that is formatted already",
        },
    ];

    /// The format's row of the list.
    pub fn description(self) -> Description {
        // Every format has a row: a test looks.
        Format::ALL.iter().find(|row| row.format == self).copied().unwrap_or(Format::ALL[0])
    }

    /// Whether the output is one stream that may go to standard output or a file of any name.
    pub fn streams(self) -> bool {
        matches!(self, Format::Tar | Format::Docker)
    }

    /// Whether the output is a disk, whose size can be asked for.
    pub fn is_disk(self) -> bool {
        matches!(
            self,
            Format::Raw
                | Format::RawBios
                | Format::Rpi
                | Format::Qcow2
                | Format::Qcow2Bios
                | Format::RawEfi
                | Format::Qcow2Efi
                | Format::Vhdx
                | Format::Vhd
                | Format::DynamicVhd
                | Format::Azure
                | Format::Vmdk
                | Format::Ova
                | Format::Aws
                | Format::Gcp
        )
    }

    /// Whether UEFI starts a program of the output, which can be signed.
    pub fn has_efi_program(self) -> bool {
        self != Format::Pxe && self.description().firmware.contains("UEFI")
    }

    /// Refuses what has no machine to run on.
    pub fn check_arch(self, arch: Arch) -> Result<()> {
        let Description { name, arches, .. } = self.description();
        if arches.contains(&arch) {
            return Ok(());
        }
        let others: Vec<_> = Format::ALL.iter().filter(|row| row.arches.contains(&arch)).map(|row| row.name).collect();
        let by_uefi = format!("{}-efi", name.trim_end_matches("-bios"));
        let why = match self.description().firmware {
            "BIOS" | "BIOS, UEFI" => format!("machines of {arch} have no BIOS"),
            "Raspberry Pi" => "these boards have ARM64 processors".to_owned(),
            _ => "nothing of that kind runs it".to_owned(),
        };
        let hint = match others.contains(&by_uefi.as_str()) {
            true => format!("use {by_uefi}; moby build --format list shows all"),
            false => format!("formats for {arch} are {}", others.join(", ")),
        };
        Err(Error::usage(format!("{name} cannot be made for {arch}: {why}")).hint(hint))
    }

    /// Whether the root is unpacked to memory from an initrd, alone or inside of something else.
    pub fn unpacks_root(self) -> bool {
        !matches!(
            self,
            Format::Tar
                | Format::Docker
                | Format::Squashfs
                | Format::Erofs
                | Format::KernelSquashfs
                | Format::KernelErofs
                | Format::KernelIso
                | Format::IsoBios
                | Format::IsoEfi
                | Format::Iso
        )
    }

    /// Refuses, before any work, a root that the format cannot hold.
    pub fn check_root(self, system: &System) -> Result<()> {
        if !self.takes_initrd(system.root.is_some()) {
            return Ok(());
        }
        let Some((path, size)) = initrd::too_large(&system.tree)? else { return Ok(()) };
        Err(self.cannot_hold(&path.escape_ascii().to_string(), size, system.arch))
    }

    /// The same for the files that a blueprint takes from the host: by their sizes, before anything is pulled or read.
    pub fn check_sources(self, blueprint: &Blueprint, arch: Arch) -> Result<()> {
        if !self.takes_initrd(blueprint.root_on_disk().is_some()) {
            return Ok(());
        }
        for file in blueprint.files.iter().filter(|file| !file.path.starts_with("boot/")) {
            if let Content::Source(source) = &file.content
                // One that is not there is told of where it is read.
                && let Ok(found) = host_path(source).metadata()
                && found.is_file()
                && found.len() > FILE_LIMIT
            {
                let error = self.cannot_hold(&file.path.escape_debug().to_string(), found.len(), arch);
                return Err(error.context(&file.place));
            }
        }
        Ok(())
    }

    /// Whether the root goes into an initrd. With `root:` in the blueprint, disks have a root of their own.
    fn takes_initrd(self, root_on_disk: bool) -> bool {
        self.unpacks_root() && !(self.has_place_for_root() && root_on_disk)
    }

    fn has_place_for_root(self) -> bool {
        self.is_disk() && self != Format::Rpi
    }

    fn cannot_hold(self, path: &str, size: u64, arch: Arch) -> Error {
        let can = Format::ALL.iter().filter(|row| !row.format.unpacks_root() && row.arches.contains(&arch));
        let on_disk = "; or a root on the disk: root: {type: erofs} in the blueprint";
        Error::usage(format!(
            "{}: /{path} has {size} bytes, and an initrd (newc cpio) holds files of at most {FILE_LIMIT} bytes",
            self.description().name
        ))
        .hint(format!(
            "formats that can hold it are {}{}",
            can.map(|row| row.name).collect::<Vec<_>>().join(", "),
            if self.has_place_for_root() { on_disk } else { "" }
        ))
    }

    /// The files that the format makes from a base path.
    pub fn files(self, base: &Path) -> Vec<PathBuf> {
        self.description().suffixes.iter().map(|suffix| with_suffix(base, suffix)).collect()
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format, Error> {
        let text = text.trim();
        let text = ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, name)| name);
        Format::ALL.iter().find(|row| row.name == text).map(|row| row.format).ok_or_else(|| {
            let names: Vec<_> = Format::ALL.iter().map(|row| row.name).collect();
            let hint = match nearest(text, names.iter().copied()) {
                Some(near) => format!("did you mean {near}? moby build --format list shows all formats"),
                None => format!("formats are {}", names.join(", ")),
            };
            Error::usage(format!("unknown format \"{text}\"")).hint(hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_formats_write_the_same_file() {
        // What is a kernel stands under one name, whatever the initrd finds its root by.
        let mut files = BTreeSet::new();
        for row in Format::ALL.iter().filter(|row| row.suffixes.len() == 1) {
            assert!(files.insert(row.suffixes[0]), "{}", row.name);
        }
        for row in Format::ALL {
            assert_eq!(row.name.parse::<Format>().unwrap(), row.format);
            assert_eq!(row.format.description().name, row.name);
        }
        for (alias, name) in ALIASES {
            assert!(Format::ALL.iter().all(|row| row.name != *alias));
            assert_eq!(alias.parse::<Format>().unwrap().description().name, *name);
        }
    }

    #[test]
    fn files_of_four_gibibytes_are_refused_where_they_do_not_fit() {
        use crate::rootfs::{Content, Inode, Kind, Meta, Tree};
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        let mut insert = |path: &str, size| {
            // Nobody reads it.
            let content = Content::part(Path::new("/nowhere").into(), 0, size, crate::store::Digest::of(b""));
            let inode = Inode { meta: Meta::root(0o644, 0), kind: Kind::File(content), origin };
            tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
            tree.clone()
        };
        let system = |tree| {
            let (root, disk, initramfs) = (None, Default::default(), None);
            System { tree, kernel: None, arch: Arch::Arm64, root, disk, initramfs }
        };
        // What is below boot/ is in no initrd.
        insert("boot/large", 6 << 30);
        let fits = system(insert("var/fits", (4 << 30) - 1));
        let large = system(insert("var/large", 4 << 30));
        for row in Format::ALL {
            row.format.check_root(&fits).unwrap();
            assert_eq!(row.format.check_root(&large).is_err(), row.format.unpacks_root(), "{}", row.name);
        }
        let mut on_disk = large.clone();
        on_disk.root = Some(crate::blueprint::Root::default());
        Format::RawEfi.check_root(&on_disk).unwrap();
        Format::Rpi.check_root(&on_disk).unwrap_err();
        let error = Format::Uki.check_root(&large).unwrap_err();
        assert_eq!(
            error.message(),
            "uki: /var/large has 4294967296 bytes, and an initrd (newc cpio) holds files of at most 4294967295 bytes"
        );
        assert_eq!(
            error.hint_text().unwrap(),
            "formats that can hold it are kernel+squashfs, kernel+erofs, kernel+iso, tar, docker, iso-efi, squashfs, erofs"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = Format::Ova.check_arch(Arch::Arm64).unwrap_err();
        assert!(error.message().contains("ova cannot be made for arm64"), "{error}");
        assert!(!error.hint_text().unwrap().contains("ova"));
        Format::Ova.check_arch(Arch::Amd64).unwrap();
    }
}
