//! dm-verity: the superblock of a hash tree, and the table line for the kernel.
//!
//! The superblock comes from the disk and is not signed. Nothing in it is trusted: with a wrong algorithm, salt, block
//! size or number of blocks the tree does not lead to the root hash, which comes from the kernel command line. What the
//! root hash does not cover is compared with what moby writes, so that no byte can be changed without being seen.
//!
//! Not supported: superblock versions other than 1, hash type 0 (Chromium OS), error correction, SHA-1.

use std::fmt::Write;
use std::fs::File;
use std::path::Path;

use crate::bytes::{hex, slice, text, u16_at, u32_at, u64_at, uuid};
use crate::device_mapper::Mapping;
use crate::devices::read_at;
use crate::error::{Doing, Failure, Result};
use crate::options::Corruption;
use crate::source::RootHash;
use crate::sys;

/// Bytes of the superblock (cryptsetup, docs/on-disk-format of verity).
const SUPERBLOCK: usize = 512;

/// The kernel takes block sizes up to the size of a memory page; 64 KiB is the largest there is.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// A signature of the root hash, for kernels that check one (CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG).
const SIGNATURE: &str = "/roothash.p7s";
const MOST_SIGNATURE: u64 = 64 << 10;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Text of its UUID.
    pub uuid: Option<String>,
    /// The kernel's name of the digest.
    pub algorithm: &'static str,
    /// Bytes of a block of data.
    pub data_block: u32,
    /// Bytes of a block of hashes.
    pub hash_block: u32,
    /// Blocks of data.
    pub blocks: u64,
    /// Goes into every digest.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Reads a superblock. `Err` says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, String> {
        let cut_off = || "is cut off".to_owned();
        let number = |at| u32_at(bytes, at).ok_or_else(cut_off);
        if slice(bytes, 0, 8).ok_or_else(cut_off)? != b"verity\0\0" {
            return Err("is not there (no \"verity\" at its start)".to_owned());
        }
        let (version, kind) = (number(8)?, number(12)?);
        if (version, kind) != (1, 1) {
            return Err(format!("has version {version} and hash type {kind}; only 1 and 1 are supported"));
        }
        let name = slice(bytes, 32, 32).ok_or_else(cut_off)?;
        let algorithm = ["sha256", "sha384", "sha512"].into_iter().find(|known| padded(name, known.as_bytes()));
        let algorithm = algorithm.ok_or_else(|| {
            format!("names the digest {:?}; sha256, sha384 and sha512 are supported", text(name).unwrap_or_default())
        })?;
        let (data_block, hash_block) = (number(64)?, number(68)?);
        for size in [data_block, hash_block] {
            if !size.is_power_of_two() || !BLOCK_SIZES.contains(&size) {
                return Err(format!("has blocks of {size} bytes"));
            }
        }
        let blocks = u64_at(bytes, 72).ok_or_else(cut_off)?;
        if blocks == 0 || blocks.checked_mul(data_block.into()).is_none_or(|size| size > i64::MAX as u64) {
            return Err(format!("tells of {blocks} blocks of data"));
        }
        let length = u16_at(bytes, 80).ok_or_else(cut_off)?;
        let field = slice(bytes, 88, 256).ok_or_else(cut_off)?;
        let salt = field.get(..length.into()).ok_or_else(|| format!("has a salt of {length} bytes"))?;
        let uuid = uuid(slice(bytes, 16, 16).ok_or_else(cut_off)?);
        Ok(Superblock { uuid, algorithm, data_block, hash_block, blocks, salt: salt.to_vec() })
    }

    /// Whether the block that the superblock stands in is what moby writes: the UUID is the last 128 bits of the root
    /// hash, and what is not used is zero. Nothing is read by these bytes; see the module's text.
    pub fn check_unused(&self, block: &[u8], hash: &RootHash) -> Result<(), String> {
        if self.uuid != hash.last_uuid() {
            let uuid = self.uuid.as_deref().unwrap_or("zero");
            return Err(format!("has the UUID {uuid}, not the last 128 bits of the root hash"));
        }
        let used = 88 + self.salt.len();
        let zero = |from: usize, to: usize| block.get(from..to).is_some_and(|part| part.iter().all(|byte| *byte == 0));
        match zero(82, 88) && zero(used, block.len()) {
            true => Ok(()),
            false => Err("has bytes that are not zero where nothing is stored".to_owned()),
        }
    }

    /// Blocks of hashes, without the superblock's. `digest` is in bytes.
    pub fn tree_blocks(&self, digest: usize) -> u64 {
        // The kernel puts a power of two of digests into a block.
        let fits = (self.hash_block as usize / digest.next_power_of_two()).max(2) as u64;
        let (mut level, mut all) = (self.blocks, 0_u64);
        while level > 1 {
            level = level.div_ceil(fits);
            all = all.saturating_add(level);
        }
        // One block of data still has a block of hashes above it.
        all.max(1)
    }

    fn digest_length(&self) -> usize {
        match self.algorithm {
            "sha256" => 32,
            "sha384" => 48,
            _ => 64,
        }
    }
}

/// Where the parts of a verified root are.
#[derive(Debug)]
pub struct Parts<'p> {
    /// The device of the data.
    pub data: &'p Path,
    /// The device of the hash tree.
    pub tree: &'p Path,
    /// The byte of the superblock in the tree's device.
    pub offset: u64,
    /// What the tree must lead to.
    pub hash: &'p RootHash,
    /// Pass over what does not matter.
    pub lenient: bool,
    /// What the kernel does when a block is wrong.
    pub on_corruption: Corruption,
}

impl Parts<'_> {
    /// Makes the verified device and gives its node. Everything that is read from it is checked by the kernel.
    pub fn open(&self) -> Result<std::path::PathBuf> {
        let wrong = |what: String| {
            Failure::new(format!("the hash tree's superblock (byte {} of {}) {what}", self.offset, self.tree.display()))
        };
        let file = File::open(self.tree).at("opening", self.tree)?;
        let size_of = |path: &Path| {
            use std::io::{Seek, SeekFrom};
            File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).at("asking for the size of", path)
        };
        let (data_size, tree_size) = (size_of(self.data)?, size_of(self.tree)?);
        let head =
            read_at(&file, self.offset, SUPERBLOCK).at("reading the superblock of the hash tree from", self.tree)?;
        let superblock = Superblock::parse(&head).map_err(wrong)?;
        if superblock.digest_length() != self.hash.length() {
            let (name, length) = (superblock.algorithm, self.hash.length());
            return Err(wrong(format!("names {name}, but roothash= has {length} bytes")));
        }
        let block = u64::from(superblock.hash_block);
        if !self.offset.is_multiple_of(block) {
            return Err(wrong(format!("is not at a multiple of its block size, {block} bytes")));
        }
        if !self.lenient {
            let whole = read_at(&file, self.offset, superblock.hash_block as usize)
                .at("reading the superblock of the hash tree from", self.tree)?;
            superblock.check_unused(&whole, self.hash).map_err(|what| {
                wrong(format!("{what}: it was changed, or moby did not write it (then: moby.root.hash.lenient)"))
            })?;
        }
        let data_bytes = superblock.blocks.saturating_mul(superblock.data_block.into());
        if data_bytes > data_size {
            let place = self.data.display();
            return Err(wrong(format!("tells of {data_bytes} bytes of data, but {place} has {data_size}")));
        }
        let first = self.offset / block + 1;
        let needed = first.saturating_add(superblock.tree_blocks(self.hash.length())).saturating_mul(block);
        if needed > tree_size {
            return Err(wrong(format!("stands for a tree that ends at byte {needed}, beyond the end, {tree_size}")));
        }
        let signature = self.signature()?;
        let identifier = superblock.uuid.as_deref().unwrap_or_default().replace('-', "");
        Mapping {
            name: "root",
            // As libcryptsetup names them: its tools then know what this is.
            uuid: &format!("CRYPT-VERITY-{identifier}-root"),
            target: "verity",
            parameters: &self.table(&superblock, first, signature),
            sectors: data_bytes / 512,
        }
        .create()
        .map_err(|failure| {
            let known = std::fs::metadata("/sys/module/dm_verity").is_ok();
            match known {
                true => failure,
                false => Failure::new(format!(
                    "{failure}: dm-verity (CONFIG_DM_VERITY) is neither in the kernel nor in this initramfs"
                )),
            }
        })
    }

    /// The line of parameters (kernel: admin-guide/device-mapper/verity).
    fn table(&self, superblock: &Superblock, first: u64, signature: Option<&str>) -> String {
        let salt = match superblock.salt.as_slice() {
            [] => "-".to_owned(),
            salt => hex(salt),
        };
        let mut options = Vec::new();
        match self.on_corruption {
            Corruption::Panic => options.push("panic_on_corruption"),
            Corruption::Restart => options.push("restart_on_corruption"),
            Corruption::Error => {}
        }
        if let Some(key) = signature {
            options.extend(["root_hash_sig_key_desc", key]);
        }
        let mut line = format!(
            "1 {} {} {} {} {} {first} {} {} {salt}",
            self.data.display(),
            self.tree.display(),
            superblock.data_block,
            superblock.hash_block,
            superblock.blocks,
            superblock.algorithm,
            self.hash.digits()
        );
        if !options.is_empty() {
            let _ = write!(line, " {} {}", options.len(), options.join(" "));
        }
        line
    }

    /// Hands the signature to the kernel, if this initramfs carries one. Gives the key's name.
    fn signature(&self) -> Result<Option<&'static str>> {
        const KEY: &std::ffi::CStr = c"moby:roothash";
        let path = Path::new(SIGNATURE);
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        if metadata.len() > MOST_SIGNATURE {
            return Err(Failure::new(format!("{SIGNATURE} has {} bytes: that is no signature", metadata.len())));
        }
        let signature = std::fs::read(path).at("reading", path)?;
        sys::add_user_key(KEY, &signature).doing("handing the root hash's signature to the kernel")?;
        Ok(KEY.to_str().ok())
    }
}

/// Whether `field` is `value` and zeros after it.
fn padded(field: &[u8], value: &[u8]) -> bool {
    field.strip_prefix(value).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    fn sample() -> Vec<u8> {
        let mut block = vec![0; 4096];
        block[..6].copy_from_slice(b"verity");
        block[8] = 1;
        block[12] = 1;
        block[16..32].copy_from_slice(&crate::bytes::from_hex(&HASH[32..]).unwrap());
        block[32..38].copy_from_slice(b"sha256");
        block[65] = 16;
        block[69] = 16;
        block[72..74].copy_from_slice(&[0x10, 0x27]);
        block[80] = 32;
        block[88..120].fill(0xab);
        block
    }

    #[test]
    fn reads() {
        let block = sample();
        let superblock = Superblock::parse(&block[..512]).unwrap();
        assert_eq!((superblock.algorithm, superblock.data_block, superblock.hash_block), ("sha256", 4096, 4096));
        assert_eq!((superblock.blocks, superblock.salt.len()), (10_000, 32));
        // 79 + 1: as veritysetup makes for 10,000 blocks.
        assert_eq!(superblock.tree_blocks(32), 80);
        superblock.check_unused(&block, &RootHash::parse(HASH).unwrap()).unwrap();
    }

    #[test]
    fn a_changed_byte_is_refused_or_changes_the_table() {
        let hash = RootHash::parse(HASH).unwrap();
        let good = Superblock::parse(&sample()).unwrap();
        for at in 0..4096 {
            for bit in [1, 0x80] {
                let mut block = sample();
                block[at] ^= bit;
                let Ok(superblock) = Superblock::parse(&block) else { continue };
                if superblock.check_unused(&block, &hash).is_ok() {
                    assert_ne!(superblock, good, "byte {at} can be changed");
                }
            }
        }
    }

    #[test]
    fn absurd_values() {
        let set = |at: usize, bytes: &[u8]| {
            let mut block = sample();
            block[at..at + bytes.len()].copy_from_slice(bytes);
            Superblock::parse(&block)
        };
        assert!(set(64, &[0; 4]).is_err());
        assert!(set(64, &3_u32.to_le_bytes()).is_err());
        assert!(set(68, &(1_u32 << 31).to_le_bytes()).is_err());
        assert!(set(72, &[0; 8]).is_err());
        assert!(set(72, &[0xff; 8]).is_err());
        assert!(set(80, &[0xff; 2]).is_err());
        assert!(set(80, &256_u16.to_le_bytes()).is_ok());
        assert!(set(32, b"sha1\0\0").is_err());
        assert!(set(32, &[b'a'; 32]).is_err());
        for length in 0..344 {
            assert!(Superblock::parse(&sample()[..length]).is_err());
        }
        let most = set(72, &(u64::MAX >> 14).to_le_bytes()).unwrap();
        assert!(most.tree_blocks(32) > 1 << 40);
    }

    #[test]
    fn table_line() {
        let hash = RootHash::parse(HASH).unwrap();
        let mut superblock = Superblock::parse(&sample()).unwrap();
        superblock.salt = vec![1, 2];
        let mut parts = Parts {
            data: Path::new("/dev/a"),
            tree: Path::new("/dev/b"),
            offset: 0,
            hash: &hash,
            lenient: false,
            on_corruption: Corruption::Panic,
        };
        let line = format!("1 /dev/a /dev/b 4096 4096 10000 1 sha256 {HASH} 0102");
        assert_eq!(parts.table(&superblock, 1, None), format!("{line} 1 panic_on_corruption"));
        parts.on_corruption = Corruption::Error;
        assert_eq!(parts.table(&superblock, 1, None), line);
        assert_eq!(parts.table(&superblock, 1, Some("k")), format!("{line} 2 root_hash_sig_key_desc k"));
        superblock.salt.clear();
        assert!(parts.table(&superblock, 1, None).ends_with(" -"));
    }
}
