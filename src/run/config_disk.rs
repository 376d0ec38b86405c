//! A minimal ISO 9660 image with one file, `config`, and the volume label `cidata`: how `--data` reaches the guest.
//!
//! ECMA-119, level 1, with a Joliet tree beside the primary one: without it a reader that does not fold case sees
//! `CONFIG.;1` instead of `config`. No clock is read: the file's date is the first that FAT and ISO 9660 both
//! have, 1980-01-01, and the volume's dates are "not given".
//!
//! Sectors of 2048 bytes: 16 primary descriptor, 17 Joliet descriptor, 18 terminator, 19 and 20 path tables of the
//! primary tree (little- and big-endian), 21 and 22 those of Joliet, 23 and 24 the root folders, from 25 the file.

use std::path::Path;

use crate::error::{Error, IoContext, Result};

const SECTOR: usize = 2048;
const PATH_TABLES: [u32; 2] = [19, 21];
const ROOTS: [u32; 2] = [23, 24];
const FILE: u32 = 25;
/// Bytes of a path table that has the root only.
const PATH_TABLE_SIZE: u32 = 10;
const LABEL: &str = "cidata";

/// Writes the image with `data` as `/config`, readable by the owner only: it may hold passwords.
pub fn write(path: &Path, data: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let image = image(data)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("removing", path)?,
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at("creating", path)?;
    file.write_all(&image).at("writing", path)
}

/// The bytes of the image.
pub fn image(data: &[u8]) -> Result<Vec<u8>> {
    if data.len() as u64 > super::MAX_DATA {
        return Err(Error::usage(format!(
            "the data for the guest has {} bytes; at most {} are taken",
            data.len(),
            super::MAX_DATA
        ))
        .hint("give large files to the guest as a --disk"));
    }
    let size = data.len() as u32;
    let sectors = FILE + size.div_ceil(SECTOR as u32).max(1);
    let mut image = vec![0; 16 * SECTOR];
    for joliet in [false, true] {
        push(&mut image, descriptor(joliet, sectors));
    }
    push(&mut image, b"\xffCD001\x01".to_vec());
    for root in ROOTS {
        push(&mut image, path_table(root.to_le_bytes(), 1u16.to_le_bytes()));
        push(&mut image, path_table(root.to_be_bytes(), 1u16.to_be_bytes()));
    }
    for (joliet, root) in [(false, ROOTS[0]), (true, ROOTS[1])] {
        let mut folder = record(&[0], root, SECTOR as u32, true);
        folder.extend(record(&[1], root, SECTOR as u32, true));
        let name = if joliet { utf16("config") } else { b"CONFIG.;1".to_vec() };
        folder.extend(record(&name, FILE, size, false));
        push(&mut image, folder);
    }
    push(&mut image, data.to_vec());
    image.resize(sectors as usize * SECTOR, 0);
    Ok(image)
}

/// Adds `bytes`, filled up to whole sectors.
fn push(image: &mut Vec<u8>, bytes: Vec<u8>) {
    image.extend(bytes);
    image.resize(image.len().next_multiple_of(SECTOR), 0);
}

/// Primary volume descriptor (ECMA-119 8.4) or, with Joliet's escape sequence, the supplementary one (8.5).
fn descriptor(joliet: bool, sectors: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(SECTOR);
    let text = |text: &str, size: usize| {
        let mut bytes = if joliet { utf16(text) } else { text.as_bytes().to_vec() };
        while bytes.len() < size {
            bytes.extend_from_slice(if joliet { b"\0 " } else { b" " });
        }
        bytes.truncate(size);
        bytes
    };
    out.push(if joliet { 2 } else { 1 });
    out.extend(b"CD001\x01\0");
    out.extend(text("", 32)); // system
    out.extend(text(LABEL, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    // Escape sequence of UCS-2 level 3; unused in the primary descriptor.
    out.extend(if joliet { b"%/E" } else { b"\0\0\0" });
    out.extend([0; 29]);
    out.extend(both16(1)); // volumes in the set
    out.extend(both16(1)); // number of this one
    out.extend(both16(SECTOR as u16));
    out.extend(both32(PATH_TABLE_SIZE));
    let table = PATH_TABLES[usize::from(joliet)];
    out.extend(table.to_le_bytes());
    out.extend([0; 4]);
    out.extend((table + 1).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], ROOTS[usize::from(joliet)], SECTOR as u32, true));
    for size in [128, 128, 128, 128, 37, 37, 37] {
        // Volume set, publisher, preparer, application, copyright, abstract, bibliography.
        out.extend(text("", size));
    }
    for _ in 0..4 {
        // Creation, modification, expiry, effect: sixteen digits "0" and a zero mean that none is given (8.4.26.1).
        out.extend(b"0000000000000000\0");
    }
    out.push(1);
    out
}

/// Directory record (ECMA-119 9.1).
fn record(name: &[u8], sector: u32, size: u32, folder: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut out = vec![length as u8, 0];
    out.extend(both32(sector));
    out.extend(both32(size));
    out.extend([80, 1, 1, 0, 0, 0, 0]); // years since 1900, month, day, time, zone
    out.push(if folder { 2 } else { 0 });
    out.extend([0, 0]);
    out.extend(both16(1));
    out.push(name.len() as u8);
    out.extend(name);
    out.resize(length, 0);
    out
}

/// Path table with the root as its only entry (ECMA-119 9.4).
fn path_table(sector: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(sector);
    out.extend(parent);
    out.extend([0, 0]);
    out
}

fn both16(value: u16) -> [u8; 4] {
    let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

fn both32(value: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&value.to_le_bytes());
    out[4..].copy_from_slice(&value.to_be_bytes());
    out
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn layout() {
        for size in [0usize, 1, 2048, 2049] {
            let data = vec![b'x'; size];
            let image = image(&data).unwrap();
            assert_eq!(image.len(), (25 + size.div_ceil(2048).max(1)) * 2048);
            assert_eq!(&image[16 * 2048 + 40..16 * 2048 + 46], b"cidata");
            assert_eq!(image[16 * 2048..17 * 2048].len(), 2048);
            assert_eq!(&image[17 * 2048 + 88..17 * 2048 + 91], b"%/E");
            assert_eq!(&image[25 * 2048..25 * 2048 + size], data.as_slice());
        }
        assert!(image(&vec![0; super::super::MAX_DATA as usize + 1]).is_err());
    }

    /// bsdtar (libarchive) and xorriso judge, where the machine has them.
    #[test]
    fn foreign_readers_find_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.iso");
        write(&path, b"hello guest\n").unwrap();
        let mut judges = 0;
        if let Ok(output) = Command::new("bsdtar").arg("-xOf").arg(&path).arg("config").output() {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "hello guest\n", "{output:?}");
            judges += 1;
        }
        if let Ok(output) = Command::new("xorriso")
            .args(["-indev"])
            .arg(&path)
            .args(["-pvd_info", "-find", "/", "-exec", "lsdl"])
            .output()
        {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("/config'") && text.contains("cidata"), "{text}");
            judges += 1;
        }
        assert!(judges > 0 || std::env::var_os("CI").is_none(), "neither bsdtar nor xorriso is installed");
    }
}
