//! File systems of pieces that were compressed before: the same bytes as without, and little work for a small change.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Mutex;

use moby::error::Result;
use moby::formats::pieces::{Found, Pieces};
use moby::formats::{erofs, squashfs};
use moby::rootfs::{Content, Inode, Kind, Meta, OriginId, Tree};
use moby::store::Digest;

/// Pieces in memory.
#[derive(Debug)]
struct Kept {
    /// What it says of what it has.
    found: Found,
    refused: Mutex<usize>,
    accepted: Mutex<usize>,
    pieces: Mutex<HashMap<Digest, Vec<u8>>>,
    put: Mutex<usize>,
}

impl Kept {
    fn new() -> Kept {
        let (pieces, put, refused, accepted) = Default::default();
        Kept { found: Found::Whole, refused, accepted, pieces, put }
    }

    /// How many were put since this was last asked.
    fn news(&self) -> usize {
        std::mem::take(&mut self.put.lock().unwrap())
    }

    fn damage(&self, damage: fn(&mut Vec<u8>)) {
        self.pieces.lock().unwrap().values_mut().for_each(damage);
    }
}

impl Pieces for Kept {
    fn get(&self, key: &Digest, _: OriginId, bytes: &mut Vec<u8>) -> Found {
        let pieces = self.pieces.lock().unwrap();
        let Some(piece) = pieces.get(key) else { return Found::Nothing };
        bytes.clear();
        bytes.extend_from_slice(piece);
        self.found
    }

    fn accept(&self, _: &Digest, _: OriginId, _: &[&[u8]]) -> Result<()> {
        *self.accepted.lock().unwrap() += 1;
        Ok(())
    }

    fn refuse(&self, _: OriginId) {
        *self.refused.lock().unwrap() += 1;
    }

    fn put(&self, key: &Digest, _: OriginId, parts: &[&[u8]]) -> Result<()> {
        *self.put.lock().unwrap() += 1;
        self.pieces.lock().unwrap().insert(*key, parts.concat());
        Ok(())
    }
}

/// 400 files, from nothing to 5 MiB; some compress, some do not, some are the same.
fn tree(change: &str) -> Tree {
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    let mut state = 1u32;
    for number in 0..400usize {
        let length = [0, 100, 5000, 40_000, 70_001][number % 5] + if number % 97 == 50 { 5 << 20 } else { 0 };
        let mut bytes = format!("file {}\n", number % 199).into_bytes();
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match number % 3 {
                0 => bytes.extend_from_slice(&state.to_le_bytes()),
                1 => bytes.extend_from_slice(format!("{} ", state >> 24).as_bytes()),
                _ => bytes.extend_from_slice(&[number as u8; 100]),
            }
        }
        if number == 120 {
            bytes.extend_from_slice(change.as_bytes());
        }
        let kind = Kind::File(Content::bytes(bytes));
        let path = format!("folder-{}/file-{number}", number % 7);
        let inode = Inode { meta: Meta::root(0o644, 0), kind, origin };
        tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
    }
    tree
}

fn check(write: impl Fn(&Tree, Option<&dyn Pieces>) -> Vec<u8> + Send + Sync) {
    let (one, other) = (tree("one"), tree("other"));
    let expected = [write(&one, None), write(&other, None)];
    let mut kept = Kept::new();
    for threads in [1, 2, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let write = |tree| pool.install(|| write(tree, Some(&kept)));
        kept.pieces.lock().unwrap().clear();
        kept.news();
        assert!(write(&one) == expected[0], "the first time, {threads} threads");
        let all = kept.news();
        assert!(write(&one) == expected[0], "again, {threads} threads");
        assert_eq!(kept.news(), 0, "pieces that were there");
        assert!(write(&other) == expected[1], "changed, {threads} threads");
        let changed = kept.news();
        assert!((1..=3).contains(&changed) && all > 20, "{changed} of {all} pieces for one file");
        // What cannot be understood is made again.
        kept.damage(Vec::clear);
        assert!(write(&one) == expected[0], "damaged, {threads} threads");
    }
    foreign(&write, &one, &expected[0], &mut kept);
}

/// Pieces that came from elsewhere are used if they are right, and change no byte if they are not.
fn foreign(write: impl Fn(&Tree, Option<&dyn Pieces>) -> Vec<u8>, tree: &Tree, expected: &[u8], kept: &mut Kept) {
    kept.pieces.lock().unwrap().clear();
    write(tree, Some(kept));
    kept.found = Found::Foreign;
    let right = kept.pieces.lock().unwrap().clone();
    kept.news();
    assert!(write(tree, Some(kept)) == expected);
    assert_eq!((kept.news(), *kept.refused.lock().unwrap()), (0, 0), "all of them are right");
    assert!(*kept.accepted.lock().unwrap() > 20);
    let mut keys: Vec<Digest> = right.keys().copied().collect();
    keys.sort_unstable();
    let mut wrong = right.clone();
    for (number, key) in keys.iter().enumerate() {
        let bytes = wrong.get_mut(key).unwrap();
        let length = bytes.len();
        match number % 7 {
            0 => bytes.clear(),
            1 => bytes.fill(0),
            2 => bytes.truncate(length / 2),
            3 => bytes.insert(length / 2, 1),
            4 => bytes[length - 1 - number % 60.min(length)] ^= 1 << (number % 8),
            5 => bytes[number * 7919 % length] ^= 0x55,
            // The largest numbers, where numbers are.
            _ => {
                let start = length.saturating_sub(8 + number % 40);
                bytes[start..(start + 4).min(length)].fill(0xff);
            }
        }
    }
    let lies = wrong.iter().filter(|(key, bytes)| right[key] != **bytes).count();
    *kept.pieces.lock().unwrap() = wrong;
    assert!(write(tree, Some(kept)) == expected, "lies");
    // Two jobs may want the same piece, and what was refused once is there anew for the second.
    let refused = *kept.refused.lock().unwrap();
    assert!(lies > 20 && refused * 2 > lies, "{refused} of {lies} were refused");
    // Of another key.
    let others = keys.iter().zip(keys.iter().cycle().skip(1)).map(|(key, other)| (*key, right[other].clone()));
    *kept.pieces.lock().unwrap() = others.collect();
    assert!(write(tree, Some(kept)) == expected, "another one's");
}

#[test]
fn erofs_of_pieces_is_the_same() {
    for compression in [erofs::Compression::Lz4Fast, erofs::Compression::Lz4] {
        check(|tree, pieces| {
            let options = erofs::Options { compression, ..erofs::Options::default() };
            let mut out = Cursor::new(Vec::new());
            erofs::write_with_pieces(tree, &mut out, &options, pieces).unwrap();
            out.into_inner()
        });
    }
}

#[test]
fn squashfs_of_pieces_is_the_same() {
    check(|tree, pieces| {
        let threads = rayon::current_num_threads();
        let options = squashfs::Options { threads, block_size: 64 << 10, ..squashfs::Options::default() };
        let mut out = Cursor::new(Vec::new());
        squashfs::write_with_pieces(tree, &mut out, &options, pieces).unwrap();
        out.into_inner()
    });
}
