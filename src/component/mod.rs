//! Components: OCI images built from a folder with `build.yml`.

pub mod kernel;
pub mod microcode;
pub mod toolchain;
