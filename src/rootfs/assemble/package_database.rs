//! The package databases of several Alpine images on one root: the last would overwrite the others, so they are
//! joined.

use crate::error::{Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta, OriginId, Tree};

const DATABASE: &[u8] = b"lib/apk/db/installed";
/// Bytes of all databases together, which are in memory until they are joined. Alpine's of a full desktop has 3 MiB.
const LIMIT: u64 = 24 << 20;

/// The databases met so far.
#[derive(Debug, Default)]
pub struct Databases {
    count: usize,
    joined: Vec<u8>,
}

impl Databases {
    /// Takes the database of an image, if it has one.
    ///
    /// # Errors
    /// Exit status 3 if all of them together are too large.
    pub fn collect(&mut self, tree: &Tree) -> Result<()> {
        self.collect_within(LIMIT, tree)
    }

    fn collect_within(&mut self, limit: u64, tree: &Tree) -> Result<()> {
        if let Some(id) = tree.resolve(DATABASE)
            && let Kind::File(content) = &tree.inode(id).kind
        {
            self.count += 1;
            let left = limit.saturating_sub(self.joined.len() as u64);
            if content.size > left {
                return Err(Error::refused(format!(
                    "/{} has {} bytes; those of all images of `init` together have more than {limit}",
                    DATABASE.escape_ascii(),
                    content.size
                ))
                .hint("Alpine's package databases are joined; remove that file from one of the images"));
            }
            self.joined.extend_from_slice(&content.read(left)?);
            self.joined.extend_from_slice(b"\n\n");
        }
        Ok(())
    }

    /// Puts the joined database in place if there were several, with LinuxKit's mode and time.
    pub fn merge(self, tree: &mut Tree, origin: OriginId) -> Result<()> {
        if self.count < 2 {
            return Ok(());
        }
        let inode = Inode { meta: Meta::root(0o644, 0), kind: Kind::File(Content::bytes(self.joined)), origin };
        tree.insert(DATABASE, inode, &Meta::root(0o755, 0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Origin;

    #[test]
    fn all_databases_share_one_limit() {
        let mut tree = Tree::new(0);
        let origin = tree.add_origin(Origin { source: "s".into(), location: "l".into() });
        let kind = Kind::File(Content::bytes(vec![b'x'; 100]));
        let folder = Meta::root(0o755, 0);
        tree.insert(DATABASE, Inode { meta: Meta::root(0o644, 0), kind, origin }, &folder).unwrap();
        let mut databases = Databases::default();
        // Two line ends follow each.
        databases.collect_within(202, &tree).unwrap();
        databases.collect_within(202, &tree).unwrap();
        let error = databases.collect_within(250, &tree).unwrap_err();
        assert!(error.message().contains("/lib/apk/db/installed has 100 bytes"), "{error}");
        databases.merge(&mut tree, origin).unwrap();
        let Kind::File(joined) = &tree.inode(tree.resolve(DATABASE).unwrap()).kind else { panic!("no file") };
        assert_eq!(joined.size, 204);
    }
}
