//! Master boot records: a table of four partitions and the program that BIOS runs (UEFI 2.10, 5.2).
//!
//! Limits: four partitions, no extended ones, sectors of 512 bytes, 2 TiB.

mod format;
mod reader;
mod writer;

pub use format::{BOOT_CODE_SIZE, ENTRIES, Entry, Record, SIZE, kind};
pub use reader::read;
pub use writer::*;
