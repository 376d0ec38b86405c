//! Compressed pieces of images that were made before, so that of an image in which little changed, little is compressed.

use std::fmt::Debug;

use crate::error::Result;
use crate::store::Digest;

/// Where pieces are kept. A piece lies under the digest of everything that its bytes depend on: what went in, and how it
/// was compressed. Used by several threads.
pub trait Pieces: Debug + Sync {
    /// Replaces `bytes` by the piece, if it is there and whole. What `bytes` has otherwise is of no meaning.
    fn get(&self, key: &Digest, bytes: &mut Vec<u8>) -> bool;

    /// Keeps a piece, whose bytes are these parts one after another.
    fn put(&self, key: &Digest, parts: &[&[u8]]) -> Result<()>;
}
