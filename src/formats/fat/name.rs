//! Names on FAT: what is allowed, and the 8.3 name that stands beside every long one.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// UTF-16 units of a long name.
const LENGTH_LIMIT: usize = 255;
/// What 8.3 names may have besides letters and digits ("FAT: General Overview of On-Disk Format", section 6.1).
const SHORT_SPECIAL: &[u8] = b"$%'-_@~`!(){}^#&";
/// What no name may have.
const FORBIDDEN: &[char] = &['"', '*', '/', ':', '<', '>', '?', '\\', '|'];

/// Refuses names that FAT or a reader of it would not give back as they are.
pub fn check(name: &str) -> Result<()> {
    let why = if name.is_empty() || name == "." || name == ".." {
        "is no name"
    } else if name.encode_utf16().count() > LENGTH_LIMIT {
        "has more than 255 UTF-16 units"
    } else if let Some(bad) = name.chars().find(|c| FORBIDDEN.contains(c) || c.is_control()) {
        return Err(Error::refused(format!("\"{}\" cannot be named so on FAT: it has {bad:?}", name.escape_debug())));
    } else if name.ends_with(['.', ' ']) {
        // Windows and mtools cut these off.
        "ends in a full stop or a space"
    } else {
        return Ok(());
    };
    Err(Error::refused(format!("\"{}\" cannot be named so on FAT: it {why}", name.escape_debug())))
}

/// What makes two names the same: FAT keeps case and ignores it.
pub fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

/// The 8.3 names of everything in one folder, in the order given, each with whether a long name is needed beside it.
///
/// Names that are 8.3 names already come first, so that no made-up name takes theirs; then names that differ from one
/// in case only; the others get `~1`, `~2` and so on in the order given.
pub fn short_names(names: &[&str]) -> Vec<([u8; 11], bool)> {
    let mut out = vec![None; names.len()];
    let mut taken = BTreeSet::new();
    for (place, name) in out.iter_mut().zip(names) {
        if let Some(exact) = exact(name.as_bytes()) {
            taken.insert(exact);
            *place = Some((exact, false));
        }
    }
    for (place, name) in out.iter_mut().zip(names).filter(|(place, _)| place.is_none()) {
        if let Some(upper) = exact(name.to_ascii_uppercase().as_bytes()).filter(|upper| taken.insert(*upper)) {
            *place = Some((upper, true));
        }
    }
    let mut last_numbers: BTreeMap<(Vec<u8>, Vec<u8>), u32> = BTreeMap::new();
    out.into_iter()
        .zip(names)
        .map(|(place, name)| {
            place.unwrap_or_else(|| {
                let (base, extension) = basis(name);
                let number = last_numbers.entry((base.clone(), extension.clone())).or_insert(0);
                loop {
                    *number += 1;
                    let short = numbered(&base, &extension, *number);
                    if taken.insert(short) {
                        return (short, true);
                    }
                }
            })
        })
        .collect()
}

/// The name as it stands in a folder if it is an 8.3 name in capitals.
fn exact(name: &[u8]) -> Option<[u8; 11]> {
    let (base, extension) = match name.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&name[..dot], &name[dot + 1..]),
        None => (name, &b""[..]),
    };
    let allowed = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || SHORT_SPECIAL.contains(byte);
    let fits = (1..=8).contains(&base.len())
        && extension.len() <= 3
        && (extension.is_empty() != name.contains(&b'.'))
        && base.iter().chain(extension).all(allowed);
    fits.then(|| joined(base, extension))
}

/// What a made-up name starts from: base of up to 6 bytes and extension of up to 3.
fn basis(name: &str) -> (Vec<u8>, Vec<u8>) {
    let name = name.trim_start_matches('.');
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let part = |text: &str, limit: usize| -> Vec<u8> {
        text.chars()
            .filter(|c| !matches!(c, '.' | ' '))
            .map(|c| u8::try_from(c.to_ascii_uppercase()).unwrap_or(b'_'))
            .map(|byte| if byte.is_ascii_alphanumeric() || SHORT_SPECIAL.contains(&byte) { byte } else { b'_' })
            .take(limit)
            .collect()
    };
    (part(base, 6), part(extension, 3))
}

fn numbered(base: &[u8], extension: &[u8], number: u32) -> [u8; 11] {
    let tail = format!("~{number}");
    let kept = base.len().min(8 - tail.len().min(8));
    joined(&[&base[..kept], tail.as_bytes()].concat(), extension)
}

fn joined(base: &[u8], extension: &[u8]) -> [u8; 11] {
    let mut out = [b' '; 11];
    for (place, byte) in out[..8].iter_mut().zip(base) {
        *place = *byte;
    }
    for (place, byte) in out[8..].iter_mut().zip(extension) {
        *place = *byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<String> {
        short_names(names).iter().map(|(short, _)| String::from_utf8(short.to_vec()).unwrap()).collect()
    }

    #[test]
    fn exact_names_keep_theirs() {
        assert_eq!(short_names(&["BOOTX64.EFI"]), [(*b"BOOTX64 EFI", false)]);
        assert_eq!(short_names(&["EFI"]), [(*b"EFI        ", false)]);
        assert_eq!(short_names(&["loader"]), [(*b"LOADER     ", true)]);
        for long in ["A.", "A..B", "TOOLONGNAME", "A.LONG", ".A", "A B", "Ä", "a+b"] {
            assert_eq!(exact(long.as_bytes()), None, "{long}");
        }
    }

    #[test]
    fn made_up_names_never_collide() {
        assert_eq!(
            shorts(&["linuxkit.conf", "linuxkit.config", "LINUXK~1.CON", "größe.txt", ".hidden", "a b.c.d"]),
            ["LINUXK~2CON", "LINUXK~3CON", "LINUXK~1CON", "GR__E~1 TXT", "HIDDEN~1   ", "ABC~1   D  "]
        );
        let many: Vec<String> = (0..1200).map(|number| format!("a long name {number}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        let unique: BTreeSet<_> = short_names(&names).into_iter().map(|(short, _)| short).collect();
        assert_eq!(unique.len(), 1200);
        assert!(unique.contains(b"ALON~999   ") && unique.contains(b"ALO~1200   "), "{unique:?}");
    }

    #[test]
    fn names_that_would_change_are_refused() {
        for bad in ["", ".", "..", "a.", "a ", "a:b", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a b", "größe", ".hidden", &"x".repeat(255)] {
            check(good).unwrap();
        }
    }
}
