//! What bytes are, by their content.

use std::io::Read;

use super::Image;
use crate::error::Result;
use crate::formats::disk::{Cursor, DiskImage};
use crate::formats::{cpio, fat, mbr, pe};
use crate::run::kernel_header;

/// What an image or a part of one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A disk in QEMU's format.
    Qcow2,
    /// A disk of Hyper-V.
    Vhdx,
    /// A disk of older Hyper-V, and of Azure.
    Vhd,
    /// A disk of VMware.
    Vmdk,
    /// A machine of VMware and others.
    Ova,
    /// A disk for Google, as a compressed archive.
    Gcp,
    /// A disk with a GUID partition table.
    Gpt,
    /// A disk with a master boot record.
    Mbr,
    /// A CD.
    Iso,
    /// A FAT volume.
    Fat,
    /// A squashfs file system.
    Squashfs,
    /// An erofs file system.
    Erofs,
    /// A dm-verity hash tree with its superblock.
    Verity,
    /// A unified kernel image.
    Uki,
    /// Another program for UEFI.
    Program,
    /// A Linux kernel.
    Kernel,
    /// An initrd: cpio archives, compressed or not.
    Initrd,
    /// A tar archive.
    Tar,
    /// Nothing but zeros, or no bytes at all.
    Empty,
    /// None of these.
    Unknown,
}

impl Kind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Qcow2 => "qcow2",
            Kind::Vhdx => "VHDX",
            Kind::Vhd => "VHD",
            Kind::Vmdk => "VMDK",
            Kind::Ova => "OVA",
            Kind::Gcp => "disk.raw in tar.gz",
            Kind::Gpt => "disk with GPT",
            Kind::Mbr => "disk with MBR",
            Kind::Iso => "ISO 9660",
            Kind::Fat => "FAT",
            Kind::Squashfs => "squashfs",
            Kind::Erofs => "erofs",
            Kind::Verity => "dm-verity hash tree",
            Kind::Uki => "unified kernel image",
            Kind::Program => "EFI program",
            Kind::Kernel => "Linux kernel",
            Kind::Initrd => "initrd",
            Kind::Tar => "tar",
            Kind::Empty => "empty",
            Kind::Unknown => "unknown",
        }
    }

    /// Whether it wraps a disk.
    pub fn is_container(self) -> bool {
        matches!(self, Kind::Qcow2 | Kind::Vhdx | Kind::Vhd | Kind::Vmdk | Kind::Ova | Kind::Gcp)
    }
}

/// Bytes at the start that tell most kinds apart: those of ISO 9660 begin at byte 32769.
const HEAD: u64 = 40 << 10;

/// Tells what an image is.
pub fn detect(image: &Image) -> Result<Kind> {
    let size = image.size();
    let mut head = vec![0; size.min(HEAD) as usize];
    image.read_at(&mut head, 0)?;
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let found = match () {
        () if at(0, b"QFI\xfb") => Kind::Qcow2,
        () if at(0, b"vhdxfile") => Kind::Vhdx,
        () if at(0, b"KDMV") => Kind::Vmdk,
        () if ends_as_vhd(image, size)? => Kind::Vhd,
        () if is_tar(&head) => {
            let name = head[..100].split(|byte| *byte == 0).next().unwrap_or_default();
            if name.ends_with(b".ovf") { Kind::Ova } else { Kind::Tar }
        }
        () if at(0, &[0x1f, 0x8b]) => compressed(image),
        () if at(32_769, b"CD001") => Kind::Iso,
        () if at(512, b"EFI PART") || at(4096, b"EFI PART") => Kind::Gpt,
        () if at(0, b"hsqs") => Kind::Squashfs,
        () if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) => Kind::Erofs,
        () if at(0, b"verity\0\0") => Kind::Verity,
        () if at(0, b"MZ") => executable(image, &head),
        () if cpio::Method::of(&head).is_some() => Kind::Initrd,
        () if at(510, &[0x55, 0xaa]) => sector(image, &head, size),
        () if kernel_header::parse(&head).is_some() => Kind::Kernel,
        () if image.next_data(0)?.is_none() || head.iter().all(|byte| *byte == 0) && zeros(image)? => Kind::Empty,
        () => Kind::Unknown,
    };
    Ok(found)
}

/// A fixed VHD is the disk with a footer behind it, a growing one has a copy of it in front.
fn ends_as_vhd(image: &Image, size: u64) -> Result<bool> {
    let mut cookie = [0; 8];
    for place in [0, size.saturating_sub(512)] {
        if size >= 512 {
            image.read_at(&mut cookie, place)?;
        }
        if cookie == *b"conectix" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    let sum: u32 =
        header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    let stated = str::from_utf8(&header[148..156]).ok().map(|text| text.trim_matches(['\0', ' ']));
    header[257..].starts_with(b"ustar") && stated.and_then(|text| u32::from_str_radix(text, 8).ok()) == Some(sum)
}

/// gzip: an image for Google, or an initrd.
fn compressed(image: &Image) -> Kind {
    let mut inner = Vec::new();
    let decoder = flate2::read::GzDecoder::new(Cursor::new(image));
    // What is damaged further on is told of when it is read.
    let _ = decoder.take(512).read_to_end(&mut inner);
    let is_disk = is_tar(&inner) && inner.windows(8).any(|part| part == b"disk.raw");
    if is_disk || is_tar(&inner) { Kind::Gcp } else { Kind::Initrd }
}

fn executable(image: &Image, head: &[u8]) -> Kind {
    let known = kernel_header::parse(head);
    match pe::read(&mut Cursor::new(image)) {
        Ok(headers) if pe::section(&headers, ".linux").is_some() => Kind::Uki,
        _ if head.get(0x202..0x206) == Some(b"HdrS") || head.get(0x38..0x3c) == Some(b"ARM\x64") => Kind::Kernel,
        Ok(_) => Kind::Program,
        // Damaged headers of something that firmware would look at.
        Err(_) if known.is_some() => Kind::Program,
        Err(_) => Kind::Unknown,
    }
}

/// A first sector with a boot signature: of a FAT volume, or of a disk.
fn sector(image: &Image, head: &[u8], size: u64) -> Kind {
    let record = mbr::Record::decode(head);
    if record.as_ref().is_some_and(|record| {
        record.entries.iter().flatten().any(|entry| entry.kind == mbr::kind::PROTECTIVE && entry.first_lba == 1)
    }) {
        return Kind::Gpt;
    }
    let named = [54, 82].iter().any(|at| head.get(*at..).is_some_and(|rest| rest.starts_with(b"FAT")));
    if named || fat::Volume::open(Cursor::new(image), 0, size).is_ok() {
        return Kind::Fat;
    }
    if record.is_some_and(|record| record.entries.iter().any(Option::is_some)) { Kind::Mbr } else { Kind::Unknown }
}

/// Whether all of it is zero, as far as a few MiB tell.
fn zeros(image: &Image) -> Result<bool> {
    const LOOK: u64 = 4 << 20;
    let mut bytes = vec![0; image.size().min(LOOK) as usize];
    image.read_at(&mut bytes, 0)?;
    Ok(image.size() <= LOOK && bytes.iter().all(|byte| *byte == 0))
}
