//! The lock file: what every reference of a blueprint stands for, by digest.
//!
//! YAML that a person can read in a diff: one fact a line, sorted, nothing in it but what was locked.
//!
//! ```yaml
//! version: 1
//! moby: 0.1.0
//! images:
//! - image: docker.io/library/nginx:1.27
//!   index: sha256:...
//!   platforms:
//!     amd64:
//!       manifest: sha256:...
//!       config: sha256:...
//! - image: docker.io/moby/redis
//!   recipe: 5f0c...
//!   platforms:
//!     amd64:
//!       packages:
//!       - libc6 2.41-12 sha256:...
//! ```
//!
//! An image that a recipe of this project builds is named without its tag, which is the recipe's hash and has a line of
//! its own. `loaders`, if it is there, has the components that formats need beside what the blueprint names, in the same
//! form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Arch;
use crate::blueprint::{MapBuilder, Reference, Value};
use crate::store::Digest;

/// The version of the form. It goes up when an older program would misread a file.
pub const LOCK_VERSION: u32 = 1;

/// The first line of a lock file.
const COMMENT: &str = "# Written by `moby lock`, which also moves it. Keep it beside the blueprint.\n";

/// A lock file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The version of the program that wrote it.
    pub tool: String,
    /// What references stand for, by their expanded names (see [`lock_key`]).
    pub images: BTreeMap<String, LockEntry>,
    /// The components that formats need beside what the blueprint names, by the same names.
    pub loaders: BTreeMap<String, LockEntry>,
}

/// What one reference stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockEntry {
    /// The hash of the recipe and everything that it names, if a recipe builds the image: hexadecimal digits.
    pub recipe: Option<String>,
    /// The digest of the index, if the name stands for one.
    pub index: Option<Digest>,
    /// The architectures that it is there for.
    pub platforms: BTreeMap<Arch, LockedPlatform>,
}

/// An image on one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedPlatform {
    /// The digest of the manifest; absent if a recipe builds the image and nobody built it yet.
    pub manifest: Option<Digest>,
    /// The digest of the configuration.
    pub config: Option<Digest>,
    /// The packages that went into it, if a recipe builds it; sorted.
    pub packages: BTreeSet<LockedPackage>,
}

/// A package that went into a component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPackage {
    /// Its name, as its archive says it.
    pub name: String,
    /// Its version, as its archive says it.
    pub version: String,
    /// The digest of the package's file.
    pub digest: Digest,
}

impl fmt::Display for LockedPackage {
    /// `NAME VERSION DIGEST`, the form of the lock file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.version, self.digest)
    }
}

/// The name of a reference in a lock file: expanded, and without the tag if a recipe builds it.
pub fn lock_key(reference: &Reference, component: bool) -> String {
    match component {
        true => format!("{}/{}", reference.registry(), reference.repository()),
        false => reference.to_string(),
    }
}

impl LockFile {
    /// A lock of nothing, by this program.
    pub fn new() -> LockFile {
        LockFile { tool: env!("CARGO_PKG_VERSION").to_string(), images: BTreeMap::new(), loaders: BTreeMap::new() }
    }

    /// What is locked for a reference.
    pub fn entry(&self, reference: &Reference, component: bool) -> Option<&LockEntry> {
        self.images.get(&lock_key(reference, component))
    }

    /// The packages that a component's image has to be built from, if its recipe is the locked one: for the component
    /// builder, which fetches these instead of the newest.
    pub fn pinned_packages(&self, reference: &Reference, recipe: &str, arch: Arch) -> Option<&BTreeSet<LockedPackage>> {
        let entry = self.entry(reference, true).filter(|entry| entry.recipe.as_deref() == Some(recipe))?;
        entry.platforms.get(&arch).map(|platform| &platform.packages)
    }

    /// Every digest in it: of indexes, manifests, configurations and packages.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let platform = |platform: &LockedPlatform| {
            let documents = platform.manifest.into_iter().chain(platform.config);
            documents.chain(platform.packages.iter().map(|package| package.digest)).collect::<Vec<_>>()
        };
        self.images
            .values()
            .chain(self.loaders.values())
            .flat_map(|entry| entry.index.into_iter().chain(entry.platforms.values().flat_map(platform)))
            .collect()
    }

    /// The file's text. The same content always makes the same bytes.
    pub fn to_yaml(&self) -> String {
        let mut map = MapBuilder::default();
        map.put("version", Value::Integer(LOCK_VERSION.into()));
        map.put("moby", Value::text(self.tool.as_str()));
        map.put("images", entries(&self.images));
        map.maybe("loaders", (!self.loaders.is_empty()).then(|| entries(&self.loaders)));
        COMMENT.to_string() + &map.build().to_yaml(2)
    }
}

fn entries(entries: &BTreeMap<String, LockEntry>) -> Value {
    let entries = entries.iter().map(|(name, entry)| {
        let mut map = MapBuilder::default();
        map.put("image", Value::text(name.as_str()));
        map.maybe("recipe", entry.recipe.as_deref().map(Value::text));
        map.maybe("index", entry.index.map(digest));
        let platforms = entry.platforms.iter().map(|(arch, one)| (arch.name().to_string(), platform(one)));
        map.put("platforms", Value::Map(platforms.collect()));
        map.build()
    });
    Value::List(entries.collect())
}

fn digest(digest: Digest) -> Value {
    Value::text(digest.to_string())
}

fn platform(platform: &LockedPlatform) -> Value {
    let mut map = MapBuilder::default();
    map.maybe("manifest", platform.manifest.map(digest));
    map.maybe("config", platform.config.map(digest));
    map.maybe("packages", (!platform.packages.is_empty()).then(|| Value::texts(&platform.packages)));
    map.build()
}
