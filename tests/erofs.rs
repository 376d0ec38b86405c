//! erofs images, judged by fsck.erofs and by the kernel. A machine without erofs-utils, or where nothing can be
//! mounted, says so; with `CI` set the tools have to be there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::formats::erofs::{self, Compression, Options};
use moby::rootfs::{Content, Inode, Kind, Meta, Tree};

const TIME: i64 = 1_700_000_000;
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4Fast, Compression::Lz4];

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    // xorshift64*: bytes that do not compress.
    let mut state = seed | 1;
    std::iter::from_fn(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        Some((state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8)
    })
    .take(count)
    .collect()
}

fn text(count: usize, seed: usize) -> Vec<u8> {
    let words = ["kernel ", "init ", "service ", "volume ", "mount ", "read-only ", "\n", "blueprint ", "the ", "of "];
    let random = bytes(count, seed as u64 + 1);
    random.iter().flat_map(|b| words[usize::from(*b) % words.len()].bytes()).take(count).collect()
}

struct Builder(Tree);

impl Builder {
    fn put(&mut self, path: &str, kind: Kind, change: impl FnOnce(&mut Meta)) {
        let mut meta = Meta::root(if matches!(kind, Kind::Folder(_)) { 0o755 } else { 0o644 }, TIME);
        change(&mut meta);
        let origin = self.0.inode(self.0.root()).origin;
        self.0.insert(path.as_bytes(), Inode { meta, kind, origin }, &Meta::root(0o755, TIME)).unwrap();
    }

    fn file(&mut self, path: &str, bytes: impl Into<std::sync::Arc<[u8]>>) {
        self.put(path, Kind::File(Content::bytes(bytes)), |_| ());
    }

    fn link(&mut self, path: &str, target: &str) {
        let origin = self.0.inode(self.0.root()).origin;
        self.0.link(path.as_bytes(), target.as_bytes(), &Meta::root(0o755, TIME), origin).unwrap();
    }
}

/// Every kind of inode, and sizes around every limit. One file has `links` names.
fn tree(links: u32) -> Tree {
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

fn image(tree: &Tree, path: &Path, compression: Compression) -> erofs::Summary {
    let options = Options { compression, uuid: None, label: "root", time: TIME };
    let mut out = File::create(path).unwrap();
    let summary = erofs::write(tree, &mut out, &options).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), summary.size);
    summary
}

/// What a tool has to say, `None` if the machine has no such tool.
fn run(program: &str, arguments: &[&Path]) -> Option<String> {
    let found = [format!("/usr/bin/{program}"), format!("/usr/sbin/{program}"), format!("/bin/{program}")];
    let Some(found) = found.iter().find(|path| Path::new(path).exists()) else {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
        eprintln!("not run: {program} is not installed");
        return None;
    };
    let done = Command::new(found).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {text}");
    Some(text)
}

/// A file system that is mounted until this goes.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` if this machine does not mount: no root, no loop device, no erofs in its kernel.
    fn new(image: &Path, at: &Path) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        let done = command.args(["-t", "erofs", "-o", "loop,ro"]).arg(image).arg(at).output().unwrap();
        let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !done.status.success() && kernel.contains("erofs") && Path::new("/dev/loop-control").exists() {
            panic!("the kernel does not mount it: {}", String::from_utf8_lossy(&done.stderr));
        }
        if !done.status.success() {
            eprintln!("not run: nothing can be mounted here: {}", String::from_utf8_lossy(&done.stderr).trim());
            return None;
        }
        Some(Mounted(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Compares what lies at `root` with the tree, entry by entry.
fn compare(tree: &Tree, root: &Path, kernel: bool) {
    let mut inodes: BTreeMap<u64, usize> = BTreeMap::new();
    let links = tree.link_counts().unwrap();
    let mut count = 0;
    tree.walk_all(|name, id| {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        let shown = path.display();
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let inode = tree.inode(id);
        let kind = meta.file_type();
        let device = |major, minor| assert_eq!(meta.rdev(), rustix::fs::makedev(major, minor), "{shown}");
        match &inode.kind {
            Kind::Folder(names) => {
                assert!(kind.is_dir(), "{shown}");
                assert_eq!(fs::read_dir(&path).unwrap().count(), names.len(), "{shown}");
                let folders = names.values().filter(|id| matches!(tree.inode(**id).kind, Kind::Folder(_))).count();
                assert!(!kernel || meta.nlink() == 2 + folders as u64, "{shown}");
            }
            Kind::File(content) => {
                assert!(kind.is_file(), "{shown}");
                assert_eq!(meta.len(), content.size, "{shown}");
                let mut expected = BufReader::new(content.open().unwrap());
                let mut found = BufReader::new(File::open(&path).unwrap());
                let (mut a, mut b) = (vec![0; 1 << 16], Vec::new());
                loop {
                    let count = expected.read(&mut a).unwrap();
                    b.resize(count, 0);
                    found.read_exact(&mut b).unwrap_or_else(|error| panic!("{shown}: {error}"));
                    assert!(a[..count] == b, "{shown} differs");
                    if count == 0 {
                        break;
                    }
                }
            }
            Kind::Symlink(target) => {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target.as_ref(), "{shown}");
            }
            Kind::CharacterDevice { major, minor } => {
                assert!(kind.is_char_device(), "{shown}");
                device(*major, *minor);
            }
            Kind::BlockDevice { major, minor } => {
                assert!(kind.is_block_device(), "{shown}");
                device(*major, *minor);
            }
            Kind::Fifo => assert!(kind.is_fifo(), "{shown}"),
        }
        // fsck.erofs sets the owner after the mode, and so takes the set-id bits away.
        let mask = if kernel { 0o7777 } else { 0o1777 };
        if !kind.is_symlink() {
            assert_eq!(meta.mode() & mask, inode.meta.mode & mask, "{shown}");
        }
        assert_eq!((meta.uid(), meta.gid()), (inode.meta.uid, inode.meta.gid), "{shown}");
        if kernel {
            assert_eq!(meta.mtime(), inode.meta.mtime, "{shown}");
            let expected: BTreeMap<_, _> = inode.meta.xattrs.iter().cloned().collect();
            assert_eq!(xattrs(&path), expected, "{shown}");
        }
        if !kind.is_dir() && kernel {
            assert_eq!(meta.nlink(), u64::from(links[tree.number(id)]), "{shown}");
            let known = *inodes.entry(meta.ino()).or_insert(tree.number(id));
            assert_eq!(known, tree.number(id), "{shown} shares an inode");
        }
        count += 1;
        Ok(())
    })
    .unwrap();
    assert!(count > 100);
}

#[test]
fn fsck_extracts_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(10);
    for compression in COMPRESSIONS {
        let path = folder.path().join("image");
        image(&tree, &path, compression);
        let out = folder.path().join(format!("{compression:?}"));
        let extract = PathBuf::from(format!("--extract={}", out.display()));
        if run("fsck.erofs", &[&extract, &path]).is_some() && rustix::process::geteuid().is_root() {
            compare(&tree, &out, false);
        }
    }
}

#[test]
fn the_kernel_mounts_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    // More names than 16 bits count.
    let tree = tree(70_000);
    for compression in COMPRESSIONS {
        let path = folder.path().join("image");
        image(&tree, &path, compression);
        let at = folder.path().join("mounted");
        let Some(_mounted) = Mounted::new(&path, &at) else { return };
        compare(&tree, &at, true);
    }
}

#[test]
fn threads_change_nothing() {
    let tree = tree(10);
    for compression in COMPRESSIONS {
        let write = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut out = std::io::Cursor::new(Vec::new());
                let options = Options { compression, uuid: None, label: "", time: TIME };
                erofs::write(&tree, &mut out, &options).unwrap();
                out.into_inner()
            })
        };
        let one = write(1);
        assert!(one == write(2) && one == write(16), "{compression:?}: the number of threads changes the image");
    }
}
