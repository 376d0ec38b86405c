//! The data of files: cut into jobs for several threads, read, and checked against its digest.

use std::ops::Range;

use super::format::BLOCK;
use super::scan::Scan;
use super::source::{Source, changed};
use crate::error::Result;
use crate::rootfs::{Content, Kind};
use crate::store::Digest;

/// Bytes that one job reads; a larger file is several jobs. Larger ones cost memory, smaller ones time.
pub(super) const JOB_BYTES: u64 = 1 << 20;
/// Inodes in one job at most, so that many empty files are not one job.
const JOB_NODES: u32 = 1024;

/// What one thread does at a time.
#[derive(Debug)]
pub(super) enum Job {
    /// All inodes of a range but folders.
    Nodes(Range<u32>),
    /// A part of a file larger than [`JOB_BYTES`], from an offset on.
    Part(u32, u64),
}

/// What became of a job.
#[derive(Debug)]
pub(super) struct Done {
    /// The job.
    pub job: Job,
    /// The blocks of all files with data of their own, one after the other, each file's last block padded.
    pub blocks: Vec<u8>,
    /// Their tails, which go behind inodes.
    pub tails: Vec<u8>,
    /// The files.
    pub pieces: Vec<Piece>,
}

/// What was made of a file or a part of one.
#[derive(Debug)]
pub(super) struct Piece {
    /// Bytes of blocks, a multiple of the block size.
    pub blocks: usize,
    /// Bytes of the file among them.
    pub filled: usize,
    /// Bytes that go behind the inode.
    pub tail: usize,
}

/// The jobs of a tree, in the order of its inodes.
pub(super) fn jobs<'s>(scan: &'s Scan<'_>) -> impl Iterator<Item = Job> + Send + use<'s> {
    let count = scan.nodes.len() as u32;
    let (mut next, mut offset) = (0, 0);
    std::iter::from_fn(move || {
        if next >= count {
            return None;
        }
        let own = own_bytes(scan, next);
        if own > JOB_BYTES {
            let part = Job::Part(next, offset);
            offset += JOB_BYTES;
            if offset >= own {
                (next, offset) = (next + 1, 0);
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
        }
        Some(Job::Nodes(start..next))
    })
}

/// Bytes of a file that no other one has before it.
fn own_bytes(scan: &Scan<'_>, number: u32) -> u64 {
    own_content(scan, number).map_or(0, |content| content.size)
}

/// The content of a file that no other one has before it.
pub(super) fn own_content<'t>(scan: &Scan<'t>, number: u32) -> Option<&'t Content> {
    match &scan.inode(number).kind {
        Kind::File(content) if scan.nodes[number as usize].same_as == number => Some(content),
        _ => None,
    }
}

/// Does a job in a buffer that was used before. Whole files are checked here, parts of a file by who takes them in
/// their order.
pub(super) fn work(scan: &Scan<'_>, source: &mut Source, mut blocks: Vec<u8>, job: Job) -> Result<Done> {
    blocks.clear();
    let (mut tails, mut pieces) = (Vec::new(), Vec::new());
    match &job {
        Job::Nodes(range) => {
            for number in range.clone() {
                let Some(content) = own_content(scan, number) else { continue };
                let start = blocks.len();
                read(source, content, 0, content.size, &mut blocks)?;
                if Digest::of(&blocks[start..]) != content.digest {
                    return Err(changed(content));
                }
                let filled = scan.nodes[number as usize].in_blocks();
                pieces.push(piece(start, filled, &mut blocks, &mut tails));
            }
        }
        Job::Part(number, offset) => {
            if let Some(content) = own_content(scan, *number) {
                let length = (content.size - offset).min(JOB_BYTES);
                read(source, content, *offset, length, &mut blocks)?;
                let filled = (scan.nodes[*number as usize].in_blocks() - offset).min(length);
                pieces.push(piece(0, filled, &mut blocks, &mut tails));
            }
        }
    }
    Ok(Done { job, blocks, tails, pieces })
}

/// Appends a part of a content.
fn read(source: &mut Source, content: &Content, offset: u64, length: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let start = bytes.len();
    bytes.resize(start + length as usize, 0);
    source.read(content, offset, &mut bytes[start..])
}

/// Moves what is behind the first `filled` bytes to the tails, and pads the last block.
fn piece(start: usize, filled: u64, blocks: &mut Vec<u8>, tails: &mut Vec<u8>) -> Piece {
    let filled = filled as usize;
    let tail = blocks.len() - start - filled;
    tails.extend_from_slice(&blocks[start + filled..]);
    let padded = filled.next_multiple_of(BLOCK as usize);
    blocks.truncate(start + filled);
    blocks.resize(start + padded, 0);
    Piece { blocks: padded, filled, tail }
}
