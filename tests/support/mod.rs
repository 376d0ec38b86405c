//! Shared by the integration tests.
#![allow(dead_code)] // Every test program uses another part of it.

pub mod images;
pub mod machine;
