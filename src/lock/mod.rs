//! From references to digests: what is not locked cannot be built.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `file.rs`, `read.rs` | a lock file's text | a `LockFile`, and back |
//! | `update.rs` | references, an old lock | a new lock, and what moved |
//! | `drift.rs` | a blueprint, a lock | where they do not fit each other |
//! | `loader.rs` | the components that formats need | which image each is |
//! | `resolve.rs` | a blueprint, a lock if there is one | `Locked`, with everything in the store |
//! | `layout.rs` | an image of a volume with `format: oci` | the blobs of its image layout |
//! | `place.rs` | blueprints' names | where their lock lies |

mod drift;
mod file;
mod layout;
mod loader;
mod place;
mod read;
mod resolve;
mod update;

use std::collections::BTreeMap;

pub use drift::{Drift, package_moves};
pub use file::{LOCK_VERSION, LockEntry, LockFile, LockedPackage, LockedPlatform, lock_key};
pub use loader::{LOADERS, LoaderPins};
pub use place::{LockPlace, digests_in_use};
pub use read::LOCK;
pub use resolve::{Resolver, image_name};
pub use update::{Locker, Move, Moving, means, moves};

use crate::blueprint::{Blueprint, Reference};
use crate::error::{Error, Result};
use crate::store::{Descriptor, ImageConfig, Layer, Layout};

/// An image that a blueprint names, by digest, with everything of it in the store.
#[derive(Clone, Debug)]
pub struct LockedImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A blueprint whose every reference is a digest for one architecture.
#[derive(Clone, Debug)]
pub struct Locked {
    /// The blueprint.
    pub blueprint: Blueprint,
    images: BTreeMap<Reference, LockedImage>,
    /// By the names of their volumes.
    layouts: BTreeMap<String, Layout>,
}

impl Locked {
    /// The image behind a reference of the blueprint.
    pub fn image(&self, reference: &Reference) -> Result<&LockedImage> {
        self.images.get(reference).ok_or_else(|| Error::failed(format!("{reference} was not resolved")))
    }

    /// The image layout of a volume with `format: oci`.
    pub fn layout(&self, volume: &str) -> Result<&Layout> {
        self.layouts.get(volume).ok_or_else(|| Error::failed(format!("the volume {volume} was not resolved")))
    }
}
