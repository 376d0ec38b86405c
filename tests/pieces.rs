//! File systems of pieces that were compressed before: the same bytes as without, and little work for a small change.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Mutex;

use moby::error::Result;
use moby::formats::pieces::Pieces;
use moby::formats::{erofs, squashfs};
use moby::rootfs::{Content, Inode, Kind, Meta, Tree};
use moby::store::Digest;

/// Pieces in memory.
#[derive(Debug, Default)]
struct Kept {
    pieces: Mutex<HashMap<Digest, Vec<u8>>>,
    put: Mutex<usize>,
}

impl Kept {
    /// How many were put since this was last asked.
    fn news(&self) -> usize {
        std::mem::take(&mut self.put.lock().unwrap())
    }

    fn damage(&self, damage: fn(&mut Vec<u8>)) {
        self.pieces.lock().unwrap().values_mut().for_each(damage);
    }
}

impl Pieces for Kept {
    fn get(&self, key: &Digest, bytes: &mut Vec<u8>) -> bool {
        let pieces = self.pieces.lock().unwrap();
        let Some(piece) = pieces.get(key) else { return false };
        bytes.clear();
        bytes.extend_from_slice(piece);
        true
    }

    fn put(&self, key: &Digest, parts: &[&[u8]]) -> Result<()> {
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
    let kept = Kept::default();
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
