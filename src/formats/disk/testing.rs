//! Disks for tests of all formats.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Bytes, DiskImage, Output, check_range};
use crate::error::Result;

/// A disk with holes, made from pieces.
#[derive(Debug)]
pub struct Pattern {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Pattern {
    pub fn new(size: u64, pieces: Vec<(u64, Vec<u8>)>) -> Pattern {
        Pattern { size, pieces }
    }

    /// 9 MiB and 3 sectors: text, bytes that do not compress, zeros inside data, single sectors at odd places, a
    /// hole of some MiB, and data in the last sector.
    pub fn sample() -> Pattern {
        let text: Vec<u8> = (0..200_000).map(|i| b"moby "[i % 5]).collect();
        let mut state = 1u32;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as u8
            })
            .collect();
        let size = (9 << 20) + 1536;
        let mut gap = vec![0; 140_000];
        gap[139_999] = 7;
        let pieces = vec![
            (0, b"first".to_vec()),
            (65_536, text),
            (1 << 20, noise),
            ((2 << 20) + 4096, gap),
            ((3 << 20) - 1, b"xy".to_vec()),
            (size - 3, b"end".to_vec()),
        ];
        Pattern { size, pieces }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        self.read_at(&mut bytes, 0).unwrap();
        bytes
    }
}

impl DiskImage for Pattern {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let found = self.pieces.iter().find(|(at, bytes)| at + bytes.len() as u64 > offset);
        Ok(found.map(|(at, bytes)| (*at).max(offset)..at + bytes.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        buffer.fill(0);
        for (at, bytes) in &self.pieces {
            let start = (*at).max(offset);
            let end = (at + bytes.len() as u64).min(offset + buffer.len() as u64);
            if start < end {
                buffer[(start - offset) as usize..(end - offset) as usize]
                    .copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]);
            }
        }
        Ok(())
    }
}

/// What a writer leaves in its file.
pub fn written(write: impl FnOnce(Output<'_>) -> Result<u64>) -> Vec<u8> {
    let file = tempfile::tempfile().unwrap();
    let length = write(Output::new(&file, Path::new("test")).unwrap()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), length, "the length that the writer says");
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The same bytes with 1, 2 and 16 threads, and with and without known holes.
pub fn same_bytes_always(write: impl Fn(&dyn DiskImage, Output<'_>) -> Result<u64> + Send + Sync) -> Vec<u8> {
    let pattern = Pattern::sample();
    let whole = Bytes(pattern.bytes());
    let first = written(|output| write(&pattern, output));
    for threads in [1, 2, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| written(|output| write(&whole, output)));
        assert!(again == first, "other bytes with {threads} threads and no holes");
    }
    first
}

/// All bytes of a disk, read through `next_data`, in pieces that do not fit its blocks.
pub fn content(disk: &dyn DiskImage) -> Result<Vec<u8>> {
    let mut bytes = vec![0; disk.size() as usize];
    let mut position = 0;
    while let Some(range) = disk.next_data(position)? {
        assert!(range.start >= position && range.start < range.end && range.end <= disk.size(), "{range:?}");
        for start in (range.start..range.end).step_by(100_001) {
            let end = range.end.min(start + 100_001);
            disk.read_at(&mut bytes[start as usize..end as usize], start)?;
        }
        position = range.end;
    }
    Ok(bytes)
}

/// Opens damaged forms of a container and reads all of what opens: any error is right, a panic is not.
pub fn survives(
    container: &[u8],
    ruin: &[(usize, u8)],
    cut: usize,
    open: impl Fn(Bytes) -> Result<Box<dyn DiskImage>>,
) {
    let mut bytes = container.to_vec();
    for (at, value) in ruin {
        let at = at % bytes.len();
        bytes[at] = *value;
    }
    bytes.truncate(bytes.len() - cut % bytes.len());
    let Ok(disk) = open(Bytes(bytes)) else { return };
    let mut buffer = vec![0; 70_000];
    let mut position = 0;
    for _ in 0..64 {
        match disk.next_data(position) {
            Ok(Some(range)) => {
                assert!(range.start >= position && range.start < range.end && range.end <= disk.size(), "{range:?}");
                let count = buffer.len().min((range.end - range.start) as usize);
                let _ = disk.read_at(&mut buffer[..count], range.start);
                position = range.end;
            }
            _ => break,
        }
    }
}
