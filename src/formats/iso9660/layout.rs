//! From a tree to folders, files and the sectors of everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::format::{EXTENT_LIMIT, Extent, SECTOR};
use super::name::{Names, identifiers, sort_key};
use super::rock_ridge::Attributes;
use crate::error::{Error, Result};
use crate::formats::source::Source;
use crate::rootfs::{Inode, InodeId, Kind, Tree};
use crate::store::Digest;

/// Folders: a path table numbers its parents with 16 bits.
const FOLDER_LIMIT: usize = 65_535;
/// Bytes of a symbolic link's target: what Linux reads.
const TARGET_LIMIT: usize = 4095;
/// Bytes of a name: what Linux reads.
const NAME_LIMIT: usize = 255;

/// A folder. The index of a folder is its number in the path tables less one.
#[derive(Debug)]
pub struct Folder {
    /// Identifiers; the root's are not used.
    pub names: Names,
    /// The folder above; the root is its own.
    pub parent: usize,
    /// Owner, mode, links, time.
    pub attributes: Attributes,
    /// What is in it, in the order of the primary tree.
    pub entries: Vec<Entry>,
}

/// One name in a folder.
#[derive(Debug)]
pub struct Entry {
    /// The name as it is.
    pub name: Box<[u8]>,
    /// Identifiers.
    pub names: Names,
    /// What it names.
    pub what: What,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Index of a folder.
    Folder(usize),
    /// Index of a [`File`].
    File(usize),
}

/// Everything that is no folder; names of one file share it.
#[derive(Debug)]
pub struct File {
    /// Owner, mode, links, time.
    pub attributes: Attributes,
    /// What it is.
    pub kind: FileKind,
}

/// What a file is.
#[derive(Debug)]
pub enum FileKind {
    /// Bytes: index of a [`Data`]. `None` if there are none.
    Regular(Option<usize>),
    /// A symbolic link.
    Symlink(Box<[u8]>),
    /// A device: major and minor number.
    Device(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Bytes in sectors of their own. Files of equal content share them.
#[derive(Debug)]
pub struct Data {
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Where they begin.
    pub sector: u32,
}

impl Data {
    /// Extents of at most 4 GiB, one after another.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + use<> {
        let (sector, size) = (self.sector, self.source.size());
        (0..size.div_ceil(EXTENT_LIMIT)).map(move |part| Extent {
            // Checked when the volume was planned: all sectors have 32-bit numbers.
            sector: sector.wrapping_add((part * (EXTENT_LIMIT / SECTOR)) as u32),
            size: (size - part * EXTENT_LIMIT).min(EXTENT_LIMIT) as u32,
        })
    }
}

/// A tree as the format has it.
#[derive(Debug)]
pub struct Layout {
    /// Folders, the root first, level by level.
    pub folders: Vec<Folder>,
    /// Files.
    pub files: Vec<File>,
    /// Contents, in the order in which they are written.
    pub data: Vec<Data>,
    /// [`Data`] of inodes that share it with nobody.
    own_data: BTreeMap<usize, usize>,
    /// Files and folders numbered so far. 0 would be "no number".
    numbered: u32,
}

impl Layout {
    /// Reads a tree. The content of the inodes of `unshared` is stored for them alone: it will be patched.
    pub fn new(tree: &Tree, unshared: &[InodeId]) -> Result<Layout> {
        let (folders, files, data) = (Vec::new(), Vec::new(), Vec::new());
        let mut layout = Layout { folders, files, data, own_data: BTreeMap::new(), numbered: 0 };
        let links = tree.link_counts()?;
        let mut known: Vec<Option<usize>> = vec![None; tree.inode_bound()];
        let mut shared: BTreeMap<(Digest, u64), usize> = BTreeMap::new();
        let root = Names { primary: Box::new([0]), joliet: Box::new([0]) };
        let mut queue = vec![(tree.root(), 0)];
        layout.folder(root, 0, tree, tree.root());
        let mut next = 0;
        while let Some(&(id, index)) = queue.get(next) {
            next += 1;
            let names: Vec<(&[u8], InodeId)> = tree.names(id).collect();
            let is_folder = |id| matches!(tree.inode(id).kind, Kind::Folder(_));
            let plain: Vec<(&[u8], bool)> = names.iter().map(|(name, id)| (*name, is_folder(*id))).collect();
            let mut found: Vec<(Names, &[u8], InodeId)> =
                identifiers(&plain).into_iter().zip(&names).map(|(forms, (name, id))| (forms, *name, *id)).collect();
            found.sort_by(|(a, ..), (b, ..)| sort_key(&a.primary).cmp(&sort_key(&b.primary)));
            for (names, name, id) in found {
                check_name(name)?;
                let what = if is_folder(id) {
                    let below = layout.folders.len();
                    if below >= FOLDER_LIMIT {
                        return Err(Error::refused(format!(
                            "more than {FOLDER_LIMIT} folders, which ISO 9660 cannot number"
                        )));
                    }
                    layout.folder(names.clone(), index, tree, id);
                    queue.push((id, below));
                    What::Folder(below)
                } else {
                    let number = tree.number(id);
                    let file = match known[number] {
                        Some(file) => file,
                        None => {
                            let own = unshared.contains(&id);
                            let file = layout.file(tree, id, links[number], own, &mut shared)?;
                            known[number] = Some(file);
                            file
                        }
                    };
                    What::File(file)
                };
                layout.folders[index].entries.push(Entry { name: name.into(), names, what });
            }
        }
        Ok(layout)
    }

    fn folder(&mut self, names: Names, parent: usize, tree: &Tree, id: InodeId) {
        let below = tree.names(id).filter(|(_, id)| matches!(tree.inode(*id).kind, Kind::Folder(_))).count();
        self.numbered += 1;
        let attributes = attributes(tree.inode(id), below as u32 + 2, self.numbered);
        self.folders.push(Folder { names, parent, attributes, entries: Vec::new() });
    }

    fn file(
        &mut self,
        tree: &Tree,
        id: InodeId,
        links: u32,
        own: bool,
        shared: &mut BTreeMap<(Digest, u64), usize>,
    ) -> Result<usize> {
        let inode = tree.inode(id);
        let kind = match &inode.kind {
            Kind::File(content) if content.size == 0 => FileKind::Regular(None),
            Kind::File(content) => {
                let next = self.data.len();
                let data = if own { next } else { *shared.entry((content.digest, content.size)).or_insert(next) };
                if data == next {
                    self.data.push(Data { source: Arc::new(content.clone()), sector: 0 });
                }
                if own {
                    self.own_data.insert(tree.number(id), data);
                }
                FileKind::Regular(Some(data))
            }
            Kind::Symlink(target) if target.len() > TARGET_LIMIT => {
                return Err(Error::refused(format!(
                    "a symbolic link points to a path of {} bytes; Linux reads {TARGET_LIMIT}",
                    target.len()
                )));
            }
            Kind::Symlink(target) => FileKind::Symlink(target.clone()),
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                FileKind::Device(*major, *minor)
            }
            Kind::Fifo | Kind::Folder(_) => FileKind::Fifo,
        };
        self.numbered += 1;
        self.files.push(File { attributes: attributes(inode, links, self.numbered), kind });
        Ok(self.files.len() - 1)
    }

    /// The index of the [`Data`] of an inode that was named as unshared.
    pub fn data_of(&self, tree: &Tree, id: InodeId) -> Option<usize> {
        self.own_data.get(&tree.number(id)).copied()
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_LIMIT {
        return Err(Error::refused(format!(
            "the name \"{}\" has {} bytes; Linux reads {NAME_LIMIT}",
            name.escape_ascii(),
            name.len()
        )));
    }
    Ok(())
}

fn attributes(inode: &Inode, links: u32, serial: u32) -> Attributes {
    let (kind, mode) = match inode.kind {
        Kind::Folder(_) => (0o040_000, inode.meta.mode),
        Kind::File(_) => (0o100_000, inode.meta.mode),
        Kind::Symlink(_) => (0o120_000, 0o777),
        Kind::CharacterDevice { .. } => (0o020_000, inode.meta.mode),
        Kind::BlockDevice { .. } => (0o060_000, inode.meta.mode),
        Kind::Fifo => (0o010_000, inode.meta.mode),
    };
    Attributes {
        mode: kind | mode & 0o7777,
        links,
        uid: inode.meta.uid,
        gid: inode.meta.gid,
        serial,
        mtime: inode.meta.mtime,
    }
}
