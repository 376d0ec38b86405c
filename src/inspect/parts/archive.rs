//! Archives: tar, and initrds of cpio archives.

use std::collections::HashMap;
use std::io::{BufReader, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::super::Image;
use super::disk::window;
use super::file_system::metadata;
use super::{Content, Opened, Part};
use crate::error::{Error, IoContext, Result};
use crate::formats::cpio;
use crate::formats::disk::{Cursor, RawFile};
use crate::store::{EntryKind, index_tar};

/// Opens a tar archive.
pub fn tar(image: &Image) -> Result<Opened> {
    let (_, index) = index_tar(Cursor::new(Arc::clone(image)), std::io::sink())?;
    let mut parts = Vec::new();
    let mut seen = Seen::default();
    for entry in &index.entries {
        let mut fields = metadata(entry.mode, entry.uid, entry.gid, entry.mtime);
        let mut content = Content::None;
        match &entry.kind {
            EntryKind::Folder => fields.push(("type", "folder".into())),
            EntryKind::File { offset, size, .. } => content = Content::Image(window(image, *offset, *size)?),
            EntryKind::Symlink(target) => fields.push(("target", target.escape_ascii().to_string())),
            EntryKind::HardLink(target) => fields.push(("the same as", format!("/{}", target.escape_ascii()))),
            EntryKind::CharacterDevice { major, minor } => {
                fields.push(("character device", format!("{major}:{minor}")))
            }
            EntryKind::BlockDevice { major, minor } => fields.push(("block device", format!("{major}:{minor}"))),
            EntryKind::Fifo => fields.push(("type", "named pipe".into())),
        }
        for (name, value) in &entry.xattrs {
            fields.push(("extended attribute", format!("{}={}", name.escape_ascii(), value.escape_ascii())));
        }
        let name = seen.name(&entry.path);
        parts.push(match content {
            // The archive of a kernel and an initrd is looked into, a root is what it is.
            Content::Image(file) if entry.path == b"initrd.img" => Part::found(name, fields, file)?,
            content => Part::leaf(name, fields, content),
        });
    }
    Ok(Opened { fields: vec![("size", index.tar_size.to_string())], parts })
}

/// Opens an initrd: every member, those that a later one replaces too.
pub fn initrd(image: &Image) -> Result<Opened> {
    let path = Path::new("a temporary file");
    let mut spool = tempfile::tempfile().at("making", path)?;
    let mut found = Vec::new();
    let mut seen = Seen::default();
    let input = BufReader::with_capacity(256 << 10, Cursor::new(Arc::clone(image)));
    let mut out = std::io::BufWriter::with_capacity(256 << 10, &mut spool);
    let mut position = 0;
    let summary = cpio::walk(input, |_, member, content| {
        let size = std::io::copy(content, &mut out)
            .map_err(|error| Error::refused(format!("the initrd's \"{}\": {error}", member.name.escape_ascii())))?;
        let header = &member.header;
        let mut fields = metadata(header.mode, header.uid, header.gid, header.mtime);
        fields.push(("names", header.nlink.to_string()));
        if matches!(header.mode & 0o170_000, 0o020_000 | 0o060_000) {
            fields.push(("device", format!("{}:{}", header.rdev_major, header.rdev_minor)));
        }
        found.push((seen.name(&member.name), fields, position, size));
        position += size;
        Ok(())
    })?;
    out.flush().at("writing", path)?;
    drop(out);
    spool.rewind().at("reading", path)?;
    let spool: Image = Arc::new(RawFile::new(spool, path)?);
    let mut parts = Vec::new();
    for (name, fields, start, size) in found {
        let content = if size == 0 { Content::None } else { Content::Image(window(&spool, start, size)?) };
        parts.push(Part::leaf(name, fields, content));
    }
    let methods: Vec<String> = summary.segments.iter().map(|segment| segment.method.to_string()).collect();
    Ok(Opened { fields: vec![("archives", methods.join(" "))], parts })
}

/// Names that are there more than once get a number, so that each names one part.
#[derive(Default)]
struct Seen(HashMap<Vec<u8>, u32>);

impl Seen {
    fn name(&mut self, path: &[u8]) -> String {
        let clean = path.strip_prefix(b"./").unwrap_or(path);
        let clean = if clean == b"." { &b""[..] } else { clean };
        let count = self.0.entry(clean.to_vec()).or_insert(0);
        *count += 1;
        match *count {
            1 => format!("/{}", clean.escape_ascii()),
            number => format!("/{} ({number})", clean.escape_ascii()),
        }
    }
}
