//! What was made of a job, as it is kept for other images.
//!
//! All integers are of 32 bits, little-endian:
//!
//! ```text
//! blocks
//! tails
//! each piece: bytes of blocks, of the file among them, of its tail; number of extents, or u32::MAX if it is not compressed;
//!             each extent: its length, in the highest bit whether it is plain
//! bytes of all pieces
//! ```
//!
//! The blocks come first, so that what is kept is read to where they are needed.

use std::ops::Range;

use super::Compression;
use super::files::{Piece, own_content};
use super::index::Extent;
use super::scan::{Node, Scan};
use crate::store::{Digest, Hasher};

/// In the place of a number of extents: the file is not compressed.
const NONE: u32 = u32::MAX;
/// In the length of an extent, which is at most that of a job.
const PLAIN: u32 = 1 << 31;

fn key(compression: Compression) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.field(match compression {
        Compression::None => b"none",
        Compression::Lz4Fast => b"fast",
        Compression::Lz4 => b"best",
    });
    hasher
}

/// The key of whole files: their contents, and the room that their inodes leave for tails. Nothing is read: what is kept
/// was made from contents that were what their digests say.
pub(super) fn key_of_files(scan: &Scan<'_>, range: Range<u32>, compression: Compression) -> Digest {
    let mut hasher = key(compression);
    for number in range {
        let Some(content) = own_content(scan, number) else { continue };
        hasher.update(content.digest.as_bytes());
        hasher.update(&content.size.to_le_bytes());
        hasher.update(&scan.nodes[number as usize].fixed().to_le_bytes());
    }
    hasher.finish()
}

/// The key of a part of a file: its bytes. Whether they are those of the file is seen only when all parts were read.
pub(super) fn key_of_part(raw: &[u8], node: &Node, ends: bool, compression: Compression) -> Digest {
    let mut hasher = key(compression);
    hasher.field(b"part");
    if ends {
        hasher.update(&node.fixed().to_le_bytes());
        hasher.update(&node.size.to_le_bytes());
    }
    hasher.field(raw);
    hasher.finish()
}

/// Everything but the blocks.
pub(super) fn encode(pieces: &[Piece], tails: &[u8]) -> Vec<u8> {
    let mut bytes = tails.to_vec();
    let mut put = |value: usize| bytes.extend_from_slice(&(value as u32).to_le_bytes());
    for piece in pieces {
        put(piece.blocks);
        put(piece.filled);
        put(piece.tail);
        put(piece.extents.as_ref().map_or(NONE as usize, Vec::len));
        for extent in piece.extents.iter().flatten() {
            put((extent.length | if extent.plain { PLAIN } else { 0 }) as usize);
        }
    }
    let size = bytes.len() - tails.len();
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    bytes
}

/// Takes `blocks`, which is what is kept, apart: nothing but the blocks stays. Returns whether all of it is there.
pub(super) fn decode(blocks: &mut Vec<u8>, tails: &mut Vec<u8>, pieces: &mut Vec<Piece>) -> bool {
    let Some((found, length)) = parse(blocks) else { return false };
    let sum = |part: fn(&Piece) -> usize| found.iter().map(part).fold(0, usize::saturating_add);
    let (block_bytes, tail_bytes) = (sum(|piece| piece.blocks), sum(|piece| piece.tail));
    let Some(tail) = blocks.get(block_bytes..length).filter(|tail| tail.len() == tail_bytes) else { return false };
    tails.extend_from_slice(tail);
    blocks.truncate(block_bytes);
    pieces.extend(found);
    true
}

/// The pieces, and where what stands in front of them ends.
fn parse(bytes: &[u8]) -> Option<(Vec<Piece>, usize)> {
    let (rest, size) = bytes.split_last_chunk::<4>()?;
    let length = rest.len().checked_sub(u32::from_le_bytes(*size) as usize)?;
    let mut words = rest.get(length..)?.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    let mut pieces = Vec::new();
    while let Some(blocks) = words.next() {
        let [filled, tail] = [words.next()? as usize, words.next()? as usize];
        let extents = match words.next()? {
            NONE => None,
            count => {
                let extent = |value: u32| Extent { length: value & !PLAIN, plain: value & PLAIN != 0 };
                let extents: Vec<_> = words.by_ref().take(count as usize).map(extent).collect();
                Some(extents).filter(|extents| extents.len() == count as usize)
            }
        };
        pieces.push(Piece { blocks: blocks as usize, filled, tail, extents });
    }
    Some((pieces, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let extent = |length, plain| Extent { length, plain };
        let pieces = vec![
            Piece { blocks: 8, filled: 0, tail: 3, extents: Some(vec![extent(4096, true), extent(9, false)]) },
            Piece { blocks: 0, filled: 0, tail: 0, extents: Some(Vec::new()) },
            Piece { blocks: 4, filled: 2, tail: 1, extents: None },
        ];
        let mut bytes = b"blocks......".to_vec();
        bytes.extend_from_slice(&encode(&pieces, b"abcd"));
        for length in 0..bytes.len() {
            let (mut cut, mut tails, mut found) = (bytes[..length].to_vec(), Vec::new(), Vec::new());
            assert!(!decode(&mut cut, &mut tails, &mut found), "{length}");
        }
        let (mut tails, mut found) = (Vec::new(), Vec::new());
        assert!(decode(&mut bytes, &mut tails, &mut found));
        assert_eq!((bytes.as_slice(), tails.as_slice()), (&b"blocks......"[..], &b"abcd"[..]));
        assert_eq!(format!("{found:?}"), format!("{pieces:?}"));
    }
}
