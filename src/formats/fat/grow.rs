//! Makes a file of a volume that is there longer. Signing is the one thing that changes an image after it was built.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::format::Kind;
use super::reader::Volume;
use crate::error::{Error, Result};

/// Makes the file of a path `size` bytes long. `part` is where the volume begins in the image and how many bytes it may
/// have. The clusters right behind the file must be free, so that it stays in one piece; what is in them is zero in an
/// image that was never mounted, and is written to by the caller anyway.
pub fn grow(image: &File, part: (u64, u64), path: &str, size: u32) -> Result<()> {
    let mut volume = Volume::open(image, part.0, part.1)?;
    let geometry = *volume.geometry();
    let Some(file) = volume.find(path)? else {
        return Err(Error::refused(format!("{path} is not in the volume")));
    };
    let cluster = geometry.cluster();
    let (has, needs) = (u64::from(file.size).div_ceil(cluster), u64::from(size).div_ceil(cluster));
    let (first, entry) = volume.place(&file)?;
    let added = u32::try_from(needs.saturating_sub(has)).unwrap_or(u32::MAX);
    let no_room = || {
        Error::refused(format!("there are no {added} free clusters right behind {path}"))
            .hint("build the image with --sign, or with --sign-prepare, which leaves room")
    };
    let end = u64::from(first) + has.saturating_sub(1) + u64::from(added);
    if has == 0 || end >= geometry.clusters + 2 {
        return Err(no_room());
    }
    let last = first + (has - 1) as u32;
    for cluster in 1..=added {
        if volume.entry(last + cluster)? != 0 {
            return Err(no_room());
        }
    }
    let write = |at: u64, bytes: &[u8]| {
        image.write_all_at(bytes, part.0 + at).map_err(|error| Error::failed(format!("writing the volume: {error}")))
    };
    if added > 0 {
        for step in 0..=added {
            let number = last + step;
            let next = if step == added { geometry.kind.end_of_chain() } else { number + 1 };
            for table in 0..volume.tables() {
                let start = (geometry.reserved + table * geometry.table_sectors) * geometry.sector;
                match geometry.kind {
                    Kind::Fat32 => write(start + u64::from(number) * 4, &next.to_le_bytes())?,
                    Kind::Fat16 => write(start + u64::from(number) * 2, &(next as u16).to_le_bytes())?,
                    Kind::Fat12 => {
                        let at = start + u64::from(number) * 3 / 2;
                        let mut pair = [0; 2];
                        let read = image.read_exact_at(&mut pair, part.0 + at);
                        read.map_err(|error| Error::failed(format!("reading the volume: {error}")))?;
                        let old = u16::from_le_bytes(pair);
                        let new = next as u16;
                        let both = if number.is_multiple_of(2) { old & 0xf000 | new } else { old & 0x000f | new << 4 };
                        write(at, &both.to_le_bytes())?;
                    }
                }
            }
        }
        for (at, bytes) in volume.fewer_free(added)? {
            write(at, &bytes)?;
        }
    }
    write(entry - part.0 + 28, &size.to_le_bytes())
}
