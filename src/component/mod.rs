//! Components: OCI images built from a folder with `build.yml`.
//!
//! | file | step |
//! |---|---|
//! | `recipe/` | `build.yml` -> [`recipe::Recipe`] |
//! | `source.rs`, `folder.rs` | the folder's files -> the hash that the image is named by |
//! | `content_tag.rs` | the name that git knows the folder by |
//! | `embedded.rs` | the recipes that are part of the program |
//! | `components.rs` | `@pkg:` and what was built of it: [`Components`] |
//! | `loader.rs` | the components that formats need, by the lock |
//! | `materials.rs` | Debian's archive and the compiler, opened once |
//! | `build.rs` | recipe -> tree -> image |
//! | `dockerfile.rs` | recipe -> image, by another program |
//! | `skeleton.rs`, `packages.rs` | the packages' files in one tree |
//! | `certificates.rs`, `drop.rs`, `keep/` | what is made of them and what stays |
//! | `users.rs`, `install.rs` | what the recipe adds |
//! | `kernel/`, `microcode.rs` | kernel images |
//! | `toolchain/` | programs from source |
//! | `image.rs`, `index.rs` | tree -> image in the store, one name for all architectures |

#[cfg(test)]
mod alike;
mod build;
pub mod certificates;
mod components;
mod content_tag;
mod data;
mod dockerfile;
pub mod drop;
pub mod embedded;
mod folder;
pub mod image;
mod index;
mod install;
pub mod keep;
pub mod kernel;
mod loader;
mod materials;
pub mod microcode;
pub mod packages;
mod path;
pub mod recipe;
pub mod skeleton;
mod source;
pub mod toolchain;
pub mod users;

pub use components::{Built, Components, Pin};
pub use content_tag::{ContentTag, Tagging};
pub use folder::{Component, Overrides};
pub use index::Indexed;
