//! A tree as an image: data while it is read, then the tables, then the superblock.

use std::io::{Seek, SeekFrom, Write};

use super::check::{Findings, check};
use super::data::{Data, DataWriter, FileData};
use super::directory::{self, Listing, Name};
use super::format::{
    FRAGMENT_ENTRY, METADATA_RAW, NO_TABLE, Reference, SUPERBLOCK_SIZE, Superblock, encode_device, flags,
};
use super::inode::{Body, Common, basic_type, encode};
use super::metadata::MetadataTable;
use super::xattrs::XattrWriter;
use super::{Compression, Options, Summary};
use crate::error::{Error, Result};
use crate::formats::pieces::Pieces;
use crate::rootfs::{InodeId, Kind, Tree, write_error};

/// The image's size is a multiple of this, so that a device of 4 KiB sectors holds it.
const PADDING: u64 = 4096;

/// Writes `tree` as an image to `out`, from its current position on.
///
/// Contents are read once, in the order of their paths, and checked against their digests. Trees that the format
/// cannot hold are refused before anything is written.
pub fn write(tree: &Tree, out: &mut (impl Write + Seek), options: &Options) -> Result<Summary> {
    write_with_pieces(tree, out, options, None)
}

/// The same; blocks that were compressed for an earlier image are taken from `pieces`, and others are put there. The
/// bytes of the image are the same.
pub fn write_with_pieces(
    tree: &Tree,
    out: &mut (impl Write + Seek),
    options: &Options,
    pieces: Option<&dyn Pieces>,
) -> Result<Summary> {
    options.check()?;
    let findings = check(tree)?;
    let base = out.stream_position().map_err(write_error)?;
    let mut head = vec![0; SUPERBLOCK_SIZE];
    let compressor_options = options.compression.options();
    if let Some(fields) = &compressor_options {
        head.extend((fields.len() as u16 | METADATA_RAW).to_le_bytes());
        head.extend(fields);
    }
    out.write_all(&head).map_err(write_error)?;

    let mut data_of = vec![None; tree.inode_bound()];
    let data = std::thread::scope(|scope| {
        let mut writer =
            DataWriter::start(&mut *out, head.len() as u64, options, pieces, tree.inode(tree.root()).origin, scope)?;
        tree.walk_all(|_, id| {
            let place = &mut data_of[tree.number(id)];
            if let (Kind::File(content), None) = (&tree.inode(id).kind, &place) {
                *place = Some(writer.add(content, tree.inode(id).origin)?);
            }
            Ok(())
        })?;
        writer.finish()
    })?;
    let nodes = Nodes::write(tree, &findings, &data, &data_of, options)?;

    let mut tables = Tables { out, position: data.end, compression: options.compression };
    let raw = options.compression == Compression::None;
    let mut superblock = Superblock {
        inode_count: nodes.count,
        time: clamp_time(options.time),
        block_size: options.block_size,
        fragment_count: data.fragments.len() as u32,
        compressor: options.compression.number(),
        flags: flags::ALWAYS_FRAGMENTS
            | flags::DUPLICATES
            | flags::EXPORT
            | if raw { flags::RAW } else { 0 }
            | if data.fragments.is_empty() { flags::NO_FRAGMENTS } else { 0 }
            | if nodes.xattrs.count() == 0 { flags::NO_XATTRS } else { 0 }
            | if compressor_options.is_some() { flags::COMPRESSOR_OPTIONS } else { 0 },
        id_count: findings.owners.len() as u16,
        root: nodes.root,
        ..Superblock::default()
    };
    // The kernel checks that the tables stand in this order (fs/squashfs/super.c).
    superblock.inode_table = tables.append(&nodes.inodes)?;
    superblock.directory_table = tables.append(&nodes.listings)?;
    let mut entries = Vec::with_capacity(data.fragments.len() * FRAGMENT_ENTRY);
    for (start, size) in &data.fragments {
        entries.extend(start.to_le_bytes());
        entries.extend(u64::from(*size).to_le_bytes());
    }
    superblock.fragment_table = tables.append_indexed(&entries, &[])?;
    let references: Vec<u8> = nodes.references.iter().flat_map(|reference| reference.encode().to_le_bytes()).collect();
    superblock.export_table = tables.append_indexed(&references, &[])?;
    let owners: Vec<u8> = findings.owners.iter().flat_map(|owner| owner.to_le_bytes()).collect();
    superblock.id_table = tables.append_indexed(&owners, &[])?;
    superblock.xattr_table = NO_TABLE;
    let xattr_sets = nodes.xattrs.count();
    if xattr_sets > 0 {
        let (pairs, sets) = nodes.xattrs.finish().map_err(write_error)?;
        let start = tables.append(&pairs)?;
        let header = [&start.to_le_bytes()[..], &u64::from(xattr_sets).to_le_bytes()].concat();
        superblock.xattr_table = tables.append_indexed(&sets, &header)?;
    }
    superblock.bytes_used = tables.position;
    let size = superblock.bytes_used.next_multiple_of(PADDING);
    tables.append(&vec![0; (size - superblock.bytes_used) as usize])?;
    out.seek(SeekFrom::Start(base)).map_err(write_error)?;
    out.write_all(&superblock.encode()).map_err(write_error)?;
    out.seek(SeekFrom::Start(base + size)).map_err(write_error)?;
    Ok(Summary {
        size,
        bytes_used: superblock.bytes_used,
        inodes: nodes.count,
        fragments: superblock.fragment_count,
        duplicates: data.duplicates,
        xattr_sets,
        lost_xattrs: findings.lost_xattrs,
    })
}

/// Times before 1970 and after 2106 have no place in 32 bits.
fn clamp_time(time: i64) -> u32 {
    time.clamp(0, i64::from(u32::MAX)) as u32
}

/// What comes after the data.
struct Tables<'a, W> {
    out: &'a mut W,
    position: u64,
    compression: Compression,
}

impl<W: Write> Tables<'_, W> {
    /// Adds bytes as they are and gives their position.
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        self.out.write_all(bytes).map_err(write_error)?;
        let start = self.position;
        self.position += bytes.len() as u64;
        Ok(start)
    }

    /// Adds entries as metadata blocks and behind them a header and the blocks' positions; gives the header's.
    fn append_indexed(&mut self, entries: &[u8], header: &[u8]) -> Result<u64> {
        let mut table = MetadataTable::new(self.compression).map_err(write_error)?;
        table.write(entries).map_err(write_error)?;
        let (packed, starts) = table.finish().map_err(write_error)?;
        let first = self.append(&packed)?;
        let at = self.append(header)?;
        let positions: Vec<u8> = starts.iter().flat_map(|start| (first + start).to_le_bytes()).collect();
        self.append(&positions)?;
        Ok(at)
    }
}

/// Inodes and listings.
struct Nodes<'a> {
    count: u32,
    root: Reference,
    inodes: Vec<u8>,
    listings: Vec<u8>,
    /// By inode number, from 1 on.
    references: Vec<Reference>,
    xattrs: XattrWriter<'a>,
}

/// The inodes of a tree while they are written.
struct Numbering<'a> {
    tree: &'a Tree,
    /// Inode numbers by the tree's own; 0 is none.
    numbers: Vec<u32>,
    links: Vec<u32>,
    /// Folders with the folder that each is in, every one behind its parent.
    folders: Vec<(InodeId, InodeId)>,
    count: u32,
}

impl Numbering<'_> {
    /// The root is 1; then what is in one folder has consecutive numbers, so that its listing needs few headers.
    fn new(tree: &Tree) -> Result<Numbering<'_>> {
        let mut numbers = vec![0; tree.inode_bound()];
        let mut folders = vec![(tree.root(), tree.root())];
        numbers[tree.number(tree.root())] = 1;
        let mut count = 1u32;
        let mut next = 0;
        while let Some((folder, _)) = folders.get(next).copied() {
            next += 1;
            for (_, id) in tree.names(folder) {
                let number = &mut numbers[tree.number(id)];
                if *number == 0 {
                    count = count.checked_add(1).ok_or_else(|| Error::refused("more than 2^32 inodes"))?;
                    *number = count;
                    if matches!(tree.inode(id).kind, Kind::Folder(_)) {
                        folders.push((id, folder));
                    }
                }
            }
        }
        Ok(Numbering { tree, numbers, links: tree.link_counts()?, folders, count })
    }

    fn number(&self, id: InodeId) -> u32 {
        self.numbers[self.tree.number(id)]
    }
}

impl<'a> Nodes<'a> {
    fn write(
        tree: &'a Tree,
        findings: &Findings,
        data: &Data,
        data_of: &[Option<usize>],
        options: &Options,
    ) -> Result<Nodes<'a>> {
        let new_table = || MetadataTable::new(options.compression).map_err(write_error);
        let (mut inodes, mut listings) = (new_table()?, new_table()?);
        let mut xattrs = XattrWriter::new(options.compression).map_err(write_error)?;
        let numbering = Numbering::new(tree)?;
        let mut references: Vec<Option<Reference>> = vec![None; numbering.count as usize];
        // Listings of folders that were written, by inode number, until their inode is.
        let mut done: Vec<Option<Listing>> = Vec::new();
        done.resize_with(numbering.count as usize, || None);
        let mut bytes = Vec::new();
        let mut write_inode = |id: InodeId, parent: u32, listing: Option<&Listing>| -> Result<Reference> {
            let inode = tree.inode(id);
            let at = tree.number(id);
            let empty = FileData::EMPTY;
            let body = match &inode.kind {
                Kind::Folder(_) => match listing {
                    Some(listing) => Body::Folder(listing, parent),
                    None => return Err(Error::failed("a folder in the tree has two parents")),
                },
                Kind::File(content) => {
                    let file = data_of[at].and_then(|number| data.files.get(number)).unwrap_or(&empty);
                    Body::File(file, content.size)
                }
                Kind::Symlink(target) => Body::Symlink(target),
                Kind::CharacterDevice { major, minor } => {
                    Body::CharacterDevice(encode_device(*major, *minor).unwrap_or(0))
                }
                Kind::BlockDevice { major, minor } => Body::BlockDevice(encode_device(*major, *minor).unwrap_or(0)),
                Kind::Fifo => Body::Fifo,
            };
            let owner = |id: u32| findings.owners.binary_search(&id).unwrap_or(0) as u16;
            let subfolders =
                || tree.names(id).filter(|(_, id)| matches!(tree.inode(*id).kind, Kind::Folder(_))).count() as u32;
            let common = Common {
                mode: if matches!(body, Body::Symlink(_)) { 0o777 } else { (inode.meta.mode & 0o7777) as u16 },
                uid: owner(inode.meta.uid),
                gid: owner(inode.meta.gid),
                mtime: clamp_time(inode.meta.mtime),
                number: numbering.number(id),
                links: if listing.is_some() { 2 + subfolders() } else { numbering.links[at] },
                xattrs: xattrs.set(&inode.meta.xattrs).map_err(write_error)?,
            };
            let position = inodes.position();
            encode(&common, &body, &mut bytes);
            inodes.write(&bytes).map_err(write_error)?;
            Ok(position)
        };
        // Backwards, so that what is in a folder is written before it.
        for (folder, _) in numbering.folders.iter().rev() {
            let mut names = Vec::new();
            for (name, id) in tree.names(*folder) {
                let number = numbering.number(id);
                let place = number as usize - 1;
                let reference = match references[place] {
                    Some(reference) => reference,
                    None => {
                        let listing = done[place].take();
                        write_inode(id, numbering.number(*folder), listing.as_ref())?
                    }
                };
                references[place] = Some(reference);
                names.push(Name { name, inode: reference, number, kind: basic_type(&tree.inode(id).kind) });
            }
            done[numbering.number(*folder) as usize - 1] =
                Some(directory::write(&mut listings, &names).map_err(write_error)?);
        }
        // mksquashfs gives the root a parent that is not there.
        let listing = done[0].take();
        let root = write_inode(tree.root(), numbering.count + 1, listing.as_ref())?;
        references[0] = Some(root);
        Ok(Nodes {
            count: numbering.count,
            root,
            inodes: inodes.finish().map_err(write_error)?.0,
            listings: listings.finish().map_err(write_error)?.0,
            references: references.into_iter().flatten().collect(),
            xattrs,
        })
    }
}
