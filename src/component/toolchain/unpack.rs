//! Writes files of layers into a folder of the host, for tools that must run there.
//!
//! Limits: regular files, folders, symbolic and hard links only; a device or pipe is refused. Owners, times, extended
//! attributes and set-id bits are dropped. Everything is planned before anything is written: a path below something
//! that is not a folder, a path that two packages have, and a link that points out of the folder are refused, and links
//! are made last, so that no link is ever followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, EntryKind, Hasher, Layer};

/// More than this in one folder is a mistake or an attack: a whole compiler has 700 MiB in 1,500 files.
const SIZE_LIMIT: u64 = 4 << 30;
const ENTRY_LIMIT: usize = 200_000;

enum Node<'a> {
    Folder,
    File { layer: &'a Layer, offset: u64, size: u64, digest: Digest, executable: bool },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
}

/// Writes what `keep` says yes to (it is asked with the path of everything that is not a folder) below `folder`, which
/// must exist and be empty. `label` names a layer in messages. Folders are made as they are needed; symbolic links to
/// absolute paths are rewritten to point to the same place inside of `folder`.
///
/// # Errors
/// Exit status 3 if a layer holds what is refused (see the module), 5 if there is no room.
pub fn unpack(layers: &[(String, Layer)], folder: &Path, keep: impl Fn(&[u8]) -> bool) -> Result<()> {
    let plan = plan(layers, keep)?;
    let place = |path: &[u8]| -> PathBuf { folder.join(OsStr::from_bytes(path)) };
    // A folder's path is a prefix of what lies in it and so comes before it.
    for path in plan.iter().filter_map(|(path, node)| matches!(node, Node::Folder).then_some(path)) {
        fs::create_dir(place(path)).at("making", &place(path))?;
    }
    plan.par_iter().try_for_each(|(path, node)| match node {
        Node::File { layer, offset, size, digest, executable } => {
            write_file(layer, *offset, *size, digest, *executable, &place(path))
        }
        _ => Ok(()),
    })?;
    for (path, node) in &plan {
        let to = place(path);
        match node {
            Node::HardLink(target) => fs::hard_link(place(target), &to).at("linking", &to)?,
            Node::Symlink(target) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &to).at("linking", &to)?;
            }
            Node::Folder | Node::File { .. } => {}
        }
    }
    Ok(())
}

fn plan(layers: &[(String, Layer)], keep: impl Fn(&[u8]) -> bool) -> Result<BTreeMap<Vec<u8>, Node<'_>>> {
    let mut plan = BTreeMap::new();
    let mut total = 0_u64;
    for (label, layer) in layers {
        let refuse = |path: &[u8], why: &str| {
            Error::refused(format!("{label} cannot be unpacked: {} {why}", String::from_utf8_lossy(path)))
        };
        for entry in &layer.index.entries {
            let path = entry.path.as_slice();
            if matches!(entry.kind, EntryKind::Folder) || !keep(path) {
                continue;
            }
            if path.split(|b| *b == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
                return Err(refuse(path, "is not a path inside of a folder"));
            }
            let node = match &entry.kind {
                EntryKind::Folder => continue,
                EntryKind::File { offset, size, digest } => {
                    total = total.saturating_add(*size);
                    Node::File {
                        layer,
                        offset: *offset,
                        size: *size,
                        digest: *digest,
                        executable: entry.mode & 0o111 != 0,
                    }
                }
                EntryKind::Symlink(target) => Node::Symlink(
                    inward(path, target).ok_or_else(|| refuse(path, "is a symbolic link that points outside"))?,
                ),
                EntryKind::HardLink(target) => Node::HardLink(target.clone()),
                EntryKind::CharacterDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                    return Err(refuse(path, "is a device or a pipe"));
                }
            };
            for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                let above = plan.entry(path[..at].to_vec()).or_insert(Node::Folder);
                if !matches!(above, Node::Folder) {
                    return Err(refuse(path, "lies below something that is not a folder"));
                }
            }
            if plan.insert(path.to_vec(), node).is_some() {
                return Err(refuse(path, "is there already, from this or another package"));
            }
            if total > SIZE_LIMIT || plan.len() > ENTRY_LIMIT {
                return Err(refuse(path, &format!("is beyond {SIZE_LIMIT} bytes or {ENTRY_LIMIT} files")));
            }
        }
    }
    for (path, node) in &plan {
        if let Node::HardLink(target) = node
            && !matches!(plan.get(target), Some(Node::File { .. }))
        {
            return Err(Error::refused(format!(
                "{} is a hard link to {}, which is not a file of these packages",
                String::from_utf8_lossy(path),
                String::from_utf8_lossy(target)
            )));
        }
    }
    Ok(plan)
}

/// The target of the link at `path` as a relative one that stays inside, if it can be told without following links.
fn inward(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let depth = path.iter().filter(|byte| **byte == b'/').count();
    let (mut level, mut out) = match target.strip_prefix(b"/") {
        Some(_) => (0, b"../".repeat(depth)),
        None => (depth, Vec::new()),
    };
    let mut named = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            // Behind a name, which may be a link itself, `..` could be anywhere.
            b".." if named => return None,
            b".." => level = level.checked_sub(1)?,
            _ => named = true,
        }
    }
    out.extend_from_slice(target.strip_prefix(b"/").unwrap_or(target));
    (!out.is_empty() && !out.contains(&0)).then_some(out)
}

fn write_file(layer: &Layer, mut at: u64, size: u64, digest: &Digest, executable: bool, to: &Path) -> Result<()> {
    let from = File::open(&layer.file).at("opening", &layer.file)?;
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).at("making", to)?;
    let mut buffer = vec![0; (128 << 10).min(usize::try_from(size).unwrap_or(usize::MAX))];
    let mut hasher = Hasher::new();
    let mut left = size;
    while left > 0 {
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = &mut buffer[..count];
        from.read_exact_at(part, at).at("reading", &layer.file)?;
        hasher.update(part);
        file.write_all(part).at("writing", to)?;
        at += count as u64;
        left -= count as u64;
    }
    if hasher.finish() != *digest {
        return Err(Error::refused(format!(
            "{} is damaged: its file {} is not what was indexed",
            layer.file.display(),
            to.display()
        ))
        .hint("delete the folder derived/ of the store; what is in it is made anew"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, LayerIndex};
    use std::sync::Arc;

    fn layer(folder: &Path, entries: Vec<(&str, EntryKind)>) -> Vec<(String, Layer)> {
        let file = folder.join("tar");
        fs::write(&file, b"....content").unwrap();
        let entry = |(path, kind): (&str, EntryKind)| Entry {
            path: path.as_bytes().to_vec(),
            mode: 0o4755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Vec::new(),
            kind,
        };
        let index = LayerIndex { tar_size: 11, entries: entries.into_iter().map(entry).collect() };
        vec![("package".into(), Layer { diff_id: Digest::of(b""), file: file.into(), index: Arc::new(index) })]
    }

    fn file() -> EntryKind {
        EntryKind::File { offset: 4, size: 7, digest: Digest::of(b"content") }
    }

    fn link(target: &str) -> EntryKind {
        EntryKind::Symlink(target.as_bytes().to_vec())
    }

    fn refused(entries: Vec<(&str, EntryKind)>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let error = unpack(&layer(folder.path(), entries), &root, |_| true).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Refused);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "nothing may be written");
        error.message().to_string()
    }

    #[test]
    fn files_and_links_come_out() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let entries = vec![
            ("usr/lib/a.so", link("a.so.1")),
            ("usr/lib/abs", link("/usr/lib/a.so.1")),
            ("usr/lib/a.so.1", file()),
            ("usr/lib/hard", EntryKind::HardLink(b"usr/lib/a.so.1".to_vec())),
            ("usr/share/doc", file()),
            ("dev/null", EntryKind::CharacterDevice { major: 1, minor: 3 }),
        ];
        unpack(&layer(folder.path(), entries), &root, |path| path.starts_with(b"usr/lib/")).unwrap();
        for name in ["a.so", "abs", "a.so.1", "hard"] {
            assert_eq!(fs::read(root.join("usr/lib").join(name)).unwrap(), b"content", "{name}");
        }
        assert_eq!(fs::read_link(root.join("usr/lib/abs")).unwrap(), Path::new("../../usr/lib/a.so.1"));
        assert_eq!(root.join("usr/lib/a.so.1").metadata().unwrap().permissions().mode() & 0o7111, 0o111);
        assert!(!root.join("usr/share").exists() && !root.join("dev").exists());
    }

    #[test]
    fn nothing_leaves_the_folder() {
        assert!(refused(vec![("a", link("../x"))]).contains("points outside"));
        assert!(refused(vec![("a/b", link("../../x"))]).contains("points outside"));
        assert!(refused(vec![("c", link(".")), ("a", link("c/../x"))]).contains("points outside"));
        assert!(refused(vec![("a", link("/../x"))]).contains("points outside"));
        assert!(refused(vec![("a", link("b")), ("b", link(".")), ("a/c", file())]).contains("not a folder"));
        assert!(refused(vec![("a/c", file()), ("a", link("/tmp"))]).contains("already"));
        assert!(refused(vec![("../a", file())]).contains("not a path"));
        assert!(refused(vec![("/a", file())]).contains("not a path"));
        assert!(refused(vec![("a", EntryKind::HardLink(b"../../etc/passwd".to_vec()))]).contains("hard link"));
        assert!(refused(vec![("a", link("b")), ("c", EntryKind::HardLink(b"a".to_vec()))]).contains("hard link"));
        assert!(refused(vec![("a", EntryKind::Fifo)]).contains("device"));
        assert!(refused(vec![("a", file()), ("a", file())]).contains("already"));
    }

    #[test]
    fn changed_content_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let layers = layer(folder.path(), vec![("a", file())]);
        fs::write(folder.path().join("tar"), b"....Content").unwrap();
        assert!(unpack(&layers, &root, |_| true).unwrap_err().message().contains("damaged"));
    }
}
