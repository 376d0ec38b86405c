//! The reader: what was written comes back, mksquashfs's images are read, and damaged ones never harm.

use std::io::{Cursor, Read, Seek, Write};
use std::path::Path;
use std::process::Command;

use moby::error::Result;
use moby::formats::squashfs::{Compression, Kind, Options, Reader, dump, write};
use moby::rootfs::{self, Content, InodeId, Meta, Tree};
use moby::store::{Digest, Hasher};
use proptest::prelude::*;

use crate::sample::{self, Sample};
use crate::support::machine::available;
use crate::{ALL, is_root, run};

pub fn bytes(tree: &Tree, compression: Compression, block_size: u32) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    write(tree, &mut out, &Options { compression, block_size, time: 1_700_000_000, threads: 2 }).unwrap();
    out.into_inner()
}

/// Panics at the first difference between an image and a tree.
fn compare(tree: &Tree, image: impl Read + Seek, ours: bool) {
    let mut expected: Vec<(Vec<u8>, InodeId)> = Vec::new();
    tree.walk_all(|path, id| {
        expected.push((path.to_vec(), id));
        Ok(())
    })
    .unwrap();
    let links = tree.link_counts().unwrap();
    let mut numbers = std::collections::HashMap::new();
    let mut expected = expected.into_iter();
    let mut reader = Reader::open(image).unwrap();
    let walked = reader.walk(|reader, path, found| {
        let shown = path.escape_ascii();
        let (name, id) = expected.next().unwrap();
        assert_eq!(path, name, "names differ");
        let inode = tree.inode(id);
        let meta = Meta {
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            mtime: found.mtime.into(),
            xattrs: found.xattrs.clone(),
        };
        assert_eq!(meta, inode.meta, "/{shown}");
        match (&inode.kind, &found.kind) {
            (rootfs::Kind::Folder(_), Kind::Folder(_)) => return Ok(()),
            (rootfs::Kind::File(content), Kind::File(file)) => {
                let mut hasher = Hasher::new();
                reader.content(file, &mut hasher)?;
                assert_eq!((hasher.finish(), file.size), (content.digest, content.size), "/{shown}");
            }
            (rootfs::Kind::Symlink(a), Kind::Symlink(b)) => assert_eq!(a.as_ref(), b),
            (rootfs::Kind::CharacterDevice { major, minor }, Kind::CharacterDevice(x, y))
            | (rootfs::Kind::BlockDevice { major, minor }, Kind::BlockDevice(x, y)) => {
                assert_eq!((major, minor), (x, y))
            }
            (rootfs::Kind::Fifo, Kind::Fifo) => {}
            (expected, found) => panic!("/{shown} is {found:?}, not {expected:?}"),
        }
        // mksquashfs 4.5 makes two of a symbolic link with two names.
        if !matches!(found.kind, Kind::Symlink(_)) || ours {
            assert_eq!(*numbers.entry(tree.number(id)).or_insert(found.number), found.number, "/{shown}");
            assert_eq!(found.links, links[tree.number(id)], "links of /{shown}");
        }
        Ok(())
    });
    walked.unwrap();
    assert_eq!(expected.next(), None);
}

#[test]
fn what_was_written_is_read() {
    for (compression, block_size) in ALL.into_iter().zip([4 << 10, 64 << 10, 128 << 10, 1 << 20]) {
        let tree = sample::everything(block_size as usize);
        compare(&tree, Cursor::new(bytes(&tree, compression, block_size)), true);
    }
}

/// mksquashfs packs the same folder; unpacked by unsquashfs and packed again, everything is still the same.
#[test]
fn images_of_mksquashfs_are_read() {
    if !is_root("unpacking owners and devices") || !available("mksquashfs") || !available("unsquashfs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, root) = (folder.path().join("image"), folder.path().join("root"));
    let tree = sample::everything(128 << 10);
    std::fs::write(&image, bytes(&tree, Compression::Zstd(1), 128 << 10)).unwrap();
    run(Command::new("unsquashfs").args(["-no-progress", "-quiet", "-d"]).args([&root, &image]));
    for arguments in [
        "-comp zstd -tailends",
        "-comp gzip -b 4K",
        "-comp xz -no-fragments",
        "-noI -noD -noF -noX",
        "-comp zstd -b 1M",
    ] {
        let theirs = folder.path().join("theirs");
        let mut command = Command::new("mksquashfs");
        command.args([&root, &theirs]).args(["-noappend", "-no-progress", "-quiet"]).args(arguments.split(' '));
        run(&mut command);
        compare(&tree, std::fs::File::open(&theirs).unwrap(), false);
    }
}

/// Something of everything, in few bytes.
fn small() -> Tree {
    let mut s = Sample::new();
    let xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 4]), (b"user.x".to_vec(), vec![b'v'; 20])];
    let file = |bytes: Vec<u8>| rootfs::Kind::File(Content::bytes(bytes));
    s.put("bin/tool", Meta { mode: 0o755, xattrs: xattrs.clone(), ..Meta::root(0, 9) }, file(sample::text(9000, 1)));
    s.put("bin/second", Meta { xattrs: xattrs[1..].to_vec(), ..Meta::root(0o4711, 8) }, file(sample::noise(5000, 1)));
    s.file("holes", [vec![0; 8192], sample::text(5000, 2)].concat());
    s.file("end", sample::text(300, 3));
    s.file("empty", Vec::new());
    s.link("sbin/tool", "bin/tool");
    s.put("link", Meta::root(0o777, 7), rootfs::Kind::Symlink((*b"bin/tool").into()));
    s.put(
        "null",
        Meta { uid: 5, gid: 6, ..Meta::root(0o666, 7) },
        rootfs::Kind::CharacterDevice { major: 1, minor: 3 },
    );
    s.put("disk", Meta::root(0o660, 7), rootfs::Kind::BlockDevice { major: 8, minor: 300 });
    s.put("fifo", Meta::root(0o600, 7), rootfs::Kind::Fifo);
    for number in 0..400 {
        s.put(format!("many/name-{number:03}"), Meta::root(0o600, 7), file(Vec::new()));
    }
    s.tree
}

/// The bytes of a small image, and what is in it. If the digest changes, every squashfs image changes, and so the
/// digests of all images that hold one: that is a decision. After an update of a compressor's crate it is the
/// compressor's.
#[test]
fn the_bytes_are_pinned() {
    let tree = small();
    let mut found = String::new();
    for compression in [Compression::default(), Compression::Gzip(9), Compression::Xz, Compression::None] {
        found += &format!("{compression} {}\n", Digest::of(&bytes(&tree, compression, 4096)));
    }
    found += &dump(Cursor::new(bytes(&tree, Compression::default(), 4096))).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/squashfs/small.txt");
    if std::env::var_os("SNAPSHOTS").is_some_and(|what| what == "overwrite") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(found == expected, "SNAPSHOTS=overwrite writes what was found to {}:\n{found}", path.display());
}

/// Reads everything that an image says it has, up to 16 MiB of contents.
fn read_all(image: &[u8]) -> Result<()> {
    struct Limited(usize);
    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("enough"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut out = Limited(16 << 20);
    Reader::open(Cursor::new(image))?.walk(|reader, _, inode| match &inode.kind {
        Kind::File(file) => reader.content(file, &mut out),
        _ => Ok(()),
    })
}

#[test]
fn an_image_cut_anywhere_is_an_error() {
    let image = bytes(&small(), Compression::Gzip(6), 4096);
    read_all(&image).unwrap();
    let used = Reader::open(Cursor::new(&image)).unwrap().superblock().bytes_used as usize;
    for length in (0..used).step_by(7) {
        assert!(read_all(&image[..length]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Mutated images are read or refused: no panic, no endless work, no memory without bound.
    #[test]
    fn damaged_images_never_harm(
        which in 0..ALL.len(),
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        words in proptest::collection::vec((0usize..24, prop_oneof![Just(u32::MAX), Just(0), any::<u32>()]), 0..2),
    ) {
        static IMAGES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let images = IMAGES.get_or_init(|| ALL.iter().map(|each| bytes(&small(), *each, 4096)).collect());
        let mut image = images[which].clone();
        for (place, value) in places {
            // Half of them in the tables, which come last.
            let at = place.index(image.len() * 2);
            let tables = image.len() * 2 / 3;
            let at = if at < image.len() { at } else { tables + at % (image.len() - tables) };
            image[at] = value;
        }
        for (at, word) in words {
            image[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let _ = read_all(&image);
    }
}
