//! File systems of pieces that were compressed before: the same bytes as without, and little work for a small change.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use moby::error::Result;
use moby::formats::pieces::{Found, Pieces};
use moby::formats::verity::{self, Hashes};
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
            let beside = erofs::Beside { pieces, ..erofs::Beside::default() };
            erofs::write_with_pieces(tree, &mut out, &options, beside).unwrap();
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

/// An image, its hash tree, its root hash.
type Hashed = (Vec<u8>, Vec<u8>, [u8; 32]);

fn hashed(tree: &Tree, compression: erofs::Compression, seen: Option<&dyn Pieces>) -> Result<Hashed> {
    let options = erofs::Options { compression, ..erofs::Options::default() };
    let mut hashes = Hashes::new(tempfile::tempfile().unwrap(), salted());
    let (mut out, mut hash_tree) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
    let beside = erofs::Beside { hashes: Some(&mut hashes), seen, ..erofs::Beside::default() };
    erofs::write_with_pieces(tree, &mut out, &options, beside)?;
    let made = hashes.finish(&mut hash_tree)?;
    Ok((out.into_inner(), hash_tree.into_inner(), made.root_hash))
}

fn salted() -> verity::Options {
    verity::Options { salt: vec![1; 32], uuid: None }
}

/// The hashes that are taken while an image is written are those of a tree over it.
#[test]
fn hashes_of_an_image_are_those_of_its_blocks() {
    for compression in [erofs::Compression::None, erofs::Compression::Lz4Fast] {
        let (image, hash_tree, root_hash) = hashed(&tree("one"), compression, None).unwrap();
        let options = erofs::Options { compression, ..erofs::Options::default() };
        let mut out = Cursor::new(Vec::new());
        erofs::write(&tree("one"), &mut out, &options).unwrap();
        assert!(out.into_inner() == image, "{compression:?}");
        let mut expected = Cursor::new(Vec::new());
        let made = verity::write(&mut image.as_slice(), image.len() as u64, &mut expected, &salted()).unwrap();
        assert_eq!(made.root_hash, root_hash, "{compression:?}");
        assert!(expected.into_inner() == hash_tree, "{compression:?}");
    }
}

#[test]
fn contents_that_were_checked_are_the_same_ones() {
    let (one, other) = (tree("one"), tree("other"));
    let write = |tree: &Tree, seen: &Kept| hashed(tree, erofs::Compression::None, Some(seen)).unwrap();
    let expected = [&one, &other].map(|tree| hashed(tree, erofs::Compression::None, None).unwrap());
    let kept = Kept::new();
    for threads in [1, 2, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let write = |tree| pool.install(|| write(tree, &kept));
        kept.pieces.lock().unwrap().clear();
        kept.news();
        assert!(write(&one) == expected[0], "the first time, {threads} threads");
        let all = kept.news();
        assert!(write(&one) == expected[0], "again, {threads} threads");
        assert_eq!(kept.news(), 0, "what was there");
        assert!(write(&other) == expected[1], "changed, {threads} threads");
        let changed = kept.news();
        assert!((1..=3).contains(&changed) && all > 10, "{changed} of {all} for one file");
        // What cannot be understood, what is of another length, and what is of other contents.
        let damages: [fn(&mut Vec<u8>); 4] =
            [Vec::clear, |bytes| bytes.truncate(31), |bytes| bytes.extend([0; 32]), |bytes| bytes.fill(7)];
        for damage in damages.into_iter().filter(|_| threads == 2) {
            kept.damage(damage);
            assert!(write(&one) == expected[0], "damaged, {threads} threads");
            assert!(kept.news() > 0);
            assert!(write(&one) == expected[0], "made again, {threads} threads");
            assert_eq!(kept.news(), 0, "what was made again");
        }
    }
}

/// A file of 5000 bytes, and one of several parts with an end behind its inode.
fn tree_in(file: &Path, bytes: &[u8]) -> Tree {
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    for (name, range) in [("large", 0..3_000_000), ("small", 3_000_000..3_005_000)] {
        let digest = Digest::of(&bytes[range.clone()]);
        let content = Content::part(file.into(), range.start as u64, range.len() as u64, digest);
        let inode = Inode { meta: Meta::root(0o644, 0), kind: Kind::File(content), origin };
        tree.insert(name.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
    }
    tree
}

#[test]
fn damaged_contents_are_found_whether_they_were_checked_before_or_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..3_005_000u32).map(|at| (at ^ at >> 9) as u8).collect();
    std::fs::write(file.path(), &bytes).unwrap();
    let tree = tree_in(file.path(), &bytes);
    let kept = Kept::new();
    let write = |seen: Option<&dyn Pieces>| hashed(&tree, erofs::Compression::None, seen);
    let good = write(None).unwrap();
    assert!(write(Some(&kept)).unwrap() == good);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for at in [0, 1_500_000, 2_999_999, 3_000_001, 3_004_999] {
            file.as_file().write_all_at(&[!bytes[at]], at as u64).unwrap();
            for seen in [None, Some(&Kept::new() as &dyn Pieces), Some(&kept)] {
                let error = pool.install(|| write(seen)).map(drop).unwrap_err();
                assert!(error.message().contains("changed since it was read, or is damaged"), "{at}: {error}");
            }
            file.as_file().write_all_at(&[bytes[at]], at as u64).unwrap();
            assert!(pool.install(|| write(Some(&kept))).unwrap() == good, "{at}");
        }
    }
    assert_eq!(kept.news(), 2, "what was damaged is not kept");
}

/// Of two files of equal content only one is checked; so what lies behind the other's inode comes from that one.
#[test]
fn of_equal_contents_the_checked_one_goes_in() {
    let bytes: Vec<u8> = (0..9_000u32).map(|at| (at ^ at >> 7) as u8).collect();
    let write = |second: &[u8], compression| {
        let files = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
        std::fs::write(files[0].path(), &bytes).unwrap();
        std::fs::write(files[1].path(), second).unwrap();
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        for (name, file) in ["a", "b"].into_iter().zip(&files) {
            let content = Content::part(file.path().into(), 0, bytes.len() as u64, Digest::of(&bytes));
            let inode = Inode { meta: Meta::root(0o644, 0), kind: Kind::File(content), origin };
            tree.insert(name.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
        }
        hashed(&tree, compression, None).unwrap()
    };
    let mut damaged = bytes.clone();
    damaged[8_999] ^= 1;
    for compression in [erofs::Compression::None, erofs::Compression::Lz4] {
        assert!(write(&damaged, compression) == write(&bytes, compression));
    }
}
