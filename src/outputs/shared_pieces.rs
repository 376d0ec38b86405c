//! Pieces of file systems: in the store, and in caches that machines share.
//!
//! In a cache the pieces lie in packs, one for each component: whatever starts with a file of it. A pack is found under
//! the contents of its component, so it is found for other roots with that component too; and under those of the whole
//! root, so that whoever builds the same root finds every piece. The two differ in few pieces: those with files of several
//! components in them, and ends of files that squashfs puts together.
//!
//! A pack is fetched when the store lacks a piece of its component. Its pieces are looked through by who writes the file
//! system, each before it is used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Options;
use super::initrd::component;
use super::pack::Pack;
use super::pieces::Stored;
use crate::error::{IoContext, Result};
use crate::formats::pieces::{Found, Pieces};
use crate::rootfs::{Kind, OriginId, Tree};
use crate::store::shared::{Bundle, Piece, SharedCaches};
use crate::store::{Digest, Hasher};
use crate::ui::Ui;

/// The most bytes of a piece, with what tells what is where.
const PIECE: u64 = (1 << 20) + (64 << 10);

/// What is kept of one kind of file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    /// The kind of derived data that pieces are.
    pub pieces: &'static str,
    /// The kind that packs are.
    pub packs: &'static str,
}

/// The pieces of one file system of a tree.
#[derive(Debug)]
pub(super) struct SharedPieces<'a> {
    stored: Stored<'a>,
    packs: &'static str,
    shared: Option<&'a SharedCaches<'a>>,
    ui: &'a Ui,
    groups: Vec<Group>,
    group_of: HashMap<OriginId, usize>,
    /// No cache has the packs of this very root.
    root_is_absent: AtomicBool,
}

/// A component.
#[derive(Debug)]
struct Group {
    name: String,
    pack: Piece,
    fetched: OnceLock<Option<Fetched>>,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Fetched {
    pack: Pack,
    of_this_root: bool,
}

/// Pieces that the file system has.
#[derive(Debug, Default)]
struct Used {
    keys: BTreeSet<Digest>,
    /// Bytes of those that were made now.
    made: u64,
    refused: bool,
}

impl Group {
    fn used(&self) -> MutexGuard<'_, Used> {
        // A set of whole keys: it is in order whatever a thread that held it did.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> SharedPieces<'a> {
    /// The pieces of a tree. `compression` tells how they are made.
    pub(super) fn new(kinds: Kinds, compression: &str, tree: &Tree, options: &Options<'a>) -> Result<SharedPieces<'a>> {
        struct Gathered {
            name: String,
            hasher: Hasher,
            bytes: u64,
            files: u64,
        }
        let (mut numbers, mut group_of) = (BTreeMap::<String, usize>::new(), HashMap::new());
        let mut gathered: Vec<Gathered> = Vec::new();
        tree.walk_all(|_, id| {
            let inode = tree.inode(id);
            let Kind::File(content) = &inode.kind else { return Ok(()) };
            let number = *group_of.entry(inode.origin).or_insert_with(|| {
                let origin = tree.origin(inode.origin);
                let next = gathered.len();
                let number = *numbers.entry(component(&origin.location).to_owned()).or_insert(next);
                if number == next {
                    let mut hasher = Hasher::new();
                    hasher.field(compression.as_bytes());
                    gathered.push(Gathered { name: origin.source.clone(), hasher, bytes: 0, files: 0 });
                }
                number
            });
            if let Some(group) = gathered.get_mut(number) {
                group.hasher.update(content.digest.as_bytes());
                group.hasher.update(&content.size.to_le_bytes());
                // Blocks are filled up, and what tells what is where takes less than a byte of a hundred.
                group.bytes = group.bytes.saturating_add(content.size + content.size / 100 + 8192);
                group.files += 1;
            }
            Ok(())
        })?;
        let all = gathered.iter().fold(PIECE, |sum, group| sum.saturating_add(group.bytes));
        let groups = gathered.into_iter().map(|group| {
            // Each piece starts with a file of the component and may have other ones' behind it.
            let limit = group.bytes.saturating_add(group.files.saturating_mul(PIECE)).min(all);
            let pack = Piece { key: group.hasher.finish(), limit };
            Group { name: group.name, pack, fetched: OnceLock::new(), used: Mutex::default() }
        });
        Ok(SharedPieces {
            stored: Stored { store: options.store, kind: kinds.pieces },
            packs: kinds.packs,
            shared: options.components.shared(),
            ui: options.ui,
            groups: groups.collect(),
            group_of,
            root_is_absent: AtomicBool::new(false),
        })
    }

    fn group(&self, origin: OriginId) -> Option<(usize, &Group)> {
        let number = *self.group_of.get(&origin)?;
        self.groups.get(number).map(|group| (number, group))
    }

    /// All packs of the root.
    fn root(&self) -> Bundle {
        let pieces = self.groups.iter().map(|group| group.pack.clone()).collect();
        Bundle { kind: self.packs, name: "the root".to_owned(), pieces, is_kept: false }
    }

    fn single(&self, group: &Group) -> Bundle {
        Bundle { kind: self.packs, name: group.name.clone(), pieces: vec![group.pack.clone()], is_kept: false }
    }

    /// Fetches a component's pack: the one that was made with this root, or one that was made with another.
    fn fetch(&self, number: usize, group: &Group) -> Option<Fetched> {
        let shared = self.shared.filter(|shared| shared.are_read())?;
        let verify = |_: usize, _: usize, file: &File| {
            let file = file.try_clone().at("opening", self.stored.store.root())?;
            Pack::open(file).map(drop)
        };
        let bring = |bundle: Bundle, piece: usize| {
            let came = shared.bring(&[bundle], &|_, one| one == piece, &verify).ok()?;
            let (.., checked) = came.into_iter().next()?;
            Pack::open(File::open(&checked.path).ok()?).ok()
        };
        // With one component the two are the same.
        let with_root = self.groups.len() > 1 && !self.root_is_absent.load(Ordering::Relaxed);
        if with_root {
            match bring(self.root(), number) {
                Some(pack) => return Some(Fetched { pack, of_this_root: true }),
                None => self.root_is_absent.store(true, Ordering::Relaxed),
            }
        }
        bring(self.single(group), 0).map(|pack| Fetched { pack, of_this_root: false })
    }

    /// Says what was made, and hands packs to the caches that the build fills.
    pub(super) fn finish(&self) -> Result<()> {
        let written = self.shared.filter(|shared| shared.are_written());
        let mut is_root_wrong = false;
        for group in &self.groups {
            let used = std::mem::take(&mut *group.used());
            let fetched = group.fetched.get().and_then(Option::as_ref);
            if !used.keys.is_empty() {
                let span = self.ui.span("compress", &group.name);
                span.advance(used.made);
                if used.made == 0 {
                    span.reused();
                }
            }
            let single = self.single(group);
            if let Some(shared) = self.shared.filter(|_| used.refused) {
                self.ui
                    .warn(format!("a shared cache has wrong data for {}, which is not used but made here", group.name));
                shared.replace(&single);
            }
            is_root_wrong |= fetched.is_some_and(|fetched| fetched.of_this_root && used.made > 0);
            match written {
                Some(shared) => {
                    let is_used = !used.keys.is_empty();
                    let keys = shared.pack(self.packs, &group.pack.key, used.keys);
                    let file = Pack::write(&keys, &self.stored)?;
                    self.stored.store.put_checked(self.packs, &group.pack.key, file)?;
                    // One without pieces is a part of the root all the same, whose name tells how many there are.
                    if is_used {
                        shared.used_bundle(single);
                    }
                }
                None if fetched.is_some() => self.stored.store.remove_checked(self.packs, &group.pack.key)?,
                None => {}
            }
        }
        if let Some(shared) = written {
            let root = self.root();
            if is_root_wrong {
                shared.replace(&root);
            }
            shared.used_bundle(root);
        }
        Ok(())
    }

    fn note(&self, key: &Digest, origin: OriginId, made: u64) {
        if let Some((_, group)) = self.group(origin) {
            let mut used = group.used();
            used.keys.insert(*key);
            used.made += made;
        }
    }
}

impl Pieces for SharedPieces<'_> {
    fn get(&self, key: &Digest, origin: OriginId, bytes: &mut Vec<u8>) -> Found {
        if self.stored.read(key, bytes).is_some() {
            self.note(key, origin, 0);
            return Found::Whole;
        }
        let Some((number, group)) = self.group(origin) else { return Found::Nothing };
        let fetched = group.fetched.get_or_init(|| self.fetch(number, group)).as_ref();
        let found = fetched.and_then(|fetched| fetched.pack.find(key, bytes));
        if found.is_some() { Found::Foreign } else { Found::Nothing }
    }

    fn put(&self, key: &Digest, origin: OriginId, parts: &[&[u8]]) -> Result<()> {
        self.note(key, origin, parts.iter().map(|part| part.len() as u64).sum());
        self.stored.put(key, origin, parts)
    }

    fn accept(&self, key: &Digest, origin: OriginId, parts: &[&[u8]]) -> Result<()> {
        self.note(key, origin, 0);
        self.stored.put(key, origin, parts)
    }

    fn refuse(&self, origin: OriginId) {
        if let Some((_, group)) = self.group(origin) {
            group.used().refused = true;
        }
    }
}
