//! A small disk with a whole boot chain: signed kernel image, root hash, hash tree, root.
#![allow(dead_code)] // Every test program uses another part of it.

use std::io::{Cursor, Write};
use std::sync::Arc;

use moby::formats::authenticode::{Certificate, Key, SelfSigned, Unsigned, sign};
use moby::formats::compress::{Compressor, Method};
use moby::formats::cpio::{self, FileType};
use moby::formats::fat::{self, Fat};
use moby::formats::gpt::{self, Disk, Guid, Partition};
use moby::formats::pe;
use moby::formats::source::Source;
use moby::formats::uki::{Section, Uki};
use moby::formats::{erofs, verity};
use moby::rootfs::{Content, Inode, Kind, Meta, Tree};

const TIME: i64 = 1_700_000_000;

/// What is different from the disk as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    Unsigned,
    NoCommandLine,
    ShortHash,
    OtherHash,
    NoInit,
    NoInitInInitrd,
    NoEsp,
    NoProgram,
    OtherPartition,
    RootWithoutHash,
}

/// A key that is the same each time.
pub fn key(seed: u8) -> (Key, Certificate) {
    let key = Key::EcdsaP256(Box::new(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()));
    let name = format!("test {seed}");
    let made = SelfSigned { name: &name, serial: [seed; 16], not_before: 0, not_after: 4_000_000_000 };
    let certificate = made.issue(&key).unwrap();
    (key, certificate)
}

/// A program of two sections, with room for some more headers.
fn stub() -> Vec<u8> {
    let mut out = vec![0; 0xa00];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x40;
    out[0x40..0x44].copy_from_slice(b"PE\0\0");
    out[0x44..0x48].copy_from_slice(&[0x64, 0x86, 1, 0]);
    out[0x54..0x58].copy_from_slice(&[0xf0, 0, 6, 2]);
    let mut put = |at: usize, number: u32| out[0x58 + at..0x58 + at + 4].copy_from_slice(&number.to_le_bytes());
    for (at, number) in [(0, 0x20b), (32, 4096), (36, 512), (56, 0x2000), (60, 0x800), (108, 16)] {
        put(at, number);
    }
    let section = pe::Section {
        name: b".text".into(),
        virtual_size: 0x100,
        virtual_address: 0x1000,
        raw_size: 0x200,
        raw_offset: 0x800,
        characteristics: 0x6000_0020,
    };
    out[0x148..0x170].copy_from_slice(&section.encode());
    out
}

pub fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    })
    .take(size)
    .collect()
}

pub fn initrd(init: bool) -> Vec<u8> {
    let header = |mode| cpio::Header { ino: 1, mode, nlink: 1, ..cpio::Header::default() };
    let mut archive = cpio::Writer::new(Vec::new());
    archive.member(b"microcode", header(FileType::Regular.bits() | 0o644), b"early").unwrap();
    let mut out = archive.finish().unwrap();
    let mut archive = cpio::Writer::new(Compressor::new(Vec::new(), Method::Zstd(3)).unwrap());
    archive.member(b"etc", header(FileType::Folder.bits() | 0o755), b"").unwrap();
    archive.member(b"etc/text", header(FileType::Regular.bits() | 0o644), &noise(9, 5000)).unwrap();
    if init {
        archive.member(b"init", header(FileType::Regular.bits() | 0o755), b"\x7fELF init").unwrap();
    }
    out.extend(archive.finish().unwrap().finish().unwrap());
    out
}

pub fn tree(init: bool) -> Tree {
    let mut tree = Tree::new(TIME);
    let origin = tree.inode(tree.root()).origin;
    let mut put = |path: &str, mode, kind| {
        let meta = Meta { mode, ..Meta::root(mode, TIME) };
        tree.insert(path.as_bytes(), Inode { meta, kind, origin }, &Meta::root(0o755, TIME)).unwrap();
    };
    put("etc/hostname", 0o644, Kind::File(Content::bytes(&b"sealed\n"[..])));
    put("usr/bin/program", 0o755, Kind::File(Content::bytes(noise(1, 60_000))));
    put("usr/bin/text", 0o755, Kind::File(Content::bytes(b"all the same ".repeat(2000))));
    if init {
        put("usr/sbin/init", 0o755, Kind::File(Content::bytes(&b"\x7fELF"[..])));
        put("sbin", 0o777, Kind::Symlink(b"usr/sbin"[..].into()));
    }
    tree
}

pub fn root(init: bool) -> Vec<u8> {
    let mut image = Cursor::new(Vec::new());
    let options = erofs::Options { compression: erofs::Compression::Lz4, label: "root", time: TIME, uuid: None };
    erofs::write(&tree(init), &mut image, &options).unwrap();
    image.into_inner()
}

/// The disk.
pub fn disk(flaw: Flaw) -> Vec<u8> {
    let root = root(flaw != Flaw::NoInit);
    let mut tree = Cursor::new(Vec::new());
    let options = verity::Options { salt: vec![7; 32], uuid: None };
    let made = verity::write(&mut root.as_slice(), root.len() as u64, &mut tree, &options).unwrap();
    let mut hash = made.root_hash;
    let half = |hash: &[u8; 32], at: usize| Guid(std::array::from_fn(|index| hash[at + index]));
    let (first, mut last) = (half(&hash, 0), half(&hash, 16));
    if flaw == Flaw::OtherPartition {
        last.0[3] ^= 1;
    }
    if flaw == Flaw::OtherHash {
        hash[5] ^= 1;
    }
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let words = match flaw {
        Flaw::ShortHash => format!("roothash={} quiet", &hex[..60]),
        Flaw::RootWithoutHash => "root=PARTLABEL=root".to_owned(),
        _ => format!("roothash={hex} quiet"),
    };
    let mut sections = vec![
        Section::new(".osrel", Arc::new(b"ID=test\n".to_vec())),
        Section::new(".initrd", Arc::new(initrd(flaw != Flaw::NoInitInInitrd))),
        Section::new(".linux", Arc::new(noise(3, 20_001))),
    ];
    if flaw != Flaw::NoCommandLine {
        sections.insert(1, Section::new(".cmdline", Arc::new(words.into_bytes())));
    }
    let mut program: Arc<dyn Source> = Arc::new(Uki::new(&stub(), sections).unwrap());
    if flaw != Flaw::Unsigned {
        let (key, certificate) = key(1);
        let unsigned = Unsigned::new(program).unwrap();
        let message = sign(unsigned.digest(), &certificate, &key).unwrap();
        program = Arc::new(unsigned.attach(&message).unwrap());
    }
    let path = if flaw == Flaw::NoProgram { "EFI/other.efi" } else { "EFI/BOOT/BOOTX64.EFI" };
    let file = fat::File { path: path.into(), content: Some(program) };
    let volume = Fat::new(&[file], &fat::Options { label: "ESP".into(), ..fat::Options::default() }).unwrap();
    let kind = if flaw == Flaw::NoEsp { gpt::LINUX_DATA } else { gpt::EFI_SYSTEM };
    let partitions = vec![
        Partition::new(kind, "ESP", Arc::new(volume)),
        Partition { guid: Some(first), ..Partition::new(gpt::ROOT_X86_64, "root", Arc::new(root)) },
        Partition {
            guid: Some(last),
            ..Partition::new(gpt::ROOT_X86_64_VERITY, "root-verity", Arc::new(tree.into_inner()))
        },
    ];
    let mut out = Vec::new();
    Disk::new(partitions, gpt::Options::default()).unwrap().write_to(&mut out).unwrap();
    out.flush().unwrap();
    out
}
