//! Memory stays flat while a squashfs image is written and read, whatever its size and the number of threads: a process of its
//! own, so that its peak is measured.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};

use moby::formats::squashfs::{self, Compression, Options, Reader, write};
use moby::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};
use moby::store::Hasher;

/// What a whole build may take.
const LIMIT: u64 = 64 << 10;

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = BufReader::new(std::fs::File::open("/proc/self/status").unwrap());
    let line = status.lines().map(|line| line.unwrap()).find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Compressor and block size of each case.
const CASES: [(Compression, u32); 5] = [
    (Compression::Zstd(3), 128 << 10),
    (Compression::Zstd(9), 1 << 20),
    (Compression::Zstd(15), 256 << 10),
    (Compression::Gzip(1), 1 << 20),
    (Compression::None, 1 << 20),
];

/// `MOBY_TEST_IMAGE_MIB` is the size of the root, 64 MiB if it is not set; a quarter of it is one file.
#[test]
fn memory_is_flat_whatever_the_size_of_the_image() {
    let Ok(number) = std::env::var("MOBY_TEST_CASE") else {
        // Each case in a process of its own: this very test with its number.
        for number in 0..CASES.len() {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "memory_is_flat_whatever_the_size_of_the_image", "--nocapture"]);
            assert!(command.env("MOBY_TEST_CASE", number.to_string()).status().unwrap().success());
        }
        return;
    };
    let (compression, block_size) = CASES[number.parse::<usize>().unwrap()];
    let size = std::env::var("MOBY_TEST_IMAGE_MIB").map_or(64, |text| text.parse::<u64>().unwrap()) << 20;
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path(), size);
    let before = peak();
    let mut out = std::fs::File::create(folder.path().join("image")).unwrap();
    write(&tree, &mut out, &Options { compression, block_size, time: 0, threads: 16 }).unwrap();
    println!("{compression} in blocks of {block_size}: peak in KiB {before} before, {} after", peak());
    let mut reader = Reader::open(std::fs::File::open(folder.path().join("image")).unwrap()).unwrap();
    let read = reader.walk(|reader, path, inode| {
        if let squashfs::Kind::File(file) = &inode.kind {
            let mut hasher = Hasher::new();
            reader.content(file, &mut hasher)?;
            let id = tree.lookup(path).unwrap();
            assert!(matches!(&tree.inode(id).kind, Kind::File(content) if content.digest == hasher.finish()));
        }
        Ok(())
    });
    read.unwrap();
    assert!(peak() < LIMIT, "{} KiB are more than {LIMIT}", peak());
}

fn tree(folder: &std::path::Path, size: u64) -> Tree {
    let mut tree = Tree::new(0);
    let origin = tree.add_origin(Origin { source: String::new(), location: String::new() });
    let mut state = 1u64;
    let mut put = |name: String, size: u64| {
        let path = folder.join(&name);
        let mut out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        for _ in 0..size / 8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // About half of it compresses away.
            out.write_all(&(state >> 33).to_le_bytes()).unwrap();
        }
        out.flush().unwrap();
        drop(out);
        let kind = Kind::File(Content::host_file(&path).unwrap());
        let meta = Meta::root(0o644, 0);
        tree.insert(name.as_bytes(), Inode { meta: meta.clone(), kind, origin }, &meta).unwrap();
    };
    put("large".to_string(), size / 4);
    for number in 0..64 {
        put(format!("file-{number}"), size / 4 * 3 / 64 + number * 1000);
    }
    tree
}
