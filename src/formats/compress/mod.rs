//! Framing of compressed output: one whole frame or member per call, the same bytes for the same input.

mod gzip;
pub mod xz;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

pub use gzip::Gzip;
use lzma_rust2::XzWriter;
use zstd::zstd_safe::CParameter;

use crate::error::Error;

/// How output is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Not at all.
    None,
    /// gzip at a level from 1 to 9. For kernels before 5.9, which know no zstd.
    Gzip(u32),
    /// Zstandard at a level from 1 to 19.
    Zstd(i32),
    /// xz with a preset from 0 to 9. Small, and slow to make; the kernel needs CONFIG_RD_XZ.
    Xz(u32),
}

/// Level 3 makes an initrd of Debian's modules 10 % larger; level 15 makes it 3 % smaller and takes seven times as long.
const ZSTD_LEVEL: i32 = 9;
/// What the gzip program uses.
const GZIP_LEVEL: u32 = 6;
/// The kernel's decoder of initramfs frames takes windows of up to 8 MiB (lib/decompress_unzstd.c). Of 2 MiB, and with
/// smaller tables than the levels' own, a thread at level 9 needs 6 MiB instead of 23, and 78 % of the time, for 1.3 %
/// more bytes of Debian's modules; at level 19 it needs 18 MiB instead of 85, for 0.3 % more bytes.
pub const ZSTD_WINDOW_LOG: u32 = 21;
/// What the xz program uses.
const XZ_PRESET: u32 = 6;
/// Levels from here on find matches by a hash table that is as large as memory allows.
const ZSTD_HASH_LEVEL: i32 = 5;
/// Levels from here on find matches by a tree beside it.
const ZSTD_TREE_LEVEL: i32 = 13;

/// What all threads that compress may use together, in bytes: with the rest of a build it stays below 64 MiB.
const MEMORY: usize = 40 << 20;

impl Default for Method {
    fn default() -> Method {
        Method::Zstd(ZSTD_LEVEL)
    }
}

impl Method {
    /// Which code compresses. Two versions may give different bytes for the same content and level.
    pub fn version(self) -> String {
        match self {
            Method::None => String::new(),
            // The libraries do not say which one they are; each version of this program has one of each.
            Method::Gzip(_) | Method::Xz(_) => concat!("moby ", env!("CARGO_PKG_VERSION")).to_owned(),
            Method::Zstd(_) => format!("zstd {}", zstd::zstd_safe::version_string()),
        }
    }

    /// How many threads may compress at once on a machine with `threads` of them, so that memory stays bounded.
    pub fn threads(self, threads: usize) -> usize {
        // Measured, with the buffers around a compressor and what the C library keeps of those before it.
        let each = match self {
            Method::None | Method::Gzip(_) => 2 << 20,
            Method::Zstd(..ZSTD_TREE_LEVEL) => 10 << 20,
            Method::Zstd(_) | Method::Xz(_) => 20 << 20,
        };
        threads.clamp(1, MEMORY / each)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::None => f.write_str("none"),
            Method::Gzip(level) => write!(f, "gzip:{level}"),
            Method::Zstd(level) => write!(f, "zstd:{level}"),
            Method::Xz(preset) => write!(f, "xz:{preset}"),
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Method, Error> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let bad = || {
            Error::usage(format!("unknown compression \"{text}\""))
                .hint("compressions are none, gzip[:1-9], xz[:0-9] and zstd[:1-19]")
        };
        let level_in = |range: std::ops::RangeInclusive<i32>, default: i32| match level {
            None => Ok(default),
            Some(level) => level.parse().ok().filter(|level| range.contains(level)).ok_or_else(bad),
        };
        match name {
            "none" if level.is_none() => Ok(Method::None),
            "gzip" => Ok(Method::Gzip(level_in(1..=9, GZIP_LEVEL as i32)?.unsigned_abs())),
            "xz" => Ok(Method::Xz(level_in(0..=9, XZ_PRESET as i32)?.unsigned_abs())),
            "zstd" => Ok(Method::Zstd(level_in(1..=19, ZSTD_LEVEL)?)),
            _ => Err(bad()),
        }
    }
}

/// A compressor over a writer. [`Compressor::finish`] ends the frame.
pub enum Compressor<W: Write> {
    /// Passes bytes through.
    None(W),
    /// One gzip member, its time and name fields empty.
    Gzip(flate2::write::GzEncoder<W>),
    /// One zstd frame with a checksum.
    Zstd(zstd::stream::write::Encoder<'static, W>),
    /// One xz stream of one block.
    Xz(Box<XzWriter<W>>),
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compressor::None(_) => "Compressor::None",
            Compressor::Gzip(_) => "Compressor::Gzip",
            Compressor::Zstd(_) => "Compressor::Zstd",
            Compressor::Xz(_) => "Compressor::Xz",
        })
    }
}

impl<W: Write> Compressor<W> {
    /// Starts a frame in `out`.
    pub fn new(out: W, method: Method) -> io::Result<Compressor<W>> {
        Ok(match method {
            Method::None => Compressor::None(out),
            // GzBuilder leaves the time zero; the operating system field is fixed so that it says the same everywhere.
            Method::Gzip(level) => Compressor::Gzip(
                flate2::GzBuilder::new().operating_system(255).write(out, flate2::Compression::new(level)),
            ),
            Method::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                if level >= ZSTD_TREE_LEVEL {
                    encoder.set_parameter(CParameter::HashLog(20))?;
                    encoder.set_parameter(CParameter::ChainLog(21))?;
                } else if level >= ZSTD_HASH_LEVEL {
                    encoder.set_parameter(CParameter::HashLog(19))?;
                }
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
            Method::Xz(preset) => Compressor::Xz(Box::new(xz::writer(out, preset)?)),
        })
    }

    /// Ends the frame and hands the output back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressor::None(out) => Ok(out),
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
            Compressor::Xz(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::None(out) => out.write(bytes),
            Compressor::Gzip(encoder) => encoder.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
            Compressor::Xz(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Compressor::None(out) => out.flush(),
            Compressor::Gzip(encoder) => encoder.flush(),
            Compressor::Zstd(encoder) => encoder.flush(),
            Compressor::Xz(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn methods_read_and_print() {
        for text in ["none", "gzip:1", "gzip:9", "xz:0", "xz:9", "zstd:1", "zstd:19"] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse::<Method>().unwrap(), Method::default());
        for text in ["", "none:1", "gzip:0", "gzip:10", "zstd:20", "zstd:-5", "xz:10", "lzma"] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }

    #[test]
    fn memory_bounds_the_threads() {
        assert_eq!(Method::default().threads(2), 2);
        assert_eq!(Method::default().threads(64), 4);
        assert_eq!(Method::Zstd(19).threads(64), 2);
        assert_eq!(Method::None.threads(0), 1);
    }

    #[test]
    fn frames_are_whole() {
        for method in [Method::None, Method::Gzip(6), Method::Zstd(3), Method::Xz(6)] {
            let mut compressor = Compressor::new(Vec::new(), method).unwrap();
            compressor.write_all(&[7; 100_000]).unwrap();
            let bytes = compressor.finish().unwrap();
            let mut back = Vec::new();
            crate::store::decompress(bytes.as_slice()).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(back, [7; 100_000]);
        }
    }
}
