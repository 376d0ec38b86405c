//! Small archives and trees whose bytes are pinned, with what is in them: the formats that have no test program of their
//! own with such a dump. `MOBY_PIN=1` writes new ones; a change here is one for every image that people have built before.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "formats/judge.rs"]
mod judge;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};

use judge::{noise, pinned};
use moby::Arch;
use moby::formats::compress::{Compressor, Method};
use moby::formats::disk::{Identity, Output, RawFile};
use moby::formats::{gcp, oci, tar, verity, vhd};
use moby::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};
use moby::store::{Digest, Xattrs};

/// 2017-04-18 16:30:00 UTC.
const TIME: i64 = 1_492_533_000;

/// One of each kind, with names, owners, times and links that need more than the plain header.
fn tree() -> Tree {
    let mut tree = Tree::new(TIME);
    let origin = tree.add_origin(Origin { source: "test".into(), location: "files[0]".into() });
    let mut put = |path: &str, mode, uid, mtime, xattrs, kind| {
        let inode = Inode { meta: Meta { mode, uid, gid: 100, mtime, xattrs }, kind, origin };
        tree.insert(path.as_bytes(), inode, &Meta::root(0o755, TIME)).unwrap();
    };
    let file = |bytes: Vec<u8>| Kind::File(Content::bytes(bytes));
    let none = Xattrs::new;
    let capabilities = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 4])];
    put("bin/ping", 0o4755, 0, TIME, capabilities, file(noise(1, 700)));
    put("etc/hostname", 0o644, 1000, TIME + 1, none(), file(b"moby\n".to_vec()));
    put(&("long/".repeat(60) + "end"), 0o700, 1 << 21, TIME, none(), Kind::folder());
    put("dev/console", 0o600, 0, TIME, none(), Kind::CharacterDevice { major: 5, minor: 1 });
    put("dev/vda", 0o660, 0, TIME, none(), Kind::BlockDevice { major: 254, minor: 16 });
    put("dev/pipe", 0o644, 0, -1, none(), Kind::Fifo);
    put("link", 0o777, 0, TIME, none(), Kind::Symlink(b"bin/../\xfftarget".as_slice().into()));
    tree.link(b"bin/second", b"bin/ping", &Meta::root(0o755, TIME), origin).unwrap();
    tree
}

/// What another reader finds in an archive.
fn members(archive: &[u8]) -> String {
    let mut dump = String::new();
    for entry in ::tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let (path, link) = (entry.path_bytes().into_owned(), entry.link_name_bytes().map(|name| name.into_owned()));
        let records: Vec<_> = entry.pax_extensions().unwrap().map_or(Vec::new(), |records| {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            records
                .map(|record| record.unwrap())
                .map(|one| text(one.key_bytes()) + "=" + &text(one.value_bytes()))
                .collect()
        });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let (kind, time) = (header.entry_type(), header.mtime().unwrap());
        write!(dump, "{kind:?} {mode:04o} {uid}:{gid} time {time} {}", path.escape_ascii()).unwrap();
        if let Some(link) = link {
            write!(dump, " -> {}", link.escape_ascii()).unwrap();
        }
        if !content.is_empty() {
            write!(dump, " {} bytes {}", content.len(), &Digest::of(&content).hex()[..16]).unwrap();
        }
        writeln!(dump, " {records:?}").unwrap();
    }
    dump
}

#[test]
fn tar_archives() {
    let mut archive = tar::Writer::new(Vec::new());
    tar::write_tree(&tree(), &mut archive, true, |_| ()).unwrap();
    let bytes = archive.finish().unwrap();
    pinned("tar", "small", &bytes, &members(&bytes));
}

/// After an update of a compressor's crate a change here is the compressor's: every initrd is another one then.
#[test]
fn compressed_streams() {
    let text: Vec<u8> = (0..40_000u32).flat_map(|n| format!("line {}\n", n % 1000).into_bytes()).collect();
    let input = [text, noise(2, 300_000)].concat();
    let (mut dump, mut all) = (format!("{} bytes {}\n", input.len(), Digest::of(&input)), Vec::new());
    for method in ["gzip:1", "gzip:6", "gzip:9", "zstd:1", "zstd:3", "zstd:9", "zstd:19", "xz:0", "xz:6"] {
        let mut out = Compressor::new(Vec::new(), method.parse::<Method>().unwrap()).unwrap();
        out.write_all(&input).unwrap();
        let bytes = out.finish().unwrap();
        writeln!(dump, "{method}: {} bytes {}", bytes.len(), Digest::of(&bytes)).unwrap();
        all.extend(bytes);
    }
    pinned("compress", "streams", &all, &dump);
}

#[test]
fn oci_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer");
    let layer = oci::write_layer(&tree(), &File::create(&path).unwrap(), &path, |_| ()).unwrap();
    let mut layout = oci::Layout::new();
    let entrypoint = vec!["/sbin/init".to_owned()];
    layout.image("latest", &oci::Image { arch: Arch::Amd64, layer: &layer, entrypoint, time: TIME }).unwrap();
    let part = |seed, size| Content::bytes(noise(seed, size));
    let command_line = Content::bytes(b"console=ttyS0".to_vec());
    let boot = oci::Boot { arch: Arch::Arm64, kernel: part(3, 900), initrd: part(4, 800), command_line };
    layout.boot("boot", &boot).unwrap();
    let mut archive = Vec::new();
    layout.write(&mut archive, TIME).unwrap();
    let mut dump = members(&archive);
    // The documents themselves: all that is no noise and not compressed.
    for entry in ::tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut content = Vec::new();
        entry.unwrap().read_to_end(&mut content).unwrap();
        if let Ok(document) = serde_json::from_slice::<serde_json::Value>(&content) {
            writeln!(dump, "{document:#}").unwrap();
        }
    }
    pinned("oci", "small", &archive, &dump);
}

#[test]
fn verity_trees() {
    let data = noise(5, 129 * 4096);
    let options = verity::Options { salt: vec![0xa5; 32], uuid: Some([7; 16]) };
    let mut out = std::io::Cursor::new(Vec::new());
    let made = verity::write(&mut data.as_slice(), data.len() as u64, &mut out, &options).unwrap();
    let image = out.into_inner();
    let mut dump = format!("{} bytes, root hash {}\n", made.size, Digest::from_bytes(made.root_hash).hex());
    let superblock = verity::Superblock::decode(image[..512].try_into().unwrap()).unwrap();
    writeln!(dump, "{superblock:#?}").unwrap();
    for (at, block) in image.chunks(4096).enumerate() {
        writeln!(dump, "block {at}: {}", Digest::of(block).hex()).unwrap();
    }
    pinned("verity", "small", &image, &dump);
}

/// A disk of 5 MiB and a sector with two runs of data.
fn disk(folder: &std::path::Path) -> RawFile {
    use std::os::unix::fs::FileExt;
    let path = folder.join("raw");
    let file = File::create(&path).unwrap();
    file.set_len((5 << 20) + 512).unwrap();
    file.write_all_at(&noise(6, 100_000), 0).unwrap();
    file.write_all_at(&noise(7, 70_000), 3 << 20).unwrap();
    RawFile::open(&path).unwrap()
}

#[test]
fn gcp_archives() {
    let folder = tempfile::tempdir().unwrap();
    let mut packed = Vec::new();
    gcp::write(&disk(folder.path()), &mut packed, &gcp::Options::new(TIME)).unwrap();
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut archive).unwrap();
    let mut dump = format!("unpacked: {} bytes {}\n", archive.len(), Digest::of(&archive));
    for line in archive[..512].chunks(16).filter(|line| line.iter().any(|byte| *byte != 0)) {
        writeln!(dump, "    {}", line.escape_ascii()).unwrap();
    }
    pinned("gcp", "small", &packed, &dump);
}

#[test]
fn azure_disks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("azure");
    let file = File::create(&path).unwrap();
    let identity = Identity::from_digest(&Digest::of(b"tests"));
    let options = vhd::Options { kind: vhd::Kind::Fixed, identity, time: TIME, azure: true };
    vhd::write(&disk(folder.path()), Output::new(&file, &path).unwrap(), &options).unwrap();
    let footer = format!("{:#?}\n", vhd::Reader::open(RawFile::open(&path).unwrap()).unwrap().footer());
    pinned("azure", "small", &std::fs::read(&path).unwrap(), &footer);
}
