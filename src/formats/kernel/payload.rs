//! Where the compressed part of a kernel lies.

use std::fmt;

use super::LARGEST;
use crate::error::{Error, Result};
use crate::rootfs::Content;

/// Bytes that are read: the setup header ends at 0x268.
const HEAD: usize = 0x268;
/// The first version of the boot protocol that says where the payload is.
const PAYLOAD_VERSION: u16 = 0x0208;
const SECTOR: u64 = 512;
/// The size of the kernel, behind the payload.
const TRAILER: u64 = 4;

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One gzip member (RFC 1952).
    Gzip,
    /// A Zstandard frame (RFC 8878).
    Zstd,
    /// An xz stream, with the filter for x86.
    Xz,
    /// LZ4's legacy frame.
    Lz4,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Lz4 => "LZ4",
        })
    }
}

/// The compressed part of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Where it begins in the kernel's file.
    pub offset: u64,
    /// Its bytes, without the size that follows.
    pub length: u64,
    /// Bytes that come out of it; absent if they are not said.
    pub size: Option<u64>,
    /// How it is compressed.
    pub compression: Compression,
}

impl Payload {
    /// Finds the payload. Nothing for a kernel that is not compressed: an ARM64 Image, an ELF vmlinux.
    pub fn find(kernel: &Content) -> Result<Option<Payload>> {
        let mut head = [0; HEAD];
        let count = kernel.read_at(0, &mut head)?;
        let head = head.get(..count).unwrap_or_default();
        if head.starts_with(&[0x1f, 0x8b]) {
            return Payload::new(kernel, 0, kernel.size).map(Some);
        }
        if head.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && head.get(0x202..0x206) == Some(b"HdrS") {
            return Payload::of_bzimage(kernel, head).map(Some);
        }
        if head.starts_with(b"\x7fELF") || head.get(0x38..0x3c) == Some(b"ARM\x64") {
            return Ok(None);
        }
        Err(Error::refused("the kernel is neither a bzImage, nor an ARM64 Image, nor an ELF vmlinux, nor one in gzip"))
    }

    /// Linux, Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1, `version` at 0x206, `payload_offset` (from the
    /// end of the setup code) at 0x248, `payload_length` at 0x24c; all little-endian.
    fn of_bzimage(kernel: &Content, head: &[u8]) -> Result<Payload> {
        let cut = || Error::refused("the kernel's setup header is cut off");
        let version = u16::from_le_bytes(part(head, 0x206).ok_or_else(cut)?);
        if version < PAYLOAD_VERSION {
            let (major, minor) = (version >> 8, version & 0xff);
            return Err(Error::refused(format!(
                "a bzImage of boot protocol {major}.{minor}, which does not say where its payload is"
            ))
            .hint("kernels from 2.6.26 on say it"));
        }
        let [sectors] = part(head, 0x1f1).ok_or_else(cut)?;
        // Zero stands for four, from times when the field was not there.
        let sectors = if sectors == 0 { 4 } else { u64::from(sectors) };
        let offset = u64::from(u32::from_le_bytes(part(head, 0x248).ok_or_else(cut)?));
        let length = u64::from(u32::from_le_bytes(part(head, 0x24c).ok_or_else(cut)?));
        Payload::new(kernel, (sectors + 1) * SECTOR + offset, length)
    }

    fn new(kernel: &Content, offset: u64, length: u64) -> Result<Payload> {
        if length <= TRAILER || offset.checked_add(length).is_none_or(|end| end > kernel.size) {
            return Err(Error::refused(format!(
                "the kernel says that {length} compressed bytes begin at {offset}, but it has {}",
                kernel.size
            )));
        }
        let mut magic = [0; 6];
        kernel.read_at(offset, &mut magic)?;
        let compression = match magic {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Compression::Xz,
            [0x02, 0x21, 0x4c, 0x18, ..] => Compression::Lz4,
            other => {
                let name = match other {
                    [b'B', b'Z', b'h', ..] => "bzip2",
                    [0x5d, 0, 0, ..] => "lzma",
                    [0x89, b'L', b'Z', b'O', ..] => "LZO",
                    _ => "nothing that is known",
                };
                return Err(Error::refused(format!("the kernel is compressed with {name}"))
                    .hint("gzip, zstd, xz and LZ4 are unpacked here; leave --decompress-kernel away"));
            }
        };
        let mut size = [0; TRAILER as usize];
        kernel.read_at(offset + length - TRAILER, &mut size)?;
        let size = u64::from(u32::from_le_bytes(size));
        if size > LARGEST {
            return Err(Error::refused(format!(
                "the kernel says that it has {size} bytes; at most {LARGEST} are taken"
            )));
        }
        // gzip has the size in its own last bytes, for the others Linux's build puts it behind.
        let length = if compression == Compression::Gzip { length } else { length - TRAILER };
        Ok(Payload { offset, length, size: Some(size), compression })
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::unpack;
    use super::*;
    use crate::Arch;
    use std::io::Write;

    /// What is compressed in a kernel: an ELF header and something that compresses.
    fn vmlinux() -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(18, 0);
        bytes.extend_from_slice(&62u16.to_le_bytes());
        for number in 0..3_000_000u32 {
            bytes.extend_from_slice(&(number.wrapping_mul(0x9e37_79b9) >> 20).to_le_bytes());
        }
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A compressor of the machine, as Linux's build calls it.
    fn with_program(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let input = std::fs::File::open(file.path()).unwrap();
        let output = std::process::Command::new(program).args(arguments).stdin(input).output().unwrap();
        assert!(output.status.success(), "{program}");
        let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [output.stdout.as_slice(), &size].concat()
    }

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 3 * 512];
        bytes[0x1f1] = 1;
        bytes[0x1fe..0x206].copy_from_slice(b"\x55\xaa\0\0HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        bytes[0x248..0x24c].copy_from_slice(&512u32.to_le_bytes());
        bytes[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        [&bytes, payload, b"what follows"].concat()
    }

    fn unpacked(kernel: Vec<u8>, arch: Arch) -> Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        unpack(&Content::bytes(kernel), arch, &mut out).map(|packed| packed.then_some(out))
    }

    #[test]
    fn every_compression_comes_out() {
        let vmlinux = vmlinux();
        let mut payloads = vec![gzip(&vmlinux)];
        for (program, arguments) in [
            ("zstd", &["-q", "-3", "-c"][..]),
            ("xz", &["--check=crc32", "--x86", "--lzma2=dict=32MiB,preset=1", "-c"]),
            ("lz4", &["-l", "-9", "-c"]),
        ] {
            match std::process::Command::new(program).arg("--version").output() {
                Ok(_) => payloads.push(with_program(program, arguments, &vmlinux)),
                Err(_) => assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed"),
            }
        }
        for payload in payloads {
            let found = unpacked(bzimage(&payload), Arch::Amd64).unwrap().unwrap();
            assert!(found == vmlinux, "{:02x?}", &payload[..4]);
            assert!(unpacked(bzimage(&payload), Arch::Arm64).unwrap_err().message().contains("no kernel for arm64"));
            // One bit of the size, one in the middle, half of it missing.
            let mut damaged = payload.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(unpacked(bzimage(&damaged), Arch::Amd64).is_err());
            let mut damaged = payload.clone();
            damaged[payload.len() / 2] ^= 0x10;
            assert!(!unpacked(bzimage(&damaged), Arch::Amd64).is_ok_and(|found| found == Some(vmlinux.clone())));
            assert!(unpacked(bzimage(&payload[..payload.len() / 2]), Arch::Amd64).is_err());
        }
    }

    #[test]
    fn images_of_arm64_come_out_of_gzip_and_stay_as_they_are() {
        let mut image = vec![7; 100_000];
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(unpacked(gzip(&image), Arch::Arm64).unwrap().unwrap(), image);
        assert_eq!(unpacked(image.clone(), Arch::Arm64).unwrap(), None);
        assert_eq!(unpacked(vmlinux(), Arch::Amd64).unwrap(), None);
        assert!(unpacked(gzip(&image), Arch::Amd64).unwrap_err().message().contains("no kernel for amd64"));
    }

    #[test]
    fn odd_headers_are_refused() {
        let good = bzimage(&gzip(&vmlinux()));
        let with = |at: usize, bytes: &[u8]| {
            let mut kernel = good.clone();
            kernel[at..at + bytes.len()].copy_from_slice(bytes);
            unpacked(kernel, Arch::Amd64).unwrap_err().message().to_string()
        };
        assert!(with(0x206, &[7, 2]).contains("boot protocol 2.7"));
        assert!(with(0x24c, &u32::MAX.to_le_bytes()).contains("compressed bytes begin at"));
        assert!(with(0x248, &u32::MAX.to_le_bytes()).contains("compressed bytes begin at"));
        assert!(with(0x24c, &[4, 0, 0, 0]).contains("compressed bytes begin at"));
        assert!(with(0x248, &[0, 0, 0, 0]).contains("nothing that is known"));
        assert!(with(1536, b"BZh").contains("bzip2"));
        for (cut, part) in
            [(0, "neither"), (0x100, "neither"), (0x206, "cut off"), (0x24c, "cut off"), (600, "bytes begin")]
        {
            let error = unpacked(good[..cut].to_vec(), Arch::Amd64).unwrap_err();
            assert!(error.message().contains(part), "{cut}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_stops_it(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..300), kind in 0..4usize) {
            let magic = [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0", &[2, 0x21, 0x4c, 0x18]][kind];
            let _ = unpacked(bzimage(&[magic, &payload, &[0, 0, 16, 0]].concat()), Arch::Amd64);
        }
    }
}
