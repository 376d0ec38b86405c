//! Where a shared cache is.

use std::fmt;
use std::path::PathBuf;

use crate::store::registry::ImageName;

/// The longest tag of our own, `image-` and a digest or a kind and a digest, with room for kinds to come.
const LONGEST_OWN: usize = 64 + 24;
/// The longest tag (OCI distribution specification, "Pulling manifests").
const LONGEST_TAG: usize = 128;

/// A cache's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A repository of a registry; its tag stands in front of the tags of what is in it.
    Registry(ImageName),
    /// An OCI image layout.
    Folder(PathBuf),
}

impl Place {
    /// The longest tag that a cache in a registry may have.
    pub const LONGEST_PREFIX: usize = LONGEST_TAG - LONGEST_OWN - 1;

    /// Whether it needs the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Place::Registry(_))
    }
}

/// The name of something in a repository.
pub(super) fn in_repository(repository: &ImageName, tag: &str) -> ImageName {
    let tag = match &repository.tag {
        Some(prefix) => format!("{prefix}-{tag}"),
        None => tag.to_owned(),
    };
    ImageName { tag: Some(tag), digest: None, ..repository.clone() }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Registry(name) => write!(f, "the cache {name}"),
            Place::Folder(folder) => write!(f, "the cache {}", folder.display()),
        }
    }
}
