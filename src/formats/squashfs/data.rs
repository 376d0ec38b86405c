//! The contents of files: blocks, and fragments that hold the ends of several files.
//!
//! A file's blocks lie together. What is left behind its last full block goes into the current fragment, which is
//! written when the next end does not fit any more. Blocks and ends of zeros only are not stored.

use std::collections::HashMap;
use std::io::{self, Write};
use std::thread::Scope;

use super::Options;
use super::format::{DATA_RAW, NONE};
use super::pipeline::{Packed, Pipeline};
use crate::error::Result;
use crate::formats::pieces::Pieces;
use crate::rootfs::{Content, OriginId, write_error};
use crate::store::Digest;

/// Where a file's content is.
#[derive(Clone, Debug)]
pub(super) struct FileData {
    /// Where the first block is.
    pub(super) start: u64,
    /// The sizes of its blocks on disk, with [`DATA_RAW`] in them; 0 is a block of zeros.
    pub(super) blocks: Vec<u32>,
    /// The fragment that holds its end, or [`NONE`].
    pub(super) fragment: u32,
    /// Where in the fragment its end starts.
    pub(super) offset: u32,
    /// Bytes that are not stored.
    pub(super) sparse: u64,
}

impl FileData {
    /// No content.
    pub(super) const EMPTY: FileData = FileData { start: 0, blocks: Vec::new(), fragment: NONE, offset: 0, sparse: 0 };
}

/// What a block is for.
enum Purpose {
    /// A block of the file with this number, and its place in the file's list.
    Block(usize, usize),
    Fragment,
}

/// Writes contents one after another.
pub(super) struct DataWriter<'a, W> {
    out: &'a mut W,
    position: u64,
    pipeline: Pipeline<Purpose>,
    block_size: usize,
    files: Vec<FileData>,
    known: HashMap<(Digest, u64), usize>,
    duplicates: u64,
    fragment: Vec<u8>,
    /// Where the file comes from that is written, and the first one of the fragment.
    origins: (OriginId, OriginId),
    /// Fragments that were begun; the ones in `fragments` are written.
    fragment_count: u32,
    /// Position and size of each.
    fragments: Vec<(u64, u32)>,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) files: Vec<FileData>,
    pub(super) fragments: Vec<(u64, u32)>,
    /// Contents that were there already.
    pub(super) duplicates: u64,
    /// Where the data ends.
    pub(super) end: u64,
}

impl<'a, W: Write> DataWriter<'a, W> {
    /// Data from `position` of the image on, compressed by threads of `scope`. `origin` is any.
    pub(super) fn start<'scope>(
        out: &'a mut W,
        position: u64,
        options: &Options,
        pieces: Option<&'scope dyn Pieces>,
        origin: OriginId,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<DataWriter<'a, W>> {
        Ok(DataWriter {
            origins: (origin, origin),
            out,
            position,
            pipeline: Pipeline::start(scope, options, pieces)?,
            block_size: options.block_size as usize,
            files: Vec::new(),
            known: HashMap::new(),
            duplicates: 0,
            fragment: Vec::new(),
            fragment_count: 0,
            fragments: Vec::new(),
        })
    }

    /// Writes a file's content and gives its number. Content that was written before is not read again.
    pub(super) fn add(&mut self, content: &Content, origin: OriginId) -> Result<usize> {
        self.origins.0 = origin;
        let number = self.files.len();
        if content.size > 0 {
            let known = *self.known.entry((content.digest, content.size)).or_insert(number);
            if known != number {
                self.duplicates += 1;
                return Ok(known);
            }
        }
        self.files.push(FileData::EMPTY);
        let block = self.pipeline.buffer();
        let mut writer = BlockWriter { data: self, number, block };
        content.copy_to(&mut writer)?;
        let end = writer.block;
        self.add_end(number, end).map_err(write_error)?;
        Ok(number)
    }

    fn add_block(&mut self, number: usize, block: Vec<u8>) -> io::Result<()> {
        if is_zero(&block) {
            self.files[number].sparse += block.len() as u64;
            self.files[number].blocks.push(0);
            self.pipeline.recycle(block);
            return Ok(());
        }
        // Filled in when the block is written, which is later.
        let place = self.files[number].blocks.len();
        self.files[number].blocks.push(DATA_RAW);
        self.push(Purpose::Block(number, place), block)
    }

    fn add_end(&mut self, number: usize, end: Vec<u8>) -> io::Result<()> {
        if end.is_empty() {
            self.pipeline.recycle(end);
            return Ok(());
        }
        if is_zero(&end) {
            return self.add_block(number, end);
        }
        if self.fragment.len() + end.len() > self.block_size {
            self.close_fragment()?;
        }
        if self.fragment.is_empty() {
            self.origins.1 = self.origins.0;
            self.fragment = self.pipeline.buffer();
            self.fragment_count += 1;
        }
        self.files[number].fragment = self.fragment_count - 1;
        self.files[number].offset = self.fragment.len() as u32;
        self.fragment.extend_from_slice(&end);
        self.pipeline.recycle(end);
        Ok(())
    }

    fn close_fragment(&mut self) -> io::Result<()> {
        let fragment = std::mem::take(&mut self.fragment);
        if fragment.is_empty() { Ok(()) } else { self.push(Purpose::Fragment, fragment) }
    }

    fn push(&mut self, purpose: Purpose, block: Vec<u8>) -> io::Result<()> {
        while self.pipeline.full() {
            self.write_next()?;
        }
        let origin = match purpose {
            Purpose::Block(..) => self.origins.0,
            Purpose::Fragment => self.origins.1,
        };
        self.pipeline.push(purpose, block, origin);
        Ok(())
    }

    /// Writes the oldest block on the way. Returns whether there was one.
    fn write_next(&mut self) -> io::Result<bool> {
        let Some((purpose, packed)) = self.pipeline.next().map_err(io::Error::other)? else { return Ok(false) };
        let Packed { bytes, compressed, .. } = packed;
        self.out.write_all(&bytes)?;
        let size = bytes.len() as u32 | if compressed { 0 } else { DATA_RAW };
        match purpose {
            Purpose::Fragment => self.fragments.push((self.position, size)),
            Purpose::Block(number, place) => {
                let file = &mut self.files[number];
                // No data is at 0, where the superblock is.
                if file.start == 0 {
                    file.start = self.position;
                }
                file.blocks[place] = size;
            }
        }
        self.position += bytes.len() as u64;
        self.pipeline.recycle(bytes);
        Ok(true)
    }

    /// Writes what is on the way.
    pub(super) fn finish(mut self) -> Result<Data> {
        self.close_fragment().map_err(write_error)?;
        while self.write_next().map_err(write_error)? {}
        Ok(Data { files: self.files, fragments: self.fragments, duplicates: self.duplicates, end: self.position })
    }
}

/// Cuts a file's content into blocks. What is left in `block` in the end is the file's end.
struct BlockWriter<'w, 'a, W> {
    data: &'w mut DataWriter<'a, W>,
    number: usize,
    block: Vec<u8>,
}

impl<W: Write> Write for BlockWriter<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.data.block_size - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == self.data.block_size {
            let next = self.data.pipeline.buffer();
            let block = std::mem::replace(&mut self.block, next);
            self.data.add_block(self.number, block)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<64>();
    // In steps, so that a block that is not zero is left at once.
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}
