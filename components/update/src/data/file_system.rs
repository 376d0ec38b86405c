//! ext4, by the programs of e2fsprogs.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::slots::bytes::{u16_at, u32_at};
use crate::slots::failure::{Doing, Failure, Result};

/// Where the superblock is, and its magic number (linux/fs/ext4/ext4.h).
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
/// Less than that is not worth a resize.
const WORTH: u64 = 1 << 20;

/// Makes a new file system.
pub fn make(node: &Path, label: &str) -> Result<()> {
    run("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", "-L", label], node, 0)
}

/// Repairs what can be repaired without asking, and grows the file system to its partition.
pub fn check_and_grow(node: &Path) -> Result<()> {
    let (size, room) = sizes(node)?;
    if size.saturating_add(WORTH) > room {
        // Up to 3: it was repaired.
        return run("/sbin/e2fsck", &["-p"], node, 3);
    }
    println!("growing the file system from {} to {} MiB", size >> 20, room >> 20);
    run("/sbin/e2fsck", &["-f", "-p"], node, 3)?;
    run("/sbin/resize2fs", &[], node, 0)
}

/// Bytes of the file system and of its partition.
fn sizes(node: &Path) -> Result<(u64, u64)> {
    let what = format!("reading {}", node.display());
    let mut file = File::open(node).doing(&what)?;
    let room = file.seek(SeekFrom::End(0)).doing(&what)?;
    let mut bytes = [0; 1024];
    file.read_exact_at(&mut bytes, SUPERBLOCK).doing(&what)?;
    let size = ext4_size(&bytes).ok_or_else(|| {
        Failure::new(format!(
            "{} has no ext4 superblock any more; nothing is done with it. `update reset-data` gives it a new file system",
            node.display()
        ))
    })?;
    Ok((size, room))
}

fn ext4_size(superblock: &[u8]) -> Option<u64> {
    if u16_at(superblock, 56)? != MAGIC {
        return None;
    }
    // The upper half counts if the file system has 64-bit numbers (INCOMPAT_64BIT).
    let upper = if u32_at(superblock, 96)? & 0x80 != 0 { u32_at(superblock, 336)? } else { 0 };
    let blocks = u64::from(upper) << 32 | u64::from(u32_at(superblock, 4)?);
    let block = 1024_u64.checked_shl(u32_at(superblock, 24)?).filter(|block| (1024..=65_536).contains(block))?;
    blocks.checked_mul(block)
}

/// Runs one of the programs; its status may be up to `good`.
fn run(program: &str, arguments: &[&str], node: &Path, good: i32) -> Result<()> {
    let status = Command::new(program).args(arguments).arg(node).status().doing(format_args!("running {program}"))?;
    match status.code() {
        Some(code) if code <= good => Ok(()),
        _ => Err(Failure::new(format!("{program} {}: {status}", node.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_file_systems() {
        let mut bytes = vec![0; 1024];
        assert_eq!(ext4_size(&bytes), None);
        bytes[56..58].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&100_u32.to_le_bytes());
        bytes[24] = 2;
        assert_eq!(ext4_size(&bytes), Some(409_600));
        bytes[336] = 1;
        assert_eq!(ext4_size(&bytes), Some(409_600));
        bytes[96] = 0x80;
        assert_eq!(ext4_size(&bytes), Some((100 + (1 << 32)) * 4096));
        bytes[24] = 0xff;
        assert_eq!(ext4_size(&bytes), None);
    }
}
