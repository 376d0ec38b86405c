//! Where a blueprint and its lock do not fit each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::file::{LockEntry, LockFile, LockedPackage, lock_key};
use crate::Arch;
use crate::blueprint::{Blueprint, Place};
use crate::component::Components;
use crate::error::Error;

/// One reference that its lock does not cover, or does not cover any more.
#[derive(Clone, Debug)]
pub struct Drift {
    /// The name of the reference in the lock.
    pub name: String,
    /// Where the blueprint names it, if it does.
    pub place: Option<Place>,
    /// How it drifted.
    pub how: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {} {}", self.name, self.how),
            None => write!(f, "{} {}", self.name, self.how),
        }
    }
}

impl LockFile {
    /// Everything in which a blueprint for one architecture drifted from this lock, in the order of the blueprint, then
    /// what only the lock has. Nothing is asked of a registry: what is locked is fetched by digest, whatever its tag
    /// stands for by now.
    pub fn drift(&self, blueprint: &Blueprint, components: &Components<'_>, arch: Arch) -> Vec<Drift> {
        let mut all = Vec::new();
        let mut known = BTreeSet::new();
        for reference in blueprint.references() {
            let component = components.get(&reference.value);
            let name = lock_key(&reference, component.is_some());
            let how = match self.images.get(&name) {
                None => Some("is not in the lock".to_string()),
                // The index stands for all platforms, whatever this build is for.
                Some(entry) if entry.index.is_some() && blueprint.is_only_layout(&reference) => None,
                Some(entry) => drifted(entry, component.as_ref().map(|component| component.hash.as_str()), arch),
            };
            if let Some(how) = how {
                all.push(Drift { name: name.clone(), place: Some(reference.place.clone()), how });
            }
            known.insert(name);
        }
        for name in self.images.keys().filter(|name| !known.contains(*name)) {
            let how = "is locked, but the blueprint does not name it".to_string();
            all.push(Drift { name: name.clone(), place: None, how });
        }
        all
    }

    /// The error of `--locked` for a list that is not empty; exit status 3.
    pub fn refuse(path: &Path, drifts: &[Drift]) -> Error {
        let lines: String = drifts.iter().map(|drift| format!("\n  {drift}")).collect();
        let path = path.display();
        Error::refused(format!("{path} and the blueprint do not fit each other:{lines}"))
            .hint("moby lock brings them together and prints what changes")
    }
}

pub(super) fn drifted(entry: &LockEntry, recipe: Option<&str>, arch: Arch) -> Option<String> {
    if recipe != entry.recipe.as_deref() {
        let locked = entry.recipe.as_deref().unwrap_or("none");
        return Some(format!("has another recipe: locked {locked}, now {}", recipe.unwrap_or("none")));
    }
    if entry.platforms.contains_key(&arch) {
        return None;
    }
    let there: Vec<_> = entry.platforms.keys().map(|arch| arch.name()).collect();
    Some(format!("is not locked for {arch}, only for {}", there.join(" and ")))
}

/// The packages in which two lists differ: `NAME OLD -> NEW`, `NAME NEW added`, `NAME OLD removed`.
pub fn package_moves(old: &BTreeSet<LockedPackage>, new: &BTreeSet<LockedPackage>) -> Vec<String> {
    let by_name = |list: &BTreeSet<LockedPackage>| -> BTreeMap<String, LockedPackage> {
        list.iter().map(|package| (package.name.clone(), package.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let describe = |name: &String| match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) if old.version == new.version => {
            Some(format!("{name} {} {} -> {}", old.version, old.digest, new.digest))
        }
        (Some(old), Some(new)) => Some(format!("{name} {} -> {}", old.version, new.version)),
        (None, Some(new)) => Some(format!("{name} {} added", new.version)),
        (Some(old), None) => Some(format!("{name} {} removed", old.version)),
        (None, None) => None,
    };
    names.into_iter().filter_map(describe).collect()
}
