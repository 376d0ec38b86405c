//! The files of Debian packages on top of each other, as dpkg unpacks them.

use crate::error::{Context, Error, Result};
use crate::rootfs::{InodeId, Kind, Meta, Origin, OriginId, Tree, apply_entry};
use crate::store::{Entry, EntryKind, Layer};

/// The location in the origin of what came from a package.
pub const LOCATION: &str = "packages";

/// Puts a package's files into a tree. Everything from it gets an origin with `name` as source and [`LOCATION`] as
/// location. `time` is given to folders that the package has files in but no entry for.
///
/// - A folder that is there keeps its owner, mode and time.
/// - A folder that comes upon a symbolic link to a folder goes through it: `./lib/` of an older package comes to lie in
///   `usr/lib`.
/// - A file that is there is replaced, which is right for dpkg's `Replaces`, the only way in which Debian lets two
///   packages have the same path. Packages have to come in a fixed order.
///
/// # Errors
/// Exit status 3 if a folder would be replaced by something else or the other way round.
pub fn merge_package(tree: &mut Tree, name: &str, layer: &Layer, time: i64) -> Result<()> {
    let origin = tree.add_origin(Origin { source: name.to_string(), location: LOCATION.to_string() });
    let missing = Meta::root(0o755, time);
    for entry in &layer.index.entries {
        merge_entry(tree, layer, entry, &missing, origin).context(format_args!("package {name}"))?;
    }
    Ok(())
}

fn merge_entry(tree: &mut Tree, layer: &Layer, entry: &Entry, missing: &Meta, origin: OriginId) -> Result<()> {
    let path = entry.path.as_slice();
    let through = tree.resolve(path);
    let through_folder = through.filter(|id| is_folder(tree, *id));
    if matches!(entry.kind, EntryKind::Folder) && through_folder.is_some() {
        return Ok(());
    }
    if let Some(there) = tree.resolve_parent(path) {
        let conflict = match (&entry.kind, through_folder) {
            // Base packages of later suites carry the links of the merged /usr themselves, with the same or another
            // way to write them.
            (EntryKind::Symlink(target), Some(folder)) => {
                if link_target(tree, path, target) == Some(folder) {
                    return Ok(());
                }
                true
            }
            (_, Some(_)) => true,
            (EntryKind::Folder, None) => true,
            (_, None) => false,
        };
        if conflict {
            return Err(replaced(tree, path, &entry.kind, there));
        }
    }
    apply_entry(tree, layer, entry, missing, origin)
}

fn is_folder(tree: &Tree, id: InodeId) -> bool {
    matches!(tree.inode(id).kind, Kind::Folder(_))
}

/// Where a link at `path` would lead.
fn link_target(tree: &Tree, path: &[u8], target: &[u8]) -> Option<InodeId> {
    if target.starts_with(b"/") {
        return tree.resolve(target);
    }
    let parent = path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at)).unwrap_or_default();
    tree.resolve(&[parent, b"/", target].concat())
}

fn replaced(tree: &Tree, path: &[u8], kind: &EntryKind, there: InodeId) -> Error {
    let new = match kind {
        EntryKind::Folder => "a folder",
        EntryKind::Symlink(_) => "a symbolic link",
        _ => "a file",
    };
    let inode = tree.inode(there);
    let old = match inode.kind {
        Kind::Folder(_) => "a folder",
        Kind::Symlink(_) => "a symbolic link",
        _ => "a file",
    };
    let owner = match tree.origin(inode.origin).source.as_str() {
        "" => "the base of every image".to_string(),
        name => format!("package {name}"),
    };
    Error::refused(format!("\"/{}\" would be {new}, and is {old} of {owner}", path.escape_ascii()))
        .hint("these packages do not fit into one image")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::Arch;
    use crate::component::skeleton::skeleton;
    use crate::store::{Digest, LayerIndex};

    fn layer(entries: &[(&str, EntryKind)]) -> Layer {
        let entry = |(path, kind): &(&str, EntryKind)| Entry {
            path: path.as_bytes().to_vec(),
            mode: if matches!(kind, EntryKind::Folder) { 0o700 } else { 0o640 },
            uid: 1,
            gid: 2,
            mtime: 3,
            xattrs: vec![],
            kind: kind.clone(),
        };
        let index = LayerIndex { tar_size: 0, entries: entries.iter().map(entry).collect() };
        Layer { diff_id: Digest::of(b""), file: Path::new("/none").into(), index: Arc::new(index) }
    }

    fn file(text: &str) -> EntryKind {
        EntryKind::File { offset: 0, size: text.len() as u64, digest: Digest::of(text.as_bytes()) }
    }

    fn link(target: &str) -> EntryKind {
        EntryKind::Symlink(target.into())
    }

    use EntryKind::Folder;

    #[test]
    fn folders_go_through_the_links_of_the_merged_usr() {
        let mut tree = skeleton(Arch::Amd64, 9);
        let entries = [
            ("", Folder),
            ("lib", Folder),
            ("lib/x86_64-linux-gnu", Folder),
            ("lib/x86_64-linux-gnu/libc.so.6", file("c")),
            ("lib64", Folder),
            ("lib64/ld-linux-x86-64.so.2", link("/lib/x86_64-linux-gnu/ld.so")),
            ("usr/lib/x86_64-linux-gnu/hard", EntryKind::HardLink(b"lib/x86_64-linux-gnu/libc.so.6".to_vec())),
        ];
        merge_package(&mut tree, "libc6", &layer(&entries), 9).unwrap();
        assert!(matches!(tree.inode(tree.lookup(b"lib").unwrap()).kind, Kind::Symlink(_)));
        let found = tree.lookup(b"usr/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        assert_eq!(tree.lookup(b"usr/lib/x86_64-linux-gnu/hard"), Some(found));
        assert!(tree.lookup(b"usr/lib64/ld-linux-x86-64.so.2").is_some());
        let inode = tree.inode(found);
        assert_eq!((inode.meta.mode, inode.meta.mtime), (0o640, 3));
        assert_eq!(tree.origin(inode.origin).source, "libc6");
        // A folder that is new has the package's mode, one that is there keeps its own.
        assert_eq!(tree.inode(tree.lookup(b"usr/lib/x86_64-linux-gnu").unwrap()).meta.mode, 0o700);
        assert_eq!(tree.inode(tree.lookup(b"usr/lib").unwrap()).meta.mode, 0o755);
        assert_eq!(tree.inode(tree.root()).meta.mode, 0o755);
    }

    #[test]
    fn the_links_themselves_may_come_again() {
        let mut tree = skeleton(Arch::Amd64, 9);
        merge_package(&mut tree, "base-files", &layer(&[("bin", link("usr/bin")), ("lib", link("/usr/lib/."))]), 9)
            .unwrap();
        let error = merge_package(&mut tree, "odd", &layer(&[("bin", link("usr/sbin"))]), 9).unwrap_err();
        assert!(error.message().contains("package odd: \"/bin\" would be a symbolic link"), "{error}");
        assert!(error.message().contains("the base of every image"), "{error}");
    }

    #[test]
    fn files_replace_files_and_nothing_else() {
        let mut tree = skeleton(Arch::Arm64, 9);
        merge_package(&mut tree, "one", &layer(&[("a", file("1")), ("b", Folder), ("l", link("a"))]), 9).unwrap();
        merge_package(&mut tree, "two", &layer(&[("a", file("22")), ("l", file("3"))]), 9).unwrap();
        match &tree.inode(tree.lookup(b"a").unwrap()).kind {
            Kind::File(content) => assert_eq!(content.size, 2),
            other => panic!("{other:?}"),
        }
        // The link is replaced, not what it leads to.
        assert!(matches!(tree.inode(tree.lookup(b"l").unwrap()).kind, Kind::File(_)));
        for (path, kind) in [
            ("b", file("")),
            ("b", link("a")),
            ("b", EntryKind::HardLink(b"a".to_vec())),
            ("a", Folder),
            ("lib", file("")),
        ] {
            let error = merge_package(&mut tree, "three", &layer(&[(path, kind)]), 9).unwrap_err();
            let expected = if path == "lib" { "the base of" } else { "package " };
            assert!(error.message().starts_with("package three: "), "{error}");
            assert!(error.message().contains(&format!(" of {expected}")), "{error}");
        }
        assert!(merge_package(&mut tree, "four", &layer(&[("a/b", file(""))]), 9).is_err());
    }
}
