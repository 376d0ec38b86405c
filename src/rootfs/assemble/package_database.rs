//! The package databases of several Alpine images on one root: the last would overwrite the others, so they are
//! joined.

use crate::error::Result;
use crate::rootfs::{Content, Inode, Kind, Meta, OriginId, Tree};

const DATABASE: &[u8] = b"lib/apk/db/installed";
/// Alpine's database of a full desktop has 3 MiB.
const LIMIT: u64 = 64 << 20;

/// The databases met so far.
#[derive(Debug, Default)]
pub struct Databases {
    count: usize,
    joined: Vec<u8>,
}

impl Databases {
    /// Takes the database of an image, if it has one.
    pub fn collect(&mut self, tree: &Tree) -> Result<()> {
        if let Some(id) = tree.resolve(DATABASE)
            && let Kind::File(content) = &tree.inode(id).kind
        {
            self.count += 1;
            self.joined.extend_from_slice(&content.read(LIMIT)?);
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
