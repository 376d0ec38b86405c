//! Compression of single blocks, and the other way round.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use lzma_rust2::{XzOptions, XzReader, XzWriter};

use crate::error::Error;
use crate::formats::compress::{Method, xz};

/// How blocks are compressed. A block that would not become smaller is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib at a level from 1 to 9. Every kernel with squashfs reads it.
    Gzip(u32),
    /// xz with the preset 6 and a dictionary of one block.
    Xz,
    /// Zstandard at a level from 1 to 22; kernels from 4.14 on.
    Zstd(i32),
}

/// On a root of 489 MB in blocks of 256 KiB: 161 MB in 10 s of processors. mksquashfs's level 15 makes 155 MB in
/// blocks of 128 KiB and takes 50 s; level 9 makes 156 MB of blocks of 1 MiB, and 167 MB of blocks of 128 KiB.
const ZSTD_LEVEL: i32 = 9;
/// zlib-rs's level 6 makes images 3 % larger than zlib's; at level 9 they are 0.1 % smaller, in a third of the time.
const GZIP_LEVEL: u32 = 9;
/// The lowest level with Huffman codes of a block's own, which looks for repetitions close by.
const GZIP_QUICK_LEVEL: u32 = 2;
/// The levels that mksquashfs writes down nowhere.
const MKSQUASHFS_ZSTD_LEVEL: i32 = 15;
const MKSQUASHFS_GZIP_LEVEL: u32 = 9;
const XZ_PRESET: u32 = 6;

impl Default for Compression {
    /// Zstandard at level 9.
    fn default() -> Compression {
        Compression::Zstd(ZSTD_LEVEL)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Gzip(level) => write!(f, "gzip:{level}"),
            Compression::Xz => f.write_str("xz"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Compression, Error> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let bad = || {
            Error::usage(format!("unknown compression \"{text}\""))
                .hint("compressions of squashfs are none, gzip[:1-9], xz and zstd[:1-22]")
        };
        let level_in = |last: u32, default: u32| match level {
            None => Ok(default),
            Some(level) => level.parse().ok().filter(|level| (1..=last).contains(level)).ok_or_else(bad),
        };
        match name {
            "none" if level.is_none() => Ok(Compression::None),
            "xz" if level.is_none() => Ok(Compression::Xz),
            "gzip" => Ok(Compression::Gzip(level_in(9, GZIP_LEVEL)?)),
            "zstd" => Ok(Compression::Zstd(level_in(22, ZSTD_LEVEL as u32)?.cast_signed())),
            _ => Err(bad()),
        }
    }
}

impl Compression {
    /// zlib at the level that images are made with, which is mksquashfs's too.
    pub const GZIP: Compression = Compression::Gzip(GZIP_LEVEL);

    /// Which code compresses. Two versions may give different bytes for the same content and level.
    pub(super) fn version(self) -> String {
        match self {
            Compression::Zstd(level) => Method::Zstd(level).version(),
            // The libraries do not say which one they are; each version of this program has one of each.
            Compression::None | Compression::Gzip(_) | Compression::Xz => {
                concat!("moby ", env!("CARGO_PKG_VERSION")).to_owned()
            }
        }
    }

    /// The compressor's number in the superblock. Uncompressed images say gzip, as mksquashfs's do: there is no number
    /// for them.
    pub(super) fn number(self) -> u16 {
        match self {
            Compression::None | Compression::Gzip(_) => 1,
            Compression::Xz => 4,
            Compression::Zstd(_) => 6,
        }
    }

    /// The options that stand behind the superblock if they are not mksquashfs's defaults. Readers need none of them.
    pub(super) fn options(self) -> Option<Vec<u8>> {
        match self {
            // Level, window size as a logarithm, strategies.
            Compression::Gzip(level) if level != MKSQUASHFS_GZIP_LEVEL => {
                Some([&level.to_le_bytes()[..], &15u16.to_le_bytes(), &0u16.to_le_bytes()].concat())
            }
            Compression::Zstd(level) if level != MKSQUASHFS_ZSTD_LEVEL => Some(level.to_le_bytes().to_vec()),
            _ => None,
        }
    }
}

/// Compresses blocks one after another.
pub(super) enum Encoder {
    None,
    Gzip {
        state: Compress,
        /// For levels that take much longer than it.
        quick: Option<Compress>,
    },
    Xz(XzOptions),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    /// An encoder for blocks of at most `block_size` bytes.
    pub(super) fn new(compression: Compression, block_size: usize) -> io::Result<Encoder> {
        Ok(match compression {
            Compression::None => Encoder::None,
            Compression::Gzip(level) => Encoder::Gzip {
                state: Compress::new(flate2::Compression::new(level), true),
                quick: (level > GZIP_QUICK_LEVEL)
                    .then(|| Compress::new(flate2::Compression::new(GZIP_QUICK_LEVEL), true)),
            },
            Compression::Xz => {
                // The kernel's decoder has a dictionary of one block (fs/squashfs/xz_wrapper.c).
                Encoder::Xz(xz::options(XZ_PRESET, block_size as u32))
            }
            Compression::Zstd(level) => Encoder::Zstd(zstd::bulk::Compressor::new(level)?),
        })
    }

    /// Bytes that an encoder takes once it has seen a block. zstd says so itself: its tables depend on the level and
    /// the block size in a way that no short formula follows.
    pub(super) fn memory(compression: Compression, block_size: usize) -> io::Result<usize> {
        let mut encoder = Encoder::new(compression, block_size)?;
        Ok(match &mut encoder {
            Encoder::None => 0,
            // Measured with zlib-rs 0.6.
            Encoder::Gzip { .. } => 800 << 10,
            // lzma-rust2's estimate is in KiB.
            Encoder::Xz(options) => (options.lzma_options.get_memory_usage() as usize) << 10,
            Encoder::Zstd(state) => {
                let out = &mut Vec::with_capacity(zstd::zstd_safe::compress_bound(block_size));
                state.compress_to_buffer(&vec![0; block_size], out)?;
                state.context_mut().sizeof()
            }
        })
    }

    /// Compresses a block into `out`, whose content is replaced. Returns whether it became smaller; if not, `out` is
    /// of no use.
    pub(super) fn encode(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        out.clear();
        match self {
            Encoder::None => return Ok(false),
            Encoder::Gzip { state, quick } => {
                if let Some(quick) = quick
                    && is_even(block)
                    && !deflate(quick, block, out)?
                {
                    return Ok(false);
                }
                if !deflate(state, block, out)? {
                    return Ok(false);
                }
            }
            Encoder::Xz(options) => {
                let mut writer = XzWriter::new(&mut *out, options.clone())?;
                writer.write_all(block)?;
                writer.finish()?;
            }
            Encoder::Zstd(state) => {
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                state.compress_to_buffer(block, out)?;
            }
        }
        Ok(out.len() < block.len())
    }
}

/// Replaces `out` by a zlib stream of a block. Returns whether it fits into as many bytes as the block has.
fn deflate(state: &mut Compress, block: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    out.clear();
    out.reserve(block.len());
    state.reset();
    let status = state.compress_vec(block, out, FlushCompress::Finish).map_err(io::Error::other)?;
    Ok(status == Status::StreamEnd && out.len() < block.len())
}

/// Whether all bytes are about as frequent, so that only repetitions could make a block smaller: encrypted, compressed. Level
/// 9 takes longest of all on such blocks, and in the end stores nearly all of them. What a quick level makes no smaller is
/// stored at once, which saves a sixth of the time of a root that is half noise; a block with few and far repetitions is
/// lost to it.
fn is_even(block: &[u8]) -> bool {
    // Four tables: one would wait for itself at runs of the same byte.
    let mut counts = [[0u32; 256]; 4];
    for four in block.chunks(4) {
        for (table, byte) in counts.iter_mut().zip(four) {
            table[usize::from(*byte)] += 1;
        }
    }
    let count = |byte: usize| counts.iter().map(|table| u64::from(table[byte])).sum::<u64>();
    let squares: u64 = (0..256).map(|byte| count(byte).pow(2)).sum();
    let length = block.len() as u64;
    // Noise has n²/256 and n; a 256th more would be 0.3 % of the bytes for a Huffman code.
    squares <= length * length / 256 * 257 / 256 + 2 * length
}

/// Decompresses blocks one after another.
pub(super) enum Decoder {
    Gzip(Decompress),
    Xz,
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decoder::Gzip(_) => "Decoder::Gzip",
            Decoder::Xz => "Decoder::Xz",
            Decoder::Zstd(_) => "Decoder::Zstd",
        })
    }
}

/// KiB that an xz decoder may ask for: a dictionary of the largest block, and its own state.
const XZ_MEMORY: u32 = 2 << 10;

impl Decoder {
    /// A decoder for the compressor with this number. `None` if it is not known here.
    pub(super) fn new(number: u16) -> io::Result<Option<Decoder>> {
        Ok(match number {
            1 => Some(Decoder::Gzip(Decompress::new(true))),
            4 => Some(Decoder::Xz),
            6 => Some(Decoder::Zstd(zstd::bulk::Decompressor::new()?)),
            _ => None,
        })
    }

    /// Decompresses a block of at most `limit` bytes into `out`, whose content is replaced.
    pub(super) fn decode(&mut self, block: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        out.reserve(limit);
        match self {
            Decoder::Gzip(state) => {
                state.reset(true);
                // The vector may have more room than was asked for.
                let mut buffer = std::mem::take(out);
                buffer.resize(limit, 0);
                let status = state.decompress(block, &mut buffer, FlushDecompress::Finish).map_err(io::Error::other)?;
                if status != Status::StreamEnd {
                    return Err(io::Error::other("the zlib stream does not end with its block"));
                }
                buffer.truncate(usize::try_from(state.total_out()).unwrap_or(limit));
                *out = buffer;
            }
            Decoder::Xz => {
                let reader = XzReader::new_mem_limit(block, false, XZ_MEMORY);
                reader.take(limit as u64 + 1).read_to_end(out)?;
            }
            Decoder::Zstd(state) => {
                let mut buffer = std::mem::take(out);
                buffer.resize(limit, 0);
                let count = state.decompress_to_buffer(block, &mut buffer[..])?;
                buffer.truncate(count);
                *out = buffer;
            }
        }
        if out.len() > limit { Err(io::Error::other("more than a block after decompression")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print() {
        for text in ["none", "gzip:1", "xz", "zstd:22"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap(), Compression::default());
        for text in ["", "none:1", "xz:6", "gzip:0", "gzip:10", "zstd:23", "zstd:-1", "lzo"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_come_back_and_noise_does_not_grow() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|i| (i / 7 % 251).to_le_bytes()).collect();
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(5000)
        .collect();
        for compression in [Compression::Gzip(6), Compression::Xz, Compression::Zstd(9), Compression::None] {
            let mut encoder = Encoder::new(compression, 128 << 10).unwrap();
            let mut decoder = Decoder::new(compression.number()).unwrap().unwrap();
            let (mut out, mut back) = (Vec::new(), Vec::new());
            assert!(!encoder.encode(&noise, &mut out).unwrap());
            assert_eq!(encoder.encode(&text, &mut out).unwrap(), compression != Compression::None);
            if compression == Compression::None {
                continue;
            }
            assert!(!encoder.encode(b"x", &mut Vec::new()).unwrap());
            decoder.decode(&out, text.len(), &mut back).unwrap();
            assert!(back == text, "{compression}");
            assert!(decoder.decode(&out, text.len() - 1, &mut back).is_err(), "{compression}");
            assert!(decoder.decode(&out[..out.len() / 2], text.len(), &mut back).is_err(), "{compression}");
        }
    }
}
