//! The store: an OCI image layout on disk, and what is derived from it.

pub mod digest;

pub use digest::{Digest, Hasher};
