//! Unified kernel images: a kernel, its initrd and its command line inside systemd's EFI stub, one file that firmware
//! loads and that one signature covers (UAPI unified kernel image specification).
//!
//! Limits: images below 2 GiB, stubs that are PE32+ and unsigned, no profiles, no add-ons.

mod measure;
mod writer;

pub use measure::{Measurement, measure, phases};
pub use writer::{Section, Uki};
