//! Registries: images come from them into the store, and go to them from it (OCI distribution specification 1.1).
//!
//! | file | what it does |
//! |---|---|
//! | `name.rs` | what to pull or push |
//! | `endpoint.rs` | which servers to ask for it: mirrors first, then the registry; http or https |
//! | `credentials.rs` | passwords from Docker's and podman's files and helpers |
//! | `authorization.rs` | what a server wants to see: nothing, a password, a token |
//! | `documents.rs` | manifests and indexes, checked; the choice of a platform |
//! | `platforms.rs` | what a name stands for on each architecture, without its layers |
//! | `pull.rs` | an image with its layers |
//! | `layout.rs` | an image as it is, for several platforms |
//! | `layer.rs` | one layer, hashed and inflated while it arrives |
//! | `push.rs` | an image to a registry |
//! | `artefact.rs` | what is no image |
//!
//! Reading goes through [`crate::net`], writing through `oci-client`. That crate cannot do the reading: it reads
//! manifests, tokens and errors of any size into memory, shows no headers of a refusal (so no `Retry-After`), does
//! not check what it resumes, and panics on a machine that has no certificates.
//!
//! Not supported: Docker's schema 1 manifests, layers that lie elsewhere (`urls`), identity tokens, sha512 digests.

mod artefact;
mod authorization;
mod credentials;
mod documents;
mod endpoint;
mod layer;
mod layout;
mod name;
mod platforms;
mod pull;
mod push;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;

pub(super) use artefact::not_its_digest;
pub(super) use documents::{choose_platform, read_document};
pub use name::ImageName;
pub use platforms::Platforms;

use crate::net::Net;

/// Access to registries. Remembers tokens and which mirrors do not answer; make one per run and share it.
#[derive(Debug)]
pub struct Registry<'a> {
    net: &'a Net,
    memory: Mutex<Memory>,
}

/// What was learnt while asking.
#[derive(Debug, Default)]
struct Memory {
    /// `Authorization` headers by server and scope. They are marked as sensitive, so `Debug` hides them.
    authorizations: HashMap<(String, String), HeaderValue>,
    /// Whether a loopback address speaks plain http.
    plain: HashMap<String, bool>,
    /// Mirrors that could not be reached; they are not asked again.
    dead: HashSet<String>,
}

impl<'a> Registry<'a> {
    /// Access through `net`, with its mirrors, certificates and exceptions.
    pub fn new(net: &'a Net) -> Registry<'a> {
        Registry { net, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // The tables stay whole whatever a thread that held them did.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
