//! `tar`: the root file system as one archive, sorted, each path once, hard links and extended attributes kept.
//!
//! Every entry carries where it comes from as `LINUXKIT.source` and `LINUXKIT.location`, LinuxKit's own records.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::{Options, OutputFile, System, Target};
use crate::error::Result;
use crate::formats::tar::{Member, MemberKind, Writer};
use crate::rootfs::{Kind, Tree, write_error};

/// Writes the archive and returns its name.
pub fn write(system: &System, target: &Target, options: &Options<'_>) -> Result<Vec<PathBuf>> {
    let out = OutputFile::stream(target, ".tar")?;
    let task = options.ui.task("write", "tar", None);
    let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, out));
    tree(&system.tree, &mut tar, |bytes| task.advance(bytes))?;
    let out = tar.finish().map_err(write_error)?;
    let out = out.into_inner().map_err(|error| write_error(error.into_error()))?;
    Ok(vec![out.commit()?])
}

/// Writes every entry of a tree but its root.
pub(super) fn tree<W: Write>(tree: &Tree, tar: &mut Writer<W>, mut advance: impl FnMut(u64)) -> Result<()> {
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
        let records = if origin.source.is_empty() { &[][..] } else { &records[..] };
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
