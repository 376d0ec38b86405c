//! Trees to write: one with everything that the format knows, and one of a folder of this machine.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use moby::rootfs::{Content, Inode, Kind, Meta, Origin, OriginId, Tree};
use moby::store::Xattrs;

/// Bytes that do not compress, the same ones for the same seed.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Bytes that compress, but not to nothing.
pub fn text(size: usize, seed: u64) -> Vec<u8> {
    let words = noise(4096, seed);
    let mut state = seed;
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let at = (state >> 33) as usize % 4080;
        out.extend_from_slice(&words[at..at + 4 + (state >> 60) as usize % 12]);
    }
    out.truncate(size);
    out
}

/// A tree that is filled.
pub struct Sample {
    pub tree: Tree,
    origin: OriginId,
}

impl Sample {
    pub fn new() -> Sample {
        let mut tree = Tree::new(1_700_000_000);
        let origin = tree.add_origin(Origin { source: "sample".into(), location: "files[0]".into() });
        Sample { tree, origin }
    }

    pub fn put(&mut self, path: impl AsRef<[u8]>, meta: Meta, kind: Kind) {
        let missing = Meta::root(0o755, 1_700_000_000);
        self.tree.insert(path.as_ref(), Inode { meta, kind, origin: self.origin }, &missing).unwrap();
    }

    pub fn file(&mut self, path: impl AsRef<[u8]>, bytes: Vec<u8>) {
        self.put(path, Meta::root(0o644, 1_600_000_000), Kind::File(Content::bytes(bytes)));
    }

    pub fn link(&mut self, path: &str, target: &str) {
        let missing = Meta::root(0o755, 1_700_000_000);
        self.tree.link(path.as_bytes(), target.as_bytes(), &missing, self.origin).unwrap();
    }
}

fn meta(mode: u32, uid: u32, gid: u32, mtime: i64, xattrs: &[(&[u8], &[u8])]) -> Meta {
    let mut xattrs: Xattrs = xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    xattrs.sort();
    Meta { mode, uid, gid, mtime, xattrs }
}

/// Everything at once; `block` is the block size, around which the files' sizes lie.
pub fn everything(block: usize) -> Tree {
    let mut s = Sample::new();
    let capability: (&[u8], &[u8]) =
        (b"security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let long = vec![b'v'; 3000];
    s.file("empty", vec![]);
    for (at, size) in [1, 100, block - 1, block, block + 1, 2 * block, 3 * block + 77].into_iter().enumerate() {
        s.file(format!("sizes/text-{at}"), text(size, at as u64 + 1));
        s.file(format!("sizes/noise-{at}"), noise(size, at as u64 + 1));
        s.file(format!("sizes/zeros-{at}"), vec![0; size]);
        s.file(format!("sizes/again/text-{at}"), text(size, at as u64 + 1));
    }
    let mut holes = vec![0; block];
    holes.extend(text(block, 90));
    holes.extend(vec![0; 2 * block]);
    holes.extend(noise(block + 5, 91));
    s.file("holes", holes);
    s.put("bin/ping", meta(0o755, 0, 0, 1, &[capability]), Kind::File(Content::bytes(text(70_000, 50))));
    s.put(
        "bin/other",
        meta(0o4755, 0, 42, 2, &[capability, (b"user.note", b"x")]),
        Kind::File(Content::bytes(text(9, 51))),
    );
    let attributes: &[(&[u8], &[u8])] =
        &[(b"user.long", &long), (b"user.empty", b""), (b"trusted.overlay.opaque", b"y")];
    s.put("attributes", meta(0o711, 1000, 1000, 3, attributes), Kind::folder());
    s.put("attributes/same-value", meta(0o600, 1, 2, 3, &[(b"user.other", &long)]), Kind::File(Content::bytes(*b"s")));
    s.put("attributes/link", meta(0o777, 7, 8, 4, &[(b"trusted.l", b"1")]), Kind::Symlink((*b"../bin/ping").into()));
    s.put("attributes/fifo", meta(0o640, 7, 8, 4, &[(b"trusted.f", &long)]), Kind::Fifo);
    let device = Kind::CharacterDevice { major: 5, minor: 1 };
    s.put("attributes/device", meta(0o640, 7, 8, 4, &[(b"trusted.d", &long)]), device);
    s.put("dev/null", meta(0o666, 0, 0, 5, &[]), Kind::CharacterDevice { major: 1, minor: 3 });
    s.put("dev/disk", meta(0o660, 0, 6, 5, &[]), Kind::BlockDevice { major: 259, minor: 70_000 });
    s.put("dev/pipe", meta(0o600, 65_534, 65_534, 5, &[]), Kind::Fifo);
    s.put("owner", meta(0o2750, 4_000_000_000, 100_000, 4_294_967_295, &[]), Kind::folder());
    s.put("sticky", meta(0o1777, 0, 0, 0, &[]), Kind::folder());
    s.put("link", meta(0o777, 0, 0, 6, &[]), Kind::Symlink((*b"bin/ping").into()));
    s.put("far", meta(0o777, 0, 0, 6, &[]), Kind::Symlink(vec![b'a'; 4095].into()));
    s.link("bin/hard", "bin/ping");
    s.link("z/hard", "sizes/text-6");
    s.link("z/null", "dev/null");
    s.link("z/link", "link");
    s.file([&b"names/"[..], &[b'n'; 255]].concat(), b"long".to_vec());
    s.file(b"names/\xff\xfe not utf-8 \n\t\"", b"bytes".to_vec());
    s.file("names/\u{fc}", b"letter".to_vec());
    for number in 0..3000 {
        let body = if number % 3 == 0 { vec![] } else { format!("{number}").into_bytes() };
        s.file(format!("many/a-rather-long-name-of-a-file-{}-{number}", number * 7919 % 3000), body);
    }
    for number in 0..150 {
        s.put(format!("folders/{number:04}/x/y"), meta(0o700, number, 0, 7, &[]), Kind::folder());
    }
    let deep = (0..60).map(|at| format!("deep-{at}")).collect::<Vec<_>>().join("/");
    s.file(deep, b"bottom".to_vec());
    s.tree
}

/// A folder of this machine as a tree, hard links and all; sockets are left out. Contents are read for their digests.
pub fn host_folder(folder: &Path) -> Tree {
    let mut s = Sample::new();
    let mut names: std::collections::HashMap<(u64, u64), String> = Default::default();
    let mut stack = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = stack.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = entry.path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            let kind = data.file_type();
            let kind = if kind.is_dir() {
                stack.push((path, format!("{name}/")));
                Kind::folder()
            } else if kind.is_symlink() {
                Kind::Symlink(std::fs::read_link(&path).unwrap().as_os_str().as_bytes().into())
            } else if kind.is_file() {
                if data.nlink() > 1
                    && let Some(first) = names.get(&(data.dev(), data.ino()))
                {
                    s.link(&name, first);
                    continue;
                }
                names.insert((data.dev(), data.ino()), name.clone());
                Kind::File(Content::host_file(&path).unwrap())
            } else if kind.is_socket() {
                continue;
            } else {
                Kind::Fifo
            };
            s.put(&name, meta(data.mode() & 0o7777, data.uid(), data.gid(), data.mtime(), &[]), kind);
        }
    }
    s.tree
}
