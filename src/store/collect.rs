//! Taking things out of the store: images by name, what was not used for long, what is too much.
//!
//! First the names go, then the files that no name leads to: a crash in between leaves files that the next collection
//! takes. If other processes have the store open, files that were used in the last [`GRACE`] stay.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::time::{Duration, SystemTime};

use super::list::{Item, ItemKind, Parts, StoredImage};
use super::used::GRACE;
use super::{Descriptor, Digest, Store};
use crate::error::{Error, Result};

/// What a collection takes.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// What was not used for so long.
    pub older_than: Option<Duration>,
    /// What was not used for longest, until no more than so many bytes are left.
    pub max_size: Option<u64>,
    /// Say what would be taken, and take nothing.
    pub dry_run: bool,
}

/// What was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Names of images.
    pub names: Vec<String>,
    /// Files and folders.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Bytes that would have gone, but were used a short while ago and other processes have the store open.
    pub spared: u64,
}

impl Store {
    /// Takes what [`Limits`] say, never anything that `keep` leads to (the digests of locks in use) nor images with
    /// such a manifest.
    pub fn collect(&self, limits: &Limits, keep: &BTreeSet<Digest>) -> Result<Collected> {
        let alone = self.alone()?;
        let now = SystemTime::now();
        let age = |used: SystemTime| now.duration_since(used).unwrap_or_default();
        // Beside others nothing young goes, whatever was asked for.
        let least = if alone.is_some() { Duration::ZERO } else { GRACE };
        let kept = self.parts_of(keep.iter().copied());
        let (images, items) = (self.images()?, self.items()?);

        let is_kept = |image: &StoredImage| !image.parts.blobs.is_disjoint(keep);
        let mut going: Vec<bool> = images
            .iter()
            .map(|image| {
                let age = image.used.map_or(Duration::MAX, age);
                !is_kept(image) && age >= least && limits.older_than.is_some_and(|limit| age >= limit)
            })
            .collect();
        let owners = Owners::new(&images, &items);
        let mut plan = Plan { items: &items, owners, kept: &kept, gone: vec![false; items.len()] };
        plan.take_unowned(|item| {
            age(item.used) >= least && limits.older_than.is_some_and(|limit| age(item.used) >= limit)
        });
        // Of images that go, everything goes that nothing else has, however young: a layer is not used without its
        // image, but for one that was inflated a moment ago beside others.
        plan.take_owned(&going, |item| age(item.used) >= least);

        if let Some(most) = limits.max_size {
            let mut candidates: Vec<Candidate> = Vec::new();
            for (number, image) in images.iter().enumerate() {
                let used = image.used.unwrap_or(SystemTime::UNIX_EPOCH);
                if !going[number] && !is_kept(image) && age(used) >= least {
                    candidates.push((used, Taken::Image(number)));
                }
            }
            for (number, item) in items.iter().enumerate() {
                if !plan.gone[number] && plan.is_loose(number) && age(item.used) >= least {
                    candidates.push((item.used, Taken::Item(number)));
                }
            }
            candidates.sort();
            for (_, taken) in candidates {
                if plan.left() <= most {
                    break;
                }
                match taken {
                    Taken::Image(number) => {
                        going[number] = true;
                        plan.take_owned(&going, |item| age(item.used) >= least);
                    }
                    Taken::Item(number) => plan.gone[number] = true,
                }
            }
        }
        let spared = plan.spared(&going);
        let gone = plan.gone;
        self.carry_out(&images, &going, &items, &gone, spared, limits.dry_run)
    }

    /// Takes images by their names, and what only they had.
    pub fn remove_images(&self, names: &BTreeSet<String>, keep: &BTreeSet<Digest>) -> Result<Collected> {
        let alone = self.alone()?;
        let now = SystemTime::now();
        let least = if alone.is_some() { Duration::ZERO } else { GRACE };
        let (images, items) = (self.images()?, self.items()?);
        let kept = self.parts_of(keep.iter().copied());
        let going: Vec<bool> =
            images.iter().map(|image| image.name.as_ref().is_some_and(|name| names.contains(name))).collect();
        let owners = Owners::new(&images, &items);
        let mut plan = Plan { items: &items, owners, kept: &kept, gone: vec![false; items.len()] };
        plan.take_owned(&going, |item| now.duration_since(item.used).unwrap_or_default() >= least);
        let spared = plan.spared(&going);
        let gone = plan.gone;
        self.carry_out(&images, &going, &items, &gone, spared, false)
    }

    /// Empties the store. Refused while other processes have it open.
    pub fn clean(&self) -> Result<Collected> {
        let Some(_alone) = self.alone()? else { return Err(self.not_alone()) };
        let (images, items) = (self.images()?, self.items()?);
        let (going, gone) = (vec![true; images.len()], vec![true; items.len()]);
        self.carry_out(&images, &going, &items, &gone, 0, false)
    }

    /// Takes the bytes of layers, packed and inflated, and leaves the names, documents and indexes, which have a
    /// hundredth of their size. Refused while other processes have the store open.
    pub fn clean_layers(&self) -> Result<Collected> {
        let Some(_alone) = self.alone()? else { return Err(self.not_alone()) };
        let items = self.items()?;
        let layers = self.layer_digests(&items);
        let is_layer = |item: &Item| match &item.kind {
            ItemKind::Blob(digest) => layers.contains(digest),
            ItemKind::Derived(kind, _) => kind == super::layer::TAR_KIND,
        };
        let gone: Vec<bool> = items.iter().map(is_layer).collect();
        self.carry_out(&[], &[], &items, &gone, 0, false)
    }

    fn not_alone(&self) -> Error {
        Error::failed(format!("another process has the store {} open", self.root().display()))
            .hint("wait for it to end, or take what is old: moby cache gc works beside others")
    }

    fn carry_out(
        &self,
        images: &[StoredImage],
        going: &[bool],
        items: &[Item],
        gone: &[bool],
        spared: u64,
        dry_run: bool,
    ) -> Result<Collected> {
        let leaving: Vec<&StoredImage> =
            images.iter().zip(going).filter(|(_, goes)| **goes).map(|(image, _)| image).collect();
        let names = leaving.iter().map(|image| image.name.clone().unwrap_or(image.descriptor.digest.to_string()));
        let mut collected = Collected { names: names.collect(), spared, ..Collected::default() };
        if !dry_run && !leaving.is_empty() {
            let same = |descriptor: &Descriptor| leaving.iter().any(|image| image.descriptor == *descriptor);
            self.update_index(|index| index.manifests.retain(|descriptor| !same(descriptor)))?;
        }
        for (item, goes) in items.iter().zip(gone) {
            if !goes {
                collected.left += item.size;
                continue;
            }
            if !dry_run {
                remove(item)?;
            }
            collected.files += 1;
            collected.bytes += item.size;
        }
        Ok(collected)
    }
}

type Candidate = (SystemTime, Taken);

/// What may go to make room; at the same age, an image goes before single files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Image(usize),
    Item(usize),
}

/// For each item the images that have it.
struct Owners(Vec<Vec<usize>>);

impl Owners {
    fn new(images: &[StoredImage], items: &[Item]) -> Owners {
        // Digest first: thousands of images times a hundred thousand files would take minutes.
        let mut by_digest: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (number, image) in images.iter().enumerate() {
            let digests: BTreeSet<&Digest> = image.parts.blobs.iter().chain(&image.parts.layers).collect();
            for digest in digests {
                by_digest.entry(*digest).or_default().push(number);
            }
        }
        let owners = |item: &Item| {
            let digest = match &item.kind {
                ItemKind::Blob(digest) | ItemKind::Derived(_, Some(digest)) => by_digest.get(digest),
                ItemKind::Derived(_, None) => None,
            };
            let has = |number: &usize| images[*number].parts.have(&item.kind);
            digest.into_iter().flatten().copied().filter(has).collect()
        };
        Owners(items.iter().map(owners).collect())
    }
}

struct Plan<'a> {
    items: &'a [Item],
    owners: Owners,
    kept: &'a Parts,
    gone: Vec<bool>,
}

impl Plan<'_> {
    fn is_loose(&self, number: usize) -> bool {
        self.owners.0[number].is_empty() && !self.kept.have(&self.items[number].kind)
    }

    /// Takes what belongs to no image.
    fn take_unowned(&mut self, may: impl Fn(&Item) -> bool) {
        for number in 0..self.items.len() {
            if self.is_loose(number) && may(&self.items[number]) {
                self.gone[number] = true;
            }
        }
    }

    /// Takes what belongs only to images that go.
    fn take_owned(&mut self, going: &[bool], may: impl Fn(&Item) -> bool) {
        for number in 0..self.items.len() {
            if self.is_orphan(number, going) && may(&self.items[number]) {
                self.gone[number] = true;
            }
        }
    }

    fn is_orphan(&self, number: usize, going: &[bool]) -> bool {
        let owners = &self.owners.0[number];
        !owners.is_empty() && owners.iter().all(|owner| going[*owner]) && !self.kept.have(&self.items[number].kind)
    }

    fn left(&self) -> u64 {
        self.items.iter().zip(&self.gone).filter(|(_, gone)| !**gone).map(|(item, _)| item.size).sum()
    }

    /// Bytes of images that go which stay for now.
    fn spared(&self, going: &[bool]) -> u64 {
        let spared = (0..self.items.len()).filter(|number| self.is_orphan(*number, going) && !self.gone[*number]);
        spared.map(|number| self.items[number].size).sum()
    }
}

fn remove(item: &Item) -> Result<()> {
    let removed = match fs::symlink_metadata(&item.path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&item.path),
        Ok(_) => fs::remove_file(&item.path),
        Err(error) => Err(error),
    };
    match removed {
        // Two collections may run at once.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", &item.path, error)),
        _ => Ok(()),
    }
}
