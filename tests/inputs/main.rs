//! What a blueprint can be given besides images of registries, and what it can be made into besides files: image
//! layouts in volumes, archives of images, a local Docker, an earlier output, a compressed kernel.
//!
//! Kernels come from the machine's Debian mirror; nothing else needs a network but loopback.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)]
#[path = "../registry/fixtures.rs"]
mod fixtures;
#[allow(dead_code)]
#[path = "../registry/server.rs"]
mod server;

#[allow(dead_code)]
#[path = "../support/machine.rs"]
mod machine;

mod archives;
mod bench;
mod docker;
mod input_tar;
mod kernels;
mod layouts;
