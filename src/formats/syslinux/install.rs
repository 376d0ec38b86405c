//! What an installer does: it tells the boot sector and the loader in which sectors the loader lies (SYSLINUX 6,
//! libinstaller/syslxmod.c says which fields there are; the bytes are compared with the installer's own in the tests).

use std::ops::Range;
use std::sync::Arc;

use super::template::{MAGIC, PATCH_AREA, SECTOR, Template, u16_at};
use crate::error::{Error, Result};
use crate::formats::fat::{Fat, File};

/// Name of the loader in the volume's root.
const LOADER: &str = "ldlinux.sys";
/// Sectors of the auxiliary data vector, in two copies behind the loader: what `extlinux --once` would set.
const VECTORS: usize = 2;
/// First and last word of the vector, and what its words sum up to.
const VECTOR_HEAD: u32 = 0x5a2d_2fa5;
const VECTOR_SUM: u32 = 0xa304_1767;
const VECTOR_TAIL: u32 = 0xdd28_bf64;
/// Bytes of an entry in the loader's table of extents: sector, and number of sectors.
const EXTENT: usize = 10;

/// Files of the volume's root: the loader, with a place for it that [`install`] fills, and its module. They belong in
/// the list of files that the volume is made of, beside `syslinux.cfg`.
pub fn files(template: &Template) -> [File; 2] {
    let loader = vec![0; template.loader.len() + VECTORS * SECTOR];
    [
        File { path: LOADER.into(), content: Some(Arc::new(loader)) },
        File { path: "ldlinux.c32".into(), content: Some(Arc::new(template.module.clone())) },
    ]
}

/// Installs the loader in a volume that was made with [`files`].
pub fn install(template: &Template, volume: &mut Fat) -> Result<()> {
    if volume.geometry().sector != SECTOR as u64 {
        return Err(Error::refused("SYSLINUX boots from disks with sectors of 512 bytes only"));
    }
    let sectors = volume.sectors_of(LOADER).ok_or_else(|| Error::failed("the volume has no loader to install"))?;
    let (boot_sector, loader) = patched(template, sectors)?;
    volume.replace(LOADER, Arc::new(loader))?;
    volume.set_loader(boot_sector);
    Ok(())
}

/// Boot sector and loader for a loader that lies in given sectors of its volume.
pub fn patched(template: &Template, sectors: Range<u64>) -> Result<([u8; SECTOR], Vec<u8>)> {
    let wrong = || Error::refused("the loader of this SYSLINUX is built in another way than version 6's");
    let mut boot_sector = template.boot_sector;
    let mut loader = template.loader.clone();
    let own_sectors = loader.len() / SECTOR;
    if sectors.end - sectors.start != (own_sectors + VECTORS) as u64 {
        return Err(Error::failed("the place for SYSLINUX has another size than SYSLINUX"));
    }
    // The extended patch area says where everything else is.
    let extended = usize::from(u16_at(&loader, PATCH_AREA + 22).ok_or_else(wrong)?);
    let field = |index: usize| u16_at(&loader, extended + 2 * index).map(usize::from).ok_or_else(wrong);
    let (vectors, extents, extent_count) = (field(0)?, field(5)?, field(6)?);
    let (first_low, first_high) = (field(7)?, field(8)?);
    if extent_count == 0 {
        return Err(wrong());
    }
    let sectors_in_loader = u16::try_from(own_sectors).map_err(|_| wrong())?;
    let mut put = |at: usize, bytes: &[u8]| {
        let place = loader.get_mut(at..at + bytes.len()).ok_or_else(wrong)?;
        place.copy_from_slice(bytes);
        Ok::<(), Error>(())
    };
    put(PATCH_AREA + 8, &sectors_in_loader.to_le_bytes())?;
    put(PATCH_AREA + 10, &(VECTORS as u16).to_le_bytes())?;
    put(PATCH_AREA + 12, &((own_sectors * SECTOR / 4) as u32).to_le_bytes())?;
    // One extent: the volume's files lie in one piece. The boot sector loads the first sector itself.
    let mut table = vec![0; extent_count * EXTENT];
    table[..8].copy_from_slice(&(sectors.start + 1).to_le_bytes());
    table[8..10].copy_from_slice(&(sectors_in_loader - 1).to_le_bytes());
    put(extents, &table)?;
    for copy in 0..VECTORS {
        let sector = sectors.start + (own_sectors + copy) as u64;
        put(vectors + 8 * copy, &sector.to_le_bytes())?;
    }
    put(PATCH_AREA + 16, &[0; 4])?;
    let words = loader.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let checksum = words.fold(MAGIC, u32::wrapping_sub);
    loader[PATCH_AREA + 16..PATCH_AREA + 20].copy_from_slice(&checksum.to_le_bytes());
    let first = sectors.start.to_le_bytes();
    for (at, half) in [(first_low, &first[..4]), (first_high, &first[4..])] {
        boot_sector.get_mut(at..at + 4).ok_or_else(wrong)?.copy_from_slice(half);
    }
    for _ in 0..VECTORS {
        loader.extend(empty_vector());
    }
    Ok((boot_sector, loader))
}

fn empty_vector() -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    out[..4].copy_from_slice(&VECTOR_HEAD.to_le_bytes());
    out[4..8].copy_from_slice(&VECTOR_SUM.to_le_bytes());
    out[SECTOR - 4..].copy_from_slice(&VECTOR_TAIL.to_le_bytes());
    out
}
