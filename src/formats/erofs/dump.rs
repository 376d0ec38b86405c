//! An image as readable lines, to be compared by people and tests.

use std::fmt::Write as _;
use std::io::{Read, Seek};

use super::format::{FileType, Layout, device_numbers};
use super::reader::Reader;
use crate::error::Result;
use crate::store::{Digest, Hasher};

/// One line for the superblock, and one for each name: inode, type and mode, names, owner, size, time, where the data
/// lies, path, and then where a link points, a device's numbers, or a file's digest; extended attributes on lines of
/// their own.
pub fn dump(input: impl Read + Seek) -> Result<String> {
    let mut reader = Reader::open(input)?;
    let superblock = reader.superblock();
    let label = superblock.label.split(|b| *b == 0).next().unwrap_or_default();
    let uuid: String = superblock.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = format!(
        "features {:#x} {:#x}, root {}, {} inodes, time {}, {} blocks, uuid {uuid}, label \"{}\"\n",
        superblock.compatible,
        superblock.incompatible,
        superblock.root,
        superblock.inodes,
        superblock.time,
        superblock.blocks,
        label.escape_ascii()
    );
    reader.walk(|reader, path, found| {
        let inode = &found.inode;
        let form = if inode.extended { "extended" } else { "compact" };
        let layout = match inode.layout {
            Layout::Plain => "plain",
            Layout::Inline => "inline",
            Layout::Compressed => "compressed",
        };
        let more = match found.kind {
            FileType::Symlink => format!(" -> {}", reader.link(found)?.escape_ascii()),
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = device_numbers(inode.place);
                format!(" {major}:{minor}")
            }
            FileType::Regular => {
                let mut hasher = Hasher::new();
                reader.read(found, &mut hasher)?;
                let digest: Digest = hasher.finish();
                format!(" {}", &digest.hex()[..16])
            }
            _ => String::new(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:5} {form} {layout} {:o} {} {}:{} {} {} @{} /{}{more}",
            found.nid,
            inode.mode,
            inode.links,
            inode.uid,
            inode.gid,
            inode.size,
            inode.mtime,
            if matches!(found.kind, FileType::CharacterDevice | FileType::BlockDevice) { 0 } else { inode.place },
            path.escape_ascii()
        );
        for (name, value) in reader.xattrs(found)? {
            let _ = writeln!(out, "      {} = {}", name.escape_ascii(), value.escape_ascii());
        }
        Ok(())
    })?;
    Ok(out)
}
