//! Pieces that came from elsewhere, looked through before they are used.
//!
//! What is in them is inflated and compared: whole files by their digests, so that none has to be read; a part of a large
//! file byte by byte, since it was read for the digest of the whole. Everything else that a piece says must be as it is
//! written here, so that the writer can rely on it and Linux reads what was compared: lengths, places, padding, and the
//! end of each LZ4 block. Nothing larger than a job is made in memory.
//!
//! Limit: it does not show that the compressed bytes are the very ones that would be made here. Somebody could have
//! compressed the same content otherwise.

use std::ops::Range;

use super::files::{JOB_BYTES, Piece, own_content};
use super::format::{BLOCK, SLOT};
use super::index::{self, Extent};
use super::lz4;
use super::scan::{Node, Scan};
use crate::store::Hasher;

/// Whether these are the pieces of all files of a range.
pub(super) fn are_of_files(
    scan: &Scan<'_>,
    range: Range<u32>,
    (mut blocks, mut tails): (&[u8], &[u8]),
    pieces: &[Piece],
) -> bool {
    let mut pieces = pieces.iter();
    for number in range {
        let Some(content) = own_content(scan, number) else { continue };
        let Some(piece) = pieces.next() else { return false };
        let parts = (blocks.split_at_checked(piece.blocks), tails.split_at_checked(piece.tail));
        let (Some((block, more_blocks)), Some((tail, more_tails))) = parts else { return false };
        (blocks, tails) = (more_blocks, more_tails);
        let node = &scan.nodes[number as usize];
        let mut hasher = Hasher::new();
        let holds = content.size <= JOB_BYTES
            && match &piece.extents {
                Some(extents) => {
                    is_worth_it(node, piece)
                        && piece.filled == 0
                        && inflate(extents, content.size, fits(node), (block, tail), &mut |bytes| {
                            hasher.update(bytes);
                            true
                        })
                        .is_some()
                }
                None => is_flat(node, piece, (block, tail), &mut hasher),
            };
        if !holds || hasher.finish() != content.digest {
            return false;
        }
    }
    pieces.next().is_none() && blocks.is_empty() && tails.is_empty()
}

/// Whether this is the piece of a part of a file that has these bytes. `ends` is whether it is the last part.
pub(super) fn is_of_part(raw: &[u8], node: &Node, ends: bool, bytes: (&[u8], &[u8]), pieces: &[Piece]) -> bool {
    let [Piece { blocks, filled: 0, tail, extents: Some(extents) }] = pieces else { return false };
    if (bytes.0.len(), bytes.1.len()) != (*blocks, *tail) {
        return false;
    }
    let mut left = raw;
    let mut same = |bytes: &[u8]| match left.split_at_checked(bytes.len()) {
        Some((these, rest)) => {
            left = rest;
            these == bytes
        }
        None => false,
    };
    inflate(extents, raw.len() as u64, |tail| ends && fits(node)(tail), bytes, &mut same).is_some() && left.is_empty()
}

fn fits(node: &Node) -> impl Fn(u64) -> bool {
    |tail| index::tail_fits(node.fixed(), node.size, tail)
}

/// Whether a compressed file takes less room than it would otherwise: else it is not written so.
fn is_worth_it(node: &Node, piece: &Piece) -> bool {
    let compressed =
        piece.blocks as u64 + (index::end(node.fixed(), node.size) + piece.tail as u64).next_multiple_of(SLOT);
    compressed < flat_size(node)
}

/// Bytes that a file takes if it is not compressed.
pub(super) fn flat_size(node: &Node) -> u64 {
    let tail = node.size - node.in_blocks();
    node.in_blocks().next_multiple_of(BLOCK) + (node.fixed() + tail).next_multiple_of(SLOT)
}

fn is_flat(node: &Node, piece: &Piece, (blocks, tail): (&[u8], &[u8]), hasher: &mut Hasher) -> bool {
    let lengths = [piece.filled as u64, blocks.len() as u64, tail.len() as u64];
    if lengths != [node.in_blocks(), node.in_blocks().next_multiple_of(BLOCK), node.size - node.in_blocks()] {
        return false;
    }
    let Some((content, padding)) = blocks.split_at_checked(piece.filled) else { return false };
    hasher.update(content);
    hasher.update(tail);
    is_zero(padding)
}

/// Inflates a file or a part of one into `sink`. Nothing if it is not written as it would be here, or `sink` does not
/// like it.
fn inflate(
    extents: &[Extent],
    size: u64,
    fits: impl Fn(u64) -> bool,
    (blocks, tail): (&[u8], &[u8]),
    sink: &mut dyn FnMut(&[u8]) -> bool,
) -> Option<()> {
    let size = usize::try_from(size).ok()?;
    let block = BLOCK as usize;
    let mut stored = blocks.chunks_exact(block);
    let mut at = 0;
    for (number, Extent { length, plain }) in extents.iter().enumerate() {
        let (length, is_last) = (*length as usize, number + 1 == extents.len());
        let end = at + length;
        // A cluster that starts within a logical one reaches the next one.
        if length == 0 || end > size || (!is_last && at % block + length < block) {
            return None;
        }
        let is_inline = is_last && !tail.is_empty();
        let bytes = if is_inline { fits(tail.len() as u64).then_some(tail)? } else { stored.next()? };
        if *plain {
            let (content, padding) = bytes.split_at_checked(length)?;
            let is_full = if is_inline { padding.is_empty() } else { is_zero(padding) };
            (is_full && sink(content)).then_some(())?;
        } else {
            // Compressed bytes stand at the end of their block, and never start with a zero.
            let start = bytes.iter().position(|byte| *byte != 0).filter(|start| !is_inline || *start == 0)?;
            let content = lz4::decompress_strictly(bytes.get(start..)?, length)?;
            (content.len() == length && sink(&content)).then_some(())?;
        }
        at = end;
    }
    let is_all = at == size && stored.next().is_none() && stored.remainder().is_empty();
    (is_all && (!extents.is_empty() || tail.is_empty())).then_some(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
