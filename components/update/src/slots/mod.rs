//! Disks with two slots, as `docs/verified-boot.md` describes them under "For programs that update": reading, staging an
//! update, marking a good boot. A part of two programs: `components/update` in the guest, and `moby update` on the host.
//! No unsafe code, no clock, nothing from outside the disk.

pub mod bytes;
pub mod complete;
pub mod device;
pub mod failure;
pub mod fat;
pub mod folder;
pub mod layout;
pub mod program;
pub mod reset;
pub mod show;
pub mod spool;
pub mod stage;
pub mod table;
pub mod verity;
