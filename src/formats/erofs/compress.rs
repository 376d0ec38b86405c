//! A file's bytes into physical clusters of one block each.
//!
//! Logical clusters (4096 bytes of the file) have one entry in the index each, so a cluster that starts within one has
//! to reach the next: what does not compress is stored as 4096 bytes. Compressed bytes stand at the end of their block.

use super::Compression;
use super::format::BLOCK;
use super::index::Extent;
use super::lz4::{Effort, Lz4};

/// A compressor and its tables.
#[derive(Debug)]
pub(super) struct Compressor(Lz4);

/// What was made of a file or a part of one.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// The parts of the file.
    pub extents: Vec<Extent>,
    /// Bytes of the last one, if they go behind the inode and not into a block; else 0.
    pub tail: usize,
}

impl Compressor {
    /// `None` if nothing is to be compressed.
    pub fn new(compression: Compression) -> Option<Compressor> {
        let effort = match compression {
            Compression::None => return None,
            Compression::Lz4Fast => Effort::Fast,
            Compression::Lz4 => Effort::Best,
        };
        Some(Compressor(Lz4::new(effort)))
    }

    /// Compresses a file, or a part of one that starts at a logical cluster, and appends its blocks. Its last cluster
    /// is appended to `tails` instead if `fits` allows so many bytes behind the inode.
    pub fn compress(
        &mut self,
        input: &[u8],
        fits: impl Fn(u64) -> bool,
        blocks: &mut Vec<u8>,
        tails: &mut Vec<u8>,
    ) -> Clusters {
        let block = BLOCK as usize;
        let mut made = Clusters::default();
        let mut packed = Vec::with_capacity(block);
        let mut start = 0;
        while start < input.len() {
            let left = &input[start..];
            packed.clear();
            let taken = self.0.compress(input, start, block, &mut packed);
            if taken == left.len() || left.len() <= block {
                // The end. Incompressible data of almost a block may not have been taken in full.
                let plain = taken < left.len() || packed.len() >= left.len();
                let bytes = if plain { left } else { &packed };
                if fits(bytes.len() as u64) {
                    tails.extend_from_slice(bytes);
                    made.tail = bytes.len();
                    made.extents.push(Extent { length: left.len() as u32, plain });
                    break;
                }
            }
            // What is no larger than a block takes one block either way, and is read faster as it is.
            let plain = taken <= block;
            let taken = if plain { left.len().min(block) } else { taken };
            let end = blocks.len() + block;
            if plain {
                blocks.extend_from_slice(&left[..taken]);
                blocks.resize(end, 0);
            } else {
                blocks.resize(end - packed.len(), 0);
                blocks.extend_from_slice(&packed);
            }
            made.extents.push(Extent { length: taken as u32, plain });
            start += taken;
        }
        self.0.next_input(input.len());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::erofs::lz4;

    #[test]
    fn clusters_read_back() {
        let text: Vec<u8> = (0..30_000u32).flat_map(|n| format!("line {}\n", n % 1000).into_bytes()).collect();
        let mixed = [&text[..50_000], &(0..20_000u32).map(|n| ((n * n) >> 5) as u8).collect::<Vec<_>>()[..]].concat();
        for compression in [Compression::Lz4Fast, Compression::Lz4] {
            let mut compressor = Compressor::new(compression).unwrap();
            for (input, room) in [(&text, 0), (&text, 4000), (&mixed, 0), (&mixed, 4000), (&text[..100].to_vec(), 4000)]
            {
                let (mut blocks, mut tails) = (Vec::new(), Vec::new());
                let made = compressor.compress(input, |size| size <= room, &mut blocks, &mut tails);
                assert!(made.tail == tails.len() && made.tail as u64 <= room);
                let mut back = Vec::new();
                let mut stored = blocks.chunks(4096);
                for extent in &made.extents {
                    assert!(
                        back.len() % 4096 + extent.length as usize >= 4096 || extent == made.extents.last().unwrap()
                    );
                    let bytes = stored.next().unwrap_or(&tails);
                    let length = extent.length as usize;
                    if extent.plain {
                        back.extend_from_slice(&bytes[..length]);
                    } else {
                        let first = bytes.iter().position(|b| *b != 0).unwrap();
                        back.extend(lz4::decompress(&bytes[first..], length).unwrap());
                    }
                }
                assert!(&back == input);
            }
        }
    }
}
