//! Compressed blocks that came from elsewhere, looked through before they are used.
//!
//! A block was read before anything is asked for it, so what came is inflated and compared byte by byte. It must be one
//! frame of the form that is written here, with nothing before or behind it, so that Linux reads what was compared. That
//! takes a tenth of the time of compressing.
//!
//! Limits: only Zstandard, which is what outputs are made of; of the others nothing is taken. It does not show that the
//! compressed bytes are the very ones that would be made here.

use super::Compression;

/// What looks through blocks, if there is anything to be looked through.
pub(super) struct Foreign {
    is_zstd: bool,
    /// Made when the first block comes.
    codec: Option<Codec>,
}

struct Codec {
    inflater: zstd::bulk::Decompressor<'static>,
    quick: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Foreign {
    pub(super) fn new(compression: Compression) -> Foreign {
        Foreign { is_zstd: matches!(compression, Compression::Zstd(_)), codec: None }
    }

    /// Whether `packed` is a block compressed; with none, whether the block does not get smaller.
    pub(super) fn is_right(&mut self, block: &[u8], packed: Option<&Vec<u8>>) -> bool {
        if !self.is_zstd {
            return false;
        }
        if self.codec.is_none() {
            let (Ok(inflater), Ok(quick)) = (zstd::bulk::Decompressor::new(), zstd::bulk::Compressor::new(1)) else {
                return false;
            };
            self.codec = Some(Codec { inflater, quick, buffer: Vec::new() });
        }
        let Some(Codec { inflater, quick, buffer }) = &mut self.codec else { return false };
        match packed {
            Some(packed) => {
                // Not shorter than the block: then room for a block is room enough.
                buffer.resize(block.len(), 0);
                packed.len() < block.len()
                    && is_plain_frame(packed)
                    && inflater.decompress_to_buffer(packed, &mut buffer[..]).is_ok_and(|count| count == block.len())
                    && buffer == block
            }
            // What the quickest level makes smaller, others do too.
            None => {
                buffer.clear();
                buffer.reserve(zstd::zstd_safe::compress_bound(block.len()));
                quick.compress_to_buffer(block, buffer).is_ok_and(|count| count >= block.len())
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

    #[test]
    fn only_one_frame_of_the_same_is_right() {
        let block: Vec<u8> = (0..60_000u32).flat_map(|n| (n / 9 % 200).to_le_bytes()).collect();
        let mut foreign = Foreign::new(Compression::default());
        let made = zstd::bulk::compress(&block, 9).unwrap();
        assert!(foreign.is_right(&block, Some(&made)));
        let mut other = block.clone();
        other[77] ^= 1;
        let skipped = b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec();
        for wrong in [
            zstd::bulk::compress(&other, 9).unwrap(),
            zstd::bulk::compress(&block[1..], 9).unwrap(),
            [made.clone(), zstd::bulk::compress(b"", 9).unwrap()].concat(),
            [made.clone(), skipped.clone()].concat(),
            [skipped, made.clone()].concat(),
            made[..made.len() - 1].to_vec(),
            [made.clone(), vec![0]].concat(),
            // A stream has a window of its own, for which the kernel has no room.
            zstd::encode_all(block.as_slice(), 19).unwrap(),
            block.clone(),
            Vec::new(),
        ] {
            assert!(!foreign.is_right(&block, Some(&wrong)));
        }
        assert!(!foreign.is_right(&block, None), "it does get smaller");
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(5000)
        .collect();
        assert!(foreign.is_right(&noise, None));
        assert!(!Foreign::new(Compression::Xz).is_right(&noise, None));
    }
}
