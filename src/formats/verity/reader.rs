//! Checking a device against its tree and its root hash, from the top down, so that the first wrong block is named and
//! not one that a wrong hash above it only makes look wrong.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::format::{BLOCK, HASH, HASHES, SUPERBLOCK_SIZE, Superblock, levels};
use super::{BlockHasher, JOB_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::formats::pipeline;

/// A block whose hash is not the one above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// 0 is the level of the data's hashes; `None` is the data itself.
    pub level: Option<u32>,
    /// Number of the block in its level.
    pub block: u64,
    /// The hash that the level above has; for the top, the root hash.
    pub expected: [u8; 32],
    /// The block's hash.
    pub found: [u8; 32],
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            None => write!(f, "data block {}", self.block)?,
            Some(level) => write!(f, "block {} of level {level} of the hash tree", self.block)?,
        }
        let hex = |hash: &[u8; 32]| crate::store::Digest::from_bytes(*hash).hex();
        write!(f, " has the hash {} where {} is expected", hex(&self.found), hex(&self.expected))
    }
}

/// Reads the superblock at the present position of `hash`.
fn superblock(hash: &mut impl Read) -> Result<Superblock> {
    let mut bytes = [0; SUPERBLOCK_SIZE];
    hash.read_exact(&mut bytes).at("reading", Path::new("a dm-verity superblock"))?;
    Superblock::decode(&bytes).map_err(Error::refused)
}

/// Checks all blocks of the tree in `hash` and of the device in `data`, each from its present position on. Returns
/// what the superblock says and the first wrong block: the one highest up, there the first. Memory does not grow with
/// the device. A superblock that is none, and a device or tree that is cut off, are errors.
pub fn verify(
    data: &mut (impl Read + Send),
    hash: &mut (impl Read + Seek + Send),
    root_hash: [u8; 32],
) -> Result<(Superblock, Option<Mismatch>)> {
    let reading = Path::new("the hash tree");
    let base = hash.stream_position().at("reading", reading)?;
    let superblock = superblock(hash)?;
    let hasher = BlockHasher::new(&superblock.salt);
    let shape = levels(superblock.data_blocks);
    for (at, level) in shape.iter().enumerate().rev() {
        let above = shape.get(at + 1);
        // Both levels are read piece by piece; one job's blocks have their hashes in at most a few blocks above.
        let mut next = 0;
        let jobs = std::iter::from_fn(|| {
            let count = (level.blocks - next).min(JOB_BYTES / BLOCK);
            let first = next;
            next += count;
            (count > 0).then(|| {
                let expected = match above {
                    Some(above) => read_at(hash, base + above.start * BLOCK + first * HASH, count * HASH)?,
                    None => root_hash.to_vec(),
                };
                Ok((first, read_at(hash, base + (level.start + first) * BLOCK, count * BLOCK)?, expected))
            })
        });
        if let Some(wrong) = check(&hasher, Some(at as u32), jobs)? {
            return Ok((superblock, Some(wrong)));
        }
    }
    let mut next = 0;
    let jobs = std::iter::from_fn(|| {
        let count = (superblock.data_blocks - next).min(JOB_BYTES / BLOCK);
        let first = next;
        next += count;
        (count > 0).then(|| {
            let expected = match shape.first() {
                Some(lowest) => read_at(hash, base + lowest.start * BLOCK + first * HASH, count * HASH)?,
                None => root_hash.to_vec(),
            };
            let mut blocks = vec![0; (count * BLOCK) as usize];
            data.read_exact(&mut blocks).at("reading", Path::new("the data under the hash tree"))?;
            Ok((first, blocks, expected))
        })
    });
    let wrong = check(&hasher, None, jobs)?;
    Ok((superblock, wrong))
}

/// Number of the first block, blocks, expected hashes.
type Job = (u64, Vec<u8>, Vec<u8>);

/// Hashes blocks and finds the first wrong one.
fn check(
    hasher: &BlockHasher,
    level: Option<u32>,
    jobs: impl Iterator<Item = Result<Job>> + Send,
) -> Result<Option<Mismatch>> {
    let mut wrong = None;
    let work = |_: &mut (), job: Result<Job>| {
        let (first, blocks, expected) = job?;
        let found = hasher.blocks(&blocks);
        let hashes = found.as_chunks::<32>().0.iter().zip(expected.as_chunks::<32>().0);
        Ok((first..)
            .zip(hashes)
            .find(|(_, (found, expected))| found != expected)
            .map(|(block, (found, expected))| Mismatch { level, block, expected: *expected, found: *found }))
    };
    pipeline::run(
        jobs,
        || (),
        work,
        |mismatch| {
            wrong = wrong.take().or(mismatch);
            Ok(())
        },
    )?;
    Ok(wrong)
}

fn read_at(hash: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Vec<u8>> {
    let reading = Path::new("the hash tree");
    let mut bytes = vec![0; length as usize];
    hash.seek(SeekFrom::Start(at)).at("reading", reading)?;
    hash.read_exact(&mut bytes).at("reading", reading)?;
    Ok(bytes)
}

/// Hashes of one job stand in whole blocks, so that no job needs half a block.
const _: () = assert!((JOB_BYTES / BLOCK).is_multiple_of(HASHES));
