//! `moby build` as a person runs it, on images made here: what is in the outputs, how builds end, what they use.
//!
//! Nothing here needs a network. `SNAPSHOTS=overwrite` writes the expected texts anew.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "../support/mod.rs"]
mod support;

mod contents;
mod fixtures;
mod images;
mod initrd;
mod listing;
mod place;
mod snapshot;
