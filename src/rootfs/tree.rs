//! The root file system in memory: an arena of inodes, and folders that name them.
//!
//! A hard link is a second name of the same inode, as on a file system. Names are bytes and are kept sorted, so that
//! everything that is written from a tree has one order.

use std::collections::{BTreeMap, HashMap};

use super::Content;
use crate::error::{Error, Result};
use crate::store::Xattrs;

/// Following more symbolic links than this in one path is an error, as in the kernel (path_resolution(7)).
const SYMLINK_LIMIT: u32 = 40;

/// The place of an inode in its tree's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(u32);

/// The place of an origin in its tree's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(u32);

/// Which component an inode comes from. Segments of an initrd and the size report go by it, and tar outputs carry it
/// as `LINUXKIT.source` and `LINUXKIT.location`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The full image reference, or `linuxkit.files` and the like.
    pub source: String,
    /// The place in the blueprint: `init[0]`, `services[2]`, `files[1]`.
    pub location: String,
}

/// Owner, mode, time and extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Sorted by name.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Root's, without extended attributes.
    pub fn root(mode: u32, mtime: i64) -> Meta {
        Meta { mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::new() }
    }
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder and what it names.
    Folder(BTreeMap<Box<[u8]>, InodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link and where it points.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// An empty folder.
    pub fn folder() -> Kind {
        Kind::Folder(BTreeMap::new())
    }
}

/// A file, folder, link or device.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Owner, mode, time.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
    /// Where it comes from.
    pub origin: OriginId,
}

/// How far a path exists: the inodes from the root to the last one found, and the names that are missing after it.
type Walked = (Vec<InodeId>, Option<Vec<Box<[u8]>>>);

/// A file system tree.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    origins: Vec<Origin>,
    /// Where each origin is in the list: a blueprint may have a hundred thousand files, each with its own.
    known_origins: HashMap<Origin, u32>,
}

impl Tree {
    /// An empty root folder (0755, root, the given time).
    pub fn new(mtime: i64) -> Tree {
        let origin = Origin { source: String::new(), location: String::new() };
        let root = Inode { meta: Meta::root(0o755, mtime), kind: Kind::folder(), origin: OriginId(0) };
        Tree { inodes: vec![root], known_origins: HashMap::from([(origin.clone(), 0)]), origins: vec![origin] }
    }

    /// The root folder.
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// An inode of this tree.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    /// An inode of this tree, to change it.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// The contents of all files, to change where they lie.
    pub fn contents_mut(&mut self) -> impl Iterator<Item = &mut Content> {
        self.inodes.iter_mut().filter_map(|inode| match &mut inode.kind {
            Kind::File(content) => Some(content),
            _ => None,
        })
    }

    /// An upper bound of inode numbers, for tables beside the tree.
    pub fn inode_bound(&self) -> usize {
        self.inodes.len()
    }

    /// The number of an inode, below [`Tree::inode_bound`].
    pub fn number(&self, id: InodeId) -> usize {
        id.0 as usize
    }

    /// Registers an origin; the same one twice gives the same id.
    pub fn add_origin(&mut self, origin: Origin) -> OriginId {
        let next = self.origins.len() as u32;
        let at = *self.known_origins.entry(origin.clone()).or_insert(next);
        if at == next {
            self.origins.push(origin);
        }
        OriginId(at)
    }

    /// What an origin id stands for.
    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id.0 as usize]
    }

    /// The names in a folder; nothing for what is no folder.
    pub fn names(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let names = match &self.inode(id).kind {
            Kind::Folder(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten().map(|(name, id)| (name.as_ref(), *id))
    }

    /// What a folder has under a name; `None` for what is no folder.
    pub fn child(&self, folder: InodeId, name: &[u8]) -> Option<InodeId> {
        match &self.inode(folder).kind {
            Kind::Folder(names) => names.get(name).copied(),
            _ => None,
        }
    }

    fn set_child(&mut self, folder: InodeId, name: &[u8], id: InodeId) {
        if let Kind::Folder(names) = &mut self.inode_mut(folder).kind {
            names.insert(name.into(), id);
        }
    }

    fn is_folder(&self, id: InodeId) -> bool {
        matches!(self.inode(id).kind, Kind::Folder(_))
    }

    fn push(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId((self.inodes.len() - 1) as u32)
    }

    /// The inode at a path, no symbolic link followed.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        parts(path).try_fold(self.root(), |at, name| self.child(at, name))
    }

    /// The inode at a path, symbolic links followed inside this root, as a process that is confined to it would.
    pub fn resolve(&self, path: &[u8]) -> Option<InodeId> {
        let mut budget = SYMLINK_LIMIT;
        self.walk(path, &mut budget)
            .and_then(|(folders, rest)| rest.is_none().then(|| *folders.last().unwrap_or(&InodeId(0))))
    }

    /// The inode at a path, symbolic links followed in its parents but not at its end, as lstat(2) does.
    pub fn resolve_parent(&self, path: &[u8]) -> Option<InodeId> {
        let (parent, name) = split(path);
        if name.is_empty() { Some(self.root()) } else { self.child(self.resolve(parent)?, name) }
    }

    /// Follows `path` as far as it exists. Gives the chain of inodes from the root to the last one found and, if it
    /// does not exist in full, the index of the missing part as the remaining parts.
    fn walk(&self, path: &[u8], budget: &mut u32) -> Option<Walked> {
        let mut chain = vec![self.root()];
        let mut pending: Vec<Box<[u8]>> = parts(path).map(Box::from).collect();
        pending.reverse();
        while let Some(name) = pending.pop() {
            if name.as_ref() == b".." {
                if chain.len() > 1 {
                    chain.pop();
                }
                continue;
            }
            let Some(next) = self.child(*chain.last()?, &name) else {
                pending.push(name);
                pending.reverse();
                return Some((chain, Some(pending)));
            };
            if let Kind::Symlink(target) = &self.inode(next).kind {
                *budget = budget.checked_sub(1)?;
                if target.starts_with(b"/") {
                    chain.truncate(1);
                }
                let start = pending.len();
                pending.extend(parts(target).map(Box::from));
                pending[start..].reverse();
                continue;
            }
            chain.push(next);
        }
        Some((chain, None))
    }

    /// The folder that `path` names, made where it is missing. Symbolic links on the way are followed inside the
    /// root, dangling ones too, as containerd resolves a layer's parents; what stands in the way and is no folder is
    /// replaced. New folders get `meta`.
    pub fn ensure_folder(&mut self, path: &[u8], meta: &Meta, origin: OriginId) -> Result<InodeId> {
        let mut budget = SYMLINK_LIMIT;
        let loops = || Error::refused(format!("too many symbolic links in \"{}\"", path.escape_ascii()));
        let (chain, rest) = self.walk(path, &mut budget).ok_or_else(loops)?;
        let mut at = *chain.last().unwrap_or(&InodeId(0));
        let mut above = chain;
        let Some(rest) = rest else {
            return if self.is_folder(at) { Ok(at) } else { Err(not_a_folder(path)) };
        };
        for name in rest {
            if name.as_ref() == b".." {
                above.pop();
                at = *above.last().unwrap_or(&InodeId(0));
                continue;
            }
            if !self.is_folder(at) {
                return Err(not_a_folder(path));
            }
            let made = match self.child(at, &name) {
                Some(there) => there,
                None => {
                    let made = self.push(Inode { meta: meta.clone(), kind: Kind::folder(), origin });
                    self.set_child(at, &name, made);
                    made
                }
            };
            above.push(made);
            at = made;
        }
        Ok(at)
    }

    /// The folder that holds `path` and the last name of it. `None` for the root itself.
    pub fn ensure_parent<'p>(
        &mut self,
        path: &'p [u8],
        meta: &Meta,
        origin: OriginId,
    ) -> Result<Option<(InodeId, &'p [u8])>> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.ensure_folder(parent, meta, origin)?, name)))
    }

    /// Puts an inode at `path`. A folder that comes upon a folder keeps what is in it and takes the new owner, mode
    /// and time; everything else replaces what was there, with all that was below it.
    pub fn insert(&mut self, path: &[u8], inode: Inode, missing: &Meta) -> Result<InodeId> {
        let Some((folder, name)) = self.ensure_parent(path, missing, inode.origin)? else {
            if !matches!(inode.kind, Kind::Folder(_)) {
                return Err(Error::refused("the root itself is to be replaced by something that is no folder"));
            }
            let root = self.inode_mut(InodeId(0));
            root.meta = inode.meta;
            root.origin = inode.origin;
            return Ok(self.root());
        };
        self.insert_in(folder, name, inode)
    }

    fn insert_in(&mut self, folder: InodeId, name: &[u8], inode: Inode) -> Result<InodeId> {
        if let Some(there) = self.child(folder, name)
            && self.is_folder(there)
            && matches!(inode.kind, Kind::Folder(_))
        {
            let known = self.inode_mut(there);
            known.meta = inode.meta;
            known.origin = inode.origin;
            return Ok(there);
        }
        let made = self.push(inode);
        self.set_child(folder, name, made);
        Ok(made)
    }

    /// Gives the file at `target` a second name.
    pub fn link(&mut self, path: &[u8], target: &[u8], missing: &Meta, origin: OriginId) -> Result<()> {
        let (target_parent, target_name) = split(target);
        let found = self.resolve(target_parent).and_then(|folder| self.child(folder, target_name));
        let found = found.filter(|id| !self.is_folder(*id)).ok_or_else(|| {
            Error::refused(format!(
                "\"{}\" is a hard link to \"{}\", which is {}",
                path.escape_ascii(),
                target.escape_ascii(),
                if self.lookup(target).is_some() { "a folder" } else { "not there" }
            ))
        })?;
        if let Some((folder, name)) = self.ensure_parent(path, missing, origin)? {
            self.set_child(folder, name, found);
        }
        Ok(())
    }

    /// Removes what `path` names, and all below it. Symbolic links in its parents are followed. Returns whether it
    /// was there.
    pub fn remove(&mut self, path: &[u8]) -> bool {
        let (parent, name) = split(path);
        match self.resolve(parent) {
            Some(folder) => match &mut self.inode_mut(folder).kind {
                Kind::Folder(names) => names.remove(name).is_some(),
                _ => false,
            },
            None => false,
        }
    }

    /// Removes everything in a folder. What is no folder or not there is left.
    pub fn clear(&mut self, path: &[u8]) {
        if let Some(folder) = self.resolve(path)
            && let Kind::Folder(names) = &mut self.inode_mut(folder).kind
        {
            names.clear();
        }
    }

    /// Every name with its inode, folders before what is in them, names in byte order. The root comes first with an
    /// empty path.
    pub fn walk_all(&self, mut each: impl FnMut(&[u8], InodeId) -> Result<()>) -> Result<()> {
        // An explicit stack: depth is up to the input.
        let mut path = Vec::new();
        each(&path, self.root())?;
        let mut stack = vec![(0, self.names(self.root()).collect::<Vec<_>>().into_iter())];
        while let Some((length, names)) = stack.last_mut() {
            path.truncate(*length);
            let Some((name, id)) = names.next() else {
                stack.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            each(&path, id)?;
            if self.is_folder(id) {
                stack.push((path.len(), self.names(id).collect::<Vec<_>>().into_iter()));
            }
        }
        Ok(())
    }

    /// How many names each inode has, by [`Tree::number`]. Inodes that lost their last name have none.
    pub fn link_counts(&self) -> Result<Vec<u32>> {
        let mut counts = vec![0; self.inode_bound()];
        self.walk_all(|_, id| {
            counts[self.number(id)] += 1;
            Ok(())
        })?;
        Ok(counts)
    }

    /// Puts a whole tree at `prefix`, as if it were unpacked there, keeping hard links. Every inode gets `origin`.
    ///
    /// A folder that comes upon a symbolic link to a folder goes through it, as `tar --keep-directory-symlink` and
    /// dpkg do: a kernel's `lib/modules` finds its place in a root whose `/lib` points to `usr/lib`.
    ///
    /// The other way round, when a symbolic link comes upon a folder with something in it, what is in it moves to
    /// where the link leads, if that is a folder of this root. So the result is the same whichever comes first, the
    /// kernel or what brings the links. Names that are there already stay as they are. A link that leads nowhere
    /// replaces the folder as everything else does.
    pub fn graft(&mut self, prefix: &[u8], other: &Tree, origin: OriginId, missing: &Meta) -> Result<()> {
        let mut copied: Vec<Option<InodeId>> = vec![None; other.inode_bound()];
        let base = self.ensure_folder(prefix, missing, origin)?;
        let root = other.inode(other.root());
        self.inode_mut(base).meta = root.meta.clone();
        self.inode_mut(base).origin = origin;
        let mut stack = vec![(other.root(), base)];
        // Folders that links have taken the place of, to be moved when all folders that the links lead to are there.
        let mut displaced = Vec::new();
        while let Some((from, to)) = stack.pop() {
            for (name, id) in other.names(from) {
                let inode = other.inode(id);
                if let Kind::Symlink(_) = inode.kind
                    && let Some(folder) = self.child(to, name).filter(|there| self.names(*there).next().is_some())
                {
                    displaced.push((to, name, folder));
                }
                if let Some(known) = copied[other.number(id)] {
                    self.set_child(to, name, known);
                    continue;
                }
                let made = if matches!(inode.kind, Kind::Folder(_)) {
                    let through = match self.child(to, name).map(|there| (there, &self.inode(there).kind)) {
                        Some((there, Kind::Symlink(_))) => self.resolve_child(to, there),
                        _ => None,
                    };
                    let folder = match through {
                        Some(folder) => folder,
                        None => {
                            let meta = inode.meta.clone();
                            self.insert_in(to, name, Inode { meta, kind: Kind::folder(), origin })?
                        }
                    };
                    stack.push((id, folder));
                    folder
                } else {
                    let (meta, kind) = (inode.meta.clone(), inode.kind.clone());
                    self.insert_in(to, name, Inode { meta, kind, origin })?
                };
                copied[other.number(id)] = Some(made);
            }
        }
        // A link may lead through another one, to what only the move of that one's folder brings.
        loop {
            let before = displaced.len();
            displaced.retain(|(parent, name, folder)| {
                let link = self.child(*parent, name);
                match link.and_then(|link| self.resolve_child(*parent, link)) {
                    Some(target) => {
                        self.move_names(*folder, target);
                        false
                    }
                    None => true,
                }
            });
            if displaced.len() == before {
                return Ok(());
            }
        }
    }

    /// Moves the names in the folder `from`, which has no name in this tree any more, to the folder `to`. Folders that
    /// both have are merged; of other names that both have, those in `to` stay.
    fn move_names(&mut self, from: InodeId, to: InodeId) {
        let mut stack = vec![(from, to)];
        while let Some((from, to)) = stack.pop() {
            let names = match &mut self.inode_mut(from).kind {
                Kind::Folder(names) => std::mem::take(names),
                _ => continue,
            };
            for (name, id) in names {
                match self.child(to, &name) {
                    None => self.set_child(to, &name, id),
                    Some(there) => stack.push((id, self.through(to, there))),
                }
            }
        }
    }

    /// Where a folder's name leads: to a folder behind a symbolic link, or to itself.
    fn through(&self, parent: InodeId, id: InodeId) -> InodeId {
        self.resolve_child(parent, id).unwrap_or(id)
    }

    /// The folder that the symbolic link `link` in `folder` leads to.
    fn resolve_child(&self, folder: InodeId, link: InodeId) -> Option<InodeId> {
        let Kind::Symlink(target) = &self.inode(link).kind else { return None };
        let mut path = if target.starts_with(b"/") { Vec::new() } else { self.path_of(folder)? };
        path.push(b'/');
        path.extend_from_slice(target);
        self.resolve(&path).filter(|id| self.is_folder(*id))
    }

    /// A path of a folder. Only needed where a relative link is in the way, so a search is cheap enough.
    fn path_of(&self, wanted: InodeId) -> Option<Vec<u8>> {
        let mut found = None;
        let _ = self.walk_all(|path, id| {
            if id == wanted {
                found = Some(path.to_vec());
            }
            Ok(())
        });
        found
    }
}

fn not_a_folder(path: &[u8]) -> Error {
    Error::refused(format!("\"{}\" goes through something that is no folder", path.escape_ascii()))
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path's folder and its last name. A `/` at its end, as folders have it in archives, is no empty name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    let path = &path[..end];
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_is_no_name() {
        assert_eq!(split(b"a/b/"), (&b"a"[..], &b"b"[..]));
        assert_eq!(split(b"a//"), (&b""[..], &b"a"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(split(b"/"), (&b""[..], &b""[..]));
    }
}
