//! A whole tree as members of an archive.

use std::collections::HashMap;
use std::io::Write;

use super::{Member, MemberKind, Writer};
use crate::error::Result;
use crate::rootfs::{Kind, Tree, write_error};

/// Writes every entry of a tree but its root, sorted, each path once, hard links and extended attributes kept.
///
/// With `origins`, where an entry comes from is written as `LINUXKIT.source` and `LINUXKIT.location`, LinuxKit's own
/// records, unless nothing is known. `advance` is told of every file's bytes.
pub fn write_tree<W: Write>(
    tree: &Tree,
    tar: &mut Writer<W>,
    origins: bool,
    mut advance: impl FnMut(u64),
) -> Result<()> {
    let mut first_names: HashMap<usize, Vec<u8>> = HashMap::new();
    let links = tree.link_counts()?;
    tree.walk_all(|path, id| {
        if path.is_empty() {
            return Ok(());
        }
        let inode = tree.inode(id);
        let number = tree.number(id);
        let known = first_names.get(&number).cloned();
        let (kind, content) = match (&inode.kind, &known) {
            (_, Some(first)) => (MemberKind::HardLink(first), None),
            (Kind::Folder(_), None) => (MemberKind::Folder, None),
            (Kind::File(content), None) => (MemberKind::File(content.size), Some(content)),
            (Kind::Symlink(target), None) => (MemberKind::Symlink(target), None),
            (Kind::CharacterDevice { major, minor }, None) => (MemberKind::CharacterDevice(*major, *minor), None),
            (Kind::BlockDevice { major, minor }, None) => (MemberKind::BlockDevice(*major, *minor), None),
            (Kind::Fifo, None) => (MemberKind::Fifo, None),
        };
        if links[number] > 1 && known.is_none() {
            first_names.insert(number, path.to_vec());
        }
        let origin = tree.origin(inode.origin);
        let records = [("LINUXKIT.location", origin.location.as_str()), ("LINUXKIT.source", origin.source.as_str())];
        let records = if !origins || origin.source.is_empty() { &[][..] } else { &records[..] };
        let meta = &inode.meta;
        let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
        tar.member(&Member { path, mode, uid, gid, mtime, xattrs: &meta.xattrs, records, kind })
            .map_err(write_error)?;
        if let Some(content) = content {
            content.copy_to(tar)?;
            advance(content.size);
        }
        Ok(())
    })
}
