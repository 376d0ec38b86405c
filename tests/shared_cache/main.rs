//! Caches that machines share: one builds and fills a cache, others build out of it. What a cache serves wrong is never
//! used.
//!
//! Needs Debian's packages docker-registry, apache2-utils and openssl, and Rust. Everything listens on loopback.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)]
#[path = "../registry/fixtures.rs"]
mod fixtures;
#[allow(dead_code)]
#[path = "../build/place.rs"]
mod place;
#[allow(dead_code)]
#[path = "../registry/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../registry/server.rs"]
mod server;

mod builders;
mod file_systems;
mod fleet;
mod lies;
mod network;
