//! Disks as bytes at offsets with known holes: what every virtual disk format reads and gives.
//!
//! Writers take a [`DiskImage`] and an [`Output`]; readers take a container as a `DiskImage` and are one themselves.
//! Every writer goes over its disk with [`scan`], which holds at most 8 MiB of it at a time, skips what is zero,
//! and hands the rest out in order, so that the bytes do not depend on where the source file has its holes or on the
//! number of threads. Identifiers that other programs draw at random come from an [`Identity`].

mod assembled;
mod cursor;
mod deflate;
mod extents;
mod field;
mod identity;
mod output;
mod raw;
mod scan;
mod sparse;
#[cfg(test)]
pub(in crate::formats) mod testing;

use std::ops::Range;

pub use assembled::Assembled;
pub use cursor::Cursor;
pub(in crate::formats) use deflate::Deflate;
pub use extents::Extents;
pub(in crate::formats) use field::{be16, be32, be64, le16, le32, le64, put};
pub use identity::Identity;
pub use output::Output;
pub(in crate::formats) use output::write_failed;
pub use raw::{Bytes, RawFile, Window};
pub use scan::{Span, ZEROS, is_zero, scan};
pub use sparse::SparseFile;

use crate::error::{Error, Result};

/// Bytes of a sector, the unit in which every format counts.
pub const SECTOR: u64 = 512;

/// A disk that can be read at any offset and knows where it has no data.
pub trait DiskImage: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// The first range at or behind `offset` that may hold something else than zeros; `None` when only zeros follow.
    /// The range starts at `offset` or later, is not empty and ends within the disk. Zeros inside it are allowed.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>>;

    /// Fills `buffer` with what stands at `offset`. The range must lie within the disk.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
}

/// What leads to a disk is that disk.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: DiskImage + ?Sized> DiskImage for $pointer {
            fn size(&self) -> u64 {
                (**self).size()
            }

            fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
                (**self).next_data(offset)
            }

            fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
                (**self).read_at(buffer, offset)
            }
        }
    )*};
}

forward!(&T, std::sync::Arc<T>, Box<T>);

/// The size of a disk that a format can hold: whole sectors, at least one, at most `limit` bytes.
pub(in crate::formats) fn checked_size(disk: &dyn DiskImage, format: &str, limit: u64) -> Result<u64> {
    let size = disk.size();
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(Error::refused(format!(
            "a disk of {size} bytes cannot become a {format}: it is not a positive number of {SECTOR} byte sectors"
        )));
    }
    if size > limit {
        return Err(Error::refused(format!(
            "a disk of {size} bytes cannot become a {format}: the format ends at {limit} bytes"
        ))
        .hint("qcow2, VHDX (64 TiB) and raw hold larger disks"));
    }
    Ok(size)
}

/// Reads a range that a container claims to have; a range outside the container is a refusal, not a failure.
pub(in crate::formats) fn read_part(
    container: &dyn DiskImage,
    offset: u64,
    length: usize,
    what: &str,
) -> Result<Vec<u8>> {
    let end = offset.checked_add(length as u64).filter(|end| *end <= container.size());
    if end.is_none() {
        return Err(Error::refused(format!(
            "{what} is said to be {length} bytes at {offset}, but the file ends at {}",
            container.size()
        )));
    }
    let mut bytes = vec![0; length];
    container.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// A run of blocks of one disk that a reader walks: for each piece of `buffer` within one block, where it is in the
/// disk and which part of the buffer it fills.
pub(in crate::formats) fn pieces(
    offset: u64,
    length: usize,
    block: u64,
) -> impl Iterator<Item = (u64, u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let position = offset + done as u64;
        let within = position % block;
        let count = usize::try_from(block - within).unwrap_or(usize::MAX).min(length - done);
        let range = done..done + count;
        done += count;
        Some((position / block, within, range))
    })
}

/// Data of a block that stands at `start` of the disk and at `place` of the container: the first range of `wanted`,
/// a part of the block, where the container has no hole. A block that does not end within the container counts as
/// data, so that reading it says what is wrong.
pub(in crate::formats) fn data_within(
    container: &dyn DiskImage,
    start: u64,
    place: u64,
    wanted: Range<u64>,
) -> Result<Option<Range<u64>>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let Some(end) = place.checked_add(wanted.end - start).filter(|end| *end <= container.size()) else {
        return Ok(Some(wanted));
    };
    let found = container.next_data(place + (wanted.start - start))?.filter(|found| found.start < end);
    Ok(found.map(|found| found.start - place + start..found.end.min(end) - place + start))
}

/// Checks a reader's range once, so that arithmetic behind it cannot overflow.
pub(in crate::formats) fn check_range(size: u64, offset: u64, length: usize) -> Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::failed(format!("reading {length} bytes at {offset} of a disk of {size} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range() {
        let found: Vec<_> = pieces(1000, 3000, 1024).collect();
        assert_eq!(found, [(0, 1000, 0..24), (1, 0, 24..1048), (2, 0, 1048..2072), (3, 0, 2072..3000)]);
        assert_eq!(pieces(5, 0, 1024).count(), 0);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(checked_size(&Bytes(vec![0; 512]), "VHD", 1 << 40).is_ok());
        for (size, limit) in [(0, 1024), (513, 1024), (1536, 1024)] {
            assert!(checked_size(&Bytes(vec![0; size]), "VHD", limit).is_err(), "{size}");
        }
        assert!(read_part(&Bytes(vec![0; 10]), u64::MAX, 2, "x").is_err());
        assert!(read_part(&Bytes(vec![0; 10]), 9, 2, "x").is_err());
    }
}
