//! One digest for a whole tree: equal trees give equal outputs.

use std::collections::HashMap;

use super::tree::{InodeId, Kind, Tree};
use crate::error::Result;
use crate::store::{Digest, Hasher};

impl Tree {
    /// The digest of every name, its kind, owner, mode, time, attributes, content and origin, and of which names are the
    /// same file. Contents enter by their digests, so this takes about a microsecond an entry.
    pub fn digest(&self) -> Result<Digest> {
        let mut hasher = Hasher::new();
        let mut seen: HashMap<InodeId, u64> = HashMap::new();
        self.walk_all(|path, id| {
            hasher.field(path);
            let count = seen.len() as u64;
            let number = *seen.entry(id).or_insert(count);
            hasher.update(&number.to_le_bytes());
            if number != count {
                return Ok(());
            }
            let inode = self.inode(id);
            let meta = &inode.meta;
            for value in [meta.mode, meta.uid, meta.gid] {
                hasher.update(&value.to_le_bytes());
            }
            hasher.update(&meta.mtime.to_le_bytes());
            hasher.update(&(meta.xattrs.len() as u64).to_le_bytes());
            for (name, value) in &meta.xattrs {
                hasher.field(name);
                hasher.field(value);
            }
            let device = |hasher: &mut Hasher, kind: &[u8], major: u32, minor: u32| {
                hasher.field(kind);
                hasher.update(&major.to_le_bytes());
                hasher.update(&minor.to_le_bytes());
            };
            match &inode.kind {
                Kind::Folder(_) => hasher.field(b"folder"),
                Kind::File(content) => {
                    hasher.field(b"file");
                    hasher.update(&content.size.to_le_bytes());
                    hasher.update(content.digest.as_bytes());
                }
                Kind::Symlink(target) => {
                    hasher.field(b"symlink");
                    hasher.field(target);
                }
                Kind::CharacterDevice { major, minor } => device(&mut hasher, b"character", *major, *minor),
                Kind::BlockDevice { major, minor } => device(&mut hasher, b"block", *major, *minor),
                Kind::Fifo => hasher.field(b"fifo"),
            }
            let origin = self.origin(inode.origin);
            hasher.field(origin.source.as_bytes());
            hasher.field(origin.location.as_bytes());
            Ok(())
        })?;
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Inode, Meta, Origin};
    use super::*;
    use crate::rootfs::Content;

    fn tree(change: impl FnOnce(&mut Inode)) -> Tree {
        let mut tree = Tree::new(7);
        let origin = tree.add_origin(Origin { source: "a".into(), location: "init[0]".into() });
        let mut inode = Inode { meta: Meta::root(0o644, 7), kind: Kind::File(Content::bytes(*b"x")), origin };
        change(&mut inode);
        tree.insert(b"etc/one", inode, &Meta::root(0o755, 7)).unwrap();
        tree
    }

    #[test]
    fn every_field_counts() {
        let plain = tree(|_| {}).digest().unwrap();
        assert_eq!(plain, tree(|_| {}).digest().unwrap());
        let changes: [fn(&mut Inode); 7] = [
            |inode| inode.meta.mode = 0o600,
            |inode| inode.meta.uid = 1,
            |inode| inode.meta.gid = 1,
            |inode| inode.meta.mtime = 8,
            |inode| inode.meta.xattrs.push((b"user.a".to_vec(), Vec::new())),
            |inode| inode.kind = Kind::File(Content::bytes(*b"y")),
            |inode| inode.kind = Kind::Symlink(b"x".as_slice().into()),
        ];
        let digests: std::collections::BTreeSet<_> =
            changes.into_iter().map(|change| tree(change).digest().unwrap()).chain([plain]).collect();
        assert_eq!(digests.len(), 8);
    }

    #[test]
    fn a_hard_link_is_not_a_copy() {
        let missing = Meta::root(0o755, 7);
        let (mut linked, mut copied) = (tree(|_| {}), tree(|_| {}));
        let id = linked.lookup(b"etc/one").unwrap();
        let inode = linked.inode(id).clone();
        linked.link(b"etc/two", b"etc/one", &missing, inode.origin).unwrap();
        copied.insert(b"etc/two", inode, &missing).unwrap();
        assert_ne!(linked.digest().unwrap(), copied.digest().unwrap());
    }
}
