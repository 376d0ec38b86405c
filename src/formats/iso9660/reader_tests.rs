use std::sync::LazyLock;

use super::super::{BootImage, Hybrid, Iso, Options};
use super::*;
use crate::formats::disk::Bytes;
use crate::formats::source::Source;
use crate::rootfs::{Content, Inode, Kind as TreeKind, Meta, Origin, Tree};

const TIME: i64 = 1_492_533_000;

static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut tree = Tree::new(TIME);
    let origin = tree.add_origin(Origin { source: "test".into(), location: "files[0]".into() });
    let mut put = |path: &[u8], mode, kind| {
        let meta = Meta { mode, uid: 7, gid: 100_000, mtime: TIME, xattrs: Default::default() };
        tree.insert(path, Inode { meta, kind, origin }, &Meta::root(0o755, TIME)).unwrap();
    };
    put(b"etc/hostname", 0o640, TreeKind::File(Content::bytes(&b"moby\n"[..])));
    put(b"boot/loader.bin", 0o644, TreeKind::File(Content::bytes(vec![9; 3000])));
    put(&b"n".repeat(255), 0o600, TreeKind::File(Content::bytes(vec![1; 2048])));
    put(b"empty", 0o600, TreeKind::File(Content::bytes(vec![])));
    for (name, target) in LINKS {
        put(name, 0o777, TreeKind::Symlink((*target).into()));
    }
    put(b"long link", 0o777, TreeKind::Symlink(b"a-component-of-a-path/".repeat(45).into()));
    put(b"dev/console", 0o600, TreeKind::CharacterDevice { major: 5, minor: 1 });
    put(b"dev/vda", 0o660, TreeKind::BlockDevice { major: 254, minor: 1000 });
    put(b"dev/pipe", 0o644, TreeKind::Fifo);
    for number in 0..100 {
        put(format!("many/file {number}").as_bytes(), 0o644, TreeKind::File(Content::bytes(vec![2; number])));
    }
    let options = Options {
        label: "MOBY".into(),
        time: TIME,
        joliet: true,
        boot: vec![
            BootImage::Program(b"boot/loader.bin".to_vec()),
            BootImage::Volume(std::sync::Arc::new(vec![3; 4096])),
        ],
        hybrid: Some(Hybrid { boot_code: Vec::new(), partitions: Vec::new() }),
    };
    let mut bytes = Vec::new();
    Iso::new(&tree, &options).unwrap().write_to(&mut bytes).unwrap();
    bytes
});

const LINKS: &[(&[u8], &[u8])] = &[
    (b"bin", b"usr/bin"),
    (b"absolute", b"/usr/bin/../bin/./program"),
    (b"slashes", b"//usr//bin/"),
    (b"root", b"/"),
    (b"one long component", &[b'c'; 255]),
];

fn all(volume: &Volume<Bytes>) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    volume.walk(|listed| {
        found.push(listed);
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn everything_is_read() {
    let volume = Volume::open(Bytes(IMAGE.clone())).unwrap();
    assert_eq!((volume.label.as_str(), volume.joliet), ("MOBY", true));
    let boot: Vec<_> = volume.boot.iter().map(|image| (image.platform, image.loaded)).collect();
    assert_eq!(boot, [(0, 4), (0xef, 8)]);
    let listed = all(&volume).unwrap();
    let find =
        |path: &[u8]| listed.iter().find(|one| one.path == path).unwrap_or_else(|| panic!("{}", path.escape_ascii()));
    let content = |path: &[u8]| {
        let one = find(path);
        let mut bytes = vec![0; one.size as usize];
        volume.image().read_at(&mut bytes, one.places[0].start).unwrap();
        bytes
    };
    assert_eq!(content(b"etc/hostname"), b"moby\n");
    assert_eq!(content(&b"n".repeat(255)), vec![1; 2048]);
    let file = find(b"etc/hostname");
    assert_eq!((file.mode, file.uid, file.gid, file.links), (0o100_640, 7, 100_000, 1));
    assert_eq!(file.modified, [117, 4, 18, 16, 30, 0, 0]);
    for (name, target) in LINKS {
        assert_eq!(find(name).kind, Kind::Symlink(target.to_vec()), "{}", name.escape_ascii());
    }
    assert_eq!(find(b"long link").kind, Kind::Symlink(b"a-component-of-a-path/".repeat(45)));
    assert_eq!(find(b"dev/console").kind, Kind::Special(0o020_000, 5, 1));
    assert_eq!(find(b"dev/vda").kind, Kind::Special(0o060_000, 254, 1000));
    assert_eq!(find(b"dev/pipe").kind, Kind::Special(0o010_000, 0, 0));
    assert_eq!(listed.iter().filter(|one| one.path.starts_with(b"many/")).count(), 100);
    assert_eq!(listed[0].kind, Kind::Folder);
}

#[test]
fn damage_is_named() {
    let error = |at: usize| {
        let mut bytes = IMAGE.clone();
        bytes[at] ^= 1;
        Volume::open(Bytes(bytes)).and_then(|volume| all(&volume)).unwrap_err().message().to_owned()
    };
    assert!(error(16 * 2048 + 80).contains("the volume's size is"));
    assert!(error(16 * 2048 + 158).contains("the root is"));
    assert!(error(16 * 2048 + 1).contains("sector 16 is no volume descriptor"));
    let volume = Volume::open(Bytes(IMAGE.clone())).unwrap();
    assert!(error(volume.path_table.start as usize + 2).contains("the path table"));
    let cut = Volume::open(Bytes(IMAGE[..IMAGE.len() - 60_000].to_vec())).unwrap_err();
    assert!(cut.hint_text().unwrap().contains("cut off"));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(places in proptest::collection::vec((0usize..400_000, proptest::num::u8::ANY), 1..8), cut in 0usize..600_000) {
        let mut bytes = IMAGE.clone();
        for (at, value) in places {
            let at = (at + 32_768) % bytes.len();
            bytes[at] = value;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut % bytes.len());
        }
        if let Ok(volume) = Volume::open(Bytes(bytes)) {
            let _ = all(&volume);
        }
    }
}
