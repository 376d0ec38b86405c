//! PE32+ executables, what UEFI firmware loads: their headers, read from files that may be anything.

mod check;
mod checksum;
mod format;
mod reader;

pub use check::{Checked, check};
pub use checksum::Checksum;
pub use format::*;
pub use reader::{content, dump, read, section};
