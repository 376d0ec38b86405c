//! Writing an image: the order of its parts, and the inodes.

use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use super::compress::Clusters;
use super::directory;
use super::files::{self, Buffers, Done, Job, Piece, Worker};
use super::format::{
    BLOCK, FileType, Inode, Layout, SLOT, SLOTS, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock, compatible, device,
    incompatible, xattr_count,
};
use super::group::{Folders, Group};
use super::index::{self, Extent};
use super::scan::{Node, Scan, too_large};
use super::seen::Hashing;
use super::source::changed;
use super::{Compression, Options, Summary};
use crate::error::{Error, Result};
use crate::formats::pieces::Pieces;
use crate::formats::pipeline;
use crate::formats::verity::Hashes;
use crate::rootfs::{Kind, Tree, write_error};

/// The root's inode stands behind the superblock: its nid has only 16 bits.
const ROOT_OFFSET: u64 = SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE as u64;
/// In a nid that is not final: the slot is one among folders.
const AMONG_FOLDERS: u64 = 1 << 63;
/// Folders' inodes are written in pieces of this size.
const FOLDERS_BUFFER: usize = 1 << 20;

/// Writes `tree` as an image that starts at the present position of `out`, and leaves the position at its end.
///
/// Refuses, before it writes, names above 255 bytes, devices beyond 4095:1048575, extended attributes that the format
/// cannot hold, and more than 16 TiB. Content that is not what its digest says is refused too. On an error a part of
/// the image is written.
pub fn write(tree: &Tree, out: &mut (impl Write + Seek), options: &Options<'_>) -> Result<Summary> {
    write_with_pieces(tree, out, options, Beside::default())
}

/// What an image is made with beside its tree. The bytes of the image do not depend on it.
#[derive(Debug, Default)]
pub struct Beside<'a> {
    /// What was compressed for an earlier image is taken from here, and what was not is put here.
    pub pieces: Option<&'a dyn Pieces>,
    /// Takes the hashes of the image's blocks.
    pub hashes: Option<&'a mut Hashes>,
    /// By these, contents that were checked for an earlier image with hashes are known again.
    pub seen: Option<&'a dyn Pieces>,
}

/// The same with what is there from earlier images, and with hashes.
pub fn write_with_pieces(
    tree: &Tree,
    out: &mut (impl Write + Seek),
    options: &Options<'_>,
    beside: Beside<'_>,
) -> Result<Summary> {
    let Beside { pieces, hashes, seen } = beside;
    let mut label = [0; 16];
    let name = label.get_mut(..options.label.len()).ok_or_else(|| {
        Error::usage(format!("the file system's name \"{}\" is longer than 16 bytes", options.label.escape_debug()))
    })?;
    name.copy_from_slice(options.label.as_bytes());
    let scan = Scan::new(tree, options)?;
    let base = out.stream_position().map_err(write_error)?;
    let hashing = hashes.as_ref().map(|hashes| Hashing { hasher: hashes.hasher().clone(), seen });
    let mut image = Image::new(&scan, out, hashes, options.compression)?;
    let spare = Spare::default();
    pipeline::run(
        files::jobs(&scan),
        || Worker::new(options.compression, pieces, hashing.clone()),
        |worker, job| worker.work(&scan, spare.take(), job),
        |done| {
            image.files(&done)?;
            spare.give(done.buffers());
            Ok(())
        },
    )?;
    image.folders()?;
    let end = image.next_block;
    let superblock = Superblock {
        compatible: compatible::CHECKSUM | compatible::MTIME,
        root: (ROOT_OFFSET / SLOT) as u16,
        inodes: scan.nodes.len() as u64,
        time: options.time,
        blocks: end,
        incompatible: match options.compression {
            Compression::None => 0,
            Compression::Lz4Fast | Compression::Lz4 => incompatible::ZERO_PADDING | incompatible::INLINE_TAIL,
        },
        uuid: options.uuid.unwrap_or(scan.uuid),
        label,
        ..Superblock::default()
    };
    let header = image.header(&superblock);
    if let Some(hashes) = &mut image.hashes {
        let first = hashes.hasher().blocks(&header);
        hashes.replace_first(&first)?;
    }
    out.seek(SeekFrom::Start(base)).map_err(write_error)?;
    out.write_all(&header).map_err(write_error)?;
    let size = u64::from(end) * BLOCK;
    out.seek(SeekFrom::Start(base + size)).map_err(write_error)?;
    Ok(Summary { size, inodes: superblock.inodes, uuid: superblock.uuid })
}

/// Buffers to be used again: a new one of a MiB costs as much as copying it.
#[derive(Default)]
struct Spare(Mutex<Vec<Buffers>>);

impl Spare {
    fn take(&self) -> Buffers {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, buffer: Buffers) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Where an inode and its data went.
#[derive(Clone, Copy, Default)]
struct Placed {
    first_block: u32,
    /// The nid; until all groups are written, the slot in the group, and from bit 32 on the group's number; or the slot
    /// among folders with [`AMONG_FOLDERS`].
    nid: u64,
}

/// An image that is being written.
struct Image<'s, 't, W> {
    scan: &'s Scan<'t>,
    out: &'s mut W,
    hashes: Option<&'s mut Hashes>,
    next_block: u32,
    placed: Vec<Placed>,
    group: Group,
    /// First blocks of the groups that were written.
    groups: Vec<u32>,
    folders: Folders,
    /// Of a large file whose parts are coming.
    large_extents: Option<Vec<Extent>>,
    /// Compressed files whose blocks others use.
    shared: HashMap<u32, Clusters>,
    /// For the tails of those others.
    worker: Worker<'static>,
    root_layout: Layout,
}

impl<'s, 't, W: Write> Image<'s, 't, W> {
    fn new(
        scan: &'s Scan<'t>,
        out: &'s mut W,
        hashes: Option<&'s mut Hashes>,
        compression: Compression,
    ) -> Result<Self> {
        let root = &scan.nodes[0];
        let inline = root.tail() > 0 && ROOT_OFFSET + root.fixed() + root.tail() <= BLOCK;
        let root_layout = if inline { Layout::Inline } else { Layout::Plain };
        let mut image = Image {
            scan,
            out,
            hashes,
            next_block: 0,
            placed: vec![Placed::default(); scan.nodes.len()],
            group: Group::new(),
            groups: Vec::new(),
            folders: Folders::new(),
            large_extents: None,
            shared: HashMap::new(),
            worker: Worker::new(compression, None, None),
            root_layout,
        };
        let header = image.shared_xattrs_offset() + scan.xattrs.shared_size();
        image.blocks(&vec![0; header.next_multiple_of(BLOCK) as usize])?;
        for number in folders(scan) {
            let node = &scan.nodes[number as usize];
            let slot = image.folders.place(node.fixed() + node.size - node.in_blocks()).ok_or_else(too_large)?;
            image.placed[number as usize].nid = AMONG_FOLDERS | slot;
        }
        Ok(image)
    }

    /// The shared extended attributes follow the root's inode.
    fn shared_xattrs_offset(&self) -> u64 {
        let root = &self.scan.nodes[0];
        let tail = if self.root_layout == Layout::Inline { root.tail() } else { 0 };
        (ROOT_OFFSET + root.fixed() + tail).next_multiple_of(4)
    }

    /// Appends whole blocks.
    fn blocks(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(hashes) = &mut self.hashes {
            let taken = hashes.hasher().blocks(bytes);
            hashes.append(&taken)?;
        }
        self.hashed_blocks(bytes)
    }

    /// Appends whole blocks whose hashes are taken.
    fn hashed_blocks(&mut self, bytes: &[u8]) -> Result<()> {
        let count = u32::try_from(bytes.len() as u64 / BLOCK).map_err(|_| too_large())?;
        self.next_block = self.next_block.checked_add(count).ok_or_else(too_large)?;
        self.out.write_all(bytes).map_err(write_error)
    }

    /// Takes the results of a job, in their order.
    fn files(&mut self, done: &Done) -> Result<()> {
        let mut block = self.next_block;
        if let Some(hashes) = &mut self.hashes {
            hashes.append(&done.hashes)?;
        }
        self.hashed_blocks(&done.blocks)?;
        let mut tails = done.tails.as_slice();
        let mut pieces = done.pieces.iter();
        let mut take = |piece: &'_ Piece| {
            let (tail, rest) = tails.split_at(piece.tail);
            tails = rest;
            let first = block;
            block += (piece.blocks as u64 / BLOCK) as u32;
            (first, tail)
        };
        match &done.job {
            Job::Nodes(range) => {
                for number in range.clone() {
                    let own = files::own_content(self.scan, number).and_then(|_| pieces.next());
                    match own {
                        Some(piece) => {
                            let (first, tail) = take(piece);
                            self.placed[number as usize].first_block = first;
                            self.file(number, piece.extents.as_deref(), tail)?;
                        }
                        None => self.without_own_data(number)?,
                    }
                }
            }
            Job::Part(number, offset, _) => {
                let (number, offset) = (*number, *offset);
                let (Some(content), Some(piece)) = (files::own_content(self.scan, number), pieces.next()) else {
                    return Ok(());
                };
                let (first, tail) = take(piece);
                if offset == 0 {
                    self.placed[number as usize].first_block = first;
                }
                if let Some(extents) = &piece.extents {
                    self.large_extents.get_or_insert_default().extend(extents);
                }
                if offset + files::JOB_BYTES >= content.size {
                    let extents = self.large_extents.take();
                    self.file(number, extents.as_deref(), tail)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the inode of a file with data of its own.
    fn file(&mut self, number: u32, extents: Option<&[Extent]>, tail: &[u8]) -> Result<()> {
        let node = &self.scan.nodes[number as usize];
        self.inode(number, extents, tail)?;
        if let Some(extents) = extents.filter(|_| node.shared) {
            self.shared.insert(number, Clusters { extents: extents.to_vec(), tail: tail.len() });
        }
        Ok(())
    }

    /// Writes the inode of what has no data, or the same as another file.
    fn without_own_data(&mut self, number: u32) -> Result<()> {
        let node = &self.scan.nodes[number as usize];
        match &self.scan.inode(number).kind {
            Kind::Folder(_) => Ok(()),
            Kind::File(content) => {
                // The same bytes lie in two places, and only one of them was checked: that of the file with the data.
                let content = files::own_content(self.scan, node.same_as).unwrap_or(content);
                self.placed[number as usize].first_block = self.placed[node.same_as as usize].first_block;
                let Some(same) = self.shared.remove(&node.same_as) else {
                    let tail = self.worker.tail(content, node.in_blocks(), false)?;
                    return self.inode(number, None, &tail);
                };
                let last = same.extents.last().filter(|_| same.tail > 0).map_or(0, |last| u64::from(last.length));
                let tail = self.worker.tail(content, node.size - last, true)?;
                if tail.len() != same.tail {
                    return Err(changed(content));
                }
                self.inode(number, Some(&same.extents), &tail)?;
                self.shared.insert(node.same_as, same);
                Ok(())
            }
            Kind::Symlink(target) if node.layout() == Layout::Inline => self.inode(number, None, target),
            Kind::Symlink(target) => {
                self.placed[number as usize].first_block = self.next_block;
                let mut block = target.to_vec();
                block.resize(BLOCK as usize, 0);
                self.blocks(&block)?;
                self.inode(number, None, &[])
            }
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => self.inode(number, None, &[]),
        }
    }

    /// Puts an inode with its index and its tail into the group.
    fn inode(&mut self, number: u32, extents: Option<&[Extent]>, tail: &[u8]) -> Result<()> {
        let node = &self.scan.nodes[number as usize];
        let mut bytes = match extents {
            Some(extents) => {
                let in_blocks = extents.len() - usize::from(!tail.is_empty());
                let mut bytes = self.fixed(number, node, Layout::Compressed, in_blocks as u32);
                let first = self.placed[number as usize].first_block;
                bytes.extend_from_slice(&index::encode(node.fixed(), node.size, extents, first, tail.len()));
                bytes
            }
            None => self.fixed(number, node, node.layout(), self.placed[number as usize].first_block),
        };
        bytes.extend_from_slice(tail);
        if let Some(slot) = self.folders.fill(&bytes) {
            self.placed[number as usize].nid = AMONG_FOLDERS | slot;
            return Ok(());
        }
        let slot = match self.group.add(&bytes) {
            Some(slot) => slot,
            None => {
                self.end_group()?;
                self.group.add(&bytes).ok_or_else(too_large)?
            }
        };
        self.placed[number as usize].nid = (self.groups.len() as u64) << 32 | slot;
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        self.groups.push(self.next_block);
        let bytes = self.group.take();
        self.blocks(&bytes)
    }

    /// An inode with its extended attributes. `place` is its first block or, compressed, the number of its blocks.
    fn fixed(&self, number: u32, node: &Node, layout: Layout, place: u32) -> Vec<u8> {
        let inode = self.scan.inode(number);
        let kind = FileType::of(&inode.kind);
        let permissions = if kind == FileType::Symlink { 0o777 } else { inode.meta.mode as u16 & 0o7777 };
        let place = match &inode.kind {
            // Checked when the tree was scanned.
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                device(*major, *minor).unwrap_or(0)
            }
            _ => place,
        };
        let encoded = Inode {
            extended: node.extended,
            layout,
            xattr_count: xattr_count(node.xattr_size).unwrap_or(0),
            mode: kind.mode() | permissions,
            links: node.links,
            size: node.size,
            place,
            number: number + 1,
            uid: inode.meta.uid,
            gid: inode.meta.gid,
            mtime: inode.meta.mtime,
        };
        let mut bytes = vec![0; Inode::length(node.extended)];
        encoded.encode(&mut bytes);
        let base = self.shared_xattrs_offset() / 4;
        bytes.extend_from_slice(&self.scan.xattrs.encode(&inode.meta.xattrs, base as u32));
        bytes
    }

    /// Writes all folders but the root's inode.
    fn folders(&mut self) -> Result<()> {
        self.end_group()?;
        for placed in &mut self.placed {
            let (first, slot) = if placed.nid & AMONG_FOLDERS != 0 {
                (self.next_block, placed.nid & !AMONG_FOLDERS)
            } else {
                let group = self.groups.get((placed.nid >> 32) as usize);
                (group.copied().unwrap_or(0), placed.nid & u64::from(u32::MAX))
            };
            placed.nid = u64::from(first) * SLOTS + slot;
        }
        self.placed[0].nid = ROOT_OFFSET / SLOT;

        let folders: Vec<u32> = folders(self.scan).collect();
        let mut block = self.next_block.checked_add(self.folders.blocks()).ok_or_else(too_large)?;
        for number in std::iter::once(&0).chain(&folders) {
            self.placed[*number as usize].first_block = block;
            let count = u32::try_from(self.folder_in_blocks(*number).div_ceil(BLOCK)).map_err(|_| too_large())?;
            block = block.checked_add(count).ok_or_else(too_large)?;
            debug_assert!(self.scan.nodes[*number as usize].size > 0);
        }
        self.folder_inodes(&folders)?;
        for number in std::iter::once(&0).chain(&folders) {
            let size = self.folder_in_blocks(*number);
            if size > 0 {
                let mut bytes = self.folder(*number);
                bytes.truncate(size as usize);
                bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
                self.blocks(&bytes)?;
            }
        }
        Ok(())
    }

    /// Writes folders' inodes, and those of files between them, in the order in which they lie.
    fn folder_inodes(&mut self, folders: &[u32]) -> Result<()> {
        let first = u64::from(self.next_block);
        let end = (first + u64::from(self.folders.blocks())) * BLOCK;
        let mut order: Vec<(u64, u32)> =
            folders.iter().map(|number| (self.placed[*number as usize].nid - first * SLOTS, *number)).collect();
        order.sort_unstable();
        let mut order = order.into_iter().peekable();
        let mut files = self.folders.take().into_iter().peekable();
        let mut bytes = Vec::new();
        loop {
            let before = order.peek().map_or(u64::MAX, |(slot, _)| *slot);
            let next = match files.next_if(|(slot, _)| *slot < before) {
                Some((slot, inode)) => Some((slot, inode.into_vec())),
                None => order.next().map(|(slot, number)| (slot, self.folder_inode(number))),
            };
            let Some((slot, inode)) = next else { break };
            bytes.resize(((first * SLOTS + slot) * SLOT - u64::from(self.next_block) * BLOCK) as usize, 0);
            bytes.extend_from_slice(&inode);
            if bytes.len() >= FOLDERS_BUFFER {
                let rest = bytes.split_off(bytes.len() - bytes.len() % BLOCK as usize);
                self.blocks(&bytes)?;
                bytes = rest;
            }
        }
        bytes.resize((end - u64::from(self.next_block) * BLOCK) as usize, 0);
        self.blocks(&bytes)
    }

    /// The inode of a folder other than the root, with its tail.
    fn folder_inode(&self, number: u32) -> Vec<u8> {
        let node = &self.scan.nodes[number as usize];
        let mut bytes = self.fixed(number, node, node.layout(), self.placed[number as usize].first_block);
        if node.in_blocks() < node.size {
            bytes.extend_from_slice(&self.folder(number)[node.in_blocks() as usize..]);
        }
        bytes
    }

    /// Bytes of a folder that lie in blocks.
    fn folder_in_blocks(&self, number: u32) -> u64 {
        let node = &self.scan.nodes[number as usize];
        match (number, self.root_layout) {
            (0, Layout::Inline) => node.size - node.tail(),
            (0, _) => node.size,
            _ => node.in_blocks(),
        }
    }

    fn folder(&self, number: u32) -> Vec<u8> {
        directory::encode(&self.scan.entries(number), |number| {
            (self.placed[number as usize].nid, FileType::of(&self.scan.inode(number).kind))
        })
    }

    /// The first blocks.
    fn header(&self, superblock: &Superblock) -> Vec<u8> {
        let root = &self.scan.nodes[0];
        let mut behind = self.fixed(0, root, self.root_layout, self.placed[0].first_block);
        behind.extend_from_slice(&self.folder(0)[self.folder_in_blocks(0) as usize..]);
        behind.resize((self.shared_xattrs_offset() - ROOT_OFFSET) as usize, 0);
        behind.extend_from_slice(&self.scan.xattrs.shared());
        superblock.encode(&behind)
    }
}

/// All folders but the root, in the order of the tree.
fn folders<'s>(scan: &'s Scan<'_>) -> impl Iterator<Item = u32> + use<'s> {
    (1..scan.nodes.len() as u32).filter(|number| matches!(scan.inode(*number).kind, Kind::Folder(_)))
}
