//! Unified kernel images: a kernel, its initrd and its command line inside systemd's EFI stub, one file that firmware
//! loads and that one signature covers (UAPI unified kernel image specification).
//!
//! Limits: images below 2 GiB, stubs that are PE32+ and unsigned, no profiles, no add-ons. The stub of systemd 252 does
//! not look at `.ucode`: microcode then belongs in front of the initrd. OVMF with Secure Boot loads these images, on
//! both architectures; PCR 11 in the guest is what [`measure`] says, for the stubs of 252 and 257.

mod measure;
mod writer;

pub use measure::{Measurement, measure, measured, phases, version};
pub use writer::{Section, Uki};
