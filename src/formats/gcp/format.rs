//! The old GNU form of a sparse file in a tar (GNU tar manual, "Basic Tar Format" and "Old GNU Format").

use crate::error::{Error, Result};
use crate::formats::disk::put;

/// Bytes of a tar block.
pub const BLOCK: usize = 512;
/// Runs in the header and in each extension behind it.
const IN_HEADER: usize = 4;
const IN_EXTENSION: usize = 21;
/// The one name that the import takes.
const NAME: &[u8] = b"disk.raw";

/// A run of data: offset in the disk and length.
pub type Run = (u64, u64);

/// The header and its extensions. `runs` are in order; `size` is the disk's.
pub fn encode(size: u64, runs: &[Run], time: i64) -> Vec<u8> {
    let stored: u64 = runs.iter().map(|(_, length)| length).sum();
    let mut map = runs.to_vec();
    // A hole at the end is told by an empty run behind it.
    if runs.last().is_none_or(|(offset, length)| offset + length < size) {
        map.push((size, 0));
    }
    let mut header = vec![0; BLOCK];
    put(&mut header, 0, NAME);
    number(&mut header[100..108], 0o644);
    number(&mut header[108..116], 0);
    number(&mut header[116..124], 0);
    number(&mut header[124..136], stored);
    number(&mut header[136..148], time.max(0).cast_unsigned());
    header[156] = b'S';
    put(&mut header, 257, b"ustar  \0");
    let (first, rest) = map.split_at(map.len().min(IN_HEADER));
    put_runs(&mut header[386..482], first);
    header[482] = u8::from(!rest.is_empty());
    number(&mut header[483..495], size);
    seal(&mut header);
    let extensions = rest.chunks(IN_EXTENSION).count();
    for (index, runs) in rest.chunks(IN_EXTENSION).enumerate() {
        let mut extension = [0; BLOCK];
        put_runs(&mut extension[..504], runs);
        extension[504] = u8::from(index + 1 < extensions);
        header.extend(extension);
    }
    header
}

/// Reads a header and its extensions, which `next` gives block by block. Returns the disk's size and its runs, all
/// in order and within the disk; at most `most` runs.
pub fn decode(mut next: impl FnMut() -> Result<[u8; BLOCK]>, most: usize) -> Result<(u64, Vec<Run>)> {
    let refuse = |what: &str| Err(Error::refused(format!("the image for GCP {what}")));
    let header = next()?;
    if field(&header[148..156]) != Some(checksum(&header)) {
        return refuse("does not start with a tar header");
    }
    if header[..100].split(|byte| *byte == 0).next() != Some(NAME) {
        return refuse("holds another file than disk.raw");
    }
    let stored = field(&header[124..136]);
    let (size, mut runs) = match header[156] {
        b'S' => (field(&header[483..495]), runs_of(&header[386..482])?),
        // Not sparse: all of it is one run.
        b'0' | 0 => (stored, stored.map(|size| (0, size)).into_iter().collect()),
        _ => return refuse("holds no plain file"),
    };
    let mut more = header[156] == b'S' && header[482] != 0;
    while more {
        let block = next()?;
        runs.extend(runs_of(&block[..504])?);
        if runs.len() > most {
            return refuse("has too many holes");
        }
        more = block[504] != 0;
    }
    let (Some(size), Some(stored)) = (size, stored) else { return refuse("has a size that is no number") };
    let mut end = 0;
    let mut sum = 0;
    for (offset, length) in &runs {
        match offset.checked_add(*length) {
            Some(next) if *offset >= end && next <= size => end = next,
            _ => return refuse("has a map of holes that is out of order"),
        }
        sum += length;
    }
    if sum != stored {
        return refuse("has a map of holes that does not fit its size");
    }
    Ok((size, runs))
}

fn put_runs(place: &mut [u8], runs: &[Run]) {
    for (slot, (offset, length)) in place.chunks_exact_mut(24).zip(runs) {
        number(&mut slot[..12], *offset);
        number(&mut slot[12..], *length);
    }
}

fn runs_of(place: &[u8]) -> Result<Vec<Run>> {
    let used = place.chunks_exact(24).take_while(|slot| slot[12] != 0 || slot[0] != 0);
    used.map(|slot| field(&slot[..12]).zip(field(&slot[12..])))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::refused("the image for GCP has a map of holes with something else than numbers"))
}

/// Octal digits and a closing zero, or, where they do not suffice, GNU's base 256 with the highest bit set.
fn number(place: &mut [u8], value: u64) {
    let digits = place.len() - 1;
    if value >> (3 * digits) == 0 {
        let text = format!("{value:0digits$o}");
        put(place, 0, text.as_bytes());
    } else {
        let at = place.len() - 8;
        put(place, at, &value.to_be_bytes());
        place[0] |= 0x80;
    }
}

fn field(place: &[u8]) -> Option<u64> {
    if place[0] & 0x80 != 0 && place.len() == 12 {
        let value = u64::from_be_bytes(place[4..].try_into().ok()?);
        return (place[..4] == [0x80, 0, 0, 0]).then_some(value);
    }
    let text = str::from_utf8(place).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

fn checksum(header: &[u8]) -> u64 {
    header.iter().enumerate().map(|(i, b)| u64::from(if (148..156).contains(&i) { b' ' } else { *b })).sum()
}

/// Places a header's checksum.
pub fn seal(header: &mut [u8]) {
    let sum = checksum(header);
    put(header, 148, format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for count in [0u64, 1, 3, 4, 5, 24, 25, 26, 60] {
            let runs: Vec<Run> = (0..count).map(|i| (i * (1 << 30), 512 + i)).collect();
            let size = 70 << 30;
            let bytes = encode(size, &runs, 5);
            let mut blocks = bytes.chunks_exact(BLOCK);
            let next = || Ok(blocks.next().unwrap().try_into().unwrap());
            let (found_size, mut found) = decode(next, 100).unwrap();
            assert_eq!(found.pop(), Some((size, 0)));
            assert_eq!((found_size, found), (size, runs));
            assert_eq!(blocks.count(), 0);
        }
    }
}
