//! Architecture and release of a kernel file, from the headers that boot loaders read.
//!
//! - x86 bzImage: `HdrS` at 0x202, release text at 0x200 + u16 at 0x20e (Linux, Documentation/arch/x86/boot.rst).
//! - ARM64 Image: `ARM\x64` at 0x38 (Linux, Documentation/arch/arm64/booting.rst), also inside gzip.
//! - PE (EFI zboot, unified kernel images): machine at the COFF header, whose offset is the u32 at 0x3c.
//! - ELF (uncompressed vmlinux): e_machine at 18.
//!
//! All numbers are little-endian.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Arch;
use crate::error::{Error, IoContext, Result};

/// Bytes that are read: the release text of a bzImage lies in its setup code, at most 32 KiB long.
pub const HEAD: u64 = 40 << 10;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelHeader {
    /// The architecture; `None` if the format is known but the machine is not one of ours.
    pub arch: Option<Arch>,
    /// The release (`6.12.9-cloud-amd64`), where the header has one.
    pub release: Option<String>,
}

/// Reads the header of the kernel at `path`. A file that is no kernel is refused.
pub fn read(path: &Path) -> Result<KernelHeader> {
    let mut head = Vec::new();
    File::open(path).at("opening", path)?.take(HEAD).read_to_end(&mut head).at("reading", path)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut inner = Vec::new();
        // The end of the compressed stream is cut off: what came out before that is enough.
        let _ = flate2::read::GzDecoder::new(head.as_slice()).take(4096).read_to_end(&mut inner);
        head = inner;
    }
    parse(&head).ok_or_else(|| {
        Error::refused(format!(
            "{} is not a Linux kernel: no bzImage, ARM64 Image, PE or ELF header found",
            path.display()
        ))
        .hint("build the image again; if it is a disk image, its name must end in .img, .raw, .qcow2 or .iso")
    })
}

/// What the first [`HEAD`] bytes of a kernel say; nothing if it is none.
pub fn parse(head: &[u8]) -> Option<KernelHeader> {
    let header = |arch| Some(KernelHeader { arch, release: None });
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return Some(KernelHeader { arch: Some(Arch::Amd64), release: bzimage_release(head) });
    }
    if head.get(0x38..0x3c) == Some(b"ARM\x64") {
        return header(Some(Arch::Arm64));
    }
    if head.starts_with(b"MZ") {
        let offset = u32::from_le_bytes(head.get(0x3c..0x40)?.try_into().ok()?) as usize;
        if head.get(offset..offset.checked_add(4)?)? != b"PE\0\0" {
            return None;
        }
        return header(match u16_at(head, offset + 4)? {
            0x8664 => Some(Arch::Amd64),
            0xaa64 => Some(Arch::Arm64),
            _ => None,
        });
    }
    if head.starts_with(b"\x7fELF") {
        return header(match u16_at(head, 18)? {
            62 => Some(Arch::Amd64),
            183 => Some(Arch::Arm64),
            _ => None,
        });
    }
    None
}

fn bzimage_release(head: &[u8]) -> Option<String> {
    let offset = 0x200 + usize::from(u16_at(head, 0x20e)?);
    let text = head.get(offset..)?;
    let end = text.iter().take(256).position(|&byte| byte == 0 || byte == b' ')?;
    std::str::from_utf8(&text[..end]).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

/// A header that [`read`] takes for a kernel of `arch`; for tests of what only looks at headers.
#[cfg(test)]
pub(crate) fn sample(arch: Arch, release: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    match arch {
        Arch::Amd64 => {
            bytes[0x202..0x206].copy_from_slice(b"HdrS");
            bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
            bytes[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        }
        Arch::Arm64 => bytes[0x38..0x3c].copy_from_slice(b"ARM\x64"),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bzimage_tells_its_release() {
        let header = parse(&sample(Arch::Amd64, "6.12.9-cloud-amd64 (builder)")).unwrap();
        assert_eq!(header.arch, Some(Arch::Amd64));
        assert_eq!(header.release.as_deref(), Some("6.12.9-cloud-amd64"));
    }

    #[test]
    fn arm64_image_also_inside_gzip() {
        use std::io::Write;
        let plain = sample(Arch::Arm64, "");
        assert_eq!(parse(&plain).unwrap().arch, Some(Arch::Arm64));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, gzip.finish().unwrap()).unwrap();
        assert_eq!(read(&path).unwrap().arch, Some(Arch::Arm64));
    }

    #[test]
    fn cut_and_hostile_headers_are_no_kernels() {
        for bytes in [&b""[..], b"MZ", b"hello", b"\x7fELF"] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
        let mut far = vec![0; 0x40];
        far[..2].copy_from_slice(b"MZ");
        far[0x3c..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&far), None);
        let mut release_outside = sample(Arch::Amd64, "");
        release_outside[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(parse(&release_outside).unwrap().release, None);
    }
}
