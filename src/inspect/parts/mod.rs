//! An image as a tree of parts: disk, partition table, partitions, file systems, files, sections, members of archives.
//!
//! A part is opened when it is asked for, so the tree is as deep as somebody looks. What is compressed as a whole (an
//! initrd, an image for Google) is unpacked into a temporary file when it is opened.
//!
//! | file | opens |
//! |---|---|
//! | `disk.rs` | containers, partition tables, FAT |
//! | `file_system.rs` | erofs, squashfs, ISO 9660 |
//! | `archive.rs` | tar, initrds |
//! | `program.rs` | programs for UEFI |

mod archive;
mod disk;
mod file_system;
mod program;

pub use program::text;

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use super::{Image, Kind, bytes_text, detect};
use crate::error::Result;
use crate::formats::disk::DiskImage;
use crate::rootfs::write_error;

/// Parts in one another: disk, partition, file, section, member and what those hold.
const DEPTH_LIMIT: usize = 12;
/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

/// Bytes that come one after another only: a file of a compressed file system.
pub trait Stream: Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;
    /// Writes all of them.
    fn write_to(&self, out: &mut dyn Write) -> Result<()>;
}

/// Where the bytes of a part are.
#[derive(Clone)]
pub enum Content {
    /// A folder, a link, a device: none.
    None,
    /// They can be read from any place.
    Image(Image),
    /// They can be read in order.
    Stream(Arc<dyn Stream>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.size())
    }
}

impl Content {
    /// Bytes in memory.
    pub(super) fn bytes(bytes: Vec<u8>) -> Content {
        Content::Image(Arc::new(crate::formats::disk::Bytes(bytes)))
    }

    /// How many there are.
    pub fn size(&self) -> u64 {
        match self {
            Content::None => 0,
            Content::Image(image) => image.size(),
            Content::Stream(stream) => stream.size(),
        }
    }

    /// Writes all of them.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        match self {
            Content::None => Ok(()),
            Content::Stream(stream) => stream.write_to(out),
            Content::Image(image) => {
                let mut buffer = vec![0; image.size().min(PIECE) as usize];
                let mut position = 0;
                while position < image.size() {
                    let length = (image.size() - position).min(PIECE) as usize;
                    image.read_at(&mut buffer[..length], position)?;
                    out.write_all(&buffer[..length]).map_err(write_error)?;
                    position += length as u64;
                }
                Ok(())
            }
        }
    }
}

/// A name and what it stands for: `("disk GUID", "...")`.
pub type Field = (&'static str, String);

/// A part of an image.
#[derive(Clone)]
pub struct Part {
    /// Its name in what it is a part of: `partition 2 (root)`, `/usr/bin/redis-server`, `.cmdline`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What is said of it where it is named: mode, owner, GUID.
    pub fields: Vec<Field>,
    /// Its bytes.
    pub content: Content,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.content.size();
        f.debug_struct("Part")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("size", &size)
            .finish_non_exhaustive()
    }
}

/// What is in a part.
#[derive(Debug, Default)]
pub struct Opened {
    /// What it says of itself: label, identifier.
    pub fields: Vec<Field>,
    /// What it consists of.
    pub parts: Vec<Part>,
}

impl Part {
    /// A whole image. What it is, its content tells.
    pub fn whole(name: &str, image: Image) -> Result<Part> {
        Part::found(name, Vec::new(), image)
    }

    /// A part whose kind its content tells.
    fn found(name: impl Into<String>, fields: Vec<Field>, image: Image) -> Result<Part> {
        let kind = detect(&image)?;
        Ok(Part { name: name.into(), kind, fields, content: Content::Image(image) })
    }

    /// A part that is not opened, whatever is in it.
    fn leaf(name: impl Into<String>, fields: Vec<Field>, content: Content) -> Part {
        Part { name: name.into(), kind: Kind::Unknown, fields, content }
    }

    /// What is in it: nothing for a part that has none.
    pub fn open(&self) -> Result<Opened> {
        let Content::Image(image) = &self.content else { return Ok(Opened::default()) };
        match self.kind {
            kind if kind.is_container() => disk::container(kind, image),
            Kind::Gpt => disk::gpt(image),
            Kind::Mbr => disk::mbr(image),
            Kind::Fat => disk::fat(image),
            Kind::Iso => file_system::iso(image),
            Kind::Erofs => file_system::erofs(image),
            Kind::Squashfs => file_system::squashfs(image),
            Kind::Verity => file_system::verity(image),
            Kind::Uki | Kind::Program => program::open(image),
            Kind::Tar => archive::tar(image),
            Kind::Initrd => archive::initrd(image),
            _ => Ok(Opened::default()),
        }
    }
}

/// The tree in readable lines, as far down as parts hold parts.
pub fn dump(part: &Part) -> Result<String> {
    let mut out = String::new();
    dump_into(part, 0, &mut out)?;
    Ok(out)
}

fn dump_into(part: &Part, depth: usize, out: &mut String) -> Result<()> {
    let indent = "  ".repeat(depth);
    let kind = if part.kind == Kind::Unknown { String::new() } else { format!(" ({})", part.kind.name()) };
    // Writing to a string does not fail.
    let _ = write!(out, "{indent}{}{kind}", part.name);
    if !matches!(part.content, Content::None) {
        let _ = write!(out, " {}", bytes_text(part.content.size()));
    }
    let fields = |out: &mut String, fields: &[Field]| {
        for (name, value) in fields {
            let _ = write!(out, ", {name} {}", value.lines().next().unwrap_or_default());
        }
    };
    fields(out, &part.fields);
    if depth >= DEPTH_LIMIT {
        out.push('\n');
        return Ok(());
    }
    let opened = part.open()?;
    fields(out, &opened.fields);
    out.push('\n');
    opened.parts.iter().try_for_each(|part| dump_into(part, depth + 1, out))
}
