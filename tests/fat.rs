//! FAT volumes, judged by fsck.fat and mtools.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use judge::{judge, noise, pinned, write};
use moby::formats::fat::{self, Fat, File, Kind, Options, Volume};
use moby::formats::gpt::SectorSize;
use moby::formats::source::Source;

/// 2017-04-18 16:30:00 UTC.
const TIME: i64 = 1_492_533_000;

fn file(path: &str, bytes: Vec<u8>) -> File {
    File { path: path.into(), content: Some(Arc::new(bytes)) }
}

fn tree() -> Vec<File> {
    let mut files = vec![
        file("EFI/BOOT/BOOTX64.EFI", noise(1, 300_000)),
        file("EFI/Linux/linuxkit_1.2+3-0.efi", noise(2, 70_001)),
        file("loader/loader.conf", b"timeout 0\n".to_vec()),
        file("loader/entries.srel", b"type1\n".to_vec()),
        file("empty", Vec::new()),
        file("größer als 8.3 – Ünïcode.text", noise(3, 512)),
        File { path: "EFI/nothing here".into(), content: None },
    ];
    for number in 0..150 {
        files.push(file(&format!("many/a file with number {number}.bin"), noise(100 + number, number as usize * 7)));
    }
    files
}

fn judged(files: &[File], options: &Options) -> Fat {
    let fat = Fat::new(files, options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("fat.img");
    write(&fat, &image);
    let geometry = *fat.geometry();
    assert_eq!(Kind::of_clusters(geometry.clusters), geometry.kind);
    if let Some(text) = judge("fsck.fat", ["-n".as_ref(), "-v".as_ref(), image.as_os_str()]) {
        assert!(text.contains(&format!("{} bytes per logical sector", geometry.sector)), "{text}");
        assert!(text.contains(&format!("{} bytes per cluster", geometry.cluster())), "{text}");
        assert!(!text.to_lowercase().contains("differ") && !text.contains("wrong"), "{text}");
    }
    read_back(files, std::fs::File::open(&image).unwrap(), fat.size());
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let image = image.to_str().unwrap();
    if judge("mcopy", ["-s", "-n", "-Q", "-i", image, "::", out.to_str().unwrap()]).is_some() {
        compare(files, &out);
    }
    fat
}

/// Our own reader, which `moby check` uses.
fn read_back(files: &[File], image: std::fs::File, size: u64) {
    let mut volume = Volume::open(std::io::BufReader::new(image), 0, size).unwrap();
    let listed = volume.list().unwrap();
    for file in files {
        let found = listed.iter().find(|entry| entry.path == file.path).unwrap_or_else(|| panic!("{}", file.path));
        assert_eq!(found.folder, file.content.is_none());
        let mut bytes = Vec::new();
        volume.read_file(found).read_to_end(&mut bytes).unwrap();
        assert!(file.content.as_ref().is_none_or(|content| judge::bytes(content.as_ref()) == bytes), "{}", file.path);
    }
}

fn compare(files: &[File], out: &Path) {
    for file in files {
        let path = out.join(&file.path);
        match &file.content {
            Some(content) => {
                let read = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert_eq!(read, judge::bytes(content.as_ref()), "{}", file.path);
            }
            None => assert!(path.is_dir(), "{}", file.path),
        }
    }
}

#[test]
fn every_kind_reads_back_whole() {
    for (kind, size) in [(None, 0), (Some(Kind::Fat12), 0), (Some(Kind::Fat16), 0), (Some(Kind::Fat32), 0)] {
        let fat = judged(&tree(), &Options { kind, size, time: TIME, label: "MOBY-ESP".into(), ..Options::default() });
        assert!(kind.is_none_or(|kind| kind == fat.geometry().kind));
    }
}

#[test]
fn sizes_and_kinds_follow_the_content() {
    let kind_of = |size| judged(&[file("a", noise(9, 5000))], &Options { size, ..Options::default() });
    for (mib, kind) in
        [(1, Kind::Fat12), (7, Kind::Fat12), (8, Kind::Fat16), (32, Kind::Fat16), (40, Kind::Fat32), (300, Kind::Fat32)]
    {
        let fat = kind_of(mib << 20);
        assert_eq!((fat.geometry().kind, fat.size()), (kind, mib << 20), "{mib} MiB: {:?}", fat.geometry());
    }
    // As large as the content and little more.
    let fat = judged(&[file("kernel.efi", noise(4, 40 << 20))], &Options::default());
    assert_eq!(fat.geometry().kind, Kind::Fat32);
    assert!(fat.size() < 42 << 20, "{}", fat.size());
    let free = judged(&[file("kernel.efi", noise(4, 1 << 20))], &Options { free: 50 << 20, ..Options::default() });
    assert!(free.size() > 51 << 20 && free.size() < 53 << 20, "{}", free.size());
}

#[test]
fn sectors_of_4096_bytes() {
    let fat = judged(&tree(), &Options { sector_size: SectorSize::Bytes4096, size: 300 << 20, ..Options::default() });
    assert_eq!((fat.geometry().kind, fat.geometry().sector), (Kind::Fat32, 4096));
}

#[test]
fn large_volumes_and_deep_folders() {
    let deep = (0..40).map(|_| "folder").collect::<Vec<_>>().join("/") + "/file";
    let many: Vec<File> = (0..3000).map(|number| file(&format!("d/{number:0100}"), vec![])).collect();
    judged(&[file(&deep, noise(5, 10))], &Options::default());
    judged(&many, &Options { kind: Some(Kind::Fat16), ..Options::default() });
    // A root that is larger than the usual 512 entries.
    let root: Vec<File> = (0..600).map(|number| file(&format!("name {number}"), vec![b'x'])).collect();
    judged(&root, &Options::default());
}

#[test]
fn files_lie_where_they_are_said_to() {
    let files = tree();
    let mut fat = Fat::new(&files, &Options { time: TIME, ..Options::default() }).unwrap();
    let place = fat.sectors_of("efi/linux/LINUXKIT_1.2+3-0.efi").unwrap();
    let image = judge::bytes(&fat);
    assert_eq!(&image[place.start as usize * 512..][..70_001], noise(2, 70_001));
    assert_eq!(place.end - place.start, 70_001u64.div_ceil(512));
    let before = fat.identity();
    fat.replace("EFI/Linux/linuxkit_1.2+3-0.efi", Arc::new(noise(77, 70_001))).unwrap();
    assert_ne!(fat.identity(), before);
    let replaced = judge::bytes(&fat);
    assert_eq!(&replaced[place.start as usize * 512..][..70_001], noise(77, 70_001));
    assert!(fat.replace("empty", Arc::new(vec![1u8])).is_err());
    assert_eq!(fat.sectors_of("EFI"), None);
}

#[test]
fn what_fat_cannot_hold_is_refused() {
    #[derive(Debug)]
    struct Huge;
    impl Source for Huge {
        fn size(&self) -> u64 {
            1 << 32
        }
        fn identity(&self) -> moby::store::Digest {
            moby::store::Digest::of(b"")
        }
        fn write_to(&self, _: &mut dyn std::io::Write) -> moby::Result<()> {
            panic!("written although it does not fit")
        }
    }
    let refused = |files: &[File]| Fat::new(files, &Options::default()).unwrap_err().message().to_owned();
    let huge = File { path: "big.img".into(), content: Some(Arc::new(Huge)) };
    assert_eq!(refused(&[huge]), "big.img has 4294967296 bytes, and FAT holds files of at most 4294967295 bytes");
    assert_eq!(
        refused(&[file("a/Kernel", vec![]), file("a/kernel", vec![])]),
        "\"Kernel\" and \"kernel\" in one folder are the same name on FAT"
    );
    assert!(refused(&[file("a:b", vec![])]).contains("it has ':'"));
    assert!(refused(&[file("a", vec![]), file("a/b", vec![])]).contains("goes through a file"));
    assert!(Fat::new(&[], &Options { label: "lower".into(), ..Options::default() }).is_err());
    let small = Options { kind: Some(Kind::Fat12), size: 1 << 40, ..Options::default() };
    assert!(Fat::new(&[], &small).unwrap_err().message().contains("do not fit"));
}

/// Order of files in the list, and nothing else that is not an option, may matter.
#[test]
fn the_same_whatever_the_order() {
    let options = Options { time: TIME, ..Options::default() };
    let mut files = tree();
    let first = Fat::new(&files, &options).unwrap();
    files.reverse();
    let second = Fat::new(&files, &options).unwrap();
    assert_eq!(first.identity(), second.identity());
    assert!(judge::bytes(&first) == judge::bytes(&second));
}

fn small(kind: Kind) -> Vec<u8> {
    let files = [
        file("EFI/BOOT/BOOTX64.EFI", noise(1, 3000)),
        file("loader/a longer name.conf", noise(2, 700)),
        file("loader/another longer name.conf", vec![]),
    ];
    let options = Options { kind: Some(kind), time: TIME, label: "MOBY".into(), ..Options::default() };
    judge::bytes(&Fat::new(&files, &options).unwrap())
}

#[test]
fn pinned_bytes() {
    for (kind, name) in [(Kind::Fat12, "fat12"), (Kind::Fat16, "fat16"), (Kind::Fat32, "fat32")] {
        let image = small(kind);
        let mut volume = Volume::open(Cursor::new(&image), 0, image.len() as u64).unwrap();
        pinned("fat", name, &image, &fat::dump(&mut volume).unwrap());
        assert!(volume.find("efi/boot/bootx64.efi").unwrap().is_some());
    }
}

static SMALL: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| small(Kind::Fat12));

proptest::proptest! {
    /// Boot sector, table and folders with anything in them: an error or a listing, never a panic or a loop.
    #[test]
    fn no_volume_makes_the_reader_panic(changes: Vec<(u16, u8)>, cut in 0usize..20_000) {
        let mut image = SMALL.clone();
        image.truncate(image.len().min(40_000));
        for (at, byte) in changes {
            // Half of the changes hit the first 1,536 bytes: boot sector and table.
            let at = if at % 2 == 0 { usize::from(at / 2) % 1536 } else { usize::from(at / 2) % image.len() };
            image[at] = byte;
        }
        for image in [&image[..], &image[..cut.min(image.len())]] {
            let Ok(mut volume) = Volume::open(Cursor::new(image), 0, 1 << 40) else { continue };
            for entry in volume.list().unwrap_or_default().iter().take(20) {
                let _ = std::io::copy(&mut volume.read_file(entry).take(1 << 20), &mut std::io::sink());
            }
        }
    }
}
