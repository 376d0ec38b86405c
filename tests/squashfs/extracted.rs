//! Compares a folder of this machine, made by another tool or mounted by the kernel, with the tree that was written.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use moby::rootfs::{Content, Kind, Tree};
use moby::store::Xattrs;

/// Panics at the first difference. Numbers of links of folders are those of the kernel's own file systems.
pub fn compare(tree: &Tree, folder: &Path) {
    let links = tree.link_counts().unwrap();
    let mut inodes: HashMap<usize, u64> = HashMap::new();
    let mut count = 0;
    tree.walk_all(|path, id| {
        count += 1;
        let inode = tree.inode(id);
        let at = folder.join(OsStr::from_bytes(path));
        let shown = path.escape_ascii();
        let data = std::fs::symlink_metadata(&at).unwrap_or_else(|error| panic!("/{shown}: {error}"));
        let kind = data.file_type();
        let device = (rustix::fs::major(data.rdev()), rustix::fs::minor(data.rdev()));
        match &inode.kind {
            Kind::Folder(names) => {
                assert!(kind.is_dir(), "/{shown} is no folder");
                let found = std::fs::read_dir(&at).unwrap().count();
                assert_eq!(found, names.len(), "names in /{shown}");
            }
            Kind::File(content) => {
                assert!(kind.is_file(), "/{shown} is no file");
                assert_eq!(data.len(), content.size, "size of /{shown}");
                assert_eq!(Content::host_file(&at).unwrap().digest, content.digest, "content of /{shown}");
            }
            Kind::Symlink(target) => {
                assert_eq!(std::fs::read_link(&at).unwrap().as_os_str().as_bytes(), target.as_ref(), "/{shown}");
            }
            Kind::CharacterDevice { major, minor } => {
                assert!(kind.is_char_device(), "/{shown}");
                assert_eq!(device, (*major, *minor), "/{shown}");
            }
            Kind::BlockDevice { major, minor } => {
                assert!(kind.is_block_device(), "/{shown}");
                assert_eq!(device, (*major, *minor), "/{shown}");
            }
            Kind::Fifo => assert!(kind.is_fifo(), "/{shown}"),
        }
        let meta = &inode.meta;
        assert_eq!((data.uid(), data.gid()), (meta.uid, meta.gid), "owner of /{shown}");
        assert_eq!(data.mtime(), meta.mtime, "time of /{shown}");
        if !kind.is_symlink() {
            assert_eq!(data.mode() & 0o7777, meta.mode, "mode of /{shown}");
        }
        if !kind.is_dir() {
            assert_eq!(data.nlink(), u64::from(links[tree.number(id)]), "links of /{shown}");
            let first = *inodes.entry(tree.number(id)).or_insert(data.ino());
            assert_eq!(data.ino(), first, "/{shown} is another file than its first name");
        }
        assert_eq!(xattrs(&at), meta.xattrs, "extended attributes of /{shown}");
        Ok(())
    })
    .unwrap();
    assert!(count > 1, "an empty tree says nothing");
}

/// The extended attributes of a file, sorted.
fn xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 64 << 10];
    let count = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found: Xattrs = names[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let count = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            (name.to_vec(), value[..count].to_vec())
        })
        .collect();
    found.sort();
    found
}
