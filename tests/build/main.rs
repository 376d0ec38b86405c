//! `moby build` as a person runs it, on images made here: what is in the outputs, how builds end, what they use.
//!
//! Nothing here needs a network but loopback. `SNAPSHOTS=overwrite` writes the expected texts anew.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "../support/mod.rs"]
mod support;

// The registry that serves the images of its own tests.
#[allow(dead_code)]
#[path = "../registry/fixtures.rs"]
mod fixtures;
#[allow(dead_code)]
#[path = "../registry/server.rs"]
mod server;

mod components;
mod concurrency;
mod contents;
mod damage;
mod endings;
mod full_disk;
mod images;
mod initrd;
mod layers;
mod listing;
mod memory;
mod messages;
mod place;
mod recipes;
mod root_compression;
mod snapshot;
