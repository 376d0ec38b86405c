//! `moby check`: what was built is in order, what was altered breaks at the right link, and nothing makes it panic.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;
#[path = "formats/sealed.rs"]
mod sealed;

use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use judge::{judge, write};
use moby::formats::authenticode::Identity;
use moby::formats::disk::{Bytes, DiskImage, Identity as DiskIdentity, Output, RawFile};
use moby::formats::iso9660::{BootImage, Hybrid, Iso};
use moby::formats::{cpio, fat, gpt, iso9660, ova, pe, qcow2, squashfs, vhd, vhdx, vmdk};
use moby::inspect::parts::{Content, Part, dump};
use moby::inspect::{Image, Report, Status, Verdict, check};
use moby::store::Digest;
use sealed::{Flaw, disk, initrd, key, root, tree};

static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| disk(Flaw::None));

fn image(bytes: &[u8]) -> Image {
    Arc::new(Bytes(bytes.to_vec()))
}

fn report(bytes: &[u8]) -> Report {
    check(&image(bytes), &[]).unwrap()
}

fn broken(report: &Report) -> String {
    let last = report.links.last().unwrap();
    match &report.verdict {
        Verdict::Broken { link } => assert_eq!((&last.link, last.status), (link, Status::Broken)),
        other => panic!("{other:?}: {report:#?}"),
    }
    format!("{}: {}", last.link, last.evidence)
}

#[test]
fn a_sealed_disk_is_sealed() {
    let found = report(&SEALED);
    assert_eq!(found.verdict, Verdict::Sealed { by: "CN=test 1".into() }, "{found:#?}");
    let links: Vec<&str> = found.links.iter().map(|link| link.link.as_str()).collect();
    let expected = [
        "partition table",
        "ESP",
        "UKI",
        "signature",
        "command line",
        "initrd",
        "init",
        "hash tree",
        "root",
        "file system",
        "init",
    ];
    assert_eq!(links, expected);
    assert!(found.links.iter().all(|link| link.status == Status::Good));
    let identity = |seed| Identity::from_der(key(seed).1.der()).unwrap();
    let by = |seeds: &[u8]| {
        let trusted: Vec<Identity> = seeds.iter().map(|seed| identity(*seed)).collect();
        check(&image(&SEALED), &trusted).unwrap()
    };
    assert!(matches!(by(&[2, 1]).verdict, Verdict::Sealed { .. }));
    assert!(broken(&by(&[2])).starts_with("signature: signed by CN=test 1"));
}

#[test]
fn flaws_of_the_builder_are_named() {
    for (flaw, expected) in [
        (Flaw::NoEsp, "ESP: no partition is an EFI system partition"),
        (Flaw::NoProgram, "UKI: the EFI system partition has no EFI/BOOT"),
        (Flaw::ShortHash, "command line: the command line's roothash"),
        (Flaw::OtherPartition, "hash tree: the root's hash tree is not there"),
        (Flaw::NoInit, "init: the root does not boot: there is no program /sbin/init"),
        (Flaw::NoInitInInitrd, "init: the initrd does not boot: there is no program /init"),
    ] {
        let found = broken(&report(&disk(flaw)));
        assert!(found.starts_with(expected), "{flaw:?}: {found}");
    }
    // Only the first half differs, so the data is not found.
    assert!(broken(&report(&disk(Flaw::OtherHash))).contains("the root is not there"));
    for (flaw, expected) in [
        (Flaw::Unsigned, "the UKI is not signed"),
        (Flaw::NoCommandLine, "the UKI has no command line of its own"),
        (Flaw::RootWithoutHash, "the command line names a root without its hash"),
    ] {
        match report(&disk(flaw)).verdict {
            Verdict::NotSealed { because } => assert!(because.starts_with(expected), "{flaw:?}: {because}"),
            other => panic!("{flaw:?}: {other:?}"),
        }
    }
}

/// Where things lie on the disk.
struct Places {
    esp: usize,
    root: usize,
    tree: usize,
    program: usize,
    volume: fat::Geometry,
    headers: pe::Headers,
    program_size: usize,
}

fn places() -> Places {
    let bytes = SEALED.as_slice();
    let table = gpt::read(&mut std::io::Cursor::new(bytes)).unwrap().unwrap().table;
    let start = |index: usize| table.entries[index].first_lba as usize * 512;
    let esp = start(0);
    let size = (table.entries[0].last_lba - table.entries[0].first_lba + 1) * 512;
    let mut volume = fat::Volume::open(std::io::Cursor::new(bytes), esp as u64, size).unwrap();
    let file = volume.find("EFI/BOOT/BOOTX64.EFI").unwrap().unwrap();
    let program = esp + volume.first_sector(&file) as usize * 512;
    let geometry = *volume.geometry();
    let program_size = file.size as usize;
    let headers = pe::read(&mut std::io::Cursor::new(&bytes[program..program + program_size])).unwrap();
    Places { esp, root: start(1), tree: start(2), program, volume: geometry, headers, program_size }
}

/// The checksum of the program made right again: whoever alters a program on purpose does that too.
fn repair(bytes: &mut [u8], places: &Places) {
    let program = &mut bytes[places.program..places.program + places.program_size];
    let field = places.headers.checksum();
    let mut sum = pe::Checksum::new(field);
    sum.update(program);
    program[field..field + 4].copy_from_slice(&sum.finish().to_le_bytes());
}

#[test]
fn altered_bytes_break_the_right_link() {
    let p = places();
    let section = |name: &str| p.program + pe::section(&p.headers, name).unwrap().raw_offset as usize;
    let table = |copy: u64| p.esp + ((p.volume.reserved + copy * p.volume.table_sectors) * 512) as usize;
    let size = SEALED.len();
    // What, where, whether the checksum is made right, the link.
    let cases = [
        ("the record's signature", 510, false, "partition table"),
        ("the protective entry's type", 450, false, "partition table"),
        ("the header", 512 + 57, false, "partition table"),
        ("the header's signature", 512, false, "partition table"),
        ("an entry", 1024 + 16, false, "partition table"),
        ("the name of the second entry", 1024 + 128 + 60, false, "partition table"),
        ("the last sector", size - 512 + 40, false, "partition table"),
        ("the entries at the end", size - 33 * 512 + 20, false, "partition table"),
        ("the first allocation table", table(0) + 10, false, "ESP"),
        ("the second allocation table", table(1) + 9, false, "ESP"),
        ("the size of a cluster", p.esp + 13, false, "ESP"),
        ("the program's first bytes", p.program, false, "loader"),
        ("a section's header", p.program + 0x150, false, "UKI"),
        ("the kernel", section(".linux") + 777, false, "UKI"),
        ("the kernel, checksum repaired", section(".linux") + 777, true, "signature"),
        ("the command line, checksum repaired", section(".cmdline") + 12, true, "signature"),
        ("the initrd, checksum repaired", section(".initrd") + 300, true, "signature"),
        ("the digest in the signature", p.program + p.program_size - 400, true, "signature"),
        ("the superblock's magic", p.tree, false, "hash tree"),
        ("its UUID", p.tree + 17, false, "hash tree"),
        ("its algorithm", p.tree + 32, false, "hash tree"),
        ("its number of blocks", p.tree + 72, false, "hash tree"),
        ("its salt", p.tree + 90, false, "hash tree"),
        ("its unused bytes", p.tree + 3000, false, "hash tree"),
        ("a hash", p.tree + 4096 + 40, false, "hash tree"),
        ("behind the hashes", p.tree + 4096 + 4000, false, "hash tree"),
        ("behind the tree", p.tree + 600_000, false, "hash tree"),
        ("the root's superblock", p.root + 1030, false, "root"),
        ("the root's first block", p.root + 5, false, "root"),
        ("a file of the root", p.root + 4096 * 6 + 77, false, "root"),
    ];
    for (what, at, repaired, expected) in cases {
        let mut bytes = SEALED.clone();
        bytes[at] ^= 0x10;
        if repaired {
            repair(&mut bytes, &p);
        }
        let found = report(&bytes);
        let Verdict::Broken { link } = &found.verdict else { panic!("{what} (byte {at}): {found:#?}") };
        assert_eq!(link, expected, "{what} (byte {at}): {found:#?}");
    }
}

#[test]
fn no_byte_of_root_and_tree_is_free() {
    let p = places();
    for step in 0..50usize {
        let (start, size) = if step % 2 == 0 { (p.root, root(true).len()) } else { (p.tree, 8192) };
        let at = start + step * 7919 % size;
        let mut bytes = SEALED.clone();
        bytes[at] ^= 1 << (step % 8);
        assert!(matches!(report(&bytes).verdict, Verdict::Broken { .. }), "byte {at}");
    }
}

#[test]
fn cut_and_altered_images_end_soon() {
    let start = Instant::now();
    for step in 0..60 {
        let length = SEALED.len() * step / 60 + step * 37 % 512;
        if let Ok(found) = check(&image(&SEALED[..length.min(SEALED.len() - 1)]), &[]) {
            assert!(matches!(found.verdict, Verdict::Broken { .. }), "{length}: {found:#?}");
        }
    }
    for seed in 0..60 {
        let mut bytes = SEALED.clone();
        for (number, value) in sealed::noise(seed, 12).chunks(3).enumerate() {
            // The first MiB holds the tables, the next ones all that is small.
            let at = (usize::from(value[0]) << 8 | usize::from(value[1])) * [1, 16, 40, 3][number % 4] % bytes.len();
            bytes[at] = value[2];
        }
        let _ = check(&image(&bytes), &[]);
        let _ = Part::whole("x", image(&bytes)).and_then(|part| dump(&part));
    }
    assert!(start.elapsed() < Duration::from_secs(240), "{:?}", start.elapsed());
}

fn wrapped(write: impl FnOnce(&dyn DiskImage, Output<'_>) -> moby::Result<u64>) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(&Bytes(SEALED.clone()), Output::new(file.as_file(), file.path()).unwrap()).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn containers() -> Vec<(&'static str, Vec<u8>)> {
    let identity = DiskIdentity::from_digest(&Digest::of(b"test"));
    let vhd_options = |kind| vhd::Options { kind, identity, time: 0, azure: false };
    let zlib = qcow2::Options { compression: Some(qcow2::Compression::Zlib(6)) };
    let machine = ova::Machine::new("test");
    let ova_options = ova::Options { machine, vmdk: vmdk::Options::new(identity), time: 0 };
    let mut stream = Vec::new();
    vmdk::write_stream(&Bytes(SEALED.clone()), &mut stream, &vmdk::Options::new(identity)).unwrap();
    vec![
        ("qcow2", wrapped(|disk, out| qcow2::write(disk, out, &qcow2::Options::default()))),
        ("qcow2 zlib", wrapped(|disk, out| qcow2::write(disk, out, &zlib))),
        ("vhdx", wrapped(|disk, out| vhdx::write(disk, out, &vhdx::Options { kind: vhdx::Kind::Dynamic, identity }))),
        ("vhd", wrapped(|disk, out| vhd::write(disk, out, &vhd_options(vhd::Kind::Fixed)))),
        ("dynamic vhd", wrapped(|disk, out| vhd::write(disk, out, &vhd_options(vhd::Kind::Dynamic)))),
        ("vmdk", stream),
        ("ova", wrapped(|disk, out| ova::write(disk, out, &ova_options))),
    ]
}

#[test]
fn containers_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in containers() {
        let found = report(&bytes);
        assert!(matches!(found.verdict, Verdict::Sealed { .. }), "{name}: {found:#?}");
        assert_eq!(found.links[0].link, "container", "{name}");
        for part in [1usize, 2, 3, 5] {
            let cut = bytes.len() * part / 6;
            if let Ok(found) = check(&image(&bytes[..cut]), &[]) {
                assert!(matches!(found.verdict, Verdict::Broken { .. }), "{name} cut at {cut}: {found:#?}");
            }
        }
        // What our reader finds is what qemu-img finds.
        let format = match name {
            "qcow2" | "qcow2 zlib" => "qcow2",
            "vhd" | "dynamic vhd" => "vpc",
            "ova" => continue,
            other => other,
        };
        let (from, to) = (dir.path().join("container"), dir.path().join("raw"));
        std::fs::write(&from, &bytes).unwrap();
        let words = ["convert", "-f", format, "-O", "raw"].map(std::ffi::OsStr::new);
        if judge("qemu-img", words.into_iter().chain([from.as_os_str(), to.as_os_str()])).is_some() {
            let theirs = std::fs::read(&to).unwrap();
            assert!(theirs[..SEALED.len()] == SEALED[..], "{name}");
            let whole = Part::whole("x", image(&bytes)).unwrap();
            let Content::Image(ours) = &whole.open().unwrap().parts[0].content else { panic!("{name}") };
            let mut read = vec![0; SEALED.len()];
            ours.read_at(&mut read, 0).unwrap();
            assert!(read == theirs[..SEALED.len()], "{name}");
        }
    }
}

#[test]
fn other_kinds_are_in_order_and_not_sealed() {
    let mut squashfs_image = std::io::Cursor::new(Vec::new());
    squashfs::write(&tree(true), &mut squashfs_image, &squashfs::Options::default()).unwrap();
    let volume = Arc::new(SEALED[places().esp..places().root].to_vec());
    let options = iso9660::Options {
        boot: vec![BootImage::Volume(volume)],
        hybrid: Some(Hybrid { boot_code: Vec::new(), partitions: Vec::new() }),
        label: "CD".into(),
        ..iso9660::Options::default()
    };
    let mut cd = Vec::new();
    moby::formats::source::Source::write_to(&Iso::new(&tree(true), &options).unwrap(), &mut cd).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = cpio::Writer::new(Vec::new());
    let init = cpio::Header { mode: cpio::FileType::Regular.bits() | 0o755, nlink: 1, ..cpio::Header::default() };
    archive.member(b"init", init, b"#!/bin/sh\n").unwrap();
    std::io::Write::write_all(&mut gz, &archive.finish().unwrap()).unwrap();
    let plain = disk(Flaw::Unsigned);
    for (name, bytes, links) in [
        ("erofs", root(true), 2),
        ("squashfs", squashfs_image.into_inner(), 2),
        ("initrd", initrd(true), 2),
        ("initrd in gzip", gz.finish().unwrap(), 2),
        ("iso", cd, 7),
        ("unsigned", plain, 11),
    ] {
        let found = report(&bytes);
        assert!(matches!(found.verdict, Verdict::NotSealed { .. }), "{name}: {found:#?}");
        assert!(found.links.len() >= links, "{name}: {found:#?}");
        assert!(found.links.iter().all(|link| link.status != Status::Broken), "{name}");
        if name != "initrd in gzip" {
            let half = check(&image(&bytes[..bytes.len() / 2]), &[]);
            assert!(half.is_err() || matches!(half.unwrap().verdict, Verdict::Broken { .. }), "half of {name}");
        }
    }
    for nothing in [&b""[..], &[0; 5000], b"some text\n"] {
        assert!(check(&image(nothing), &[]).is_err());
    }
}

#[test]
fn readers_agree_with_other_programs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let p = places();
    // FAT, with mtools.
    std::fs::write(path("esp"), &SEALED[p.esp..p.root]).unwrap();
    let (esp, out) = (path("esp"), path("out.efi"));
    let words = ["-n".as_ref(), "-i".as_ref(), esp.as_os_str(), "::EFI/BOOT/BOOTX64.EFI".as_ref(), out.as_os_str()];
    let part = |name: &str, file: &str| -> Content {
        let whole = Part::whole("x", Arc::new(RawFile::open(&path(name)).unwrap())).unwrap();
        whole.open().unwrap().parts.into_iter().find(|part| part.name == file).unwrap().content
    };
    let ours = |name: &str, file: &str| {
        let mut bytes = Vec::new();
        part(name, file).write_to(&mut bytes).unwrap();
        bytes
    };
    if judge("mcopy", words).is_some() {
        assert!(std::fs::read(out).unwrap() == ours("esp", "/EFI/BOOT/BOOTX64.EFI"));
    }
    // erofs and squashfs, unpacked.
    std::fs::write(path("root.erofs"), root(true)).unwrap();
    let mut image = std::fs::File::create(path("root.squashfs")).unwrap();
    squashfs::write(&tree(true), &mut image, &squashfs::Options::default()).unwrap();
    let files = ["etc/hostname", "usr/bin/program", "usr/bin/text"];
    let extract = format!("--extract={}", path("erofs").display());
    if judge("fsck.erofs", [extract.as_ref(), path("root.erofs").as_os_str()]).is_some() {
        for file in files {
            assert!(
                std::fs::read(path("erofs").join(file)).unwrap() == ours("root.erofs", &format!("/{file}")),
                "{file}"
            );
        }
    }
    let to = path("squashfs");
    if judge("unsquashfs", ["-d".as_ref(), to.as_os_str(), path("root.squashfs").as_os_str()]).is_some() {
        for file in files {
            assert!(std::fs::read(to.join(file)).unwrap() == ours("root.squashfs", &format!("/{file}")), "{file}");
        }
    }
    // ISO 9660, by Rock Ridge's names.
    let options = iso9660::Options { label: "CD".into(), ..iso9660::Options::default() };
    write(&Iso::new(&tree(true), &options).unwrap(), &path("cd.iso"));
    for file in files {
        let words =
            ["-R".to_owned(), "-i".into(), path("cd.iso").display().to_string(), "-x".into(), format!("/{file}")];
        let Ok(output) = Command::new("isoinfo").args(&words).output() else { break };
        assert!(output.stdout == ours("cd.iso", &format!("/{file}")), "{file}");
    }
    // cpio.
    let mut content = Vec::new();
    let mut found = Vec::new();
    cpio::walk(initrd(true).as_slice(), |_, member, reader| {
        content.clear();
        reader.read_to_end(&mut content).unwrap();
        found.push((String::from_utf8_lossy(&member.name).into_owned(), content.len()));
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [("microcode".into(), 5), ("etc".into(), 0), ("etc/text".into(), 5000), ("init".into(), 9)]);
}

fn moby(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_moby")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_says_it_and_exits() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, plain) = (file("good", &SEALED), file("plain", &disk(Flaw::Unsigned)));
    let mut altered = SEALED.clone();
    altered[places().root + 9000] ^= 1;
    let altered = file("altered", &altered);
    let (own, other) = (file("db.der", key(1).1.der()), file("other.der", key(2).1.der()));
    let (status, out, _) = moby(&["check", &good]);
    assert_eq!(status, 0, "{out}");
    assert!(out.ends_with("sealed: every link holds, signed by CN=test 1\n"), "{out}");
    let (status, out, _) = moby(&["check", &plain]);
    assert_eq!((status, out.lines().last()), (0, Some("in order, not sealed: the UKI is not signed")));
    assert_eq!(moby(&["check", "--sealed", &plain]).0, 3);
    assert_eq!(moby(&["check", "--sealed", "--keys", dir.path().to_str().unwrap(), &good]).0, 0);
    assert_eq!(moby(&["check", "--certificate", &own, &good]).0, 0);
    assert_eq!(moby(&["check", "--certificate", &other, &good]).0, 3);
    let (status, out, _) = moby(&["check", "--json", &altered]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["verdict"], &json["link"]), (3, &"broken".into(), &"root".into()), "{out}");
    let last = json["links"].as_array().unwrap().last().unwrap();
    assert!(last["evidence"].as_str().unwrap().starts_with("data block 2 has the hash"), "{out}");
    let (status, _, error) = moby(&["check", &file("text", b"hello")]);
    assert_eq!(status, 3);
    assert!(error.contains("this is no image") && error.contains("hint:"), "{error}");
    let (status, out, _) = moby(&["check", "--parts", &good]);
    assert!(status == 0 && out.contains("partition 2 (root) (erofs)") && out.contains(".cmdline"), "{out}");
}
