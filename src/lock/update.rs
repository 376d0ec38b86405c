//! Making a lock, and moving what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::drift::package_moves;
use super::file::{LockEntry, LockFile, LockedPackage, LockedPlatform, lock_key};
use super::image_name;
use super::loader::LOADERS;
use crate::Arch;
use crate::blueprint::{Blueprint, Reference, Spanned, nearest};
use crate::component::image::{MATERIALS_LABEL, Materials};
use crate::component::{Component, Components};
use crate::error::{Context, Error, Result};
use crate::net::Net;
use crate::store::manifest::media_type;
use crate::store::registry::{ImageName, Platforms, Registry};
use crate::store::{Descriptor, Digest, ImageConfig, LocalDocker, Manifest, Store};

/// Which references of a lock are to be asked for anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moving {
    /// None: what is locked stays, what is new is added.
    Nothing,
    /// All.
    All,
    /// Those that these names mean (see [`means`]).
    Some(Vec<String>),
}

/// What locks are made with.
#[derive(Debug)]
pub struct Locker<'a> {
    /// Where manifests and configurations go to, and where images are that were built here.
    pub store: &'a Store,
    /// How registries are reached.
    pub net: &'a Net,
    /// The architectures to lock; nothing for all that images have and recipes are built for here.
    pub arches: Option<&'a [Arch]>,
    /// The references that recipes build.
    pub components: &'a Components<'a>,
    /// Where images are looked for before their registries are asked.
    pub docker: Option<&'a LocalDocker>,
}

/// A change of one line of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The name in the lock.
    pub name: String,
    /// What changed: `OLD -> NEW`, `added NEW`, `removed OLD`.
    pub change: String,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.change)
    }
}

impl Locker<'_> {
    /// A new lock for the references of a blueprint. What `old` has for them stays unless it is to move; what no
    /// reference names any more is dropped. The moves are in the order of the names.
    pub fn lock(&self, blueprint: &Blueprint, old: &LockFile, moving: &Moving) -> Result<LockFile> {
        let references = &blueprint.references();
        self.check_names(references, old, moving)?;
        let registry = Registry::new(self.net);
        let mut lock = LockFile::new();
        for reference in references {
            let component = self.components.get(&reference.value);
            let name = lock_key(reference, component.is_some());
            let moves = match moving {
                Moving::Nothing => false,
                Moving::All => true,
                Moving::Some(names) => names.iter().any(|wanted| means(wanted, reference, &name)),
            };
            let kept = old.images.get(&name).filter(|_| !moves || component.is_some());
            let entry = match &component {
                Some(component) => self.component_entry(&name, component, kept, moves),
                None => self.entry(&registry, reference, kept, blueprint.is_only_layout(reference)),
            };
            let entry = entry.context(&reference.place)?;
            lock.images.insert(name, entry);
        }
        Ok(lock)
    }

    /// The loaders of a new lock: those that `old` has, or with `all` every one that there is for the architectures.
    pub fn loaders(&self, old: &LockFile, moving: &Moving, all: bool) -> Result<BTreeMap<String, LockEntry>> {
        let mut loaders = BTreeMap::new();
        for name in LOADERS {
            let component = self.components.add(Path::new(name))?;
            let reference = Reference::parse(&component.reference).map_err(|error| {
                Error::usage(format!("\"{}\" is no reference: {}", component.reference, error.message))
            })?;
            let key = lock_key(&reference, true);
            let kept = old.loaders.get(&key);
            let known = |arch: &Arch| component.recipe.arches.contains(arch);
            let wanted = match self.arches {
                Some(arches) => arches.iter().any(known),
                None => Arch::host().is_some_and(|arch| known(&arch)),
            };
            if kept.is_none() && !(all && wanted) {
                continue;
            }
            let moves = match moving {
                Moving::Nothing => false,
                Moving::All => true,
                Moving::Some(names) => names.iter().any(|wanted| means(wanted, &reference, &key)),
            };
            loaders.insert(key.clone(), self.component_entry(&key, &component, kept, moves).context(name)?);
        }
        Ok(loaders)
    }

    fn check_names(&self, references: &[Spanned<Reference>], old: &LockFile, moving: &Moving) -> Result<()> {
        let Moving::Some(names) = moving else { return Ok(()) };
        for wanted in names {
            if old.loaders.keys().any(|name| name == wanted || name.rsplit('/').next() == Some(wanted)) {
                continue;
            }
            let key = |reference: &Reference| lock_key(reference, self.components.get(reference).is_some());
            if references.iter().any(|reference| means(wanted, reference, &key(reference))) {
                continue;
            }
            let known: Vec<String> = references.iter().map(|reference| last_part(reference).to_string()).collect();
            let hint = match nearest(wanted, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the blueprint names {}", known.join(", ")),
            };
            return Err(Error::usage(format!("the blueprint names no image \"{wanted}\"")).hint(hint));
        }
        Ok(())
    }

    /// With `whole`, an image may be there for other platforms only.
    fn entry(
        &self,
        registry: &Registry<'_>,
        reference: &Reference,
        kept: Option<&LockEntry>,
        whole: bool,
    ) -> Result<LockEntry> {
        let name = image_name(reference)?;
        if let Some(kept) = kept.filter(|kept| kept.recipe.is_none()) {
            return self.completed(registry, &name, kept);
        }
        if reference.is_in_file()
            && let Some(named) = self.store.named(&name.to_string())?
        {
            return self.in_file(&named);
        }
        if let Some(docker) = self.docker.filter(|_| !whole) {
            let mut platforms = Vec::new();
            for arch in self.arches() {
                if let Some(manifest) = docker.image(self.store, &name, *arch, self.net.ui())? {
                    platforms.push((*arch, self.built(&manifest.digest)?));
                }
            }
            if !platforms.is_empty() {
                return Ok(LockEntry { platforms: platforms.into_iter().collect(), ..LockEntry::default() });
            }
        }
        // As for a build: what was built here has its architecture behind its name, and comes first.
        let built = self.built_here(&name)?;
        if !built.is_empty() {
            return Ok(LockEntry { platforms: built.into_iter().collect(), ..LockEntry::default() });
        }
        let named = match self.net.options().offline {
            true => self.store.named(&name.to_string())?,
            false => None,
        };
        // Without a network, what the store has under the name is what there is to lock.
        let pinned = ImageName { digest: name.digest.or(named.map(|named| named.digest)), ..name };
        if whole {
            let top = registry.top(self.store, &pinned)?;
            if media_type::is_index(&top.media_type) {
                let pinned = ImageName { digest: Some(top.digest), ..pinned };
                // Whether it has images for these architectures too, or not.
                let platforms = registry.platforms(self.store, &pinned, self.arches()).unwrap_or_default();
                return Ok(LockEntry { index: Some(top.digest), ..of_platforms(platforms) });
            }
        }
        Ok(of_platforms(registry.platforms(self.store, &pinned, self.arches())?))
    }

    /// A kept entry with the architectures that it lacks, as far as its own index has them.
    fn completed(&self, registry: &Registry<'_>, name: &ImageName, kept: &LockEntry) -> Result<LockEntry> {
        let missing: Vec<Arch> =
            self.arches().iter().copied().filter(|arch| !kept.platforms.contains_key(arch)).collect();
        let mut entry = kept.clone();
        if let (Some(index), false) = (kept.index, missing.is_empty()) {
            let pinned = ImageName { digest: Some(index), ..name.clone() };
            // It may be there for none of them, which is no reason to fail: it was so before.
            if let Ok(platforms) = registry.platforms(self.store, &pinned, &missing) {
                entry.platforms.extend(of_platforms(platforms).platforms);
            }
        }
        Ok(entry)
    }

    /// What a recipe gives: built if it is not in the store, or built anew from today's packages if it is to move.
    fn component_entry(
        &self,
        name: &str,
        component: &Component,
        kept: Option<&LockEntry>,
        again: bool,
    ) -> Result<LockEntry> {
        let mut entry = LockEntry { recipe: Some(component.hash.clone()), ..LockEntry::default() };
        // The same recipe: what is locked for other architectures stays.
        if let Some(kept) = kept.filter(|kept| kept.recipe == entry.recipe) {
            entry.platforms = kept.platforms.clone();
        }
        for arch in Arch::ALL.into_iter().filter(|arch| component.recipe.arches.contains(arch)) {
            let known = entry.platforms.contains_key(&arch);
            // Compiling for the other architecture is a matter of minutes: only if it is asked for, or done already.
            let wanted = match self.arches {
                Some(arches) => arches.contains(&arch),
                None => {
                    let built = self.store.named(&format!("{}-{arch}", canonical(component)?))?;
                    Some(arch) == Arch::host() || built.is_some() || known
                }
            };
            if wanted && (again || !known) {
                let built = self.components.image(component, arch, again)?;
                entry.platforms.insert(arch, self.built(&built.manifest.digest)?);
            }
        }
        if entry.platforms.is_empty() {
            let names: Vec<_> = component.recipe.arches.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!("{name} is not built for an architecture that is to be locked"))
                .hint(format!("its recipe has `arches: [{}]`; say --arch", names.join(", "))));
        }
        Ok(entry)
    }

    /// A built image with the packages that its label names.
    fn built(&self, manifest: &Digest) -> Result<LockedPlatform> {
        let read: Manifest = self.store.read_json(manifest)?;
        let config: ImageConfig = self.store.read_json(&read.config.digest)?;
        let label = config.config.labels.get(MATERIALS_LABEL);
        let materials: Materials = label.and_then(|label| serde_json::from_str(label).ok()).unwrap_or_default();
        let packages = materials.packages.into_iter();
        let packages =
            packages.map(|one| LockedPackage { name: one.name, version: one.version, digest: one.sha256 }).collect();
        Ok(LockedPlatform { manifest: Some(*manifest), config: Some(read.config.digest), packages })
    }

    /// What there is of an image that lies in a file.
    fn in_file(&self, named: &Descriptor) -> Result<LockEntry> {
        let index = media_type::is_index(&named.media_type).then_some(named.digest);
        let mut entry = LockEntry { index, ..LockEntry::default() };
        for arch in self.arches() {
            let manifest = self.store.platform_manifest(named, *arch)?;
            let Some(manifest) = manifest.filter(|manifest| self.store.has_image(manifest)) else { continue };
            let read: Manifest = self.store.read_json(&manifest.digest)?;
            let config: ImageConfig = self.store.read_json(&read.config.digest)?;
            if [arch.name(), arch.kernel_name(), ""].contains(&config.architecture.as_str()) {
                entry.platforms.insert(*arch, self.built(&manifest.digest)?);
            }
        }
        Ok(entry)
    }

    /// The images that were built here under a name.
    fn built_here(&self, name: &ImageName) -> Result<Vec<(Arch, LockedPlatform)>> {
        let mut found = Vec::new();
        for arch in self.arches() {
            if let Some(built) = self.store.named(&format!("{name}-{arch}"))? {
                found.push((*arch, self.built(&built.digest)?));
            }
        }
        Ok(found)
    }

    fn arches(&self) -> &[Arch] {
        self.arches.unwrap_or(&Arch::ALL)
    }
}

/// The name under which the store has a component's images, but for the architecture.
fn canonical(component: &Component) -> Result<String> {
    let reference = Reference::parse(&component.reference)
        .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", component.reference, error.message)))?;
    Ok(image_name(&reference)?.to_string())
}

fn of_platforms(platforms: Platforms) -> LockEntry {
    let images = platforms.images.into_iter().map(|(arch, (manifest, config))| {
        (arch, LockedPlatform { manifest: Some(manifest), config: Some(config), packages: BTreeSet::new() })
    });
    LockEntry { recipe: None, index: platforms.index, platforms: images.collect() }
}

/// Whether a name of the command line means a reference: as it is typed in the blueprint, expanded, without its tag, or
/// just its last part (`nginx`).
pub fn means(wanted: &str, reference: &Reference, key: &str) -> bool {
    let repository = format!("{}/{}", reference.registry(), reference.repository());
    wanted == reference.as_typed() || wanted == key || wanted == repository || wanted == last_part(reference)
}

fn last_part(reference: &Reference) -> &str {
    reference.repository().rsplit('/').next().unwrap_or_default()
}

/// What changed from one lock to the next, one line for each fact that moved.
pub fn moves(old: &LockFile, new: &LockFile) -> Vec<Move> {
    let mut all = entry_moves(&old.images, &new.images);
    all.extend(entry_moves(&old.loaders, &new.loaders));
    all
}

fn entry_moves(old: &BTreeMap<String, LockEntry>, new: &BTreeMap<String, LockEntry>) -> Vec<Move> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut all = Vec::new();
    for name in names {
        let mut changed = |change: String| all.push(Move { name: name.clone(), change });
        let (before, after) = match (old.get(name), new.get(name)) {
            (Some(before), Some(after)) => (before, after),
            (None, Some(after)) => {
                changed(format!("added {}", identity(after)));
                continue;
            }
            (Some(before), None) => {
                changed(format!("removed {}", identity(before)));
                continue;
            }
            (None, None) => continue,
        };
        if before.recipe != after.recipe || before.index != after.index {
            changed(format!("{} -> {}", identity(before), identity(after)));
        }
        let arches: BTreeSet<&Arch> = before.platforms.keys().chain(after.platforms.keys()).collect();
        for arch in arches {
            match (before.platforms.get(arch), after.platforms.get(arch)) {
                (None, Some(after)) => changed(format!("{arch} added {}", shown(after.manifest))),
                (Some(before), None) => changed(format!("{arch} removed {}", shown(before.manifest))),
                (Some(before), Some(after)) => {
                    if before.manifest != after.manifest || before.config != after.config {
                        changed(format!("{arch} {} -> {}", shown(before.manifest), shown(after.manifest)));
                    }
                    for change in package_moves(&before.packages, &after.packages) {
                        changed(format!("{arch} {change}"));
                    }
                }
                (None, None) => {}
            }
        }
    }
    all
}

/// What an entry is told by: its recipe, its index, or its only manifests.
fn identity(entry: &LockEntry) -> String {
    match (&entry.recipe, entry.index) {
        (Some(recipe), _) => format!("recipe {recipe}"),
        (None, Some(index)) => index.to_string(),
        (None, None) => {
            let manifests: Vec<String> = entry.platforms.values().map(|platform| shown(platform.manifest)).collect();
            manifests.join(", ")
        }
    }
}

fn shown(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "not built".to_string(), |digest| digest.to_string())
}
