//! Names for readers that know no Rock Ridge: capitals for plain ISO 9660, UCS-2 for Joliet.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::format::utf16;

/// Characters of a file's name and extension together at interchange levels 2 and 3 (ECMA-119 7.5.1).
const FILE_LIMIT: usize = 30;
/// Characters of a folder's name (7.6.3).
const FOLDER_LIMIT: usize = 31;
/// Characters of an extension that are kept.
const EXTENSION_LIMIT: usize = 8;
/// UCS-2 units of a Joliet name. The specification says 64; what fits into a record is 103, and every reader takes it.
const JOLIET_LIMIT: usize = 103;

/// One name of a folder in its three forms.
#[derive(Clone, Debug)]
pub struct Names {
    /// The identifier of the primary tree, with its version if it is a file.
    pub primary: Box<[u8]>,
    /// The identifier of the Joliet tree.
    pub joliet: Box<[u8]>,
}

/// Identifiers for everything in one folder, unique in each tree. `names` says of each whether it is a folder.
pub fn identifiers(names: &[(&[u8], bool)]) -> Vec<Names> {
    let mut primary = Unique::default();
    let mut joliet = Unique::default();
    let each = names.iter().map(|(name, folder)| {
        let (base, extension) = primary_parts(name, *folder);
        let limit = if *folder { FOLDER_LIMIT } else { FILE_LIMIT - extension.len() };
        let base = primary.name(base, extension.clone(), limit);
        let mut identifier = base;
        if !folder {
            identifier.push(b'.');
            identifier.extend(extension);
            identifier.extend(b";1");
        }
        let (base, extension) = joliet_parts(name, *folder);
        let limit = JOLIET_LIMIT - extension.len();
        let mut units = joliet.name(base, extension.clone(), limit);
        units.extend(extension);
        let mut wide = utf16(&String::from_utf16_lossy(&units));
        if !folder {
            wide.extend(b"\0;\x001");
        }
        Names { primary: identifier.into(), joliet: wide.into() }
    });
    each.collect()
}

/// What the primary tree is sorted by (9.3): name, then extension.
pub fn sort_key(identifier: &[u8]) -> (&[u8], &[u8]) {
    match identifier.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&identifier[..dot], &identifier[dot + 1..]),
        None => (identifier, b""),
    }
}

/// Gives names that are taken a number at their end.
struct Unique<T> {
    taken: BTreeSet<(Vec<T>, Vec<T>)>,
    numbers: BTreeMap<(Vec<T>, Vec<T>), u32>,
}

impl<T> Default for Unique<T> {
    fn default() -> Unique<T> {
        Unique { taken: BTreeSet::new(), numbers: BTreeMap::new() }
    }
}

impl<T: Copy + Ord + From<u8>> Unique<T> {
    fn name(&mut self, mut base: Vec<T>, extension: Vec<T>, limit: usize) -> Vec<T> {
        base.truncate(limit);
        if self.taken.insert((base.clone(), extension.clone())) {
            return base;
        }
        let number = self.numbers.entry((base.clone(), extension.clone())).or_insert(0);
        loop {
            *number += 1;
            let digits = number.to_string();
            let mut numbered = base.clone();
            numbered.truncate(limit - digits.len());
            numbered.extend(digits.bytes().map(T::from));
            if self.taken.insert((numbered.clone(), extension.clone())) {
                return numbered;
            }
        }
    }
}

fn primary_parts(name: &[u8], folder: bool) -> (Vec<u8>, Vec<u8>) {
    let capital = |part: &[u8]| -> Vec<u8> {
        let allowed = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_uppercase() } else { b'_' };
        part.iter().copied().map(allowed).collect()
    };
    match name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0 && !folder) {
        Some(dot) => {
            let mut extension = capital(&name[dot + 1..]);
            extension.truncate(EXTENSION_LIMIT);
            (capital(&name[..dot]), extension)
        }
        None => (capital(name), Vec::new()),
    }
}

/// The extension keeps its full stop.
fn joliet_parts(name: &[u8], folder: bool) -> (Vec<u16>, Vec<u16>) {
    let text = String::from_utf8_lossy(name);
    let allowed = |c: char| match c {
        '*' | '/' | ':' | ';' | '?' | '\\' => '_',
        // UCS-2 has no characters beyond the first plane.
        c if c.is_control() || c as u32 > 0xffff => '_',
        c => c,
    };
    let text: String = text.chars().map(allowed).collect();
    let (base, extension) = match text.rfind('.').filter(|dot| *dot > 0 && !folder && text.len() - dot <= 16) {
        Some(dot) => text.split_at(dot),
        None => (text.as_str(), ""),
    };
    (base.encode_utf16().collect(), extension.encode_utf16().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_short() {
        let names: [(&[u8], bool); 9] = [
            (b"kernel", false),
            (b"Kernel", false),
            (b"initrd.img", false),
            (b"lib", true),
            (b"a.b.c", true),
            (b".hidden", false),
            (b"a very long name that goes on and on.configuration", false),
            ("größe🦀".as_bytes(), false),
            (b"\xff:", false),
        ];
        let found = identifiers(&names);
        let primary: Vec<_> = found.iter().map(|names| String::from_utf8_lossy(&names.primary).into_owned()).collect();
        assert_eq!(
            primary,
            [
                "KERNEL.;1",
                "KERNEL1.;1",
                "INITRD.IMG;1",
                "LIB",
                "A_B_C",
                "_HIDDEN.;1",
                "A_VERY_LONG_NAME_THAT_.CONFIGUR;1",
                "GR____E____.;1",
                "__.;1"
            ]
        );
        let joliet = |names: &Names| {
            let units: Vec<u16> = names.joliet.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).unwrap()
        };
        assert_eq!(joliet(&found[1]), "Kernel;1");
        assert_eq!(joliet(&found[4]), "a.b.c");
        assert_eq!(joliet(&found[7]), "größe_;1");
        assert_eq!(joliet(&found[8]), "\u{fffd}_;1");
    }

    #[test]
    fn many_names_that_shorten_to_one() {
        let names: Vec<Vec<u8>> = (0..2000).map(|n| format!("{:x<200}{n}", "").into_bytes()).collect();
        let names: Vec<(&[u8], bool)> = names.iter().map(|name| (name.as_slice(), n_is_folder(name))).collect();
        let found = identifiers(&names);
        let unique: BTreeSet<_> = found.iter().map(|names| &names.primary).collect();
        assert_eq!(unique.len(), 2000);
        let unique: BTreeSet<_> = found.iter().map(|names| &names.joliet).collect();
        assert_eq!(unique.len(), 2000);
        assert!(found.iter().all(|names| names.primary.len() <= 33 && names.joliet.len() <= 210));
    }

    fn n_is_folder(name: &[u8]) -> bool {
        name.ends_with(b"7")
    }
}
