//! What every tree of Debian packages starts with.

use crate::Arch;
use crate::rootfs::{Inode, Kind, Meta, Tree};

/// The merged `/usr` (UsrMerge): `bin`, `sbin` and `lib` at the top are links into it, and `lib64` for amd64, whose
/// programs name their loader `/lib64/ld-linux-x86-64.so.2`. Packages of bookworm and before have files on both
/// sides of the links; they meet below `/usr`.
pub fn skeleton(arch: Arch, time: i64) -> Tree {
    let mut tree = Tree::new(time);
    let origin = tree.inode(tree.root()).origin;
    let names: &[&str] = match arch {
        Arch::Amd64 => &["bin", "sbin", "lib", "lib64"],
        Arch::Arm64 => &["bin", "sbin", "lib"],
    };
    let missing = Meta::root(0o755, time);
    for name in names {
        let path = format!("usr/{name}");
        // Neither can fail: there is nothing yet that could be in the way.
        let folder = Inode { meta: missing.clone(), kind: Kind::folder(), origin };
        let _ = tree.insert(path.as_bytes(), folder, &missing);
        let link = Inode { meta: Meta::root(0o777, time), kind: Kind::Symlink(path.into_bytes().into()), origin };
        let _ = tree.insert(name.as_bytes(), link, &missing);
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_level_folders_are_links() {
        for (arch, lib64) in [(Arch::Amd64, true), (Arch::Arm64, false)] {
            let tree = skeleton(arch, 7);
            assert_eq!(tree.resolve(b"lib"), tree.lookup(b"usr/lib"));
            assert_eq!(tree.lookup(b"usr/lib64").is_some(), lib64);
            assert_eq!(tree.resolve(b"lib64").is_some(), lib64);
            let usr = tree.inode(tree.lookup(b"usr").unwrap());
            assert_eq!((usr.meta.mode, usr.meta.mtime), (0o755, 7));
        }
    }
}
