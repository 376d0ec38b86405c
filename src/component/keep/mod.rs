//! What a recipe's `keep:` leaves of its packages: the named files, and what they need to run.
//!
//! | file | does |
//! |---|---|
//! | `mod.rs` | from names to the smaller tree |
//! | `needs.rs` | what a program, library or script needs |
//! | `walk.rs` | follows a path and tells the links that were passed |
//! | `elf.rs` | what a program or library says about itself |
//! | `loader.rs` | where the dynamic loader looks for libraries |
//! | `script.rs` | what runs a script |
//!
//! # What is kept
//! - What a path names; a folder with everything below it. `*` in the last name stands for any text.
//! - Every symbolic link on the way and what it leads to; a link that leads nowhere is kept when a path names it or it
//!   lies in a named folder.
//! - For programs and libraries: their loader, and the shared libraries that they need, in the folders where that loader
//!   looks for them. For scripts that may be executed: what their first line names, and what `env` finds for it.
//! - Of the links at the top (`/bin`, `/sbin`, `/lib`, `/lib64`) those that lead to a folder with something in it.
//!
//! # What is the recipe's to name
//! What a program opens by itself when it runs: its modules and plug-ins (`dlopen`), its data, other programs that it
//! starts. The GNU C library of 2.34 (bookworm has 2.36) has the look-ups in `/etc/passwd`, `/etc/hosts` and DNS in
//! itself and needs no `libnss_files` and `libnss_dns` any more; other look-ups of `/etc/nsswitch.conf` are such modules,
//! and so are character sets of `iconv` (`gconv`).
//!
//! There is no `/etc/ld.so.cache`: without it the loader looks through its own folders, where all of Debian's libraries
//! are but a few private ones, and those programs say where (`DT_RUNPATH`). Folders of `/etc/ld.so.conf.d` are known to
//! the cache alone. A library that is only there is an error here, as it would be at run time.

mod elf;
mod loader;
mod needs;
mod script;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::path::{meant, show};
use crate::Arch;
use crate::error::{Error, Result};
use crate::rootfs::{Inode, InodeId, Kind, Meta, Tree};
use walk::{Found, split, walk};

/// What is left.
#[derive(Debug)]
pub struct Kept {
    /// Only what is kept, with the owners, modes, times and origins of the full tree.
    pub tree: Tree,
    /// Libraries, loaders and interpreters that no path names, sorted. They have a slash in front.
    pub needed: Vec<String>,
    /// Regular files, each counted once whatever its names.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Makes the smaller tree of what `wanted` names and what that needs. `own` are paths that the recipe itself puts into
/// the image afterwards (`files:`, `symlinks:`, programs): an interpreter that is not in a package may be one of them.
/// What the recipe drops has to be dropped before, or it counts.
///
/// `arch` is what programs and libraries must be for. Files that are not executable and need no loader, such as the
/// firmware of other processors, may be for any.
///
/// # Errors
/// Exit status 2 if something that is named or needed is not there, 3 if a program is broken or for another machine.
pub fn keep(tree: &Tree, wanted: &[impl AsRef<str>], own: &[impl AsRef<str>], arch: Arch, time: i64) -> Result<Kept> {
    let mut keeper = Keeper::new(tree, arch);
    keeper.own = own.iter().map(|path| physical(tree, path.as_ref().as_bytes())).collect();
    let mut missing = Vec::new();
    for path in wanted.iter().map(AsRef::as_ref) {
        let found = expand(tree, path)?;
        if found.is_empty() {
            missing.push(path);
        }
        for found in found {
            keeper.take(found);
        }
    }
    if !missing.is_empty() {
        let error = Error::usage(format!("`keep:` names {}, which no package has", missing.join(" and ")));
        let near: Vec<_> = missing.iter().filter_map(|path| meant(tree, path)).collect();
        return Err(if near.is_empty() { error } else { error.hint(format!("did you mean {}?", near.join(" and "))) });
    }
    keeper.follow();
    let named: BTreeSet<Vec<u8>> = keeper.taken.keys().cloned().collect();
    keeper.examine()?;
    keeper.top_links();
    keeper.finish(&named, time)
}

/// A path without links in its parents, whether it exists or not.
fn physical(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let (parent, name) = split(path);
    match walk(tree, parent, true) {
        Some(found) if found.path.is_empty() => name.to_vec(),
        Some(found) => [&found.path, &b"/"[..], name].concat(),
        None => path.strip_prefix(b"/").unwrap_or(path).to_vec(),
    }
}

/// What a path of the recipe names.
fn expand(tree: &Tree, path: &str) -> Result<Vec<Found>> {
    let (parent, name) = split(path.trim_end_matches('/').as_bytes());
    if parent.contains(&b'*') {
        return Err(Error::usage(format!("`keep:` names {path}, with a `*` that is not in the last name")));
    }
    if !name.contains(&b'*') {
        return Ok(walk(tree, path.as_bytes(), false).into_iter().collect());
    }
    let Some(folder) = walk(tree, parent, true) else { return Ok(Vec::new()) };
    let names = tree.names(folder.id).filter(|(known, _)| matches(name, known));
    Ok(names.map(|(name, id)| Found { path: join(&folder.path, name), id, links: folder.links.clone() }).collect())
}

/// Whether a name fits a pattern in which `*` stands for any text. Time is at most the product of their lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut pattern_at) = (0, 0);
    let mut star = None;
    while at < name.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(byte) if Some(byte) == name.get(at) => {
                at += 1;
                pattern_at += 1;
            }
            _ => {
                // The last star takes one more.
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = taken + 1;
                pattern_at = star_at + 1;
            }
        }
    }
    pattern.get(pattern_at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Collects what is kept. All paths are without links and without a slash in front.
struct Keeper<'t> {
    tree: &'t Tree,
    arch: Arch,
    /// What the recipe adds itself.
    own: HashSet<Vec<u8>>,
    /// What is kept, folders with all that is in them.
    taken: BTreeMap<Vec<u8>, InodeId>,
    /// Links that were passed: kept, but what they lead to is kept only as far as it was asked for.
    passed: BTreeSet<Vec<u8>>,
    /// What is taken but whose links and contents are not yet.
    pending: Vec<(Vec<u8>, InodeId)>,
    /// Files whose needs are to be found.
    files: Vec<(Vec<u8>, InodeId)>,
    /// Shared libraries whose needs are found after those of all programs.
    libraries: Vec<loader::Object>,
    /// Inodes whose needs are known.
    examined: HashSet<InodeId>,
    /// Names of libraries that some program has loaded.
    loaded: HashSet<Vec<u8>>,
    /// What was read of programs and libraries.
    elves: HashMap<InodeId, needs::Read>,
}

impl<'t> Keeper<'t> {
    fn new(tree: &'t Tree, arch: Arch) -> Keeper<'t> {
        Keeper {
            tree,
            arch,
            own: HashSet::new(),
            taken: BTreeMap::new(),
            passed: BTreeSet::new(),
            pending: Vec::new(),
            files: Vec::new(),
            libraries: Vec::new(),
            examined: HashSet::new(),
            loaded: HashSet::new(),
            elves: HashMap::new(),
        }
    }

    fn take(&mut self, found: Found) {
        self.passed.extend(found.links);
        self.pending.push((found.path, found.id));
    }

    /// Takes what is in the taken folders and what taken links lead to.
    fn follow(&mut self) {
        while let Some((path, id)) = self.pending.pop() {
            if self.taken.insert(path.clone(), id).is_some() {
                continue;
            }
            match &self.tree.inode(id).kind {
                Kind::Folder(names) => {
                    self.pending.extend(names.iter().map(|(name, id)| (join(&path, name), *id)));
                }
                Kind::Symlink(_) => {
                    if let Some(found) = walk(self.tree, &path, true) {
                        self.take(found);
                    }
                }
                Kind::File(_) => self.files.push((path, id)),
                Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {}
            }
        }
    }

    /// Takes the links at the top that lead to a folder which something is in: whoever writes a path has them in mind.
    fn top_links(&mut self) {
        for (name, id) in self.tree.names(self.tree.root()) {
            if let Kind::Symlink(_) = self.tree.inode(id).kind
                && let Some(found) = walk(self.tree, name, true)
                && matches!(self.tree.inode(found.id).kind, Kind::Folder(_))
            {
                let inside = [&found.path, &b"/"[..]].concat();
                if self.taken.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside)) {
                    self.passed.extend(found.links);
                }
            }
        }
    }

    fn finish(self, named: &BTreeSet<Vec<u8>>, time: i64) -> Result<Kept> {
        let mut parents = HashSet::new();
        for mut path in self.taken.keys().chain(&self.passed).map(Vec::as_slice) {
            while !path.is_empty() {
                path = split(path).0;
                parents.insert(path);
            }
        }
        let full = self.tree;
        let mut kept = Kept { tree: Tree::new(time), needed: Vec::new(), files: 0, bytes: 0 };
        let mut first_names: HashMap<InodeId, Vec<u8>> = HashMap::new();
        let missing = Meta::root(0o755, time);
        full.walk_all(|path, id| {
            let taken = self.taken.contains_key(path);
            if !(taken || parents.contains(path) || self.passed.contains(path)) {
                return Ok(());
            }
            let inode = full.inode(id);
            let origin = kept.tree.add_origin(full.origin(inode.origin).clone());
            let kind = match &inode.kind {
                Kind::Folder(_) => Kind::folder(),
                kind => {
                    if let Some(first) = first_names.get(&id) {
                        return kept.tree.link(path, first, &missing, origin);
                    }
                    first_names.insert(id, path.to_vec());
                    kind.clone()
                }
            };
            if let Kind::File(content) = &kind {
                kept.files += 1;
                kept.bytes += content.size;
                if !named.contains(path) {
                    kept.needed.push(show(path));
                }
            }
            kept.tree.insert(path, Inode { meta: inode.meta.clone(), kind, origin }, &missing).map(drop)
        })?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
