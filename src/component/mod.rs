//! Components: OCI images built from a folder with `build.yml`.

pub mod toolchain;
