//! What to pull or push.

use std::fmt;

use crate::blueprint::write_expanded;
use crate::store::Digest;

/// An image in a registry. `Display` is the canonical name, `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, under which the
/// store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// The host, with a port if there is one: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// The path: `library/redis`.
    pub repository: String,
    /// The tag; `latest` if there is neither tag nor digest.
    pub tag: Option<String>,
    /// The digest of the manifest or index; stronger than the tag.
    pub digest: Option<Digest>,
}

impl ImageName {
    /// What follows `/manifests/` in the URL: the digest, else the tag, else `latest`.
    pub(super) fn reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_string(),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expanded(f, &self.registry, &self.repository, self.tag.as_deref(), self.digest.as_ref())
    }
}
