//! A readable list of what is in an image.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Seek};

use super::{Kind, Reader};
use crate::error::Result;
use crate::store::Hasher;

/// The superblock's fields, then one line for each name: mode, links, owner, time, what it is (of a file, the size
/// and the start of its digest), name; below it, extended attributes. A second name of a file says so.
pub fn dump(input: impl Read + Seek) -> Result<String> {
    let mut reader = Reader::open(input)?;
    let s = *reader.superblock();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "inodes {} time {} block {} fragments {} compressor {} flags {:#x} owners {} used {}",
        s.inode_count, s.time, s.block_size, s.fragment_count, s.compressor, s.flags, s.id_count, s.bytes_used
    );
    let mut first_names: HashMap<u32, String> = HashMap::new();
    reader.walk(|reader, path, inode| {
        let name = format!("/{}", path.escape_ascii());
        let kind = match &inode.kind {
            Kind::Folder(_) => "folder".to_string(),
            Kind::File(file) => {
                let mut hasher = Hasher::new();
                reader.content(file, &mut hasher)?;
                let hex = hasher.finish().hex();
                format!("file {} {}", file.size, hex.get(..16).unwrap_or_default())
            }
            Kind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            Kind::CharacterDevice(major, minor) => format!("character {major}:{minor}"),
            Kind::BlockDevice(major, minor) => format!("block {major}:{minor}"),
            Kind::Fifo => "fifo".to_string(),
            Kind::Socket => "socket".to_string(),
        };
        let _ = writeln!(
            out,
            "{:5} {:04o} {} {}:{} {} {name} {kind}",
            inode.number, inode.mode, inode.links, inode.uid, inode.gid, inode.mtime
        );
        let first = first_names.entry(inode.number).or_insert_with(|| name.clone());
        if *first != name {
            let _ = writeln!(out, "      the same as {first}");
            return Ok(());
        }
        for (name, value) in &inode.xattrs {
            let _ = writeln!(out, "      {}={}", name.escape_ascii(), value.escape_ascii());
        }
        Ok(())
    })?;
    Ok(out)
}
