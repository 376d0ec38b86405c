//! SYSLINUX as Debian ships it: the loader stands inside the installer's program, and nowhere else.

use crate::error::{Error, Result};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Marks the area in `ldlinux.sys` that an installer fills in, and the end of the boot sector.
pub const MAGIC: u32 = 0x3eb2_02fe;
/// Where that area begins in `ldlinux.sys`.
pub const PATCH_AREA: usize = 0x18;
/// Largest program that is searched; Debian's has 200 KB.
const PROGRAM_LIMIT: usize = 16 << 20;
/// Largest loader; 6.04's has 58 KB, and it has to fit below 640 KB of memory.
const LOADER_LIMIT: usize = 256 << 10;

/// The loader, not yet installed.
#[derive(Clone, Debug)]
pub struct Template {
    /// The volume's boot sector, its parameters empty.
    pub boot_sector: [u8; SECTOR],
    /// `ldlinux.sys`, its patch area empty, in whole sectors.
    pub loader: Vec<u8>,
    /// `ldlinux.c32`, the part that reads the configuration. It has to be of the same build.
    pub module: Vec<u8>,
}

impl Template {
    /// Finds the loader in the program `syslinux` (or `extlinux`): boot sector, loader and module stand there one after
    /// another.
    pub fn from_program(program: &[u8]) -> Result<Template> {
        let refused = |what: &str| {
            Error::refused(format!("SYSLINUX was not found in the program that was given: {what}"))
                .hint("it has to be /usr/bin/syslinux of Debian's package syslinux, version 6")
        };
        let program = program.get(..PROGRAM_LIMIT.min(program.len())).unwrap_or_default();
        let start = find(program, b"\xeb\x58\x90SYSLINUX\0").ok_or_else(|| refused("no boot sector"))?;
        let (boot_sector, behind) =
            program[start..].split_first_chunk::<SECTOR>().ok_or_else(|| refused("the boot sector is cut off"))?;
        if boot_sector[510..] != [0x55, 0xaa] || !behind.starts_with(b"\r\nSYSLINUX ") {
            return Err(refused("no loader behind the boot sector"));
        }
        let length = find(&behind[..LOADER_LIMIT.min(behind.len())], b"\x7fELF\x01\x01\x01")
            .filter(|length| length.is_multiple_of(SECTOR))
            .ok_or_else(|| refused("no module behind the loader"))?;
        let (loader, behind) = behind.split_at(length);
        if u32_at(loader, PATCH_AREA) != Some(MAGIC) {
            return Err(refused("the loader has no area for the installer"));
        }
        let module =
            elf_size(behind).and_then(|size| behind.get(..size)).ok_or_else(|| refused("the module is cut off"))?;
        Ok(Template { boot_sector: *boot_sector, loader: loader.to_vec(), module: module.to_vec() })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Bytes of a 32-bit ELF file whose section headers end it, as the linker lays it out.
fn elf_size(bytes: &[u8]) -> Option<usize> {
    let offset = usize::try_from(u32_at(bytes, 32)?).ok()?;
    let (size, count) = (usize::from(u16_at(bytes, 46)?), usize::from(u16_at(bytes, 48)?));
    offset.checked_add(size * count)
}

/// The number at an offset; `None` behind the end.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// The number at an offset; `None` behind the end.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
