//! The reader, the pinned images, and damaged ones.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};

use moby::formats::erofs::{Compression, Options, Reader, dump, write};
use moby::rootfs::{Content, Kind, Meta, Tree};
use moby::store::Hasher;
use proptest::prelude::*;

use crate::judge;
use crate::sample::{Builder, COMPRESSIONS, TIME, bytes, small, text, tree};

fn image(tree: &Tree, compression: Compression) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    write(tree, &mut out, &Options { compression, uuid: None, label: "small", time: TIME }).unwrap();
    out.into_inner()
}

#[test]
fn pinned_images() {
    for (compression, name) in COMPRESSIONS.into_iter().zip(["none", "lz4-fast", "lz4"]) {
        let image = image(&small(), compression);
        judge::pinned("erofs", name, &image, &dump(Cursor::new(&image)).unwrap());
    }
}

#[test]
fn what_was_written_is_read() {
    let tree = tree(10);
    for compression in COMPRESSIONS {
        let image = image(&tree, compression);
        let mut expected = BTreeMap::new();
        tree.walk_all(|path, id| {
            expected.insert(path.to_vec(), id);
            Ok(())
        })
        .unwrap();
        let mut nids = BTreeMap::new();
        let mut reader = Reader::open(Cursor::new(&image)).unwrap();
        reader
            .walk(|reader, path, found| {
                let id = expected.remove(path).unwrap();
                let node = tree.inode(id);
                let shown = path.escape_ascii();
                assert_eq!(*nids.entry(found.nid).or_insert(id), id, "{shown}");
                let meta = Meta {
                    mode: u32::from(found.inode.mode) & 0o7777,
                    uid: found.inode.uid,
                    gid: found.inode.gid,
                    mtime: found.inode.mtime,
                    xattrs: reader.xattrs(found)?,
                };
                let mode = if matches!(node.kind, Kind::Symlink(_)) { 0o777 } else { node.meta.mode };
                assert_eq!(meta, Meta { mode, ..node.meta.clone() }, "{shown}");
                match &node.kind {
                    Kind::File(content) => {
                        let mut hasher = Hasher::new();
                        reader.read(found, &mut hasher)?;
                        assert_eq!(hasher.finish(), content.digest, "{shown}");
                    }
                    Kind::Symlink(target) => {
                        let mut found_target = Vec::new();
                        reader.read(found, &mut found_target)?;
                        assert_eq!(found_target, target.as_ref());
                    }
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
        assert!(expected.is_empty());
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused_before_anything_is_written() {
    let refused = |change: &dyn Fn(&mut Builder), what: &str| {
        let mut b = Builder(Tree::new(TIME));
        change(&mut b);
        let mut out = Cursor::new(Vec::new());
        let error = write(&b.0, &mut out, &Options::default()).unwrap_err();
        assert!(error.message().contains(what), "{error}");
        assert!(out.into_inner().is_empty(), "{error}");
    };
    refused(&|b| b.file(&"n".repeat(256), *b""), "256 bytes");
    refused(&|b| b.put("x", Kind::CharacterDevice { major: 4096, minor: 0 }, |_| ()), "4096:0");
    refused(&|b| b.put("x", Kind::Symlink(vec![b'x'; 4096].into()), |_| ()), "4096 bytes");
    refused(&|b| b.put("x", Kind::Fifo, |meta| meta.xattrs = vec![(b"system.x".to_vec(), vec![])]), "system.x");
    refused(
        &|b| {
            let digest = Content::bytes(*b"").digest;
            let file: std::sync::Arc<std::path::Path> = std::path::Path::new("/nowhere").into();
            b.put("x", Kind::File(Content::part(file, 0, 1 << 44, digest)), |_| ());
        },
        "16 TiB",
    );
    let label = Options { label: "seventeen letters", ..Options::default() };
    assert!(write(&Tree::new(0), &mut Cursor::new(Vec::new()), &label).is_err());
}

#[test]
fn content_that_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for size in [100, 5000, 3 << 20] {
        let path = folder.path().join("file");
        std::fs::write(&path, text(size, 1)).unwrap();
        let content = Content::host_file(&path).unwrap();
        for other in [text(size, 2), text(size - 1, 1)] {
            std::fs::write(&path, other).unwrap();
            for compression in COMPRESSIONS {
                let mut b = Builder(Tree::new(TIME));
                b.put("file", Kind::File(content.clone()), |_| ());
                let options = Options { compression, ..Options::default() };
                let error = write(&b.0, &mut Cursor::new(Vec::new()), &options).unwrap_err();
                assert!(error.message().contains("changed since"), "{error}");
            }
        }
    }
}

/// A tree with every kind of structure in few bytes.
fn dense() -> Tree {
    let mut b = Builder(small());
    for n in 0..60 {
        b.file(&format!("many/{n:0100}"), text(n * 40, n));
    }
    b.file("mixed", [text(30_000, 1), bytes(9000, 1), text(40_000, 2)].concat());
    b.0
}

/// Takes so much and no more.
struct Limited(usize);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_all(image: &[u8]) {
    let mut limit = Limited(16 << 20);
    let Ok(mut reader) = Reader::open(Cursor::new(image)) else { return };
    let _ = reader.walk(|reader, _, found| {
        let _ = reader.xattrs(found);
        let _ = reader.link(found);
        if let Err(error) = reader.read(found, &mut limit)
            && limit.0 == 0
        {
            return Err(error);
        }
        Ok(())
    });
}

/// `FUZZ_CASES=100000` tries longer.
fn config() -> ProptestConfig {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_images_are_errors_at_worst(
        compressed in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        static IMAGES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let images = IMAGES.get_or_init(|| [image(&dense(), Compression::None), image(&dense(), Compression::Lz4)]);
        let mut image = images[usize::from(compressed)].clone();
        // Without the checksum, or changes of the superblock would be found by it.
        image[1024 + 8] &= !1;
        // Most bytes are data; the structures are at the start and at the end.
        let length = image.len();
        for (block, place, byte) in edits {
            let block = [0, 0, length / 4096 - 1, length / 4096 - 2, block.index(length / 4096)][usize::from(byte) % 5];
            let place = place.index(4096);
            let place = if block == 0 && place < 1024 { place + 1024 } else { place };
            image[block * 4096 + place] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(length));
        }
        read_all(&image);
    }
}
