//! The loops that builds spend their time in, each on inputs that are made here, the same at every run: for
//! `benches/loops.rs`, which takes their times, and `tests/instructions.rs`, which counts their instructions.

use std::ffi::OsStr;
use std::io::{Cursor, Write, sink};
use std::path::Path;
use std::sync::Arc;

use moby::blueprint::{self, Input, ReadOptions};
use moby::formats::disk::{Bytes, Output};
use moby::formats::source::Source;
use moby::formats::{cpio, erofs, fat, iso9660, qcow2, squashfs, tar, verity};
use moby::rootfs::{Content, Inode, Kind, Meta, Tree, flatten};
use moby::store::{Digest, Entry, EntryKind, Layer, LayerIndex, Store};

/// One run of a loop, on inputs that are there.
pub type Run = Box<dyn FnMut()>;

/// A loop.
pub struct Loop {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is about bytes; else it is about entries.
    pub bytes: bool,
    /// Makes inputs of so many MiB, or 4096 times as many entries.
    pub prepare: fn(size: usize) -> Run,
}

/// All of them.
pub const ALL: [Loop; 14] = [
    Loop { name: "inflate", bytes: true, prepare: inflate },
    Loop { name: "tar-index", bytes: false, prepare: tar_index },
    Loop { name: "flatten", bytes: false, prepare: flatten_layers },
    Loop { name: "cpio", bytes: true, prepare: write_cpio },
    Loop { name: "erofs", bytes: true, prepare: |size| write_erofs(size, erofs::Compression::None) },
    Loop { name: "erofs-lz4", bytes: true, prepare: |size| write_erofs(size, erofs::Compression::Lz4) },
    Loop { name: "squashfs-zstd", bytes: true, prepare: write_squashfs },
    Loop { name: "iso", bytes: true, prepare: write_iso },
    Loop { name: "fat", bytes: true, prepare: write_fat },
    Loop { name: "qcow2", bytes: true, prepare: |size| write_qcow2(size, None) },
    Loop { name: "qcow2-zlib", bytes: true, prepare: |size| write_qcow2(size, Some(qcow2::Compression::ZLIB)) },
    Loop { name: "qcow2-zstd", bytes: true, prepare: |size| write_qcow2(size, Some(qcow2::Compression::ZSTD)) },
    Loop { name: "verity", bytes: true, prepare: hash_tree },
    Loop { name: "blueprint", bytes: false, prepare: read_blueprint },
];

/// Entries for each MiB.
pub const ENTRIES: usize = 4096;
const MIB: usize = 1 << 20;

/// Bytes of which a half compresses.
fn data(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut bytes = Vec::with_capacity(size + 64);
    while bytes.len() < size {
        if bytes.len() / 65_536 % 2 == 0 {
            bytes.extend_from_slice(&next().to_le_bytes()[..3]);
        } else {
            // Words, some of them much more often than others.
            let word = next();
            write!(bytes, "word-{} ", word % (1 + word / 256 % 64)).expect("memory");
        }
    }
    bytes.truncate(size);
    bytes
}

/// Files from 300 bytes to 2 MiB, so many MiB together.
fn tree(size: usize) -> Tree {
    let bytes = data(size * MIB);
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    let (mut number, mut rest) = (0, bytes.as_slice());
    while !rest.is_empty() {
        let length = [300, 5000, 60_000, 700_000, 2 * MIB][number % 5].min(rest.len());
        let (content, later) = rest.split_at(length);
        let kind = Kind::File(Content::bytes(content));
        let path = format!("usr/share/{}/file-{number}", number % 7);
        let missing = Meta::root(0o755, 0);
        tree.insert(path.as_bytes(), Inode { meta: Meta::root(0o644, 0), kind, origin }, &missing).expect("a tree");
        (number, rest) = (number + 1, later);
    }
    tree
}

fn archive(tree: &Tree) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    tar::write_tree(tree, &mut writer, false, |_| {}).expect("a tar archive");
    writer.finish().expect("a tar archive")
}

fn inflate(size: usize) -> Run {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&archive(&tree(size))).expect("memory");
    read_layer(gzip.finish().expect("memory"))
}

fn read_layer(layer: Vec<u8>) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    Box::new(move || {
        let _ = &folder;
        drop(store.inflate(layer.as_slice()).expect("a layer"));
    })
}

fn entries(size: usize, first: usize) -> Vec<Entry> {
    let entry = |number: usize| Entry {
        path: format!("usr/lib/folder-{}/file-{number}", number / 100).into_bytes(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: Vec::new(),
        kind: EntryKind::File { offset: 0, size: 0, digest: Digest::from_bytes([1; 32]) },
    };
    (first..first + size * ENTRIES).map(entry).collect()
}

fn tar_index(size: usize) -> Run {
    let mut tree = Tree::new(0);
    let origin = tree.inode(tree.root()).origin;
    for entry in entries(size, 0) {
        let inode = Inode { meta: Meta::root(0o644, 0), kind: Kind::File(Content::bytes(&b""[..])), origin };
        tree.insert(&entry.path, inode, &Meta::root(0o755, 0)).expect("a tree");
    }
    read_layer(archive(&tree))
}

fn flatten_layers(size: usize) -> Run {
    // The second layer has half of its entries in the place of the first one's.
    let layers = [0, size * ENTRIES / 2].map(|first| Layer {
        diff_id: Digest::of(b""),
        file: Path::new("layer").into(),
        index: Arc::new(LayerIndex { tar_size: 0, entries: entries(size, first) }),
    });
    Box::new(move || drop(flatten(&layers, 0).expect("a tree")))
}

fn write_cpio(size: usize) -> Run {
    let tree = tree(size);
    Box::new(move || {
        let mut writer = cpio::Writer::new(std::io::sink());
        tree.walk_all(|path, id| {
            let Kind::File(content) = &tree.inode(id).kind else { return Ok(()) };
            let header = cpio::Header {
                mode: cpio::FileType::Regular.bits() | 0o644,
                size: content.size as u32,
                nlink: 1,
                ..cpio::Header::default()
            };
            content.copy_to(writer.start(path, header).expect("a sink"))?;
            writer.pad().expect("a sink");
            Ok(())
        })
        .expect("an archive");
        writer.finish().expect("a sink");
    })
}

fn write_erofs(size: usize, compression: erofs::Compression) -> Run {
    let tree = tree(size);
    let options = erofs::Options { compression, ..erofs::Options::default() };
    Box::new(move || {
        erofs::write(&tree, &mut Cursor::new(Vec::new()), &options).expect("an image");
    })
}

fn write_squashfs(size: usize) -> Run {
    let tree = tree(size);
    let threads = rayon::current_num_threads();
    let options = squashfs::Options { threads, ..squashfs::Options::default() };
    Box::new(move || drop(squashfs::write(&tree, &mut Cursor::new(Vec::new()), &options).expect("an image")))
}

fn write_iso(size: usize) -> Run {
    let tree = tree(size);
    let options = iso9660::Options { label: "LOOP".into(), joliet: true, ..iso9660::Options::default() };
    Box::new(move || iso9660::Iso::new(&tree, &options).and_then(|iso| iso.write_to(&mut sink())).expect("an image"))
}

fn write_fat(size: usize) -> Run {
    let tree = tree(size);
    let mut files = Vec::new();
    tree.walk_all(|path, id| {
        let content = match &tree.inode(id).kind {
            Kind::File(content) => Some(Arc::new(content.clone()) as Arc<dyn Source>),
            _ => None,
        };
        files.push(fat::File { path: String::from_utf8_lossy(path).into_owned(), content });
        Ok(())
    })
    .expect("a list");
    let options = fat::Options::default();
    Box::new(move || fat::Fat::new(&files, &options).and_then(|fat| fat.write_to(&mut sink())).expect("a volume"))
}

fn write_qcow2(size: usize, compression: Option<qcow2::Compression>) -> Run {
    let disk = Bytes(data(size * MIB));
    Box::new(move || {
        let file = tempfile::tempfile().expect("a file");
        let output = Output::new(&file, Path::new("disk.qcow2")).expect("an empty file");
        qcow2::write(&disk, output, &qcow2::Options { compression }).expect("a disk");
    })
}

fn hash_tree(size: usize) -> Run {
    let data = data(size * MIB);
    let options = verity::Options { salt: vec![1; 32], uuid: None };
    Box::new(move || {
        let mut out = Cursor::new(Vec::new());
        verity::write(&mut data.as_slice(), data.len() as u64, &mut out, &options).expect("a tree");
    })
}

/// Of 40 services for each MiB.
fn read_blueprint(size: usize) -> Run {
    let mut text = "kernel:\n  image: kernel:1\n  cmdline: console=ttyS0\ninit:\n  - init:1\nservices:\n".to_owned();
    for number in 0..size * 40 {
        text += &format!(
            "  - name: service-{number}\n    image: example.org/some/service-{number}:v1.2.{number}\n    \
             command: [/usr/bin/program, --listen, \"0.0.0.0:{number}\"]\n    capabilities: [CAP_NET_BIND_SERVICE]\n    \
             binds:\n      - /etc/resolv.conf:/etc/resolv.conf\n      - /var/lib/{number}:/data\n    \
             env: [A=1, B={number}]\n"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blueprint.yml");
    std::fs::write(&path, text).expect("a file");
    let inputs = [Input::from_argument(OsStr::new(&path))];
    Box::new(move || {
        let _ = &folder;
        drop(blueprint::read(&inputs, ReadOptions::default()).expect("a blueprint"));
    })
}
