//! Unified kernel images: EFI programs (PE/COFF) with the kernel command line in a section.

use super::bytes::{hash_from_hex, slice, u16_at, u32_at};
use super::failure::{Failure, Result};

/// Bytes of the headers that are looked at; systemd's stub with all its sections has under 1 KiB.
const HEAD: usize = 16 << 10;
const MOST_SECTIONS: usize = 96;
const COMMAND_LINE: u32 = 64 << 10;

/// The kernel command line of a program of `size` bytes, which `read` reads from.
pub fn command_line(size: u64, read: &dyn Fn(u64, &mut [u8]) -> Result<()>) -> Result<String> {
    let wrong = |what: &str| Failure::refused(format!("not a unified kernel image: {what}"));
    let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
    read(0, &mut head)?;
    let cut = || wrong("it is cut off");
    if slice(&head, 0, 2) != Some(b"MZ") {
        return Err(wrong("no MZ at its start"));
    }
    let at = u32_at(&head, 0x3c).ok_or_else(cut)? as usize;
    if slice(&head, at, 4) != Some(b"PE\0\0") {
        return Err(wrong("no PE header"));
    }
    let sections = usize::from(u16_at(&head, at + 6).ok_or_else(cut)?);
    let optional = usize::from(u16_at(&head, at + 20).ok_or_else(cut)?);
    if sections > MOST_SECTIONS {
        return Err(wrong("too many sections"));
    }
    for section in 0..sections {
        let entry = slice(&head, at + 24 + optional + 40 * section, 40).ok_or_else(cut)?;
        if slice(entry, 0, 8) != Some(b".cmdline") {
            continue;
        }
        let field = |at| u32_at(entry, at).unwrap_or_default();
        let length = field(8).min(field(16));
        if length > COMMAND_LINE {
            return Err(wrong("its command line is too long"));
        }
        let mut text = vec![0; length as usize];
        read(u64::from(field(20)), &mut text)?;
        let text = String::from_utf8_lossy(&text);
        return Ok(text.trim_end_matches('\0').to_owned());
    }
    Err(wrong("no section .cmdline"))
}

/// The root hash of a kernel command line, SHA-256. The last one wins, as for the program that reads it.
pub fn root_hash(command_line: &str) -> Option<[u8; 32]> {
    value(command_line, "roothash").and_then(hash_from_hex)
}

/// The value of an option of a kernel command line; the last one wins.
pub fn value<'l>(command_line: &'l str, option: &str) -> Option<&'l str> {
    let values = options(command_line).filter_map(|word| word.strip_prefix(option)?.strip_prefix('='));
    values.last().map(unquoted)
}

/// The words of a kernel command line, for the kernel and for everybody.
pub fn options(command_line: &str) -> impl Iterator<Item = &str> {
    words(command_line).map(unquoted)
}

/// The words before ` -- ` (what follows is for init's arguments). A quoted part may hold spaces.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |character: char| {
        quoted ^= character == '"';
        !quoted && character.is_ascii_whitespace()
    })
    .filter(|word| !word.is_empty())
    .take_while(|word| *word != "--")
}

/// As the kernel does: quotes around a whole word or a whole value are not part of it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |text| text.strip_suffix('"').unwrap_or(text))
}

/// Programs for other tests too.
#[cfg(test)]
pub mod tests {
    use super::*;

    /// The least that has a command line.
    pub fn sample(command_line: &str, size: usize) -> Vec<u8> {
        let mut bytes = vec![0x5a; size];
        bytes[..512].fill(0);
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x46] = 1;
        bytes[0x58..0x60].copy_from_slice(b".cmdline");
        bytes[0x60..0x64].copy_from_slice(&(command_line.len() as u32).to_le_bytes());
        bytes[0x68..0x6c].copy_from_slice(&1024_u32.to_le_bytes());
        bytes[0x6c..0x70].copy_from_slice(&512_u32.to_le_bytes());
        bytes[512..512 + command_line.len()].copy_from_slice(command_line.as_bytes());
        bytes
    }

    #[test]
    fn reads_the_command_line() {
        let bytes = sample("roothash=00 quiet", 2048);
        let read = |at: u64, out: &mut [u8]| {
            let from = slice(&bytes, at as usize, out.len()).ok_or_else(|| Failure::new("beyond the end"))?;
            out.copy_from_slice(from);
            Ok(())
        };
        assert_eq!(command_line(2048, &read).unwrap(), "roothash=00 quiet");
        for size in 0..128 {
            assert!(command_line(size, &read).is_err(), "{size}");
        }
    }

    #[test]
    fn finds_the_root_hash() {
        let digits = "ab".repeat(32);
        assert_eq!(root_hash(&format!("quiet roothash={digits} -- roothash=1")), Some([0xab; 32]));
        assert_eq!((root_hash("roothash=12"), root_hash("")), (None, None));
        // One inside of another option's value is none.
        let other = "cd".repeat(32);
        let line = format!("roothash=\"{digits}\" x=\"a roothash={other} b\"");
        assert_eq!(root_hash(&line), Some([0xab; 32]));
    }
}
