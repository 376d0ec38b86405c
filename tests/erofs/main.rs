//! erofs images, judged by fsck.erofs and by the kernel. A machine without erofs-utils, or where nothing can be
//! mounted, says so; with `CI` set the tools have to be there.

#![allow(clippy::unwrap_used)]

#[path = "../formats/judge.rs"]
mod judge;
mod reading;
mod sample;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use judge::judge;
use moby::formats::erofs::{self, Compression, Options};
use moby::rootfs::{Kind, Tree};
use sample::{COMPRESSIONS, TIME, tree};

fn image(tree: &Tree, path: &Path, compression: Compression) -> erofs::Summary {
    let options = Options { compression, uuid: None, label: "root", time: TIME };
    let mut out = File::create(path).unwrap();
    let summary = erofs::write(tree, &mut out, &options).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), summary.size);
    summary
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
        if judge("fsck.erofs", [&extract, &path]).is_some() && rustix::process::geteuid().is_root() {
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
