//! Identifiers that are the same for the same content.

use sha2::{Digest as _, Sha256};

use super::{DiskImage, scan};
use crate::error::Result;
use crate::store::Digest;

/// Where a disk's identifiers (UUIDs, GUIDs, content ids) come from: 32 bytes that stand for its content. Two
/// containers of one disk share them, two disks never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity([u8; 32]);

impl Identity {
    /// From a digest that the caller has already: of the disk, or of everything that it was built from.
    pub fn from_digest(digest: &Digest) -> Identity {
        Identity(*digest.as_bytes())
    }

    /// From the disk itself, which is read for it once: the digest of its size and of the digests of its blocks of
    /// 64 KiB that are not zero, each with its offset. Independent of holes, and computed on all cores (a plain
    /// SHA-256 of a 6 GiB disk with 400 MB of data would hash 5.6 GB of zeros on one).
    pub fn of(disk: &dyn DiskImage) -> Result<Identity> {
        const BLOCK: usize = 64 << 10;
        let mut all = Sha256::new_with_prefix(disk.size().to_le_bytes());
        scan(
            disk,
            BLOCK,
            |span| {
                let digest = |block: &[u8]| <[u8; 32]>::from(Sha256::digest(block));
                Ok(span.blocks().map(|(offset, block)| (offset, digest(block))).collect::<Vec<_>>())
            },
            |blocks| {
                for (offset, digest) in blocks {
                    all.update(offset.to_le_bytes());
                    all.update(digest);
                }
                Ok(())
            },
        )?;
        Ok(Identity(all.finalize().into()))
    }

    /// 32 bytes for one purpose; `label` keeps identifiers of different purposes apart.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.0);
        hash.update(label.as_bytes());
        hash.finalize().into()
    }

    /// A UUID in network byte order, version 8 ("custom", RFC 9562 section 5.8): it claims to be neither random nor
    /// of a time.
    pub fn uuid(&self, label: &str) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.derive(label)[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// The same UUID as Microsoft stores it: the first three fields little-endian (MS-DTYP 2.3.4.2).
    pub fn guid(&self, label: &str) -> [u8; 16] {
        let u = self.uuid(label);
        [u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::disk::{Bytes, testing::Pattern};

    #[test]
    fn the_same_content_has_the_same_identity() {
        let pattern = Pattern::sample();
        let whole = Bytes(pattern.bytes());
        assert_eq!(Identity::of(&pattern).unwrap(), Identity::of(&whole).unwrap());
        let mut other = pattern.bytes();
        other[70_000] ^= 1;
        assert_ne!(Identity::of(&Bytes(other)).unwrap(), Identity::of(&whole).unwrap());
        assert_ne!(Identity::of(&Bytes(vec![0; 512])).unwrap(), Identity::of(&Bytes(vec![0; 1024])).unwrap());
    }

    #[test]
    fn identifiers_are_valid_and_differ() {
        let identity = Identity::from_digest(&Digest::of(b"x"));
        let uuid = identity.uuid("a");
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2));
        assert_ne!(uuid, identity.uuid("b"));
        let guid = identity.guid("a");
        assert_eq!((guid[0], guid[3], guid[7], guid[15]), (uuid[3], uuid[0], uuid[6], uuid[15]));
    }
}
