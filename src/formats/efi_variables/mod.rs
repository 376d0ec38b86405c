//! UEFI variables of Secure Boot: lists of certificates, writes that are signed, and the flash that firmware for
//! virtual machines keeps variables in.
//!
//! Limits: lists of X.509 certificates, one signer, the "authenticated" store format of EDK II, which is what OVMF and
//! its ARM sibling have.

mod authenticated;
mod signature_list;
mod store;

use crate::formats::gpt::Guid;

pub use authenticated::{authenticated, timestamp};
pub use signature_list::{SIGNATURE_OWNER_SIZE, signature_list};
pub use store::{HEAD, Variable, Volume};

/// The vendor of PK, KEK and SecureBoot (UEFI 2.10, 3.3): `EFI_GLOBAL_VARIABLE`.
pub const GLOBAL: Guid = Guid(0x8be4df61_93ca_11d2_aa0d_00e098032b8c_u128.to_be_bytes());
/// The vendor of db and dbx (32.6.1): `EFI_IMAGE_SECURITY_DATABASE_GUID`.
pub const IMAGE_SECURITY_DATABASE: Guid = Guid(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f_u128.to_be_bytes());

/// Kept without power.
pub const NON_VOLATILE: u32 = 1;
/// Readable while the firmware has the machine.
pub const BOOT_SERVICE: u32 = 2;
/// Readable by the operating system.
pub const RUNTIME: u32 = 4;
/// Changed by signed writes that carry a time only.
pub const TIME_BASED_AUTHENTICATED: u32 = 0x20;
/// What PK, KEK, db and dbx have.
pub const KEYS: u32 = NON_VOLATILE | BOOT_SERVICE | RUNTIME | TIME_BASED_AUTHENTICATED;

/// A name as variables have it.
fn utf16(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
