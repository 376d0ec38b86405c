//! Read-only file systems.

use std::io::Write;
use std::sync::Arc;

use super::super::Image;
use super::disk::window;
use super::{Content, Field, Opened, Part, Stream};
use crate::error::{Error, Result};
use crate::formats::disk::{Cursor, DiskImage, Extents};
use crate::formats::gpt::{self, Guid};
use crate::formats::verity::format as verity;
use crate::formats::{erofs, iso9660, squashfs};
use crate::store::Xattrs;

struct ErofsFile(Image, erofs::Found);

impl Stream for ErofsFile {
    fn size(&self) -> u64 {
        self.1.inode.size
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        erofs::Reader::open(Cursor::new(&self.0))?.read(&self.1, out)
    }
}

struct SquashfsFile(Image, squashfs::File);

impl Stream for SquashfsFile {
    fn size(&self) -> u64 {
        self.1.size
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        squashfs::Reader::open(Cursor::new(&self.0))?.content(&self.1, out)
    }
}

fn xattrs(fields: &mut Vec<Field>, list: &Xattrs) {
    for (name, value) in list {
        fields.push(("extended attribute", format!("{}={}", name.escape_ascii(), value.escape_ascii())));
    }
}

/// Mode, owner and time, which every root file system has.
pub(super) fn metadata(mode: u32, uid: u32, gid: u32, time: impl ToString) -> Vec<Field> {
    vec![("mode", format!("{mode:06o}")), ("owner", format!("{uid}:{gid}")), ("time", time.to_string())]
}

/// Opens an erofs image.
pub fn erofs(image: &Image) -> Result<Opened> {
    let mut reader = erofs::Reader::open(Cursor::new(Arc::clone(image)))?;
    let superblock = reader.superblock().clone();
    let label = superblock.label.split(|byte| *byte == 0).next().unwrap_or_default();
    let fields = vec![
        ("UUID", Guid(superblock.uuid).to_string()),
        ("label", label.escape_ascii().to_string()),
        ("time", superblock.time.to_string()),
        ("inodes", superblock.inodes.to_string()),
        ("blocks", superblock.blocks.to_string()),
    ];
    let mut parts = Vec::new();
    reader.walk(|reader, path, found| {
        let inode = &found.inode;
        let mut fields = metadata(u32::from(inode.mode), inode.uid, inode.gid, inode.mtime);
        fields.push(("names", inode.links.to_string()));
        let content = match found.kind {
            erofs::format::FileType::Symlink => {
                fields.push(("target", reader.link(found)?.escape_ascii().to_string()));
                Content::None
            }
            erofs::format::FileType::CharacterDevice | erofs::format::FileType::BlockDevice => {
                fields.push(("device", format!("{:?}", erofs::format::device_numbers(inode.place))));
                Content::None
            }
            erofs::format::FileType::Regular => Content::Stream(Arc::new(ErofsFile(Arc::clone(image), found.clone()))),
            _ => Content::None,
        };
        xattrs(&mut fields, &reader.xattrs(found)?);
        parts.push(Part::leaf(format!("/{}", path.escape_ascii()), fields, content));
        Ok(())
    })?;
    Ok(Opened { fields, parts })
}

/// Opens a squashfs image.
pub fn squashfs(image: &Image) -> Result<Opened> {
    let mut reader = squashfs::Reader::open(Cursor::new(Arc::clone(image)))?;
    let superblock = *reader.superblock();
    let fields = vec![
        ("time", superblock.time.to_string()),
        ("inodes", superblock.inode_count.to_string()),
        ("size of a block", superblock.block_size.to_string()),
        ("compressor", superblock.compressor.to_string()),
        ("bytes used", superblock.bytes_used.to_string()),
    ];
    let mut parts = Vec::new();
    reader.walk(|_, path, inode| {
        let mut more: Vec<Field> = Vec::new();
        let mut content = Content::None;
        let kind = match &inode.kind {
            squashfs::Kind::Folder(_) => 0o040_000,
            squashfs::Kind::File(file) => {
                content = Content::Stream(Arc::new(SquashfsFile(Arc::clone(image), *file)));
                0o100_000
            }
            squashfs::Kind::Symlink(target) => {
                more.push(("target", target.escape_ascii().to_string()));
                0o120_000
            }
            squashfs::Kind::CharacterDevice(major, minor) => {
                more.push(("device", format!("{major}:{minor}")));
                0o020_000
            }
            squashfs::Kind::BlockDevice(major, minor) => {
                more.push(("device", format!("{major}:{minor}")));
                0o060_000
            }
            squashfs::Kind::Fifo => 0o010_000,
            squashfs::Kind::Socket => 0o140_000,
        };
        let mut fields = metadata(kind | inode.mode, inode.uid, inode.gid, inode.mtime);
        fields.push(("names", inode.links.to_string()));
        fields.extend(more);
        xattrs(&mut fields, &inode.xattrs);
        parts.push(Part::leaf(format!("/{}", path.escape_ascii()), fields, content));
        Ok(())
    })?;
    Ok(Opened { fields, parts })
}

/// Opens an ISO 9660 image.
pub fn iso(image: &Image) -> Result<Opened> {
    let volume = iso9660::Volume::open(Arc::clone(image))?;
    let fields = vec![("label", volume.label.clone()), ("sectors", volume.sectors.to_string())];
    let mut parts = vec![Part::leaf("boot record and tables", Vec::new(), Content::Image(window(image, 0, 32_768)?))];
    for (number, one) in volume.boot.iter().enumerate() {
        // Programs for BIOS are files as well.
        if one.platform == 0xef {
            let content = super::super::chain::efi_volume(image, one)?;
            parts.push(Part::found(format!("boot image {} (UEFI)", number + 1), Vec::new(), content)?);
        }
    }
    // The first is the volume for UEFI; what follows is a root and its hash tree.
    if let Some(found) = gpt::read(&mut Cursor::new(image))? {
        let behind = |(entry, _): &(&gpt::Entry, &u32)| entry.kind != gpt::EFI_SYSTEM;
        for (entry, number) in found.table.entries.iter().zip(&found.numbers).filter(behind) {
            parts.push(super::disk::partition(image, found.table.sector_size.bytes(), entry, *number)?);
        }
    }
    volume.walk(|listed| {
        let time = listed.modified.map(|part| part.to_string()).join("-");
        let mut fields = metadata(listed.mode, listed.uid, listed.gid, time);
        fields.push(("names", listed.links.to_string()));
        let mut content = Content::None;
        match &listed.kind {
            iso9660::Kind::Symlink(target) => fields.push(("target", target.escape_ascii().to_string())),
            iso9660::Kind::Special(_, major, minor) => fields.push(("device", format!("{major}:{minor}"))),
            iso9660::Kind::Folder => {}
            iso9660::Kind::File => {
                let file = Extents::new(Arc::clone(image), listed.places.iter().cloned(), listed.size)?;
                content = Content::Image(Arc::new(file));
            }
        }
        let name = format!("/{}", listed.path.escape_ascii());
        // Of files, kernels and initrds are looked into; all others are what they are.
        let is_boot = listed.path.starts_with(b"boot/");
        parts.push(match content {
            Content::Image(file) if is_boot => Part::found(name, fields, file)?,
            content => Part::leaf(name, fields, content),
        });
        Ok(())
    })?;
    Ok(Opened { fields, parts })
}

/// Opens a hash tree.
pub fn verity(image: &Image) -> Result<Opened> {
    let mut bytes = [0; verity::SUPERBLOCK_SIZE];
    image.read_at(&mut bytes, 0)?;
    let superblock = verity::Superblock::decode(&bytes).map_err(Error::refused)?;
    let fields = vec![
        ("UUID", Guid(superblock.uuid).to_string()),
        ("data blocks", superblock.data_blocks.to_string()),
        ("salt", superblock.salt.iter().map(|byte| format!("{byte:02x}")).collect()),
    ];
    Ok(Opened { fields, parts: Vec::new() })
}
