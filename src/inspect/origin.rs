//! From an image back to how it was asked for: format, architecture, size, compression. What was asked for in other ways
//! cannot be told from the bytes.

use std::io::{self, Write};

use super::parts::{Content, Opened, Part};
use super::{Image, Kind, container, detect};
use crate::Arch;
use crate::error::{Error, Result};
use crate::formats::authenticode::{Claim, claims};
use crate::formats::compress::Method;
use crate::formats::disk::{Cursor, DiskImage};
use crate::formats::{gpt, iso9660, pe};
use crate::outputs::Format;
use crate::run::kernel_header;

/// Parts in one another that are looked into.
const DEPTH_LIMIT: usize = 6;
/// Files whose first bytes are looked at for a program.
const FILES_LIMIT: usize = 2000;
/// Bytes at a program's start that say for which machine it is.
const PROGRAM_HEAD: usize = 20;

/// How an image was asked for, as far as its bytes tell.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The format; `None` where the bytes fit several or none.
    pub format: Option<Format>,
    /// The architecture.
    pub arch: Option<Arch>,
    /// Bytes of the disk, if it is one.
    pub size: Option<u64>,
    /// How its initrd is compressed. Levels are not told by the bytes: it is the usual one.
    pub compression: Option<Method>,
    /// The name of the machine in an OVA.
    pub name: Option<String>,
    /// What the signatures of its programs say.
    pub signatures: Vec<Claim>,
}

/// Looks at an image.
pub fn origin(image: &Image) -> Result<Origin> {
    let whole = Part::whole("image", image.clone())?;
    let mut origin = Origin { format: None, ..Origin::default() };
    let kind = whole.kind;
    let disk = if kind.is_container() {
        let inner = container::open(kind, image)?;
        let value = |name: &str| inner.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        if kind == Kind::Ova {
            origin.name = value("descriptor").as_deref().and_then(machine_name);
        }
        origin.size = Some(inner.disk.size());
        origin.format = format_of_container(kind, value("type").as_deref(), &inner.disk)?;
        inner.disk
    } else {
        if matches!(kind, Kind::Gpt | Kind::Mbr) {
            origin.size = Some(image.size());
        }
        origin.format = format_of(kind, image, &whole)?;
        image.clone()
    };
    let mut seen = 0;
    let disk = Part::whole("disk", disk)?;
    look(&disk, 0, &mut seen, &mut origin)?;
    signatures(&disk, 0, &mut origin.signatures)?;
    Ok(origin)
}

fn format_of_container(kind: Kind, detail: Option<&str>, disk: &Image) -> Result<Option<Format>> {
    Ok(match (kind, detect(disk)?) {
        (Kind::Qcow2, Kind::Mbr) => named("qcow2-bios"),
        (Kind::Qcow2, Kind::Gpt) => named(if boots_by_bios(disk)? { "qcow2" } else { "qcow2-efi" }),
        (Kind::Vhdx, _) => named("vhdx"),
        // Azure's disks are fixed ones of whole MiB; the others are too.
        (Kind::Vhd, _) => named(if detail == Some("dynamic") { "dynamic-vhd" } else { "vhd" }),
        (Kind::Vmdk, _) => named("vmdk"),
        (Kind::Ova, _) => named("ova"),
        (Kind::Gcp, _) => named("gcp"),
        _ => None,
    })
}

fn format_of(kind: Kind, image: &Image, whole: &Part) -> Result<Option<Format>> {
    let has = |opened: &Opened, name: &str| opened.parts.iter().any(|part| part.name == name);
    Ok(match kind {
        Kind::Gpt => named(if boots_by_bios(image)? { "raw" } else { "raw-efi" }),
        Kind::Mbr => named("raw-bios"),
        Kind::Uki => named("uki"),
        Kind::Kernel => named("kernel+initrd"),
        // stage1, which has neither of the two, is the initrd of several formats.
        Kind::Initrd => {
            let is_root = |opened: Opened| has(&opened, "/etc") || has(&opened, "/containers");
            named("kernel+initrd").filter(|_| whole.open().is_ok_and(is_root))
        }
        Kind::Squashfs | Kind::Erofs => {
            let opened = whole.open()?;
            let alone = has(&opened, "/boot/kernel") || !has(&opened, "/init") && !has(&opened, "/sbin/init");
            named(match (kind, alone) {
                (Kind::Squashfs, true) => "squashfs",
                (Kind::Squashfs, false) => "kernel+squashfs",
                (_, true) => "erofs",
                (_, false) => "kernel+erofs",
            })
        }
        Kind::Tar => {
            let opened = whole.open()?;
            named(match opened.parts.first().map(|part| part.name.as_str()) {
                Some("/Dockerfile") => "docker",
                Some("/kernel" | "/initrd.img") => "tar-kernel-initrd",
                Some("/oci-layout") => "oci",
                _ => "tar",
            })
        }
        Kind::Iso => {
            let volume = iso9660::Volume::open(image.clone())?;
            let (bios, efi) =
                (volume.boot.iter().any(|b| b.platform == 0), volume.boot.iter().any(|b| b.platform == 0xef));
            let mut files = 0;
            volume.walk(|_| {
                files += 1;
                Ok(())
            })?;
            // A root under dm-verity is a partition behind the volume for UEFI.
            let table = gpt::read(&mut Cursor::new(image))?.map_or_else(Vec::new, |found| found.table.entries);
            named(match (bios, efi, files > 1 || table.len() > 1) {
                (true, true, _) => "iso",
                (true, false, _) => "iso-bios",
                (false, true, true) => "iso-efi",
                (false, true, false) => "iso-efi-initrd",
                (false, false, _) => "kernel+iso",
            })
        }
        _ => None,
    })
}

fn named(name: &str) -> Option<Format> {
    name.parse().ok()
}

fn boots_by_bios(disk: &Image) -> Result<bool> {
    let found = gpt::read(&mut Cursor::new(disk))?.ok_or_else(|| Error::refused("there is no GUID partition table"))?;
    Ok(found.table.entries.iter().any(|entry| entry.attributes & gpt::LEGACY_BIOS_BOOTABLE != 0))
}

/// The first name of an OVF descriptor.
fn machine_name(descriptor: &str) -> Option<String> {
    let (_, rest) = descriptor.split_once("<Name>")?;
    rest.split_once("</Name>").map(|(name, _)| name.to_owned())
}

/// Collects what the signatures of all programs for UEFI say.
fn signatures(part: &Part, depth: usize, found: &mut Vec<Claim>) -> Result<()> {
    match (&part.content, part.kind) {
        (Content::Image(image), Kind::Uki | Kind::Program) => {
            // One that cannot be read is none; the comparison tells of it.
            found.extend(claims(image).unwrap_or_default());
            Ok(())
        }
        (_, Kind::Gpt | Kind::Mbr | Kind::Fat | Kind::Iso) if depth < DEPTH_LIMIT => {
            part.open()?.parts.iter().try_for_each(|part| signatures(part, depth + 1, found))
        }
        _ => Ok(()),
    }
}

/// Looks for a program's machine and an initrd's compression.
fn look(part: &Part, depth: usize, seen: &mut usize, origin: &mut Origin) -> Result<()> {
    if origin.arch.is_some() && origin.compression.is_some() || depth > DEPTH_LIMIT || *seen > FILES_LIMIT {
        return Ok(());
    }
    let machine = match (&part.content, part.kind) {
        (Content::Image(image), Kind::Uki | Kind::Program) => {
            pe::read(&mut Cursor::new(image)).ok().and_then(|headers| match headers.machine {
                pe::MACHINE_AMD64 => Some(Arch::Amd64),
                pe::MACHINE_ARM64 => Some(Arch::Arm64),
                _ => None,
            })
        }
        (Content::Image(image), Kind::Kernel) => {
            let mut head = vec![0; image.size().min(kernel_header::HEAD) as usize];
            image.read_at(&mut head, 0)?;
            kernel_header::parse(&head).and_then(|header| header.arch)
        }
        (content, Kind::Unknown) if origin.arch.is_none() && content.size() > PROGRAM_HEAD as u64 => {
            *seen += 1;
            program(content)
        }
        _ => None,
    };
    origin.arch = origin.arch.or(machine);
    let opened = part.open()?;
    if part.kind == Kind::Initrd {
        let archives =
            opened.fields.iter().find(|(name, _)| *name == "archives").map_or("", |(_, value)| value.as_str());
        origin.compression = origin.compression.or(match archives {
            text if text.contains("zstd") => Some(Method::default()),
            text if text.contains("gzip") => "gzip".parse().ok(),
            text if text.contains("xz") => "xz".parse().ok(),
            _ => Some(Method::None),
        });
    }
    opened.parts.iter().try_for_each(|part| look(part, depth + 1, seen, origin))
}

/// The machine of an ELF program.
fn program(content: &Content) -> Option<Arch> {
    let mut head = Start(Vec::new());
    // The writer stops it.
    let _ = content.write_to(&mut head);
    let head = head.0;
    match head.get(18..20).filter(|_| head.starts_with(b"\x7fELF"))? {
        [62, 0] => Some(Arch::Amd64),
        [183, 0] => Some(Arch::Arm64),
        _ => None,
    }
}

/// Takes the first bytes and no more.
struct Start(Vec<u8>);

impl Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= PROGRAM_HEAD {
            return Err(io::Error::other("that is enough"));
        }
        self.0.extend_from_slice(&bytes[..bytes.len().min(PROGRAM_HEAD)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
