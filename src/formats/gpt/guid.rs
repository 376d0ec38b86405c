//! Globally unique identifiers, and the partition types that firmware and systemd know.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::store::{Digest, Hasher};

/// A GUID in the order in which it is read aloud (RFC 9562, 4). On disk the first three fields are little-endian (UEFI
/// 2.10, appendix A): [`Guid::to_disk`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All zeros: an unused entry.
    pub const ZERO: Guid = Guid([0; 16]);

    const fn from_u128(value: u128) -> Guid {
        Guid(value.to_be_bytes())
    }

    /// A GUID of version 8 (RFC 9562, 5.8) from what it names, told apart from others of the same `content` by
    /// `purpose`. A version 8 GUID is one whose bits are the maker's own affair; no random number is involved.
    pub fn derived(content: Digest, purpose: &str) -> Guid {
        let mut hasher = Hasher::new();
        hasher.field(content.as_bytes());
        hasher.field(purpose.as_bytes());
        let digest = hasher.finish();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    /// The bytes as they stand in a partition table.
    pub fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    /// A GUID from the bytes of a partition table.
    pub fn from_disk(bytes: [u8; 16]) -> Guid {
        // The swap is its own inverse.
        Guid(Guid(bytes).to_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Guid, Error> {
        let bad = || {
            Error::usage(format!("\"{}\" is not a GUID", text.escape_debug()))
                .hint("a GUID looks like c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        };
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        let digits = groups.concat();
        if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&digits, 16).map(Guid::from_u128).map_err(|_| bad())
    }
}

/// EFI system partition (UEFI 2.10, 5.3.3).
pub const EFI_SYSTEM: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// Where GRUB's core image lies on a disk that BIOS boots.
pub const BIOS_BOOT: Guid = Guid::from_u128(0x21686148_6449_6e6f_744e_656564454649);
/// Kernel images besides those of the EFI system partition ("XBOOTLDR").
pub const EXTENDED_BOOT: Guid = Guid::from_u128(0xbc13c2ff_59e6_4262_a352_b275fd6f7172);
/// Data without a meaning of its own.
pub const LINUX_DATA: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
/// `/var`.
pub const LINUX_VAR: Guid = Guid::from_u128(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d);
/// What Windows, and firmware that knows no other, takes for a FAT volume.
pub const BASIC_DATA: Guid = Guid::from_u128(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);
/// Root of x86-64.
pub const ROOT_X86_64: Guid = Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
/// Hash tree of the root of x86-64.
pub const ROOT_X86_64_VERITY: Guid = Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
/// Signature of the root hash of x86-64.
pub const ROOT_X86_64_VERITY_SIGNATURE: Guid = Guid::from_u128(0x41092b05_9fc8_4523_994f_2def0408b176);
/// Root of ARM64.
pub const ROOT_ARM64: Guid = Guid::from_u128(0xb921b045_1df0_41c3_af44_4c6f280d3fae);
/// Hash tree of the root of ARM64.
pub const ROOT_ARM64_VERITY: Guid = Guid::from_u128(0xdf3300ce_d69f_4c92_978c_9bfb0f38d820);
/// Signature of the root hash of ARM64.
pub const ROOT_ARM64_VERITY_SIGNATURE: Guid = Guid::from_u128(0x6db69de6_29f4_4758_a7a5_962190f00ce3);

/// Types and what they are called in dumps (UAPI discoverable partitions specification).
const TYPE_NAMES: [(Guid, &str); 12] = [
    (EFI_SYSTEM, "EFI system partition"),
    (BIOS_BOOT, "BIOS boot"),
    (EXTENDED_BOOT, "extended boot"),
    (LINUX_DATA, "Linux data"),
    (LINUX_VAR, "Linux /var"),
    (BASIC_DATA, "basic data"),
    (ROOT_X86_64, "root x86-64"),
    (ROOT_X86_64_VERITY, "root x86-64 verity"),
    (ROOT_X86_64_VERITY_SIGNATURE, "root x86-64 verity signature"),
    (ROOT_ARM64, "root arm64"),
    (ROOT_ARM64_VERITY, "root arm64 verity"),
    (ROOT_ARM64_VERITY_SIGNATURE, "root arm64 verity signature"),
];

/// What a partition type is called; `None` if it is not one of ours.
pub fn type_name(kind: Guid) -> Option<&'static str> {
    TYPE_NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_fields_are_little_endian_on_disk() {
        // The EFI system partition's type as every GPT on every disk has it.
        assert_eq!(EFI_SYSTEM.to_disk()[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(Guid::from_disk(EFI_SYSTEM.to_disk()), EFI_SYSTEM);
        // "Hah!IdontNeedEFI" is how GRUB's type reads on disk.
        assert_eq!(&BIOS_BOOT.to_disk(), b"Hah!IdontNeedEFI");
    }

    #[test]
    fn text_goes_there_and_back() {
        let text = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
        assert_eq!(text.parse::<Guid>().unwrap(), ROOT_X86_64);
        assert_eq!(ROOT_X86_64.to_string(), text);
        for wrong in ["", "4f68bce3", "4f68bce3e8cd4db196e7fbcaf984b709", "+f68bce3-e8cd-4db1-96e7-fbcaf984b709"] {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn derived_guids_are_version_8_and_differ_by_purpose() {
        let content = Digest::of(b"content");
        let guid = Guid::derived(content, "disk");
        assert_eq!(guid.to_string().as_bytes()[14], b'8');
        assert!(matches!(guid.to_string().as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(guid, Guid::derived(content, "partition 1"));
        assert_ne!(guid, Guid::derived(Digest::of(b"other"), "disk"));
        assert_eq!(guid, Guid::derived(content, "disk"));
    }
}
