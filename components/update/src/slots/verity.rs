//! dm-verity (format 1, SHA-256): how large a tree is, and whether data and tree lead to a root hash. Nothing else
//! vouches for a root, so nothing of the superblock is believed beyond where to look.

use sha2::{Digest, Sha256};

use super::bytes::{slice, u16_at, u32_at, u64_at};
use super::device::{Device, bytes_at};
use super::failure::{Doing, Failure, Result};

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;
const HASHES_IN_BLOCK: u64 = BLOCK / 32;
/// Blocks that are read at once.
const BATCH: u64 = 256;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Blocks of data.
    pub blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Reads the superblock at `tree`, byte of `device`.
    pub fn read(device: &dyn Device, tree: u64) -> Result<Superblock> {
        let wrong = |what: &str| Failure::refused(format!("the superblock of the hash tree {what}"));
        let bytes = bytes_at(device, tree, BLOCK as usize).doing("reading the superblock of the hash tree")?;
        if slice(&bytes, 0, 8) != Some(b"verity\0\0") {
            return Err(wrong("is not there"));
        }
        let sizes = (u32_at(&bytes, 64), u32_at(&bytes, 68));
        if (u32_at(&bytes, 8), u32_at(&bytes, 12)) != (Some(1), Some(1))
            || slice(&bytes, 32, 7) != Some(b"sha256\0")
            || sizes != (Some(BLOCK as u32), Some(BLOCK as u32))
        {
            return Err(wrong("is not of format 1 with SHA-256 and blocks of 4096 bytes"));
        }
        let blocks = u64_at(&bytes, 72).unwrap_or_default();
        let salt = u16_at(&bytes, 80).and_then(|length| slice(bytes.get(88..344)?, 0, length.into()));
        match salt {
            Some(salt) if blocks > 0 && blocks <= 1 << 40 => Ok(Superblock { blocks, salt: salt.to_vec() }),
            _ => Err(wrong("has impossible numbers")),
        }
    }

    /// Bytes of the data.
    pub fn data_size(&self) -> u64 {
        self.blocks * BLOCK
    }

    /// Bytes of superblock and tree.
    pub fn tree_size(&self) -> u64 {
        (1 + self.levels().iter().sum::<u64>()) * BLOCK
    }

    /// Blocks of each level of the tree, the one over the data first.
    fn levels(&self) -> Vec<u64> {
        let mut levels = vec![self.blocks.div_ceil(HASHES_IN_BLOCK)];
        while let Some(&last) = levels.last()
            && last > 1
        {
            levels.push(last.div_ceil(HASHES_IN_BLOCK));
        }
        levels
    }

    /// Reads all of data and tree, at these bytes of the device, and compares with the root hash.
    pub fn check(&self, device: &dyn Device, data: u64, tree: u64, root_hash: &[u8; 32]) -> Result<()> {
        let wrong = |what: String| Failure::refused(format!("{what} does not lead to the root hash"));
        // In the file the top level comes first.
        let levels = self.levels();
        let mut end = tree + self.tree_size();
        let mut places = Vec::new();
        for blocks in &levels {
            end -= blocks * BLOCK;
            places.push(end);
        }
        let (mut from, mut blocks) = (data, self.blocks);
        for (level, &hashes) in places.iter().enumerate() {
            if let Some(block) = self.first_wrong(device, from, blocks, hashes)? {
                return Err(wrong(match level {
                    0 => format!("block {block} of the root"),
                    _ => format!("block {block} of level {level} of the hash tree"),
                }));
            }
            (from, blocks) = (hashes, levels.get(level).copied().unwrap_or(1));
        }
        let top = bytes_at(device, from, BLOCK as usize).doing("reading the hash tree")?;
        match self.hash(&top) == *root_hash {
            true => Ok(()),
            false => Err(wrong("the top of the hash tree".to_owned())),
        }
    }

    /// The first of `blocks` blocks at `from` whose hash is not what the blocks at `hashes` say.
    fn first_wrong(&self, device: &dyn Device, from: u64, blocks: u64, hashes: u64) -> Result<Option<u64>> {
        let mut done = 0;
        while done < blocks {
            let count = BATCH.min(blocks - done);
            // BATCH is a multiple of the hashes of a block, so that this starts at one.
            let expected =
                bytes_at(device, hashes + done * 32, (count * 32) as usize).doing("reading the hash tree")?;
            let bytes = bytes_at(device, from + done * BLOCK, (count * BLOCK) as usize).doing("reading the root")?;
            let pairs = bytes.chunks(BLOCK as usize).zip(expected.chunks(32));
            if let Some(at) = pairs.into_iter().position(|(block, hash)| self.hash(block) != *hash) {
                return Ok(Some(done + at as u64));
            }
            done += count;
        }
        Ok(None)
    }

    fn hash(&self, block: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(&self.salt);
        hasher.update(block);
        hasher.finalize().into()
    }
}
