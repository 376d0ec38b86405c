//! OCI image layouts in a tar (OCI image specification 1.1, image-layout.md), as `skopeo`, `podman load` and `oras` read
//! them: with images that containers are made from, and artefacts that machines boot.
//!
//! Limits: one layer per image; no index of several platforms: each architecture's build is a file of its own.

mod format;
mod writer;

pub use format::{Boot, Image, media_type};
pub use writer::{Layer, Layout, write_layer};
