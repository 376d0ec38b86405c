//! Syslinux 6 on FAT: the loader with which BIOS boots a disk.
//!
//! Three parts lie in the volume: a boot sector, `ldlinux.sys`, which the boot sector finds by the sector numbers that
//! are written into both, and `ldlinux.c32`, which `ldlinux.sys` reads as a file. Debian has the first two only inside
//! of the program that installs them, so they are looked for there, by their magic numbers. The program is not run.
//!
//! Limits: `ldlinux.sys` lies in one piece, in the root of the volume; sectors of 512 bytes; no RAID mode (a second
//! disk of a mirror is not tried); what the loader stores for itself between boots is empty.

mod carrier;
mod install;

pub use carrier::Carrier;
pub use install::Installed;
