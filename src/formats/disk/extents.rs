//! A file that lies in pieces of another image.

use std::ops::Range;

use super::{DiskImage, check_range};
use crate::error::{Error, Result};

/// Pieces of an image, one after another: a file of FAT or ISO 9660.
#[derive(Clone)]
pub struct Extents<D> {
    inner: D,
    /// Where each piece begins in the file, and its place and length in the image.
    pieces: Vec<(u64, Range<u64>)>,
    size: u64,
}

impl<D> std::fmt::Debug for Extents<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extents").field("size", &self.size).field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl<D: DiskImage> Extents<D> {
    /// A file of `size` bytes from the pieces, which must lie in `inner` and have as many.
    pub fn new(inner: D, ranges: impl IntoIterator<Item = Range<u64>>, size: u64) -> Result<Extents<D>> {
        let mut pieces: Vec<(u64, Range<u64>)> = Vec::new();
        let mut position = 0;
        for range in ranges {
            if range.start > range.end || range.end > inner.size() {
                return Err(Error::refused(format!(
                    "a file lies at bytes {} to {} of an image of {} bytes",
                    range.start,
                    range.end,
                    inner.size()
                )));
            }
            let length = range.end - range.start;
            match pieces.last_mut() {
                Some((_, last)) if last.end == range.start => last.end = range.end,
                _ => pieces.push((position, range)),
            }
            position += length;
        }
        if position < size {
            return Err(Error::refused(format!("a file of {size} bytes has only {position} bytes of room")));
        }
        Ok(Extents { inner, pieces, size })
    }

    /// The pieces' places in the image.
    pub fn places(&self) -> impl Iterator<Item = Range<u64>> {
        self.pieces.iter().map(|(_, range)| range.clone())
    }

    /// The piece that a position lies in.
    fn piece(&self, position: u64) -> Option<&(u64, Range<u64>)> {
        let behind = self.pieces.partition_point(|(start, _)| *start <= position);
        self.pieces.get(behind.checked_sub(1)?)
    }
}

impl<D: DiskImage> DiskImage for Extents<D> {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let mut position = offset;
        while position < self.size
            && let Some((start, range)) = self.piece(position)
        {
            let end = (start + (range.end - range.start)).min(self.size);
            let found = self.inner.next_data(range.start + (position - start))?;
            if let Some(found) = found.filter(|found| found.start < range.end) {
                let from = (found.start - range.start + start).max(position);
                let to = (found.end.min(range.end) - range.start + start).min(end);
                if from < to {
                    return Ok(Some(from..to));
                }
            }
            position = end.max(position + 1);
        }
        Ok(None)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let mut rest = buffer;
        let mut position = offset;
        while !rest.is_empty() {
            let Some((start, range)) = self.piece(position) else {
                return Err(Error::failed("a file has no piece where it is read"));
            };
            let place = range.start + (position - start);
            let length = usize::try_from(range.end - place).unwrap_or(usize::MAX).min(rest.len());
            if length == 0 {
                return Err(Error::failed("a file has an empty piece where it is read"));
            }
            let (now, later) = rest.split_at_mut(length);
            self.inner.read_at(now, place)?;
            position += length as u64;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::{Bytes, testing::content};

    #[test]
    fn pieces_make_a_file() {
        let bytes: Vec<u8> = (0..=255).collect();
        let file = Extents::new(Bytes(bytes.clone()), [10..20, 20..30, 100..110, 5..6], 31).unwrap();
        assert_eq!(file.places().collect::<Vec<_>>(), [10..30, 100..110, 5..6]);
        let expected = [&bytes[10..30], &bytes[100..110], &bytes[5..6]].concat();
        assert_eq!(content(&file).unwrap(), expected);
        assert!(Extents::new(Bytes(bytes.clone()), std::iter::once(10..20), 11).is_err());
        assert!(Extents::new(Bytes(bytes), std::iter::once(250..257), 1).is_err());
    }
}
