//! Components: OCI images built from a folder with `build.yml`.

pub mod certificates;
pub mod drop;
pub mod keep;
pub mod kernel;
pub mod microcode;
pub mod packages;
mod path;
pub mod skeleton;
pub mod toolchain;
pub mod users;
