//! Trees to be written.

use moby::formats::erofs::Compression;
use moby::rootfs::{Content, Inode, Kind, Meta, Tree};

pub const TIME: i64 = 1_700_000_000;
pub const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4Fast, Compression::Lz4];

pub fn bytes(count: usize, seed: u64) -> Vec<u8> {
    // xorshift64*: bytes that do not compress.
    let mut state = 2 * seed + 1;
    std::iter::from_fn(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        Some((state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8)
    })
    .take(count)
    .collect()
}

pub fn text(count: usize, seed: usize) -> Vec<u8> {
    let words = ["kernel ", "init ", "service ", "volume ", "mount ", "read-only ", "\n", "blueprint ", "the ", "of "];
    let random = bytes(count, seed as u64 + 1);
    random.iter().flat_map(|b| words[usize::from(*b) % words.len()].bytes()).take(count).collect()
}

pub struct Builder(pub Tree);

impl Builder {
    pub fn put(&mut self, path: &str, kind: Kind, change: impl FnOnce(&mut Meta)) {
        let mut meta = Meta::root(if matches!(kind, Kind::Folder(_)) { 0o755 } else { 0o644 }, TIME);
        change(&mut meta);
        let origin = self.0.inode(self.0.root()).origin;
        self.0.insert(path.as_bytes(), Inode { meta, kind, origin }, &Meta::root(0o755, TIME)).unwrap();
    }

    pub fn file(&mut self, path: &str, bytes: impl Into<std::sync::Arc<[u8]>>) {
        self.put(path, Kind::File(Content::bytes(bytes)), |_| ());
    }

    pub fn link(&mut self, path: &str, target: &str) {
        let origin = self.0.inode(self.0.root()).origin;
        self.0.link(path.as_bytes(), target.as_bytes(), &Meta::root(0o755, TIME), origin).unwrap();
    }
}

/// Every kind of inode, and sizes around every limit. One file has `links` names.
pub fn tree(links: u32) -> Tree {
    let mut b = Builder(Tree::new(TIME));
    for size in [0, 1, 31, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193, 12_000, 100_000] {
        b.file(&format!("random/{size}"), bytes(size, size as u64));
        b.file(&format!("text/{size}"), text(size, size));
    }
    b.file("large/random", bytes(5_000_001, 5));
    b.file("large/text", text((4 << 20) + 1, 6));
    b.file("large/text-and-random", [text(1_500_000, 7), bytes(1_500_000, 8), text(1_500_000, 9)].concat());
    b.file("large/zeros", vec![0; 3 << 20]);
    b.file("same/text", text((4 << 20) + 1, 6));
    b.file("same/12000", text(12_000, 12_000));
    b.file("same/random", bytes(8193, 8193));
    b.file("boundary/exactly", text(1 << 20, 3));
    for n in 0..3000 {
        b.file(&format!("many/file number {n:05} of a folder of several blocks"), text(n % 300, n));
    }
    b.put("empty", Kind::folder(), |meta| meta.mode = 0o1777);
    b.put("deep/a/b/c/d/e/f", Kind::folder(), |meta| meta.mode = 0o700);
    b.file("names/!before the dot", *b"1");
    b.file(&format!("names/{}", "n".repeat(255)), *b"2");
    b.put("names/link", Kind::Symlink(b"../random/31".as_slice().into()), |_| ());
    b.put("names/long link", Kind::Symlink(vec![b'x'; 4095].into()), |_| ());
    b.put("names/3000 link", Kind::Symlink(vec![b'y'; 3000].into()), |meta| meta.mtime = 5);
    b.put("dev/tty", Kind::CharacterDevice { major: 5, minor: 0 }, |meta| meta.mode = 0o666);
    b.put("dev/odd", Kind::BlockDevice { major: 4095, minor: 1_048_575 }, |meta| meta.mode = 0o600);
    b.put("dev/fifo", Kind::Fifo, |_| ());
    b.put("owner/large ids", Kind::File(Content::bytes(*b"x")), |meta| (meta.uid, meta.gid) = (70_000, 80_000));
    b.put("owner/ids", Kind::File(Content::bytes(text(9000, 1))), |meta| (meta.uid, meta.gid) = (65_535, 1));
    b.put("owner/suid", Kind::File(Content::bytes(text(9001, 1))), |meta| meta.mode = 0o6755);
    b.put("time/before 1970", Kind::File(Content::bytes(*b"x")), |meta| meta.mtime = -1);
    b.put("time/after 2038", Kind::File(Content::bytes(*b"x")), |meta| meta.mtime = 1 << 33);
    b.file("links/first", text(5000, 5));
    b.link("links/second", "links/first");
    b.link("another", "links/first");
    for n in 1..links {
        b.link(&format!("links/many/{n}"), "random/31");
    }
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let shared = [(b"security.capability".to_vec(), capability)];
    for n in 0..5 {
        b.put(&format!("xattrs/capable {n}"), Kind::File(Content::bytes(text(n * 3000, n))), |meta| {
            meta.xattrs = [&shared[..], &[(b"user.own".to_vec(), vec![n as u8; n * 100])]].concat();
        });
    }
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    b.put("xattrs/acl", Kind::File(Content::bytes(*b"x")), |meta| {
        meta.mode = 0o664;
        meta.xattrs = vec![(b"system.posix_acl_access".to_vec(), acl.to_vec())];
    });
    b.put("xattrs/trusted", Kind::folder(), |meta| {
        meta.xattrs = vec![(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())];
    });
    b.put("xattrs/large", Kind::File(Content::bytes(text(5000, 2))), |meta| {
        meta.xattrs = (0..4).map(|n| (format!("user.{n}").into_bytes(), bytes(n * 1500, n as u64))).collect();
    });
    b.0
}

/// A small tree, the same for ever: its images are pinned.
pub fn small() -> Tree {
    let mut b = Builder(Tree::new(TIME));
    b.file("etc/motd", *b"hello\n");
    b.file("usr/lib/text", text(20_000, 1));
    b.file("usr/lib/same", text(20_000, 1));
    b.file("usr/lib/random", bytes(5000, 2));
    b.file("empty", *b"");
    b.put("usr/bin/ping", Kind::File(Content::bytes(text(300, 3))), |meta| {
        meta.mode = 0o755;
        meta.xattrs = vec![(b"security.capability".to_vec(), vec![1; 20])];
    });
    b.put("usr/bin/mtr", Kind::File(Content::bytes(text(200, 4))), |meta| {
        (meta.mtime, meta.uid) = (TIME + 1, 100_000);
        meta.xattrs = vec![(b"security.capability".to_vec(), vec![1; 20]), (b"user.note".to_vec(), b"x".to_vec())];
    });
    b.put("lib", Kind::Symlink(b"usr/lib".as_slice().into()), |_| ());
    b.put("dev/console", Kind::CharacterDevice { major: 5, minor: 1 }, |meta| meta.mode = 0o600);
    b.put("run/pipe", Kind::Fifo, |_| ());
    b.link("usr/bin/ping6", "usr/bin/ping");
    b.0
}
