//! FAT12, FAT16 and FAT32: what firmware reads loaders and kernels from.
//!
//! Limits: files below 4 GiB, names that Windows would take, no owners, modes or links, times in steps of two seconds
//! from 1980 on. Sizes are known before the first byte, so a volume is written front to back without a copy of it, with every file in
//! one piece; the crates that exist write through a block device in random order (fatfs, which is unmaintained and
//! stamps the clock unless told) or bring a second copy of the whole tree.

mod check;
mod format;
mod grow;
mod layout;
mod name;
mod reader;
mod writer;

pub use check::Checked;
pub use format::{Geometry, Kind};
pub use grow::grow;
pub use reader::{FileReader, Listed, Volume, dump};
pub use writer::*;
