//! Contents that were checked before, by the hashes of their blocks.
//!
//! An image under a hash tree has each of its blocks hashed, and each content that goes in has to be checked against its
//! digest: two passes of SHA-256 over the same bytes. So what the hashes of a content's blocks come to is kept when it was
//! checked. If they come to the same again, the content is the same, and its own digest need not be made. What is kept is
//! 32 bytes for each job; the hashes themselves are made anew, because they are the check.

use std::ops::Range;
use std::sync::PoisonError;

use super::Compression;
use super::files::{JOB_BYTES, Piece, flat, own_content, read};
use super::large::{Large, Turn};
use super::piece;
use super::scan::{Node, Scan};
use super::source::{Source, changed};
use crate::error::Result;
use crate::formats::pieces::{Found, Pieces};
use crate::formats::verity::BlockHasher;
use crate::rootfs::{Content, OriginId};
use crate::store::{Digest, Hasher};

/// Parts of a file of 64 GiB. Of larger ones nothing is kept: what is kept of one file is read into memory.
const PARTS_LIMIT: u64 = 1 << 16;

/// What hashes an image's blocks, and what is known of contents.
#[derive(Clone, Debug)]
pub(super) struct Hashing<'p> {
    pub hasher: BlockHasher,
    pub seen: Option<&'p dyn Pieces>,
}

impl Hashing<'_> {
    /// What hashes of blocks and the bytes behind inodes come to.
    fn sum(hashes: &[u8], tails: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(hashes);
        hasher.field(tails);
        hasher.finish()
    }

    fn key(&self, kind: &[u8], what: &Digest) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(kind);
        hasher.field(&self.hasher.block(&[]));
        hasher.field(what.as_bytes());
        hasher.finish()
    }

    fn get(&self, key: &Digest, origin: OriginId) -> Option<Vec<Digest>> {
        let mut bytes = Vec::new();
        // What somebody else says of contents is nothing to go by.
        let whole = self.seen?.get(key, origin, &mut bytes) == Found::Whole;
        let (digests, rest) = bytes.as_chunks::<32>();
        (whole && rest.is_empty()).then(|| digests.iter().copied().map(Digest::from_bytes).collect())
    }

    fn put(&self, key: &Digest, origin: OriginId, digests: &[Digest]) -> Result<()> {
        let Some(seen) = self.seen else { return Ok(()) };
        let digests: Vec<&[u8]> = digests.iter().map(|digest| &digest.as_bytes()[..]).collect();
        seen.put(key, origin, &digests)
    }

    /// Checks the whole files of a job, which lie in blocks and tails as `pieces` say.
    pub fn check_files(
        &self,
        scan: &Scan<'_>,
        range: Range<u32>,
        hashes: &[u8],
        [blocks, tails]: [&[u8]; 2],
        pieces: &[Piece],
    ) -> Result<()> {
        let Some(first) = range.clone().find(|number| own_content(scan, *number).is_some()) else { return Ok(()) };
        let origin = scan.inode(first).origin;
        let key = self.key(b"files", &piece::key_of_files(scan, range.clone(), Compression::None));
        let sum = Hashing::sum(hashes, tails);
        if self.get(&key, origin).as_deref() == Some(&[sum]) {
            return Ok(());
        }
        check_digests(scan, range, [blocks, tails], pieces)?;
        self.put(&key, origin, &[sum])
    }

    /// Checks a part of a large file, whose turn it is.
    pub fn check_part(
        &self,
        (content, origin): (&Content, OriginId),
        node: &Node,
        turn: Turn<'_>,
        large: &Large,
        hashes: &[u8],
        [filled, tail]: [&[u8]; 2],
    ) -> Result<()> {
        let count = content.size.div_ceil(JOB_BYTES);
        let kept = count <= PARTS_LIMIT && self.seen.is_some();
        let mut of = Hasher::new();
        of.field(content.digest.as_bytes());
        of.field(&node.in_blocks().to_le_bytes());
        let key = self.key(b"parts", &of.finish());
        let sum = Hashing::sum(hashes, tail);
        let known =
            large.seen.get_or_init(|| self.get(&key, origin).filter(|parts| kept && parts.len() as u64 == count));
        let Some(known) = known else {
            let all = turn.update([filled, tail], kept.then_some(sum), content)?;
            return all.filter(|_| kept).map_or(Ok(()), |all| self.put(&key, origin, &all));
        };
        let number = (turn.offset() / JOB_BYTES) as usize;
        turn.pass();
        if known.get(number) == Some(&sum) {
            return Ok(());
        }
        // The file is damaged, or what is kept is wrong.
        let mut found = large.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() {
            let parts = self.parts(content, node)?;
            self.put(&key, origin, &parts)?;
            *found = Some(parts);
        }
        match found.as_ref().and_then(|parts| parts.get(number)) {
            Some(part) if *part == sum => Ok(()),
            _ => Err(changed(content)),
        }
    }

    /// What the parts of a large file come to, which is read as a whole and checked.
    fn parts(&self, content: &Content, node: &Node) -> Result<Vec<Digest>> {
        let (mut source, mut hasher, mut found) = (Source::default(), Hasher::new(), Vec::new());
        let (mut blocks, mut tail) = (Vec::new(), Vec::new());
        for offset in (0..content.size).step_by(JOB_BYTES as usize) {
            blocks.clear();
            tail.clear();
            let length = (content.size - offset).min(JOB_BYTES);
            read(&mut source, content, offset, length, &mut blocks)?;
            hasher.update(&blocks);
            flat(0, (node.in_blocks() - offset).min(length), &mut blocks, &mut tail);
            found.push(Hashing::sum(&self.hasher.blocks(&blocks), &tail));
        }
        if hasher.finish() == content.digest { Ok(found) } else { Err(changed(content)) }
    }
}

/// Checks whole files against their digests.
pub(super) fn check_digests(
    scan: &Scan<'_>,
    range: Range<u32>,
    [mut blocks, mut tails]: [&[u8]; 2],
    pieces: &[Piece],
) -> Result<()> {
    for (content, piece) in range.filter_map(|number| own_content(scan, number)).zip(pieces) {
        let (block, later_blocks) = blocks.split_at(piece.blocks);
        let (tail, later_tails) = tails.split_at(piece.tail);
        let mut hasher = Hasher::new();
        hasher.update(&block[..piece.filled]);
        hasher.update(tail);
        if hasher.finish() != content.digest {
            return Err(changed(content));
        }
        (blocks, tails) = (later_blocks, later_tails);
    }
    Ok(())
}
