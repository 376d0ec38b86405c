//! From layers to the root file system of the image.
//!
//! Nothing is unpacked: a [`Tree`] holds names, owners, modes and the place where each file's content lies. Memory is
//! proportional to the number of entries, never to their size.

pub mod assemble;
mod content;
mod flatten;
pub mod image_rules;
pub mod input_tar;
pub mod runtime_spec;
pub mod stage1;
mod tree;
mod tree_digest;

pub use content::{Content, Place, write_error};
pub(crate) use flatten::apply_entry;
pub use flatten::{flatten, merge_layer};
pub use tree::{Inode, InodeId, Kind, Meta, Origin, OriginId, Tree};
