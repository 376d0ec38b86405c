//! Writing the loader's own place into it, as syslinux's installer does (libinstaller/syslxmod.c).

use std::ops::Range;

use super::carrier::{Carrier, MAGIC, PATCH_AREA, SECTOR, half};
use crate::error::{Error, Result};

/// Sectors in which the loader can store things between boots, behind its own.
const STORE_SECTORS: usize = 2;
/// Where code begins in the boot sector, behind FAT32's parameters, and where it ends.
const BOOT_CODE: Range<usize> = 0x5a..0x1f8;

/// The parts with their place in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The volume's boot sector, without its parameters.
    pub boot_sector: [u8; SECTOR],
    /// The file `ldlinux.sys`, of [`Carrier::file_size`] bytes.
    pub file: Vec<u8>,
}

/// What the loader says about where numbers go in it (`struct patch_area`, `struct ext_patch_area`).
struct Places {
    /// Two sector numbers of 64 bits, of the two sectors that it stores things in.
    store: usize,
    /// Where its other sectors lie: number of 64 bits, count of 16 bits, and so on.
    extents: Range<usize>,
    /// Lower and upper 32 bits of the first sector's number, in the boot sector.
    first: [usize; 2],
}

impl Carrier {
    /// Bytes of the file `ldlinux.sys` in a volume.
    pub fn file_size(&self) -> u64 {
        ((self.loader.len().div_ceil(SECTOR) + STORE_SECTORS) * SECTOR) as u64
    }

    /// The parts for a volume in which `ldlinux.sys` lies in these sectors, counted from the start of the volume.
    ///
    /// # Errors
    ///
    /// Refuses a loader that wants numbers written outside of itself, and sectors that are not as many as it needs.
    pub fn install(&self, sectors: Range<u64>) -> Result<Installed> {
        let needed = self.file_size() / SECTOR as u64;
        let count = sectors.end.saturating_sub(sectors.start);
        if count != needed || sectors.start == 0 {
            return Err(Error::failed(format!(
                "ldlinux.sys has {needed} sectors and is to lie in {count}, from sector {} on",
                sectors.start
            )));
        }
        let places = self.places()?;
        let own = needed - STORE_SECTORS as u64;
        let (Ok(own_sectors), Ok(words)) = (u16::try_from(own), u32::try_from(self.loader.len() / 4)) else {
            return Err(damaged("it is too large"));
        };
        let mut boot_sector = self.boot_sector;
        let first = sectors.start.to_le_bytes();
        put(&mut boot_sector, places.first[0], &first[..4])?;
        put(&mut boot_sector, places.first[1], &first[4..])?;

        let mut file = self.loader.clone();
        put(&mut file, PATCH_AREA + 8, &own_sectors.to_le_bytes())?;
        put(&mut file, PATCH_AREA + 10, &(STORE_SECTORS as u16).to_le_bytes())?;
        put(&mut file, PATCH_AREA + 12, &words.to_le_bytes())?;
        put(&mut file, places.extents.start, &vec![0; places.extents.len()])?;
        put(&mut file, places.extents.start, &(sectors.start + 1).to_le_bytes())?;
        put(&mut file, places.extents.start + 8, &(own_sectors - 1).to_le_bytes())?;
        put(&mut file, places.store, &(sectors.start + own).to_le_bytes())?;
        put(&mut file, places.store + 8, &(sectors.start + own + 1).to_le_bytes())?;
        // All words sum up to the magic number.
        put(&mut file, PATCH_AREA + 16, &[0; 4])?;
        let sum = MAGIC.wrapping_sub(sum(&file));
        put(&mut file, PATCH_AREA + 16, &sum.to_le_bytes())?;
        file.resize(own as usize * SECTOR, 0);
        for _ in 0..STORE_SECTORS {
            file.extend(empty_store());
        }
        Ok(Installed { boot_sector, file })
    }

    fn places(&self) -> Result<Places> {
        let at = |offset: usize| half(&self.loader, offset).map(usize::from).ok_or_else(|| damaged("it is too short"));
        let more = at(PATCH_AREA + 22)?;
        let (store, extents, count) = (at(more)?, at(more + 10)?, at(more + 12)?);
        let first = [at(more + 14)?, at(more + 16)?];
        if count == 0 {
            return Err(damaged("it has no room for its sectors' numbers"));
        }
        let extents = extents..extents + 10 * count;
        let numbers = PATCH_AREA + 24;
        if store < numbers || extents.start < numbers || store.max(extents.end).max(store + 16) > self.loader.len() {
            return Err(damaged("its sectors' numbers lie outside of it"));
        }
        if first.iter().any(|at| *at < BOOT_CODE.start || *at + 4 > BOOT_CODE.end) {
            return Err(damaged("its first sector's number lies outside of the boot sector's code"));
        }
        Ok(Places { store, extents, first })
    }
}

fn damaged(how: &str) -> Error {
    Error::refused(format!("the template of ldlinux.sys cannot be used: {how}"))
        .hint("the component syslinux must have /usr/bin/syslinux of version 6")
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> Result<()> {
    let place = bytes.get_mut(at..at + what.len()).ok_or_else(|| damaged("it is too short"))?;
    place.copy_from_slice(what);
    Ok(())
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
    words.fold(0, u32::wrapping_add)
}

/// A sector with nothing stored in it (libinstaller/setadv.c): magic number, checksum, nothing, magic number.
fn empty_store() -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    out[..4].copy_from_slice(&0x5a2d_2fa5u32.to_le_bytes());
    out[4..8].copy_from_slice(&0xa304_1767u32.to_le_bytes());
    out[SECTOR - 4..].copy_from_slice(&0xdd28_bf64u32.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::carrier::tests::program;
    use super::super::carrier::word;
    use super::*;

    #[test]
    fn places_are_written_and_the_sum_is_right() {
        let carrier = Carrier::find(&program()).unwrap();
        assert_eq!(carrier.file_size(), 5 * 512);
        let installed = carrier.install(197..202).unwrap();
        let file = &installed.file;
        assert_eq!(file.len() as u64, carrier.file_size());
        assert_eq!(file[0x20..0x28], [3, 0, 2, 0, 0x2c, 1, 0, 0]);
        assert_eq!(file[800..830], [&[198, 0, 0, 0, 0, 0, 0, 0, 2, 0][..], &[0; 20]].concat());
        assert_eq!(file[700..716], [200, 0, 0, 0, 0, 0, 0, 0, 201, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sum(&file[..1200]), MAGIC);
        assert_eq!(file[1200..1536], [0; 336]);
        assert_eq!(file[1536..2048], file[2048..]);
        assert_eq!(word(&installed.boot_sector, 0x11a), Some(197));
        assert_eq!(word(&installed.boot_sector, 0x120), Some(0));
    }

    #[test]
    fn high_sectors_have_their_upper_half() {
        let carrier = Carrier::find(&program()).unwrap();
        let start = 0x2_0000_0005;
        let installed = carrier.install(start..start + 5).unwrap();
        assert_eq!(word(&installed.boot_sector, 0x120), Some(2));
        assert_eq!(sum(&installed.file[..1200]), MAGIC);
    }

    #[test]
    fn wrong_places_are_refused() {
        let carrier = Carrier::find(&program()).unwrap();
        assert!(carrier.install(197..201).is_err());
        assert!(carrier.install(0..5).is_err());
        for (at, value) in [(0x2e, 0xffffu16), (600, 1190), (600, 0x20), (610, 1180), (612, 0), (614, 0x1f6), (616, 3)]
        {
            let mut wrong = carrier.clone();
            wrong.loader[at..at + 2].copy_from_slice(&value.to_le_bytes());
            assert!(wrong.install(197..202).is_err(), "{at}: {value}");
        }
    }
}
