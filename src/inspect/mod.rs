//! Looking into images that were built: what they are, whether their boot chain holds, in what two of them differ.
//!
//! | file | does |
//! |---|---|
//! | `kind.rs` | tells what bytes are, by their content and never by a name |
//! | `container.rs` | opens the wrappings of disks (qcow2, VHDX, ...) |
//! | `files.rs` | the names of a root: is there an init, through whatever links |
//! | `chain/` | walks from the container to init, link by link ([`chain::check`]) |
//! | `parts/` | an image as a tree of parts: disk, partitions, files, sections, members |
//! | `origin.rs` | how an image was asked for: format, architecture, size |
//! | `compare.rs` | the first difference of two images, by part and field |
//!
//! Everything here comes from outside: nothing panics, loops or takes memory without bound; what is read is read through
//! the readers of [`crate::formats`].

pub mod chain;
pub mod compare;
pub mod container;
mod files;
mod kind;
pub mod origin;
pub mod parts;

use std::sync::Arc;

pub use chain::{Link, Report, Status, Verdict, check};
pub use kind::{Kind, detect};

use crate::formats::disk::DiskImage;

/// Bytes that can be read from any place, shared by everything that is found in them.
pub type Image = Arc<dyn DiskImage>;

/// A number of bytes as people say it.
pub(crate) fn bytes_text(size: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| size >= *unit) {
        Some((name, unit)) if size.is_multiple_of(*unit) => format!("{} {name}", size / unit),
        Some((name, unit)) => format!("{}.{} {name}", size / unit, size % unit * 10 / unit),
        None => format!("{size} bytes"),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
