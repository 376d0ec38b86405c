//! From references to digests: what is not locked cannot be built.

mod resolve;

use std::collections::BTreeMap;

pub use resolve::{Resolver, image_name};

use crate::blueprint::{Blueprint, Reference};
use crate::error::{Error, Result};
use crate::store::{Descriptor, ImageConfig, Layer};

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
}

impl Locked {
    /// The image behind a reference of the blueprint.
    pub fn image(&self, reference: &Reference) -> Result<&LockedImage> {
        self.images.get(reference).ok_or_else(|| Error::failed(format!("{reference} was not resolved")))
    }
}
