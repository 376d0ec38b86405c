//! What is known before anything is written: the inodes in their order, their sizes, and what the format cannot hold.

use std::collections::HashMap;

use super::directory::{self, Entry};
use super::format::{BLOCK, FileType, Inode, Layout, NAME_LIMIT, device};
use super::{Compression, Options, xattrs};
use crate::error::{Error, Result};
use crate::rootfs::{InodeId, Kind, Tree};
use crate::store::{Digest, Hasher};

/// No inode.
const NONE: u32 = u32::MAX;

/// An inode as far as the writer needs it; 48 bytes each.
#[derive(Debug)]
pub(super) struct Node {
    /// The inode in the tree.
    pub id: InodeId,
    /// The folder that holds a folder.
    pub parent: u32,
    /// The first inode with this content and layout, whose blocks this one uses; else this one itself.
    pub same_as: u32,
    /// Another one is the same as this one.
    pub shared: bool,
    /// 64 bytes.
    pub extended: bool,
    /// Number of names, for a folder as `st_nlink` counts them.
    pub links: u32,
    /// Bytes of data.
    pub size: u64,
    /// Bytes of extended attributes with their header.
    pub xattr_size: u32,
}

impl Node {
    /// Bytes of the inode with its extended attributes.
    pub fn fixed(&self) -> u64 {
        Inode::length(self.extended) as u64 + u64::from(self.xattr_size)
    }

    /// Bytes behind the last whole block.
    pub fn tail(&self) -> u64 {
        self.size % BLOCK
    }

    /// How the data lies if it is not compressed.
    pub fn layout(&self) -> Layout {
        let tail = self.tail();
        if tail > 0 && self.fixed() + tail <= BLOCK { Layout::Inline } else { Layout::Plain }
    }

    /// Bytes that lie in blocks if it is not compressed.
    pub fn in_blocks(&self) -> u64 {
        match self.layout() {
            Layout::Inline => self.size - self.tail(),
            _ => self.size,
        }
    }
}

/// A tree's inodes, each once, folders before what they hold, in the order of names.
pub(super) struct Scan<'t> {
    /// The tree.
    pub tree: &'t Tree,
    /// The inodes; the root first.
    pub nodes: Vec<Node>,
    /// Numbers in `nodes` by [`Tree::number`].
    numbers: Vec<u32>,
    /// Extended attributes.
    pub xattrs: xattrs::Table<'t>,
    /// Derived from everything that decides the image's bytes.
    pub uuid: [u8; 16],
}

impl<'t> Scan<'t> {
    /// Looks at every inode. Refuses, before any work, what the format cannot hold.
    pub fn new(tree: &'t Tree, options: &Options<'_>) -> Result<Scan<'t>> {
        let numbers = vec![NONE; tree.inode_bound()];
        let xattrs = xattrs::Table::default();
        let mut scan = Scan { tree, nodes: Vec::new(), numbers, xattrs, uuid: [0; 16] };
        scan.uuid = scan.walk(options)?;
        scan.measure(options.time)?;
        scan.find_same(options.compression);
        scan.check_size(options)?;
        Ok(scan)
    }

    /// The entries of a folder, in their order.
    pub fn entries(&self, number: u32) -> Vec<Entry<'t>> {
        let node = &self.nodes[number as usize];
        let names = self.tree.names(node.id).map(|(name, id)| (name, self.numbers[self.tree.number(id)]));
        directory::entries(names, number, node.parent)
    }

    /// The inode of the tree behind a number.
    pub fn inode(&self, number: u32) -> &'t crate::rootfs::Inode {
        self.tree.inode(self.nodes[number as usize].id)
    }

    /// Numbers the inodes. Returns the identity.
    fn walk(&mut self, options: &Options<'_>) -> Result<[u8; 16]> {
        let mut identity = Hasher::new();
        identity.field(b"erofs 1");
        identity.field(&[match options.compression {
            Compression::None => 0,
            Compression::Lz4Fast => 1,
            Compression::Lz4 => 2,
        }]);
        identity.field(options.label.as_bytes());
        identity.field(&options.time.to_le_bytes());
        // An explicit stack: depth is up to the input.
        let mut path = Vec::new();
        let root = self.push(self.tree.root(), 0, &path, &mut identity)?;
        let mut stack = vec![(0, root, self.tree.names(self.tree.root()).collect::<Vec<_>>().into_iter())];
        while let Some((length, folder, names)) = stack.last_mut() {
            path.truncate(*length);
            let Some((name, id)) = names.next() else {
                stack.pop();
                continue;
            };
            let folder = *folder;
            path.push(b'/');
            path.extend_from_slice(name);
            if name.len() > NAME_LIMIT {
                return Err(cannot_hold(&path, format!("a name of {} bytes; the limit is {NAME_LIMIT}", name.len())));
            }
            identity.field(name);
            identity.update(&folder.to_le_bytes());
            let known = self.numbers[self.tree.number(id)];
            let number = if known == NONE { self.push(id, folder, &path, &mut identity)? } else { known };
            identity.update(&number.to_le_bytes());
            if matches!(self.tree.inode(id).kind, Kind::Folder(_)) {
                self.nodes[folder as usize].links += 1;
                stack.push((path.len(), number, self.tree.names(id).collect::<Vec<_>>().into_iter()));
            } else {
                self.nodes[number as usize].links += 1;
            }
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&identity.finish().as_bytes()[..16]);
        // Version 8, "custom" (RFC 9562, section 5.8).
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Ok(uuid)
    }

    fn push(&mut self, id: InodeId, parent: u32, path: &[u8], identity: &mut Hasher) -> Result<u32> {
        let inode = self.tree.inode(id);
        let meta = &inode.meta;
        let kind = FileType::of(&inode.kind);
        identity.update(&[kind as u8]);
        for field in [meta.mode, meta.uid, meta.gid] {
            identity.update(&field.to_le_bytes());
        }
        identity.update(&meta.mtime.to_le_bytes());
        identity.update(&(meta.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &meta.xattrs {
            identity.field(name);
            identity.field(value);
        }
        let mut size = 0;
        match &inode.kind {
            Kind::File(content) => {
                identity.update(content.digest.as_bytes());
                size = content.size;
            }
            Kind::Symlink(target) => {
                identity.field(target);
                size = target.len() as u64;
                if size >= BLOCK || size == 0 {
                    return Err(cannot_hold(path, format!("a symbolic link to a path of {size} bytes")));
                }
            }
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                identity.update(&[major.to_le_bytes(), minor.to_le_bytes()].concat());
                if device(*major, *minor).is_none() {
                    return Err(cannot_hold(path, format!("the device {major}:{minor}; the limit is 4095:1048575")));
                }
            }
            Kind::Folder(_) | Kind::Fifo => {}
        }
        self.xattrs.add(&meta.xattrs).map_err(|what| cannot_hold(path, what))?;
        let number = self.nodes.len() as u32;
        self.numbers[self.tree.number(id)] = number;
        // A folder's own "." and its name or, for the root, its "..".
        let links = if kind == FileType::Folder { 2 } else { 0 };
        self.nodes.push(Node {
            id,
            parent,
            same_as: number,
            shared: false,
            extended: false,
            links,
            size,
            xattr_size: 0,
        });
        Ok(number)
    }

    /// Sizes of inodes and folders, and whether all fits into an image.
    fn measure(&mut self, time: i64) -> Result<()> {
        self.xattrs.place();
        for number in 0..self.nodes.len() as u32 {
            let inode = self.inode(number);
            let meta = &inode.meta;
            let xattr_size = self.xattrs.size(&meta.xattrs).ok_or_else(|| {
                let size: usize = meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                Error::refused(format!("an inode has {size} bytes of extended attributes; erofs holds 262,144"))
            })?;
            let size = match inode.kind {
                Kind::Folder(_) => Some(directory::size(&self.entries(number))),
                _ => None,
            };
            let node = &mut self.nodes[number as usize];
            node.size = size.unwrap_or(node.size);
            node.xattr_size = xattr_size;
            node.extended = meta.mtime != time
                || meta.uid > u16::MAX.into()
                || meta.gid > u16::MAX.into()
                || node.links > u16::MAX.into()
                || node.size > u32::MAX.into();
        }
        Ok(())
    }

    /// Finds files with the same content. Those below a block would share nothing. Whether the end of a file lies in
    /// blocks depends on the size of its inode.
    fn find_same(&mut self, compression: Compression) {
        let mut first: HashMap<(Digest, u64), u32> = HashMap::new();
        for number in 0..self.nodes.len() as u32 {
            let node = &self.nodes[number as usize];
            if let Kind::File(content) = &self.tree.inode(node.id).kind
                && node.size >= BLOCK
            {
                let kind = if compression == Compression::None { node.layout() as u64 } else { node.fixed() };
                let same = *first.entry((content.digest, kind)).or_insert(number);
                self.nodes[number as usize].same_as = same;
                self.nodes[same as usize].shared |= same != number;
            }
        }
    }
}

impl Scan<'_> {
    /// Refuses an image whose size is known to be too large. Compressed data may fit after all.
    fn check_size(&self, options: &Options<'_>) -> Result<()> {
        let own = self.nodes.iter().enumerate().filter(|(at, node)| node.same_as == *at as u32);
        let bytes = own.fold(0u64, |sum, (_, node)| sum.saturating_add(node.in_blocks()));
        if options.compression == Compression::None && bytes / BLOCK > u32::MAX.into() {
            return Err(too_large());
        }
        Ok(())
    }
}

/// Block numbers have 32 bits.
pub(super) fn too_large() -> Error {
    Error::refused("the image would be larger than 16 TiB, which is the most that erofs can address")
}

fn cannot_hold(path: &[u8], what: String) -> Error {
    let path = if path.is_empty() { b"/" } else { path };
    Error::refused(format!("{} has {what}", path.escape_ascii()))
        .hint("erofs cannot hold it; choose a format that can, such as tar or an initrd")
}
