//! Hashes of the blocks of a device, taken while the device is written: reading it again for its tree would cost as much
//! as reading all that it was made from.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};

use super::format::{BLOCK, HASH};
use super::{BlockHasher, Options, Verity, write_from_hashes};
use crate::error::{Error, Result};
use crate::rootfs::write_error;

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// The hashes of a device's blocks in their order, in a file: 32 bytes for each 4096.
#[derive(Debug)]
pub struct Hashes {
    hasher: BlockHasher,
    options: Options,
    file: BufWriter<File>,
    count: u64,
}

impl Hashes {
    /// None yet. `file` is empty.
    pub fn new(file: File, options: Options) -> Hashes {
        let hasher = BlockHasher::new(&options.salt);
        Hashes { hasher, options, file: BufWriter::with_capacity(BUFFER, file), count: 0 }
    }

    /// What makes them.
    pub fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// Adds those of the next blocks.
    pub fn append(&mut self, hashes: &[u8]) -> Result<()> {
        self.count += hashes.len() as u64 / HASH;
        self.file.write_all(hashes).map_err(write_error)
    }

    /// Replaces those of the first blocks, which were written again.
    pub fn replace_first(&mut self, hashes: &[u8]) -> Result<()> {
        let replace = |file: &mut BufWriter<File>| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(hashes)?;
            file.seek(SeekFrom::End(0)).map(drop)
        };
        replace(&mut self.file).map_err(write_error)
    }

    /// Writes superblock and tree at the present position of `out`, and leaves the position at their end.
    pub fn finish(self, out: &mut (impl Write + Seek)) -> Result<Verity> {
        let mut file = self.file.into_inner().map_err(|error| write_error(error.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(write_error)?;
        let length = file.metadata().map_err(write_error)?.len();
        if length != self.count * HASH {
            return Err(Error::failed(format!("{length} bytes of hashes where {} blocks have theirs", self.count)));
        }
        write_from_hashes(&mut BufReader::with_capacity(BUFFER, file), self.count * BLOCK, out, &self.options)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_tree_is_that_of_the_data() {
        let options = Options { salt: vec![3; 32], uuid: None };
        for blocks in [1, 2, 128, 129, 700, 16_385] {
            let mut data = vec![0; blocks * BLOCK as usize];
            for (number, block) in data.chunks_mut(BLOCK as usize).enumerate() {
                block[..8].copy_from_slice(&(number as u64 + 7).to_le_bytes());
            }
            let mut hashes = Hashes::new(tempfile::tempfile().unwrap(), options.clone());
            // The first two blocks are written once more at the end.
            let taken = hashes.hasher().blocks(&vec![0; blocks.min(2) * BLOCK as usize]);
            hashes.append(&taken).unwrap();
            for chunk in data[blocks.min(2) * BLOCK as usize..].chunks(37 * BLOCK as usize) {
                let taken = hashes.hasher().blocks(chunk);
                hashes.append(&taken).unwrap();
            }
            let first = hashes.hasher().blocks(&data[..blocks.min(2) * BLOCK as usize]);
            hashes.replace_first(&first).unwrap();
            let (mut ours, mut expected) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
            let made = hashes.finish(&mut ours).unwrap();
            let size = data.len() as u64;
            assert_eq!(made, super::super::write(&mut data.as_slice(), size, &mut expected, &options).unwrap());
            assert!(ours == expected, "{blocks}");
        }
        assert!(Hashes::new(tempfile::tempfile().unwrap(), options).finish(&mut Cursor::new(Vec::new())).is_err());
    }
}
