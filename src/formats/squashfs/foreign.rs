//! Compressed blocks that came from elsewhere, looked through before they are used.
//!
//! A block was read before anything is asked for it, so what came is inflated and compared byte by byte. It must be one
//! frame of the form that is written here, with nothing before or behind it, so that Linux reads what was compared. That
//! takes a tenth of the time of compressing.
//!
//! Limits: it does not show that the compressed bytes are the very ones that would be made here.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::XzReader;
use zstd::bulk::{Compressor, Decompressor};

use super::Compression;
use super::compression::Encoder;
use crate::formats::compress::xz;

/// What looks through blocks.
pub(super) struct Foreign {
    compression: Compression,
    block_size: u32,
    /// Made when the first block comes.
    codec: Option<Codec>,
}

struct Codec {
    inflater: Inflater,
    quick: Compressor<'static>,
    buffer: Vec<u8>,
}

enum Inflater {
    Gzip(Decompress),
    Xz { dictionary: u32 },
    Zstd(Decompressor<'static>),
}

impl Foreign {
    pub(super) fn new(compression: Compression, block_size: u32) -> Foreign {
        Foreign { compression, block_size, codec: None }
    }

    /// Whether `packed` is a block compressed; with none, whether the block does not get smaller, for which `encoder` is
    /// asked at last.
    pub(super) fn is_right(&mut self, block: &[u8], packed: Option<&Vec<u8>>, encoder: &mut Encoder) -> bool {
        if self.codec.is_none() {
            self.codec = Codec::new(self.compression, self.block_size);
        }
        let Some(Codec { inflater, quick, buffer }) = &mut self.codec else { return false };
        match packed {
            Some(packed) => {
                // Not shorter than the block: then room for a block is room enough.
                buffer.resize(block.len(), 0);
                packed.len() < block.len() && inflater.fills(packed, buffer) && buffer == block
            }
            // What Zstandard's quickest level makes no smaller, nothing does; what it does make smaller is tried, for others
            // have larger frames and shorter windows.
            None => {
                buffer.clear();
                buffer.reserve(zstd::zstd_safe::compress_bound(block.len()));
                quick.compress_to_buffer(block, buffer).is_ok_and(|count| count >= block.len())
                    || encoder.encode(block, buffer).is_ok_and(|smaller| !smaller)
            }
        }
    }
}

impl Codec {
    fn new(compression: Compression, block_size: u32) -> Option<Codec> {
        let inflater = match compression {
            Compression::None => return None,
            Compression::Gzip(_) => Inflater::Gzip(Decompress::new(true)),
            Compression::Xz => Inflater::Xz { dictionary: block_size },
            Compression::Zstd(_) => Inflater::Zstd(Decompressor::new().ok()?),
        };
        Some(Codec { inflater, quick: Compressor::new(1).ok()?, buffer: Vec::new() })
    }
}

impl Inflater {
    /// Whether `packed` is one frame of the form that is written here, and inflates to as many bytes as `out` has.
    fn fills(&mut self, packed: &[u8], out: &mut [u8]) -> bool {
        match self {
            Inflater::Gzip(state) => {
                state.reset(true);
                // A window of 32 KiB and no dictionary (RFC 1950, section 2.2).
                matches!(packed, [0x78, flags, ..] if flags & 0x20 == 0)
                    && matches!(state.decompress(packed, out, FlushDecompress::Finish), Ok(Status::StreamEnd))
                    && state.total_in() == packed.len() as u64
                    && state.total_out() == out.len() as u64
            }
            Inflater::Xz { dictionary } => {
                let mut reader = XzReader::new(packed, false);
                xz::is_plain_bytes(*dictionary, packed)
                    && reader.read_exact(out).is_ok()
                    && matches!(reader.read(&mut [0]), Ok(0))
                    && reader.into_inner().is_empty()
            }
            Inflater::Zstd(state) => {
                is_plain_frame(packed) && state.decompress_to_buffer(packed, out).is_ok_and(|count| count == out.len())
            }
        }
    }
}

/// Whether this is one frame with its size in front and room for no more (RFC 8878, section 3.1.1.1.1): a single segment,
/// no checksum, no dictionary.
fn is_plain_frame(packed: &[u8]) -> bool {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let (Some((magic, rest)), Ok(length)) =
        (packed.split_first_chunk::<4>(), zstd::zstd_safe::find_frame_compressed_size(packed))
    else {
        return false;
    };
    *magic == MAGIC
        && rest.first().is_some_and(|descriptor| descriptor & 0b0010_1111 == 0b0010_0000)
        && length == packed.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 256 << 10;

    fn noise() -> Vec<u8> {
        let mut state = 1u64;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        bytes.take(5000).collect()
    }

    #[test]
    fn only_one_frame_of_the_same_is_right() {
        let block: Vec<u8> = (0..60_000u32).flat_map(|n| (n / 9 % 200).to_le_bytes()).collect();
        let mut other = block.clone();
        other[77] ^= 1;
        for compression in [Compression::default(), Compression::GZIP, Compression::Xz] {
            let packed = |block: &[u8], size: u32| {
                let mut out = Vec::new();
                Encoder::new(compression, size as usize).unwrap().encode(block, &mut out).unwrap();
                out
            };
            let mut foreign = Foreign::new(compression, BLOCK);
            let encoder = &mut Encoder::new(compression, BLOCK as usize).unwrap();
            let made = packed(&block, BLOCK);
            assert!(foreign.is_right(&block, Some(&made), encoder), "{compression}");
            let skipped = b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec();
            let mut wrong = vec![
                packed(&other, BLOCK),
                packed(&block[1..], BLOCK),
                [made.clone(), made.clone()].concat(),
                [made.clone(), skipped.clone()].concat(),
                [skipped, made.clone()].concat(),
                made[..made.len() - 1].to_vec(),
                [made.clone(), vec![0]].concat(),
                block.clone(),
                Vec::new(),
            ];
            match compression {
                // A stream has a window of its own, for which the kernel has no room.
                Compression::Zstd(_) => wrong.push(zstd::encode_all(block.as_slice(), 19).unwrap()),
                Compression::Xz => wrong.push(packed(&block, 2 * BLOCK)),
                _ => {}
            }
            for (number, wrong) in wrong.into_iter().enumerate() {
                assert!(!foreign.is_right(&block, Some(&wrong), encoder), "{compression} {number}");
            }
            assert!(!foreign.is_right(&block, None, encoder), "it does get smaller");
            assert!(foreign.is_right(&noise(), None, encoder));
        }
        // What only Zstandard makes smaller: xz has frames of more bytes than this.
        let short = b"so short, so short, so short, so short, so short, so short".to_vec();
        for (compression, is_smaller) in [(Compression::default(), true), (Compression::Xz, false)] {
            let mut out = Vec::new();
            let encoder = &mut Encoder::new(compression, BLOCK as usize).unwrap();
            assert_eq!(encoder.encode(&short, &mut out).unwrap(), is_smaller, "{compression}");
            assert_eq!(Foreign::new(compression, BLOCK).is_right(&short, None, encoder), !is_smaller, "{compression}");
        }
        let encoder = &mut Encoder::new(Compression::None, BLOCK as usize).unwrap();
        assert!(!Foreign::new(Compression::None, BLOCK).is_right(&noise(), None, encoder));
    }
}
