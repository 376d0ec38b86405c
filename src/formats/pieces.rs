//! Compressed pieces of images that were made before, so that of an image in which little changed, little is compressed.

use std::fmt::Debug;

use crate::error::Result;
use crate::rootfs::OriginId;
use crate::store::Digest;

/// What there is of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The piece, as it was made here.
    Whole,
    /// What somebody else says is the piece. It is used when it was looked through, and then kept by
    /// [`Pieces::accept`]; else [`Pieces::refuse`] is told.
    Foreign,
}

/// Where pieces are kept. A piece lies under the digest of everything that its bytes depend on: what went in, and how it
/// was compressed. `origin` is that of the first file in it: pieces that came from one place are likely to be wanted
/// together. Used by several threads.
pub trait Pieces: Debug + Sync {
    /// Replaces `bytes` by the piece, if it is there. What `bytes` has otherwise is of no meaning.
    fn get(&self, key: &Digest, origin: OriginId, bytes: &mut Vec<u8>) -> Found;

    /// Keeps a piece that was made now, whose bytes are these parts one after another.
    fn put(&self, key: &Digest, origin: OriginId, parts: &[&[u8]]) -> Result<()>;

    /// Keeps a piece that came from elsewhere and was looked through.
    fn accept(&self, key: &Digest, origin: OriginId, parts: &[&[u8]]) -> Result<()> {
        self.put(key, origin, parts)
    }

    /// Takes note that a piece from elsewhere is not what it should be.
    fn refuse(&self, _origin: OriginId) {}
}
