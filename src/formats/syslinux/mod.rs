//! SYSLINUX on a FAT volume: how BIOS boots a disk.
//!
//! Limits: version 6, sectors of 512 bytes, the loader in the volume's root. The boot record of the disk needs
//! SYSLINUX's `mbr.bin` (master boot record) or `gptmbr.bin` (GPT, and attribute bit 2 of the partition).

mod install;
mod template;

pub use install::{files, install, patched};
pub use template::Template;
