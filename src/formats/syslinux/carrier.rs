//! Finding the loader's parts inside of the program that carries them.

use crate::error::{Error, Result};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Stands in the boot sector and in `ldlinux.sys` (libinstaller/syslxint.h: LDLINUX_MAGIC).
pub const MAGIC: u32 = 0x3eb2_02fe;
/// Where it stands in the boot sector.
const BOOT_MAGIC_AT: usize = 0x1f8;
/// How a boot sector starts: a jump over FAT32's parameters and the name.
const BOOT_START: &[u8] = b"\xeb\x58\x90SYSLINUX";
/// How `ldlinux.sys` starts.
const LOADER_START: &[u8] = b"\r\nSYSLINUX ";
/// Where the magic number stands in it.
pub const PATCH_AREA: usize = 0x18;
/// How a module for 32 bit starts.
const MODULE_START: &[u8] = b"\x7fELF\x01\x01\x01";
/// Bytes of an ELF header for 32 bit.
const MODULE_HEADER: usize = 52;
/// Largest part that is believed; `ldlinux.sys` of 6.04 has 58 KB, `ldlinux.c32` 119 KB.
const LIMIT: usize = 1 << 20;

/// The loader's parts as they are before they know their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The boot sector, without a volume's parameters.
    pub boot_sector: [u8; SECTOR],
    /// `ldlinux.sys`, without the two sectors in which it stores things. Whole 32 bit words.
    pub loader: Vec<u8>,
    /// `ldlinux.c32` of the same build.
    pub module: Vec<u8>,
}

impl Carrier {
    /// Finds the parts in the bytes of the program `syslinux`.
    ///
    /// The loader's end is where the module begins: that is how the program is linked, and nothing else in it says the
    /// length. (What the linker may put between them are zeros, which do no harm.)
    ///
    /// # Errors
    ///
    /// Refuses a program in which a part is not found exactly once, or is larger than 1 MiB.
    pub fn find(program: &[u8]) -> Result<Carrier> {
        let boot = one("boot sector", places(program, BOOT_START).filter_map(|at| boot_sector(program, at)))?;
        let starts: Vec<usize> =
            places(program, LOADER_START).filter(|at| word(program, at + PATCH_AREA) == Some(MAGIC)).collect();
        let start = one("ldlinux.sys", starts.into_iter())?;
        let (at, module) = places(program, MODULE_START)
            .filter(|at| *at > start)
            .find_map(|at| module_size(program, at).and_then(|size| Some((at, program.get(at..at + size)?))))
            .ok_or_else(|| missing("ldlinux.c32", "not there"))?;
        let loader = program.get(start..at).unwrap_or_default();
        if loader.len() > LIMIT || !loader.len().is_multiple_of(4) || loader.len() < 2 * SECTOR {
            return Err(missing("ldlinux.sys", &format!("{} bytes long, which cannot be", loader.len())));
        }
        Ok(Carrier { boot_sector: boot, loader: loader.to_vec(), module: module.to_vec() })
    }
}

fn one<T>(what: &str, mut found: impl Iterator<Item = T>) -> Result<T> {
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(missing(what, "not there")),
        _ => Err(missing(what, "there more than once")),
    }
}

fn missing(what: &str, how: &str) -> Error {
    Error::refused(format!("in the program syslinux, {what} is {how}"))
        .hint("the component syslinux must have /usr/bin/syslinux of version 6")
}

/// Where `pattern` is in `bytes`.
fn places<'a>(bytes: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(pattern.len()).enumerate().filter(move |(_, window)| *window == pattern).map(|(at, _)| at)
}

fn boot_sector(program: &[u8], at: usize) -> Option<[u8; SECTOR]> {
    let sector: [u8; SECTOR] = program.get(at..at.checked_add(SECTOR)?)?.try_into().ok()?;
    (word(&sector, BOOT_MAGIC_AT)? == MAGIC && sector[SECTOR - 2..] == [0x55, 0xaa]).then_some(sector)
}

/// The size of a module: its section headers come last.
fn module_size(program: &[u8], at: usize) -> Option<usize> {
    let header = program.get(at..at.checked_add(MODULE_HEADER)?)?;
    let sections = usize::try_from(word(header, 32)?).ok()?;
    let (each, count) = (usize::from(half(header, 46)?), usize::from(half(header, 48)?));
    // A shared object for i386, with sections of 40 bytes.
    let right = half(header, 16)? == 3 && half(header, 18)? == 3 && each == 40 && count > 0;
    let size = sections.checked_add(each.checked_mul(count)?)?;
    (right && sections >= MODULE_HEADER && size <= LIMIT).then_some(size)
}

/// A little-endian number of 32 bits.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A little-endian number of 16 bits.
pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A program of the same shape as the real one, with places of our own.
    pub fn program() -> Vec<u8> {
        let put = |bytes: &mut [u8], at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        let mut boot = [0x90; SECTOR];
        put(&mut boot, 0, BOOT_START);
        put(&mut boot, BOOT_MAGIC_AT, &MAGIC.to_le_bytes());
        put(&mut boot, 510, &[0x55, 0xaa]);
        let mut loader = vec![0xcc; 1200];
        put(&mut loader, 0, b"\r\nSYSLINUX 6.99 \0");
        put(&mut loader, PATCH_AREA, &MAGIC.to_le_bytes());
        put(&mut loader, 0x20, &[0; 12]);
        put(&mut loader, 0x2e, &600u16.to_le_bytes());
        let words = [700u16, 0, 0, 0, 0, 800, 3, 0x11a, 0x120, 0];
        for (number, value) in words.into_iter().enumerate() {
            put(&mut loader, 600 + 2 * number, &value.to_le_bytes());
        }
        let mut module = vec![7; 200];
        put(&mut module, 0, MODULE_START);
        put(&mut module, 16, &[3, 0, 3, 0]);
        put(&mut module, 32, &120u32.to_le_bytes());
        put(&mut module, 46, &[40, 0, 2, 0]);
        let magic_elsewhere = MAGIC.to_le_bytes();
        [b"\x7fELF\x02\x01\x01".as_slice(), &magic_elsewhere, &boot, &loader, &module, b"tail"].concat()
    }

    #[test]
    fn parts_are_found_by_their_magic() {
        let carrier = Carrier::find(&program()).unwrap();
        assert_eq!((carrier.loader.len(), carrier.module.len()), (1200, 200));
        assert!(carrier.boot_sector.starts_with(BOOT_START) && carrier.module.starts_with(MODULE_START));
        let moved = [vec![0; 77], program()].concat();
        assert_eq!(Carrier::find(&moved).unwrap(), carrier);
    }

    #[test]
    fn what_is_missing_is_named() {
        let program = program();
        for (what, start) in [("boot sector", BOOT_START), ("ldlinux.sys", LOADER_START), ("ldlinux.c32", MODULE_START)]
        {
            let mut bytes = program.clone();
            let at = places(&program, start).next().unwrap();
            bytes[at] = 0;
            let error = Carrier::find(&bytes).unwrap_err();
            assert_eq!(error.message(), format!("in the program syslinux, {what} is not there"));
        }
        let twice = [program.clone(), program].concat();
        assert!(Carrier::find(&twice).unwrap_err().message().contains("more than once"));
        assert!(Carrier::find(&[]).is_err());
    }

    #[test]
    fn a_program_that_was_cut_off_is_refused() {
        let program = program();
        for length in 0..program.len() - 4 {
            assert!(Carrier::find(&program[..length]).is_err(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(ruin in proptest::collection::vec((0usize..2000, proptest::num::u8::ANY), 0..8)) {
            let mut bytes = program();
            for (at, value) in ruin {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(carrier) = Carrier::find(&bytes) {
                let sectors = carrier.file_size() / SECTOR as u64;
                let _ = carrier.install(100..100 + sectors);
            }
        }
    }
}
