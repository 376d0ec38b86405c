//! El Torito: how firmware finds what to boot on a CD ("El Torito" Bootable CD-ROM Format Specification 1.0; UEFI 2.10,
//! 13.3.2.1).

use std::io::Write;
use std::sync::Arc;

use super::format::{SECTOR, SYSTEM_AREA};
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::rootfs::write_error;
use crate::store::{Digest, Hasher};

/// Largest boot program that is patched, and so read into memory; isolinux has 38 KB.
const PROGRAM_LIMIT: u64 = 4 << 20;
/// Where the table lies in the program, and where it ends.
const TABLE: std::ops::Range<usize> = 8..64;
/// Sectors of 512 bytes that BIOS loads: what isolinux and GRUB expect; they load the rest themselves.
const LOADED: u16 = 4;

/// Which firmware an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A program that BIOS runs.
    Bios,
    /// A FAT volume that UEFI takes for an EFI system partition.
    Efi,
}

/// An image and its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// For which firmware.
    pub platform: Platform,
    /// First sector.
    pub sector: u32,
    /// Bytes.
    pub size: u64,
}

/// The descriptor in sector 17, which points to the catalog.
pub fn boot_record(catalog: u32) -> Vec<u8> {
    let mut out = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    out.resize(0x47, 0);
    out.extend(catalog.to_le_bytes());
    out.resize(SECTOR as usize, 0);
    out
}

/// The catalog: a validation entry and the first image, then a section for each further one.
pub fn catalog(images: &[Placed]) -> Vec<u8> {
    let id = |platform| match platform {
        Platform::Bios => 0,
        Platform::Efi => 0xef,
    };
    let mut out = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let mut head = [0u8; 32];
        if at == 0 {
            head[..2].copy_from_slice(&[1, id(image.platform)]);
            head[30..].copy_from_slice(&[0x55, 0xaa]);
            // All words of the entry sum up to zero.
            let sum =
                head.chunks_exact(2).fold(0u16, |sum, pair| sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]])));
            head[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
        } else {
            let last = at + 1 == images.len();
            head[..4].copy_from_slice(&[if last { 0x91 } else { 0x90 }, id(image.platform), 1, 0]);
        }
        let sectors = match image.platform {
            Platform::Bios => LOADED,
            // 0 says "up to the end of the CD" where 16 bits cannot say the size (UEFI 2.10, 13.3.2.1).
            Platform::Efi => u16::try_from(image.size.div_ceil(512)).unwrap_or(0),
        };
        let mut entry = [0u8; 32];
        // Bootable, no emulation.
        entry[0] = 0x88;
        entry[6..8].copy_from_slice(&sectors.to_le_bytes());
        entry[8..12].copy_from_slice(&image.sector.to_le_bytes());
        out.extend(head);
        out.extend(entry);
    }
    out.resize(SECTOR as usize, 0);
    out
}

/// A boot program with its "boot information table": where it and the file system lie on the CD, so that it can load
/// the rest of itself (mkisofs(8), "EL TORITO BOOT INFORMATION TABLE").
#[derive(Debug)]
pub struct Patched {
    bytes: Vec<u8>,
}

impl Patched {
    /// Reads the program and writes the table for a program that begins at `sector`.
    pub fn new(program: &Arc<dyn Source>, sector: u32) -> Result<Patched> {
        let size = program.size();
        if size > PROGRAM_LIMIT || size < TABLE.end as u64 {
            return Err(Error::refused(format!(
                "the boot program has {size} bytes; a boot information table needs one of {} to {PROGRAM_LIMIT}",
                TABLE.end
            )));
        }
        let mut bytes = Vec::new();
        program.write_to(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(Error::failed("the boot program changed while it was read"));
        }
        let words = bytes[TABLE.end..].chunks(4).map(|word| {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            u32::from_le_bytes(padded)
        });
        let sum = words.fold(0, u32::wrapping_add);
        let table = [SYSTEM_AREA as u32, sector, size as u32, sum];
        bytes[TABLE].fill(0);
        for (place, number) in bytes[TABLE].chunks_exact_mut(4).zip(table) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        Ok(Patched { bytes })
    }
}

impl Source for Patched {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn identity(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(&self.bytes);
        hasher.finish()
    }

    fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        out.write_all(&self.bytes).map_err(write_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validation_entry_sums_up_to_zero() {
        let image = |platform, size| Placed { platform, sector: 77, size };
        let bytes =
            catalog(&[image(Platform::Bios, 40_000), image(Platform::Efi, 1 << 20), image(Platform::Efi, 1 << 26)]);
        let sum =
            bytes[..32].chunks(2).fold(0u16, |sum, pair| sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]])));
        assert_eq!(sum, 0);
        assert_eq!(bytes[32..44], [0x88, 0, 0, 0, 0, 0, 4, 0, 77, 0, 0, 0]);
        assert_eq!(bytes[64..68], [0x90, 0xef, 1, 0]);
        assert_eq!(bytes[96..104], [0x88, 0, 0, 0, 0, 0, 0, 8]);
        assert_eq!(bytes[128..132], [0x91, 0xef, 1, 0]);
        assert_eq!(bytes[160..168], [0x88, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_table_stands_in_the_program() {
        let program: Arc<dyn Source> = Arc::new([vec![1; 64], vec![2, 0, 0, 0, 3]].concat());
        let mut out = Vec::new();
        Patched::new(&program, 0x1234).unwrap().write_to(&mut out).unwrap();
        assert_eq!(
            out[..24],
            [[1, 1, 1, 1], [1, 1, 1, 1], [16, 0, 0, 0], [0x34, 0x12, 0, 0], [69, 0, 0, 0], [5, 0, 0, 0]].concat()
        );
        assert_eq!(out[24..64], [0; 40]);
        assert!(Patched::new(&(Arc::new(vec![0u8; 63]) as Arc<dyn Source>), 1).is_err());
    }
}
