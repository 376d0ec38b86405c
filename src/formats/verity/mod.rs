//! dm-verity hash trees: each block of a read-only device has a hash in a tree whose top is one root hash.
//!
//! Not supported: other algorithms than SHA-256, other block sizes than 4096, format 0 (Chromium OS), forward error
//! correction, trees without a superblock.
//!
//! ```text
//! block 0        superblock, as veritysetup(8) writes it
//! block 1        the top level: one block of hashes
//! then           the levels below it, down to the hashes of the data blocks
//! ```
//!
//! A hash is SHA-256 of the salt and a block (format 1, "normal", of the kernel's device-mapper/verity.rst). A block
//! holds 128 of them, the rest is zeros. A device of one block has no tree: the root hash is the hash of that block.

pub mod format;
mod hashes;
mod reader;
mod writer;

pub use format::Superblock;
pub use hashes::Hashes;
pub use reader::{Mismatch, verify};
pub use writer::{Options, Verity, write, write_from_hashes};

use sha2::{Digest as _, Sha256};

/// Bytes that one job hashes.
const JOB_BYTES: u64 = 256 * format::BLOCK;

/// Hashes blocks with a salt in front of each.
#[derive(Clone, Debug)]
pub struct BlockHasher(Sha256);

impl BlockHasher {
    /// A hasher with a salt.
    pub fn new(salt: &[u8]) -> BlockHasher {
        BlockHasher(Sha256::new().chain_update(salt))
    }

    /// The hash of a block.
    pub fn block(&self, block: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(block).finalize().into()
    }

    /// The hashes of several whole blocks, one after the other.
    pub fn blocks(&self, blocks: &[u8]) -> Vec<u8> {
        blocks.chunks_exact(format::BLOCK as usize).flat_map(|block| self.block(block)).collect()
    }
}
