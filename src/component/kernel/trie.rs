//! kmod's index files (`modules.dep.bin` and its kin): a trie of names with values. kmod's own modprobe reads nothing
//! else, so a container that has Debian's kmod and the machine's `/lib/modules` needs them; busybox and this project's
//! init read the text.
//!
//! Integers are u32, big-endian. The file is a magic number, a version and the root's place; then nodes, each behind
//! its children. A place is an offset in the file with three flags in its upper bits, which say what the node has:
//!
//! ```text
//! prefix       text with a closing zero byte: what all names below go on with
//! children     first byte, last byte, and the place of the child for every byte between them, 0 for none
//! values       their number, and each: priority, text with a closing zero byte
//! ```
//!
//! Format 2.1, as kmod's libkmod-index reads it. Bytes of names are below 128.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 2 << 16 | 1;

const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
/// Larger files cannot be addressed.
const SIZE_LIMIT: usize = 0x0FFF_FFFF;

/// The longest name; kmod's own buffers have 4096 bytes. It bounds how deep the nodes lie.
const NAME_LIMIT: usize = 1024;

/// Names with their values, each with a priority: modprobe takes the lowest first.
#[derive(Debug, Default)]
pub struct Trie {
    names: BTreeMap<Vec<u8>, Vec<(u32, Vec<u8>)>>,
}

impl Trie {
    /// Adds a value of a name. A name that the format cannot hold is left out, as kmod's depmod does with a warning.
    pub fn insert(&mut self, name: &[u8], value: &[u8], priority: u32) {
        if name.len() <= NAME_LIMIT && name.iter().all(|byte| (1..128).contains(byte)) && !value.contains(&0) {
            self.names.entry(name.to_vec()).or_default().push((priority, value.to_vec()));
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Exit status 3 if it would be larger than 256 MiB.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        for values in self.names.values_mut() {
            // Of equal ones the last comes first, as in kmod's list.
            values.reverse();
            values.sort_by_key(|(priority, _)| *priority);
        }
        let names: Vec<_> = self.names.iter().map(|(name, values)| (name.as_slice(), values.as_slice())).collect();
        let mut out = Vec::new();
        for number in [MAGIC, VERSION, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let root = node(&names, 0, &mut out, true);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        if out.len() > SIZE_LIMIT {
            return Err(Error::refused(format!(
                "an index of modules with {} bytes, more than {SIZE_LIMIT}",
                out.len()
            )));
        }
        Ok(out)
    }
}

type Named<'a> = (&'a [u8], &'a [(u32, Vec<u8>)]);

/// Writes the node of these names, which are sorted and have their first `done` bytes in common, behind its children.
/// Returns its place.
fn node(names: &[Named<'_>], done: usize, out: &mut Vec<u8>, root: bool) -> u32 {
    let (first, last) = match (names.first(), names.last()) {
        (Some(first), Some(last)) => (&first.0[done..], &last.0[done..]),
        _ => (&b""[..], &b""[..]),
    };
    // Sorted names have in common what the first and the last have. kmod keeps no prefix in the root.
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let prefix = if root { 0 } else { common };
    let at = done + prefix;
    let (own, rest) = match names.first() {
        Some((name, values)) if name.len() == at => (*values, &names[1..]),
        _ => (&[][..], names),
    };
    let mut children = Vec::new();
    if let (Some((low, _)), Some((high, _))) = (rest.first(), rest.last()) {
        let (low, high) = (low[at], high[at]);
        let mut places = vec![0; usize::from(high - low) + 1];
        for run in rest.chunk_by(|a, b| a.0[at] == b.0[at]) {
            places[usize::from(run[0].0[at] - low)] = node(run, at + 1, out, false);
        }
        children.extend_from_slice(&[low, high]);
        children.extend(places.iter().flat_map(|place: &u32| place.to_be_bytes()));
    }
    // Checked in the end to fit.
    let mut place = out.len() as u32 & SIZE_LIMIT as u32;
    if prefix > 0 {
        out.extend_from_slice(&first[..prefix]);
        out.push(0);
        place |= HAS_PREFIX;
    }
    if !children.is_empty() {
        out.extend_from_slice(&children);
        place |= HAS_CHILDREN;
    }
    if !own.is_empty() {
        out.extend_from_slice(&(own.len() as u32).to_be_bytes());
        for (priority, value) in own {
            out.extend_from_slice(&priority.to_be_bytes());
            out.extend_from_slice(value);
            out.push(0);
        }
        place |= HAS_VALUES;
    }
    place
}

/// An alias as it is looked up: `_` for every `-`, but not between brackets. `None` if the brackets do not fit.
pub fn normal_alias(alias: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(alias.len());
    let mut inside = false;
    for byte in alias {
        match (inside, byte) {
            (false, b']') => return None,
            (false, b'[') => inside = true,
            (true, b']') => inside = false,
            _ => {}
        }
        out.push(if !inside && *byte == b'-' { b'_' } else { *byte });
    }
    (!inside).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_behind_their_children() {
        let mut trie = Trie::default();
        for (name, value, priority) in
            [("ab", "second", 7), ("abcd", "x", 1), ("ab", "first", 2), ("z", "", 0), ("\u{e9}", "no", 0)]
        {
            trie.insert(name.as_bytes(), value.as_bytes(), priority);
        }
        let bytes = trie.encode().unwrap();
        let mut expected = vec![0xB0, 0x07, 0xF4, 0x57, 0, 2, 0, 1, 0x20, 0, 0, 65];
        // "d" below "abc", at 12.
        expected.extend(b"d\0\0\0\0\x01\0\0\0\x01x\0");
        // "b" below "a", with one child for "c" and two values, at 24.
        expected.extend(b"b\0cc\xC0\0\0\x0C\0\0\0\x02\0\0\0\x02first\0\0\0\0\x07second\0");
        // "z" at 57, with one empty value.
        expected.extend(b"\0\0\0\x01\0\0\0\0\0");
        assert_eq!(expected.len(), 12 + 12 + 33 + 9);
        // The root: children for "a" to "z".
        let root = expected.len() as u8;
        expected[11] = root;
        expected.extend(b"az");
        for byte in b'a'..=b'z' {
            expected.extend(match byte {
                b'a' => [0xE0, 0, 0, 24],
                b'z' => [0x40, 0, 0, 57],
                _ => [0; 4],
            });
        }
        assert_eq!(bytes, expected);
        assert_eq!(Trie::default().encode().unwrap().len(), 12);
    }

    #[test]
    fn aliases_are_looked_up_with_underscores() {
        assert_eq!(normal_alias(b"net-pf-[a-f]-x").as_deref(), Some(&b"net_pf_[a-f]_x"[..]));
        assert_eq!(normal_alias(b"a]").or(normal_alias(b"[a")), None);
    }
}
