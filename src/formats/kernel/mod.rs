//! Kernels that unpack themselves, unpacked.
//!
//! | file | what it does |
//! |---|---|
//! | `payload.rs` | finds the compressed part |
//! | `lz4.rs` | reads LZ4's legacy frames, which no crate of ours does |
//!
//! - x86 bzImage (Linux, Documentation/arch/x86/boot.rst): the payload is an ELF vmlinux, compressed with gzip, zstd, xz or
//!   LZ4; bzip2, lzma and LZO, which no distribution uses, are refused.
//! - ARM64 Image.gz: a gzip member around an Image.
//!
//! The bytes are those that Linux's scripts/extract-vmlinux finds. Output is streamed, and at most [`LARGEST`] bytes are
//! taken. zstd and xz need a window, which is as large as the kernel at most.

mod lz4;
mod payload;

use std::io::{self, BufReader, Read, Write};

pub use payload::{Compression, Payload};

use crate::Arch;
use crate::error::{Error, Result};
use crate::rootfs::{Content, write_error};

/// Larger kernels are refused: Debian's have 30 to 70 MiB.
pub const LARGEST: u64 = 1 << 30;
/// Windows of zstd go up to what level 22 uses, as Linux's build does.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Dictionaries of xz, in KiB: Linux's build uses 32 MiB.
const XZ_MEMORY: u32 = 80 << 10;

/// Writes the unpacked kernel to `out`. False, and nothing written, if the kernel is not packed.
///
/// # Errors
/// Exit status 3 for what is no kernel, a compression that is not known here, and a payload that is damaged or of another
/// size than it says.
pub fn unpack(kernel: &Content, arch: Arch, out: &mut dyn Write) -> Result<bool> {
    let Some(payload) = Payload::find(kernel)? else { return Ok(false) };
    let Payload { offset, length, size, compression } = payload;
    let input = At { kernel, position: offset, end: offset + length };
    let input = BufReader::with_capacity(256 << 10, input);
    let mut checked = Checked { out, arch, head: Vec::new(), size: 0, limit: size.unwrap_or(LARGEST).min(LARGEST) };
    let unpacked = match compression {
        Compression::Gzip => io::copy(&mut flate2::bufread::GzDecoder::new(input), &mut checked).map(drop),
        Compression::Xz => {
            io::copy(&mut lzma_rust2::XzReader::new_mem_limit(input, false, XZ_MEMORY), &mut checked).map(drop)
        }
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(input).and_then(|decoder| {
            let mut decoder = decoder.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            io::copy(&mut decoder, &mut checked).map(drop)
        }),
        Compression::Lz4 => lz4::unpack(input, length, &mut checked),
    };
    unpacked.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => write_error(error),
        _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => write_error(error),
        _ => Error::refused(format!("the {compression} payload of the kernel is damaged: {error}")),
    })?;
    checked.finish(size)?;
    Ok(true)
}

/// A part of the kernel as a stream.
struct At<'a> {
    kernel: &'a Content,
    position: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let count = self.kernel.read_at(self.position, &mut buffer[..wanted]).map_err(io::Error::other)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Looks at what comes out on its way.
struct Checked<'a> {
    out: &'a mut dyn Write,
    arch: Arch,
    head: Vec<u8>,
    size: u64,
    limit: u64,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(io::Error::other(format!("more than {} bytes come out of it", self.limit)));
        }
        let wanted = 64_usize.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        // An error of the output is no damage of the input.
        self.out.write_all(bytes).map_err(|error| io::Error::new(error.kind(), write_error(error)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Checked<'_> {
    fn finish(self, expected: Option<u64>) -> Result<()> {
        if let Some(expected) = expected.filter(|expected| *expected != self.size) {
            let message = format!("the kernel says that it has {expected} bytes, but {} came out", self.size);
            return Err(Error::refused(message).hint("the kernel is damaged"));
        }
        let machine = |number: u16| {
            self.head.starts_with(b"\x7fELF\x02\x01") && self.head.get(18..20) == Some(&number.to_le_bytes())
        };
        let is_kernel = match self.arch {
            Arch::Amd64 => machine(62),
            Arch::Arm64 => machine(183) || self.head.get(0x38..0x3c) == Some(b"ARM\x64"),
        };
        match is_kernel {
            true => Ok(()),
            false => Err(Error::refused(format!("what is compressed in the kernel is no kernel for {}", self.arch))),
        }
    }
}
