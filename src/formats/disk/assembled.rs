//! A disk of which large parts lie in files of their own.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{DiskImage, RawFile, check_range};
use crate::error::{IoContext, Result};
use crate::formats::source::FilePart;

/// A disk: parts that are files, in their order, and what lies around them, which has holes in their place.
#[derive(Debug)]
pub struct Assembled<'a> {
    /// What lies around the files; as large as the disk.
    pub around: RawFile,
    /// The files.
    pub files: Vec<FilePart<'a>>,
}

impl DiskImage for Assembled<'_> {
    fn size(&self) -> u64 {
        self.around.size()
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let around = self.around.next_data(offset)?;
        let part = self.files.iter().find(|part| part.offset + part.size > offset && part.size > 0);
        let part = part.map(|part| part.offset.max(offset)..part.offset + part.size);
        Ok(match (around, part) {
            (Some(around), Some(part)) if around.start < part.start => Some(around),
            (around, part) => part.or(around),
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let (mut rest, mut position) = (buffer, offset);
        while !rest.is_empty() {
            // The file that this is in, or the next one behind it.
            let part = self.files.iter().find(|part| part.offset + part.size > position && part.size > 0);
            let inside = part.filter(|part| part.offset <= position);
            let end = match (inside, part) {
                (Some(part), _) => part.offset + part.size,
                (None, Some(part)) => part.offset,
                (None, None) => u64::MAX,
            };
            let count = usize::try_from(end - position).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            match inside {
                Some(part) => {
                    part.file.read_exact_at(now, part.from + (position - part.offset)).at("reading", part.path)?
                }
                None => self.around.read_at(now, position)?,
            }
            (rest, position) = (later, position + count as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::formats::disk::testing;

    #[test]
    fn files_lie_where_they_belong() {
        let file = |pieces: &[(u64, &[u8])], length: u64| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            for (offset, bytes) in pieces {
                file.as_file().write_all_at(bytes, *offset).unwrap();
            }
            file.flush().unwrap();
            file.as_file().set_len(length).unwrap();
            file
        };
        let (one, other) = (file(&[(0, &[1; 5000])], 5000), file(&[(0, &[2; 8192])], 8192));
        let around = file(&[(0, &[3; 100]), (99_999, &[4])], 100_000);
        let mut expected = vec![0; 100_000];
        expected[..100].fill(3);
        expected[99_999] = 4;
        expected[8192..13_192].fill(1);
        expected[40_960..49_152].fill(2);
        let part = |offset, size, file: &'static tempfile::NamedTempFile| FilePart {
            offset,
            size,
            from: 0,
            file: file.as_file(),
            path: Path::new("part"),
        };
        let (one, other): (&'static _, &'static _) = (Box::leak(Box::new(one)), Box::leak(Box::new(other)));
        let disk = Assembled {
            around: RawFile::open(around.path()).unwrap(),
            files: vec![part(8192, 5000, one), part(40_960, 8192, other)],
        };
        assert_eq!(testing::content(&disk).unwrap(), expected);
        for (start, end) in [(0, 100_000), (8000, 14_000), (9000, 9001), (13_192, 40_961), (49_151, 49_153)] {
            let mut bytes = vec![9; end - start];
            disk.read_at(&mut bytes, start as u64).unwrap();
            assert!(bytes == expected[start..end], "{start}..{end}");
        }
        assert!(disk.read_at(&mut [0; 2], 99_999).is_err());
    }
}
