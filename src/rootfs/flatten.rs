//! Applying layers on top of each other (OCI image specification, layer.md).

use super::tree::{Inode, Kind, Meta, OriginId, Tree};
use super::{Content, Place};
use crate::error::{Context, Result};
use crate::store::{Entry, EntryKind, Layer};

/// A file of this prefix in a layer takes the file of the rest of the name in lower layers away.
const WHITEOUT: &[u8] = b".wh.";
/// A file of this name takes everything away that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// One tree out of an image's layers, lowest first. `mtime` is given to folders that no layer has an entry for.
pub fn flatten(layers: &[Layer], mtime: i64) -> Result<Tree> {
    let mut tree = Tree::new(mtime);
    let origin = tree.inode(tree.root()).origin;
    for layer in layers {
        merge_layer(&mut tree, layer, true, mtime, origin).context(format_args!("layer {}", layer.diff_id))?;
    }
    Ok(tree)
}

/// Applies one layer. With `whiteouts`, names that start with `.wh.` remove; without, they are plain files (a Debian
/// package is no image layer).
///
/// Whiteouts go first: they are about lower layers only, wherever in the layer they stand, so that a folder which is
/// made opaque and filled by the same layer ends up with just its new content.
pub fn merge_layer(tree: &mut Tree, layer: &Layer, whiteouts: bool, mtime: i64, origin: OriginId) -> Result<()> {
    let missing = Meta::root(0o755, mtime);
    if whiteouts {
        for entry in &layer.index.entries {
            let (folder, name) = split(&entry.path);
            if name == OPAQUE {
                tree.clear(folder);
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT)
                && !name.starts_with(b".wh..wh.")
                && !hidden.is_empty()
            {
                let path = if folder.is_empty() { hidden.to_vec() } else { [folder, b"/", hidden].concat() };
                tree.remove(&path);
            }
        }
    }
    for entry in &layer.index.entries {
        if whiteouts && split(&entry.path).1.starts_with(WHITEOUT) {
            continue;
        }
        apply_entry(tree, layer, entry, &missing, origin)?;
    }
    Ok(())
}

/// Puts one entry of a layer into the tree, in the place of what is there.
pub(crate) fn apply_entry(
    tree: &mut Tree,
    layer: &Layer,
    entry: &Entry,
    missing: &Meta,
    origin: OriginId,
) -> Result<()> {
    let kind = match &entry.kind {
        EntryKind::HardLink(target) => return tree.link(&entry.path, target, missing, origin),
        EntryKind::Folder => Kind::folder(),
        EntryKind::File { offset, size, digest } => {
            let place = Place::File { file: layer.file.clone(), offset: *offset };
            Kind::File(Content { size: *size, digest: *digest, place })
        }
        EntryKind::Symlink(target) => Kind::Symlink(target.as_slice().into()),
        EntryKind::CharacterDevice { major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
        EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        EntryKind::Fifo => Kind::Fifo,
    };
    let (mode, uid, gid, mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
    let meta = Meta { mode, uid, gid, mtime, xattrs: entry.xattrs.clone() };
    tree.insert(&entry.path, Inode { meta, kind, origin }, missing).map(drop)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Digest, LayerIndex};

    enum E {
        Dir(&'static str),
        File(&'static str, &'static str),
        Link(&'static str, &'static str),
        Hard(&'static str, &'static str),
    }

    fn layer(entries: Vec<E>) -> Layer {
        let entries = entries.into_iter().map(|e| {
            let (path, kind) = match e {
                E::Dir(path) => (path, EntryKind::Folder),
                E::File(path, data) => {
                    (path, EntryKind::File { offset: 0, size: data.len() as u64, digest: Digest::of(data.as_bytes()) })
                }
                E::Link(path, to) => (path, EntryKind::Symlink(to.into())),
                E::Hard(path, to) => (path, EntryKind::HardLink(to.into())),
            };
            Entry { path: path.into(), mode: 0o755, uid: 1, gid: 2, mtime: 3, xattrs: vec![], kind }
        });
        let index = LayerIndex { tar_size: 0, entries: entries.collect() };
        Layer { diff_id: Digest::of(b""), file: std::path::Path::new("/none").into(), index: Arc::new(index) }
    }

    fn show(layers: Vec<Vec<E>>) -> Vec<String> {
        let layers: Vec<_> = layers.into_iter().map(layer).collect();
        let tree = flatten(&layers, 0).unwrap();
        let mut shown = Vec::new();
        tree.walk_all(|path, id| {
            let path = String::from_utf8_lossy(path);
            match &tree.inode(id).kind {
                Kind::Folder(_) if path.is_empty() => {}
                Kind::Folder(_) => shown.push(format!("{path}/")),
                Kind::File(content) => shown.push(format!("{path} {}", &content.digest.hex()[..4])),
                Kind::Symlink(to) => shown.push(format!("{path} -> {}", String::from_utf8_lossy(to))),
                _ => shown.push(format!("{path} ?")),
            }
            Ok(())
        })
        .unwrap();
        shown
    }

    fn file(path: &str, data: &str) -> String {
        format!("{path} {}", &Digest::of(data.as_bytes()).hex()[..4])
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let lower = || vec![E::Dir("d"), E::File("d/a", "a"), E::File("d/b", "b"), E::File("e", "e")];
        assert_eq!(
            show(vec![lower(), vec![E::File("d/.wh.a", ""), E::File(".wh.e", "")]]),
            ["d/".into(), file("d/b", "b")]
        );
        // The whiteout stands after the new file and must not take it.
        assert_eq!(
            show(vec![
                lower(),
                vec![E::File("e", "new"), E::File(".wh.e", ""), E::File("d/n", "n"), E::File("d/.wh..wh..opq", "")]
            ]),
            ["d/".into(), file("d/n", "n"), file("e", "new")]
        );
    }

    #[test]
    fn types_change_between_layers() {
        let shown = show(vec![
            vec![E::File("was-file", "f"), E::Dir("was-dir"), E::File("was-dir/x", "x")],
            vec![E::Dir("was-file"), E::File("was-file/y", "y"), E::File("was-dir", "d")],
        ]);
        assert_eq!(shown, [file("was-dir", "d"), "was-file/".into(), file("was-file/y", "y")]);
    }

    #[test]
    fn parents_that_are_symlinks_are_resolved_inside_the_root() {
        let shown = show(vec![
            vec![
                E::Dir("usr"),
                E::Dir("usr/bin"),
                E::Link("bin", "usr/bin"),
                E::Link("up", "../../../usr"),
                E::Link("abs", "/usr"),
            ],
            vec![
                E::File("bin/a", "a"),
                E::File("up/bin/b", "b"),
                E::File("abs/c", "c"),
                E::Link("gone", "new/place"),
                E::File("gone/d", "d"),
            ],
        ]);
        assert!(shown.contains(&file("usr/bin/a", "a")), "{shown:?}");
        assert!(shown.contains(&file("usr/bin/b", "b")), "{shown:?}");
        assert!(shown.contains(&file("usr/c", "c")), "{shown:?}");
        assert!(shown.contains(&file("new/place/d", "d")), "{shown:?}");
    }

    #[test]
    fn hard_links_share_an_inode_and_loops_end() {
        let layers =
            [layer(vec![E::File("a", "a"), E::Hard("b", "a")]), layer(vec![E::Hard("c", "b"), E::File("a", "new")])];
        let tree = flatten(&layers, 0).unwrap();
        assert_eq!(tree.lookup(b"b"), tree.lookup(b"c"));
        assert_ne!(tree.lookup(b"a"), tree.lookup(b"b"));
        let bad = [layer(vec![E::Link("x", "y"), E::Link("y", "x"), E::File("x/f", "")])];
        assert!(flatten(&bad, 0).unwrap_err().message().contains("symbolic links"));
        assert!(flatten(&[layer(vec![E::Hard("a", "nowhere")])], 0).unwrap_err().message().contains("not there"));
        assert!(flatten(&[layer(vec![E::File("a", ""), E::File("a/b", "")])], 0).is_err());
    }

    #[test]
    fn graft_goes_through_folder_symlinks() {
        let mut root = flatten(&[layer(vec![E::Dir("usr"), E::Dir("usr/lib"), E::Link("lib", "usr/lib")])], 0).unwrap();
        let other = flatten(
            &[layer(vec![
                E::Dir("lib"),
                E::Dir("lib/modules"),
                E::File("lib/modules/m", "m"),
                E::Hard("n", "lib/modules/m"),
            ])],
            0,
        )
        .unwrap();
        let origin = root.add_origin(crate::rootfs::Origin { source: "s".into(), location: "l".into() });
        root.graft(b"", &other, origin, &Meta::root(0o755, 0)).unwrap();
        assert!(root.lookup(b"usr/lib/modules/m").is_some());
        assert_eq!(root.lookup(b"n"), root.lookup(b"usr/lib/modules/m"));
        root.graft(b"containers/a/lower", &other, origin, &Meta::root(0o755, 0)).unwrap();
        assert_eq!(root.link_counts().unwrap()[root.number(root.lookup(b"n").unwrap())], 2);
    }

    fn grafted(trees: Vec<Vec<E>>) -> Tree {
        let mut root = Tree::new(0);
        let origin = root.add_origin(crate::rootfs::Origin { source: "s".into(), location: "l".into() });
        for tree in trees {
            let tree = flatten(&[layer(tree)], 0).unwrap();
            root.graft(b"", &tree, origin, &Meta::root(0o755, 0)).unwrap();
        }
        root
    }

    fn kernel() -> Vec<E> {
        vec![E::File("lib/modules/6/m", "m"), E::File("lib/modules/6/n", "n"), E::Hard("lib/h", "lib/modules/6/m")]
    }

    /// The kernel is put in first, and the links of a merged `/usr` come later.
    #[test]
    fn graft_moves_what_a_link_would_hide() {
        let init =
            || vec![E::Link("lib", "usr/lib"), E::File("usr/lib/libc", "c"), E::File("usr/lib/modules/6/n", "new")];
        for order in [vec![kernel(), init()], vec![init(), kernel()]] {
            let last = matches!(order[1][0], E::Link(..));
            let root = grafted(order);
            assert!(matches!(&root.inode(root.lookup(b"lib").unwrap()).kind, Kind::Symlink(_)));
            assert_eq!(root.lookup(b"usr/lib/h"), root.lookup(b"usr/lib/modules/6/m"));
            assert!(root.lookup(b"usr/lib/h").is_some() && root.lookup(b"usr/lib/libc").is_some());
            let Kind::File(content) = &root.inode(root.lookup(b"usr/lib/modules/6/n").unwrap()).kind else { panic!() };
            // What comes later wins.
            assert_eq!(content.digest, Digest::of(if last { b"new" } else { b"n" }));
        }
        // A third one, with a folder of its own, still goes through the link.
        let root = grafted(vec![kernel(), init(), vec![E::File("lib/x", "x")]]);
        assert!(root.lookup(b"usr/lib/x").is_some());
    }

    #[test]
    fn graft_follows_links_to_links_and_leaves_dangling_ones() {
        let both = vec![E::File("lib/m", "m"), E::File("usr/lib/old", "o")];
        let links = vec![E::Link("lib", "/usr/lib"), E::Link("usr", "system"), E::Dir("system")];
        let root = grafted(vec![both, links]);
        assert!(root.lookup(b"system/lib/m").is_some() && root.lookup(b"system/lib/old").is_some());
        for target in ["nowhere", "lib", "lib/modules"] {
            let root = grafted(vec![kernel(), vec![E::Link("lib", target)]]);
            assert!(matches!(&root.inode(root.lookup(b"lib").unwrap()).kind, Kind::Symlink(_)), "{target}");
            assert_eq!(root.names(root.root()).count(), 1, "{target}");
        }
        // A file of the target is in the way: nothing is lost elsewhere, and it ends.
        let root = grafted(vec![kernel(), vec![E::Link("lib", "usr/lib"), E::File("usr/lib/modules", "file")]]);
        assert!(root.lookup(b"usr/lib/h").is_some() && root.lookup(b"usr/lib/modules/6").is_none());
    }
}
