//! The superblock and the shape of the tree. Numbers are little-endian.

/// Bytes of a data block and of a hash block.
pub const BLOCK: u64 = 4096;
/// Bytes of a hash.
pub const HASH: u64 = 32;
/// Hashes in a block.
pub const HASHES: u64 = BLOCK / HASH;
/// Longest salt.
pub const SALT_LIMIT: usize = 256;
/// Bytes of the superblock; the rest of its block is zeros.
pub const SUPERBLOCK_SIZE: usize = 512;
/// The most data blocks that are read here: 2^51 of them are 8 EiB.
const DATA_BLOCKS_LIMIT: u64 = 1 << 51;

const SIGNATURE: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const HASH_TYPE: u32 = 1;
const ALGORITHM: &[u8] = b"sha256";

/// What the kernel is told of a tree, besides the root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Identity.
    pub uuid: [u8; 16],
    /// Number of data blocks.
    pub data_blocks: u64,
    /// In front of each block when it is hashed.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// The superblock's bytes.
    pub fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut out = [0; SUPERBLOCK_SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, SIGNATURE);
        put(8, &VERSION.to_le_bytes());
        put(12, &HASH_TYPE.to_le_bytes());
        put(16, &self.uuid);
        put(32, ALGORITHM);
        put(64, &(BLOCK as u32).to_le_bytes());
        put(68, &(BLOCK as u32).to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        let salt = &self.salt[..self.salt.len().min(SALT_LIMIT)];
        put(80, &(salt.len() as u16).to_le_bytes());
        put(88, salt);
        out
    }

    /// Reads a superblock. `Err` says what is wrong.
    pub fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Superblock, String> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if &bytes[..8] != SIGNATURE {
            return Err("there is no dm-verity superblock".into());
        }
        if (number(8), number(12)) != (VERSION, HASH_TYPE) {
            return Err(format!("version {} and hash type {}; only 1 and 1 are read here", number(8), number(12)));
        }
        let algorithm = bytes[32..64].split(|b| *b == 0).next().unwrap_or_default();
        if algorithm != ALGORITHM {
            return Err(format!("the algorithm is {}; only sha256 is read here", algorithm.escape_ascii()));
        }
        if (u64::from(number(64)), u64::from(number(68))) != (BLOCK, BLOCK) {
            return Err(format!("blocks of {} and {} bytes; only 4096 are read here", number(64), number(68)));
        }
        let data_blocks = u64::from(number(72)) | u64::from(number(76)) << 32;
        if data_blocks == 0 || data_blocks > DATA_BLOCKS_LIMIT {
            return Err(format!("{data_blocks} data blocks"));
        }
        let salt_size = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let salt = bytes.get(88..88 + salt_size).filter(|_| salt_size <= SALT_LIMIT);
        let salt = salt.ok_or_else(|| format!("a salt of {salt_size} bytes; the limit is {SALT_LIMIT}"))?.to_vec();
        Ok(Superblock { uuid: std::array::from_fn(|at| bytes[16 + at]), data_blocks, salt })
    }
}

/// A level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// First block, counted from the superblock's.
    pub start: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// The levels of the tree over `data_blocks` blocks, from the one that holds the hashes of the data to the top.
pub fn levels(data_blocks: u64) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(HASHES);
        levels.push(Level { start: 0, blocks: below });
    }
    let mut start = 1;
    for level in levels.iter_mut().rev() {
        level.start = start;
        start += level.blocks;
    }
    levels
}

/// Bytes of the superblock and the tree over `data_blocks` blocks.
pub fn size(data_blocks: u64) -> u64 {
    (1 + levels(data_blocks).iter().map(|level| level.blocks).sum::<u64>()) * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(levels(1), []);
        assert_eq!(levels(2), [Level { start: 1, blocks: 1 }]);
        assert_eq!(levels(128), [Level { start: 1, blocks: 1 }]);
        assert_eq!(levels(129), [Level { start: 2, blocks: 2 }, Level { start: 1, blocks: 1 }]);
        assert_eq!(
            levels(16385).iter().map(|level| (level.start, level.blocks)).collect::<Vec<_>>(),
            [(4, 129), (2, 2), (1, 1)]
        );
        assert_eq!((size(1), size(2), size(16385)), (4096, 8192, 133 * 4096));
    }

    #[test]
    fn superblocks_read_back() {
        let superblock = Superblock { uuid: *b"0123456789abcdef", data_blocks: 1 << 33, salt: vec![7; 32] };
        let good = superblock.encode();
        assert_eq!(Superblock::decode(&good).unwrap(), superblock);
        for (at, value) in [(0, b'x'), (8, 2), (12, 0), (32, b'S'), (65, 2), (79, 255), (81, 2)] {
            let mut bad = good;
            bad[at] = value;
            assert!(Superblock::decode(&bad).is_err(), "byte {at}");
        }
    }
}
