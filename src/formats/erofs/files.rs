//! The data of files: cut into jobs for several threads, read, and checked against its digest.

use std::ops::Range;
use std::sync::Arc;

use super::Compression;
use super::compress::Compressor;
use super::foreign::{self, flat_size};
use super::format::{BLOCK, SLOT};
use super::index::{self, Extent};
use super::large::Large;
use super::piece;
use super::scan::{Node, Scan};
use super::seen::{Hashing, check_digests};
use super::source::{Source, changed};
use crate::error::Result;
use crate::formats::pieces::{Found, Pieces};
use crate::rootfs::{Content, Kind, OriginId};
use crate::store::Digest;

/// Bytes that one job reads; a larger file is several jobs. Larger ones cost memory, smaller ones time.
pub(super) const JOB_BYTES: u64 = 1 << 20;
/// Inodes in one job at most, so that many empty files are not one job.
const JOB_NODES: u32 = 1024;
/// How much of a large file is tried.
const SAMPLES: u64 = 8;
const SAMPLE_BYTES: u64 = 8 * BLOCK;

/// What one thread does at a time.
#[derive(Debug)]
pub(super) enum Job {
    /// All inodes of a range but folders.
    Nodes(Range<u32>),
    /// A part of a file larger than [`JOB_BYTES`], from an offset on, and what the file's parts have in common.
    Part(u32, u64, Arc<Large>),
}

/// What became of a job.
#[derive(Debug)]
pub(super) struct Done {
    /// The job.
    pub job: Job,
    /// The blocks of all files with data of their own, one after the other, each file's last block padded.
    pub blocks: Vec<u8>,
    /// What goes behind inodes.
    pub tails: Vec<u8>,
    /// The files.
    pub pieces: Vec<Piece>,
    /// The hashes of the blocks, if they are wanted.
    pub hashes: Vec<u8>,
    /// A buffer to be used again.
    pub raw: Vec<u8>,
}

/// Memory for a job, used again and again: what one thread gives back another one's allocator would not reuse.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    blocks: Vec<u8>,
    raw: Vec<u8>,
}

impl Done {
    /// Gives the memory back.
    pub fn buffers(self) -> Buffers {
        Buffers { blocks: self.blocks, raw: self.raw }
    }
}

/// What was made of a file or a part of one.
#[derive(Debug)]
pub(super) struct Piece {
    /// Bytes of blocks, a multiple of the block size.
    pub blocks: usize,
    /// Bytes of the file among them, if it is not compressed.
    pub filled: usize,
    /// Bytes that go behind the inode.
    pub tail: usize,
    /// The parts of a compressed file.
    pub extents: Option<Vec<Extent>>,
}

/// The jobs of a tree, in the order of its inodes.
pub(super) fn jobs<'s>(scan: &'s Scan<'_>) -> impl Iterator<Item = Job> + Send + use<'s> {
    let count = scan.nodes.len() as u32;
    let (mut next, mut offset) = (0, 0);
    let mut large = Arc::<Large>::default();
    std::iter::from_fn(move || {
        if next >= count {
            return None;
        }
        let own = own_bytes(scan, next);
        if own > JOB_BYTES {
            let part = Job::Part(next, offset, large.clone());
            offset += JOB_BYTES;
            if offset >= own {
                (next, offset) = (next + 1, 0);
                large = Arc::default();
            }
            return Some(part);
        }
        let start = next;
        let mut bytes = 0;
        while next < count && next - start < JOB_NODES {
            bytes += own_bytes(scan, next).next_multiple_of(BLOCK);
            if bytes > JOB_BYTES && next > start {
                break;
            }
            next += 1;
            if bytes > JOB_BYTES / 4 && ends_job(scan, next - 1) {
                break;
            }
        }
        Some(Job::Nodes(start..next))
    })
}

/// Whether a job ends behind an inode. The content says so, not the place, so that after a change somewhere the jobs
/// further on are those of before, and their pieces are found. One file of eight ends one.
fn ends_job(scan: &Scan<'_>, number: u32) -> bool {
    own_content(scan, number).is_some_and(|content| content.digest.as_bytes()[0].is_multiple_of(8))
}

/// Bytes of a file that no other one has before it.
fn own_bytes(scan: &Scan<'_>, number: u32) -> u64 {
    own_content(scan, number).map_or(0, |content| content.size)
}

/// The origin of the first content of a range.
fn origin(scan: &Scan<'_>, mut range: Range<u32>) -> Option<OriginId> {
    range.find(|number| own_content(scan, *number).is_some()).map(|number| scan.inode(number).origin)
}

/// The content of a file that no other one has before it.
pub(super) fn own_content<'t>(scan: &Scan<'t>, number: u32) -> Option<&'t Content> {
    match &scan.inode(number).kind {
        Kind::File(content) if scan.nodes[number as usize].same_as == number => Some(content),
        _ => None,
    }
}

/// What one thread keeps.
#[derive(Debug)]
pub(super) struct Worker<'p> {
    source: Source,
    compression: Compression,
    compressor: Option<Compressor>,
    pieces: Option<&'p dyn Pieces>,
    hashing: Option<Hashing<'p>>,
}

impl<'p> Worker<'p> {
    /// A thread's reader and compressor.
    pub fn new(compression: Compression, pieces: Option<&'p dyn Pieces>, hashing: Option<Hashing<'p>>) -> Worker<'p> {
        let (source, compressor) = (Source::default(), Compressor::new(compression));
        Worker { source, compression, compressor, pieces, hashing }
    }

    /// The hashes of whole blocks, if they are wanted.
    fn hashes(&self, blocks: &[u8]) -> Option<Vec<u8>> {
        self.hashing.as_ref().map(|hashing| hashing.hasher.blocks(blocks))
    }

    /// Does a job in a buffer that was used before. Contents are checked against their digests.
    pub fn work(&mut self, scan: &Scan<'_>, buffers: Buffers, job: Job) -> Result<Done> {
        let Buffers { mut blocks, mut raw } = buffers;
        blocks.clear();
        raw.clear();
        // In full at once: growing by doubling would take twice as much.
        blocks.reserve_exact((JOB_BYTES + BLOCK) as usize);
        if self.compressor.is_some() {
            raw.reserve_exact(JOB_BYTES as usize);
        }
        let (mut tails, mut pieces, mut hashes) = (Vec::new(), Vec::new(), None);
        match &job {
            Job::Nodes(range) if self.compressor.is_none() => {
                for number in range.clone() {
                    let Some(content) = own_content(scan, number) else { continue };
                    let start = blocks.len();
                    read(&mut self.source, content, 0, content.size, &mut blocks)?;
                    pieces.push(flat(start, scan.nodes[number as usize].in_blocks(), &mut blocks, &mut tails));
                }
                hashes = self.hashes(&blocks);
                match (&self.hashing, &hashes) {
                    (Some(hashing), Some(hashes)) => {
                        hashing.check_files(scan, range.clone(), hashes, [&blocks, &tails], &pieces)?;
                    }
                    _ => check_digests(scan, range.clone(), [&blocks, &tails], &pieces)?,
                }
            }
            Job::Nodes(range) => {
                let key = Some(piece::key_of_files(scan, range.clone(), self.compression));
                let key = key.zip(origin(scan, range.clone()));
                let is_right = |blocks: &[u8], tails: &[u8], pieces: &[Piece]| {
                    foreign::are_of_files(scan, range.clone(), (blocks, tails), pieces)
                };
                if !self.take(key, &mut blocks, &mut tails, &mut pieces, is_right)? {
                    for number in range.clone() {
                        let Some(content) = own_content(scan, number) else { continue };
                        let node = &scan.nodes[number as usize];
                        pieces.push(self.file(node, content, &mut raw, &mut blocks, &mut tails)?);
                    }
                    self.keep(key, &blocks, &tails, &pieces)?;
                }
            }
            Job::Part(number, offset, large) => {
                if let Some(content) = own_content(scan, *number) {
                    let node = &scan.nodes[*number as usize];
                    let length = (content.size - offset).min(JOB_BYTES);
                    let packs = *large.compressed.get_or_init(|| self.gets_smaller(content, &mut raw));
                    raw.clear();
                    if packs {
                        let turn = large.turn(*offset);
                        read(&mut self.source, content, *offset, length, &mut raw)?;
                        turn.update([&raw, &[]], None, content)?;
                        let ends = offset + length == content.size;
                        let key = self.pieces.map(|_| piece::key_of_part(&raw, node, ends, self.compression));
                        let key = key.map(|key| (key, scan.inode(*number).origin));
                        let is_right = |blocks: &[u8], tails: &[u8], pieces: &[Piece]| {
                            foreign::is_of_part(&raw, node, ends, (blocks, tails), pieces)
                        };
                        if !self.take(key, &mut blocks, &mut tails, &mut pieces, is_right)?
                            && let Some(compressor) = &mut self.compressor
                        {
                            let fits = |tail| ends && index::tail_fits(node.fixed(), node.size, tail);
                            let made = compressor.compress(&raw, fits, &mut blocks, &mut tails);
                            let (size, tail) = (blocks.len(), made.tail);
                            pieces.push(Piece { blocks: size, filled: 0, tail, extents: Some(made.extents) });
                            self.keep(key, &blocks, &tails, &pieces)?;
                        }
                    } else {
                        let turn = large.turn(*offset);
                        read(&mut self.source, content, *offset, length, &mut blocks)?;
                        let filled = (node.in_blocks() - offset).min(length);
                        let piece = flat(0, filled, &mut blocks, &mut tails);
                        hashes = self.hashes(&blocks);
                        let bytes = [blocks.get(..piece.filled).unwrap_or_default(), &tails];
                        match (&self.hashing, &hashes) {
                            (Some(hashing), Some(hashes)) => {
                                hashing.check_part(
                                    (content, scan.inode(*number).origin),
                                    node,
                                    turn,
                                    large,
                                    hashes,
                                    bytes,
                                )?;
                            }
                            _ => drop(turn.update(bytes, None, content)?),
                        }
                        pieces.push(piece);
                    }
                }
            }
        }
        let hashes = hashes.or_else(|| self.hashes(&blocks)).unwrap_or_default();
        Ok(Done { job, blocks, tails, pieces, hashes, raw })
    }

    /// Takes what was made of the same before into empty buffers. Returns whether it is there. What somebody else made
    /// must be what it should be by `is_right`.
    fn take(
        &self,
        key: Option<(Digest, OriginId)>,
        blocks: &mut Vec<u8>,
        tails: &mut Vec<u8>,
        pieces: &mut Vec<Piece>,
        is_right: impl Fn(&[u8], &[u8], &[Piece]) -> bool,
    ) -> Result<bool> {
        let (Some(kept), Some((key, origin))) = (self.pieces, key) else { return Ok(false) };
        let found = kept.get(&key, origin, blocks);
        if found != Found::Nothing {
            let is_whole = piece::decode(blocks, tails, pieces);
            if is_whole && found == Found::Whole {
                return Ok(true);
            }
            if is_whole && is_right(blocks, tails, pieces) {
                kept.accept(&key, origin, &[blocks, &piece::encode(pieces, tails)])?;
                return Ok(true);
            }
            if found == Found::Foreign {
                kept.refuse(origin);
            }
        }
        blocks.clear();
        tails.clear();
        pieces.clear();
        Ok(false)
    }

    /// Keeps what was made for other images.
    fn keep(&self, key: Option<(Digest, OriginId)>, blocks: &[u8], tails: &[u8], pieces: &[Piece]) -> Result<()> {
        let (Some(kept), Some((key, origin))) = (self.pieces, key) else { return Ok(()) };
        kept.put(&key, origin, &[blocks, &piece::encode(pieces, tails)])
    }

    /// Compresses a file where that makes it smaller.
    fn file(
        &mut self,
        node: &Node,
        content: &Content,
        raw: &mut Vec<u8>,
        blocks: &mut Vec<u8>,
        tails: &mut Vec<u8>,
    ) -> Result<Piece> {
        let start = blocks.len();
        raw.clear();
        read(&mut self.source, content, 0, content.size, raw)?;
        if Digest::of(raw) != content.digest {
            return Err(changed(content));
        }
        if let Some(compressor) = &mut self.compressor {
            let first_tail = tails.len();
            let fits = |tail| index::tail_fits(node.fixed(), node.size, tail);
            let made = compressor.compress(raw, fits, blocks, tails);
            let with_index = index::end(node.fixed(), node.size) + made.tail as u64;
            let size = (blocks.len() - start) as u64 + with_index.next_multiple_of(SLOT);
            if size < flat_size(node) {
                let blocks = blocks.len() - start;
                return Ok(Piece { blocks, filled: 0, tail: made.tail, extents: Some(made.extents) });
            }
            blocks.truncate(start);
            tails.truncate(first_tail);
        }
        blocks.extend_from_slice(raw);
        Ok(flat(start, node.in_blocks(), blocks, tails))
    }

    /// Whether a large file is compressed: samples of it get smaller. Its first part is written before the last one is
    /// read, so this cannot wait for the result. What cannot be read fails later.
    fn gets_smaller(&mut self, content: &Content, raw: &mut Vec<u8>) -> bool {
        let Some(compressor) = &mut self.compressor else { return false };
        let (mut read_bytes, mut blocks) = (0, Vec::new());
        for sample in 0..SAMPLES {
            raw.clear();
            let offset = (content.size - SAMPLE_BYTES) / (SAMPLES - 1) * sample;
            if read(&mut self.source, content, offset, SAMPLE_BYTES, raw).is_err() {
                return true;
            }
            compressor.compress(raw, |_| false, &mut blocks, &mut Vec::new());
            read_bytes += raw.len();
        }
        blocks.len() * 100 < read_bytes * 98
    }

    /// The end of a file whose blocks another one has: the bytes behind its inode, from an offset on.
    pub fn tail(&mut self, content: &Content, offset: u64, compressed: bool) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        read(&mut self.source, content, offset, content.size - offset, &mut bytes)?;
        if compressed && let Some(compressor) = &mut self.compressor {
            let mut tail = Vec::new();
            compressor.compress(&bytes, |_| true, &mut Vec::new(), &mut tail);
            return Ok(tail);
        }
        Ok(bytes)
    }
}

/// Appends a part of a content.
pub(super) fn read(
    source: &mut Source,
    content: &Content,
    offset: u64,
    length: u64,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let start = bytes.len();
    bytes.reserve_exact(length as usize);
    bytes.resize(start + length as usize, 0);
    source.read(content, offset, &mut bytes[start..])
}

/// Moves what is behind the first `filled` bytes to the tails, and pads the last block.
pub(super) fn flat(start: usize, filled: u64, blocks: &mut Vec<u8>, tails: &mut Vec<u8>) -> Piece {
    let filled = filled as usize;
    let tail = blocks.len() - start - filled;
    tails.extend_from_slice(&blocks[start + filled..]);
    let padded = filled.next_multiple_of(BLOCK as usize);
    blocks.truncate(start + filled);
    blocks.resize(start + padded, 0);
    Piece { blocks: padded, filled, tail, extents: None }
}
