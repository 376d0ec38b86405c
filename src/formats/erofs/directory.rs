//! The content of folders: blocks of entries sorted by name in byte order, `.` and `..` among them. A block has its
//! entries first, then their names; the last block ends with its last name.

use std::ops::Range;

use super::format::{BLOCK, DIRENT_SIZE, FileType};

/// A name and the number of its inode in the scan.
pub(super) type Entry<'t> = (&'t [u8], u32);

/// Sorts a folder's names, `.` and `..` added. "!" sorts before them, so they are not always the first.
pub(super) fn entries<'t>(names: impl Iterator<Item = Entry<'t>>, own: u32, parent: u32) -> Vec<Entry<'t>> {
    let mut entries: Vec<Entry<'t>> = [(b".".as_slice(), own), (b"..".as_slice(), parent)].into_iter().collect();
    entries.extend(names);
    entries.sort_unstable();
    entries
}

fn length(entry: &Entry<'_>) -> usize {
    DIRENT_SIZE + entry.0.len()
}

/// The entries of each block.
fn blocks(entries: &[Entry<'_>]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = start;
        let mut filled = 0;
        while let Some(entry) = entries.get(start).filter(|entry| filled + length(entry) <= BLOCK as usize) {
            filled += length(entry);
            start += 1;
        }
        (first < start).then_some(first..start)
    })
}

/// Bytes of a folder.
pub(super) fn size(entries: &[Entry<'_>]) -> u64 {
    let last = blocks(entries).enumerate().last();
    last.map_or(0, |(at, range)| at as u64 * BLOCK + entries[range].iter().map(length).sum::<usize>() as u64)
}

/// The folder's bytes; `inode` gives the nid and type of an inode of the scan.
pub(super) fn encode(entries: &[Entry<'_>], inode: impl Fn(u32) -> (u64, FileType)) -> Vec<u8> {
    let mut out = Vec::new();
    for range in blocks(entries) {
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        let entries = &entries[range];
        let mut name_at = entries.len() * DIRENT_SIZE;
        for (name, number) in entries {
            let (nid, kind) = inode(*number);
            out.extend_from_slice(&nid.to_le_bytes());
            // Below 4096, since all fits into a block.
            out.extend_from_slice(&(name_at as u16).to_le_bytes());
            out.extend_from_slice(&[kind as u8, 0]);
            name_at += name.len();
        }
        for (name, _) in entries {
            out.extend_from_slice(name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_folder() {
        let entries = entries([(b"b".as_slice(), 5), (b"!".as_slice(), 4)].into_iter(), 2, 1);
        let bytes = encode(&entries, |number| (u64::from(number) * 16, FileType::Regular));
        assert_eq!(bytes.len() as u64, size(&entries));
        assert_eq!(&bytes[..12], [64, 0, 0, 0, 0, 0, 0, 0, 48, 0, 1, 0]);
        assert_eq!(&bytes[12..24], [32, 0, 0, 0, 0, 0, 0, 0, 49, 0, 1, 0]);
        assert_eq!(&bytes[48..], b"!...b");
    }

    #[test]
    fn a_large_folder_fills_blocks() {
        let names: Vec<Vec<u8>> = (0..200).map(|n| format!("{n:0200}").into_bytes()).collect();
        let entries = entries(names.iter().map(|name| (name.as_slice(), 3)), 1, 1);
        let bytes = encode(&entries, |_| (1, FileType::Regular));
        assert_eq!(bytes.len() as u64, size(&entries));
        // ".", ".." and 19 names fill a block, then 19 of 212 bytes each.
        assert_eq!(u16::from_le_bytes([bytes[8], bytes[9]]), 21 * 12);
        assert_eq!(u16::from_le_bytes([bytes[4104], bytes[4105]]), 19 * 12);
        assert_eq!(bytes.len(), 10 * 4096 + (200 - 19 * 10) * 212);
    }
}
