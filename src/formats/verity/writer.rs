//! Making a tree: the data is read once, in order; hashes of the data are written as they come, the levels above them
//! are kept (a 128th of them: 400 KiB for 6 GiB of data) and written at the end.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::format::{BLOCK, HASH, Level, SALT_LIMIT, SUPERBLOCK_SIZE, Superblock, levels};
use super::{BlockHasher, JOB_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::formats::pipeline;
use crate::rootfs::write_error;

/// Bytes of hashes that are read at once, whole blocks of them.
const HASHES_AT_ONCE: u64 = 64 * BLOCK;

/// How a tree is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// In front of each block when it is hashed; at most 256 bytes, 32 are usual.
    pub salt: Vec<u8>,
    /// The tree's identity; if there is none, the last 128 bits of the root hash, so that nothing in the superblock is
    /// without a check (and the partition of the tree goes by that name).
    pub uuid: Option<[u8; 16]>,
}

/// A tree that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// What vouches for everything below it.
    pub root_hash: [u8; 32],
    /// What the superblock says.
    pub superblock: Superblock,
    /// Bytes of superblock and tree.
    pub size: u64,
}

/// Writes superblock and tree over `size` bytes of `data`, which are whole blocks, at the present position of `out`,
/// and leaves the position at their end.
pub fn write(
    data: &mut (impl Read + Send),
    size: u64,
    out: &mut (impl Write + Seek),
    options: &Options,
) -> Result<Verity> {
    let mut tree = Tree::new(size, out, options)?;
    let hasher = tree.hasher.clone();
    let mut left = size;
    let jobs = std::iter::from_fn(|| {
        let length = left.min(JOB_BYTES);
        left -= length;
        (length > 0).then(|| read_exactly(data, length))
    });
    let single = tree.shape.is_empty();
    let work = |_: &mut (), chunk: Result<Vec<u8>>| {
        let hashes = hasher.blocks(&chunk?);
        Ok(if single { (Vec::new(), hashes) } else { with_level_above(&hasher, hashes) })
    };
    pipeline::run(jobs, || (), work, |(hashes, over)| tree.lowest(&hashes, &over))?;
    tree.finish()
}

/// The same from the hashes of the `size` bytes: those of all blocks, one after another.
pub fn write_from_hashes(
    hashes: &mut impl Read,
    size: u64,
    out: &mut (impl Write + Seek),
    options: &Options,
) -> Result<Verity> {
    let mut tree = Tree::new(size, out, options)?;
    let hasher = tree.hasher.clone();
    let mut left = size / BLOCK * HASH;
    while left > 0 {
        let length = left.min(HASHES_AT_ONCE);
        left -= length;
        let hashes = read_exactly(hashes, length)?;
        let (hashes, over) =
            if tree.shape.is_empty() { (Vec::new(), hashes) } else { with_level_above(&hasher, hashes) };
        tree.lowest(&hashes, &over)?;
    }
    tree.finish()
}

/// Hashes as whole blocks, and the hashes of these blocks.
fn with_level_above(hasher: &BlockHasher, mut hashes: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    hashes.resize(hashes.len().next_multiple_of(BLOCK as usize), 0);
    let over = hasher.blocks(&hashes);
    (hashes, over)
}

/// A tree that is being written.
struct Tree<'a, W> {
    out: &'a mut W,
    hasher: BlockHasher,
    shape: Vec<Level>,
    superblock: Superblock,
    uuid: Option<[u8; 16]>,
    /// Where the superblock goes.
    base: u64,
    /// The level that is next to be hashed: of the data, one hash for each block of the lowest level.
    above: Vec<u8>,
}

impl<'a, W: Write + Seek> Tree<'a, W> {
    fn new(size: u64, out: &'a mut W, options: &Options) -> Result<Tree<'a, W>> {
        if size == 0 || !size.is_multiple_of(BLOCK) {
            return Err(Error::failed(format!(
                "dm-verity over {size} bytes, which is not a number of blocks of {BLOCK}"
            )));
        }
        if options.salt.len() > SALT_LIMIT {
            return Err(Error::usage(format!("a salt of {} bytes; the limit is {SALT_LIMIT}", options.salt.len())));
        }
        let superblock = Superblock { uuid: [0; 16], data_blocks: size / BLOCK, salt: options.salt.clone() };
        let shape = levels(superblock.data_blocks);
        let base = out.stream_position().map_err(write_error)?;
        if let Some(lowest) = shape.first() {
            out.seek(SeekFrom::Start(base + lowest.start * BLOCK)).map_err(write_error)?;
        }
        let hasher = BlockHasher::new(&options.salt);
        Ok(Tree { out, hasher, shape, superblock, uuid: options.uuid, base, above: Vec::new() })
    }

    /// Appends blocks of hashes of the data, and takes their own hashes.
    fn lowest(&mut self, hashes: &[u8], over: &[u8]) -> Result<()> {
        self.above.extend_from_slice(over);
        self.out.write_all(hashes).map_err(write_error)
    }

    fn finish(self) -> Result<Verity> {
        let Tree { out, hasher, shape, mut superblock, uuid, base, mut above } = self;
        for level in shape.iter().skip(1) {
            above.resize(above.len().next_multiple_of(BLOCK as usize), 0);
            out.seek(SeekFrom::Start(base + level.start * BLOCK)).map_err(write_error)?;
            out.write_all(&above).map_err(write_error)?;
            above = hasher.blocks(&above);
        }
        let root_hash: [u8; 32] =
            above.as_slice().try_into().map_err(|_| Error::failed("a hash tree without a single top"))?;
        let [.., last] = root_hash.as_chunks::<16>().0 else { return Err(Error::failed("a root hash of no bytes")) };
        superblock.uuid = uuid.unwrap_or(*last);

        out.seek(SeekFrom::Start(base)).map_err(write_error)?;
        out.write_all(&superblock.encode()).map_err(write_error)?;
        out.write_all(&[0; BLOCK as usize - SUPERBLOCK_SIZE]).map_err(write_error)?;
        let size = super::format::size(superblock.data_blocks);
        out.seek(SeekFrom::Start(base + size)).map_err(write_error)?;
        Ok(Verity { root_hash, superblock, size })
    }
}

/// Reads a number of bytes, at most a job's.
pub(super) fn read_exactly(data: &mut impl Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    data.read_exact(&mut bytes).at("reading", Path::new("the data that a hash tree is for"))?;
    Ok(bytes)
}
