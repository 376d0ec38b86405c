//! Extended attributes: those of one inode stand behind it, those that several inodes share stand once, behind all
//! inodes.

use std::collections::BTreeMap;

use super::format::{XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, xattr_count};
use crate::store::Xattrs;

/// Names start with one of these; on disk stands its number. An access control list is its whole name.
const PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
];

/// An inode has one byte for the number of the shared ones that it uses.
const SHARED_LIMIT: usize = 255;

/// Prefix number, rest of the name, value.
type Key<'t> = (u8, &'t [u8], &'t [u8]);

/// The part of the table that belongs to one attribute.
#[derive(Default)]
struct Use {
    count: u32,
    /// Place in the shared area in 4-byte words.
    at: u32,
}

/// All extended attributes of a tree, and which of them are shared.
#[derive(Default)]
pub(super) struct Table<'t> {
    uses: BTreeMap<Key<'t>, Use>,
    shared_size: u64,
}

/// A name's prefix number and the rest; `None` if no prefix fits.
pub(super) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") || rest.is_empty()).then_some((*number, rest))
    })
}

/// The prefix with a number.
pub(super) fn prefix(number: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|(known, _)| *known == number).map(|(_, prefix)| *prefix)
}

fn entry_size(key: &Key<'_>) -> u32 {
    (XATTR_ENTRY_SIZE + key.1.len() + key.2.len()).next_multiple_of(4) as u32
}

fn put(key: &Key<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    // Lengths were checked when the table was made.
    out.extend_from_slice(&[key.1.len() as u8, key.0]);
    out.extend_from_slice(&(key.2.len() as u16).to_le_bytes());
    out.extend_from_slice(key.1);
    out.extend_from_slice(key.2);
    out.resize(start + entry_size(key) as usize, 0);
}

impl<'t> Table<'t> {
    /// Takes note of an inode's attributes. `Err` says which one the format cannot hold, and why.
    pub fn add(&mut self, xattrs: &'t Xattrs) -> Result<(), String> {
        for (name, value) in xattrs {
            let wrong = |why: &str| Err(format!("the extended attribute {}, {why}", name.escape_ascii()));
            let Some((number, rest)) = split(name) else {
                return wrong("whose kind erofs does not have (user, trusted, security, POSIX access control lists)");
            };
            if rest.len() > u8::MAX.into() {
                return wrong("whose name is longer than 255 bytes");
            }
            if value.len() > u16::MAX.into() {
                return wrong("whose value is longer than 65,535 bytes");
            }
            self.uses.entry((number, rest, value)).or_default().count += 1;
        }
        Ok(())
    }

    /// Gives the shared attributes their places, in the order of prefix, name and value.
    pub fn place(&mut self) {
        let mut at = 0;
        for (key, used) in self.uses.iter_mut().filter(|(_, used)| used.count > 1) {
            used.at = at;
            at += entry_size(key) / 4;
        }
        self.shared_size = u64::from(at) * 4;
    }

    /// Bytes of the shared area.
    pub fn shared_size(&self) -> u64 {
        self.shared_size
    }

    /// The shared area.
    pub fn shared(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, _) in self.uses.iter().filter(|(_, used)| used.count > 1) {
            put(key, &mut out);
        }
        out
    }

    fn split<'x>(&self, xattrs: &'x Xattrs) -> (Vec<u32>, Vec<Key<'x>>) {
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        for (name, value) in xattrs {
            let Some((number, rest)) = split(name) else { continue };
            match self.uses.get(&(number, rest, value.as_slice())) {
                Some(used) if used.count > 1 && shared.len() < SHARED_LIMIT => shared.push(used.at),
                _ => own.push((number, rest, value.as_slice())),
            }
        }
        (shared, own)
    }

    /// Bytes that an inode's attributes take behind it; `None` if they are more than the format can hold.
    pub fn size(&self, xattrs: &Xattrs) -> Option<u32> {
        if xattrs.is_empty() {
            return Some(0);
        }
        let (shared, own) = self.split(xattrs);
        let own = own.iter().try_fold(0u32, |sum, key| sum.checked_add(entry_size(key)))?;
        let size = own.checked_add((XATTR_HEADER_SIZE + 4 * shared.len()) as u32)?;
        xattr_count(size).map(|_| size)
    }

    /// What stands behind an inode; the shared area starts `base` words behind the start of its first block.
    pub fn encode(&self, xattrs: &Xattrs, base: u32) -> Vec<u8> {
        let mut out = Vec::new();
        if xattrs.is_empty() {
            return out;
        }
        let (shared, own) = self.split(xattrs);
        out.resize(XATTR_HEADER_SIZE, 0);
        out[4] = shared.len() as u8;
        for at in shared {
            out.extend_from_slice(&(base + at).to_le_bytes());
        }
        for key in own {
            put(&key, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[(&str, &str)]) -> Xattrs {
        names.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn names_split_at_their_prefix() {
        assert_eq!(split(b"user.a"), Some((1, b"a".as_slice())));
        assert_eq!(split(b"security.capability"), Some((6, b"capability".as_slice())));
        assert_eq!(split(b"system.posix_acl_access"), Some((2, b"".as_slice())));
        assert_eq!(split(b"system.posix_acl_accessory"), None);
        assert_eq!(split(b"system.nfs4_acl"), None);
    }

    #[test]
    fn what_two_inodes_have_is_shared() {
        let (first, second) = (list(&[("user.a", "1"), ("user.b", "2")]), list(&[("user.a", "1")]));
        let mut table = Table::default();
        table.add(&first).unwrap();
        table.add(&second).unwrap();
        table.place();
        assert_eq!(table.shared(), b"\x01\x01\x01\x00a1\0\0");
        assert_eq!((table.size(&first), table.size(&second), table.size(&list(&[]))), (Some(24), Some(16), Some(0)));
        let header = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0];
        assert_eq!(table.encode(&second, 9), header);
        assert_eq!(table.encode(&first, 9), [&header[..], b"\x01\x01\x01\x00b2\0\0"].concat());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut table = Table::default();
        let foreign = vec![(b"system.nfs4_acl".to_vec(), vec![])];
        let message = table.add(&foreign).unwrap_err();
        assert!(message.contains("system.nfs4_acl"), "{message}");
        let long = vec![(b"user.x".to_vec(), vec![0; 65536])];
        assert!(Table::default().add(&long).is_err());
        let many: Xattrs = (0..5).map(|n| (format!("user.{n}").into_bytes(), vec![0; 65535])).collect();
        let mut table = Table::default();
        table.add(&many).unwrap();
        assert_eq!(table.size(&many), None);
    }
}
