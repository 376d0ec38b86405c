//! Partition tables, judged by sgdisk and fdisk.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::io::Cursor;
use std::sync::Arc;

use judge::{judge, noise, pinned, write};
use moby::formats::gpt::{self, Disk, Guid, Hybrid, Options, Partition, SectorSize};
use moby::formats::mbr;
use moby::formats::source::Source;

fn partitions() -> Vec<Partition> {
    let root = Partition {
        guid: Some("11111111-2222-3333-4444-555555555555".parse().unwrap()),
        attributes: gpt::READ_ONLY,
        size: 3 << 20,
        ..Partition::new(gpt::ROOT_X86_64, "root-x86-64", Arc::new(noise(2, 2_000_001)))
    };
    vec![
        Partition::new(gpt::EFI_SYSTEM, "EFI system", Arc::new(noise(1, 1_500_000))),
        root,
        Partition::new(gpt::ROOT_X86_64_VERITY, "größe 🦀", Arc::new(noise(3, 4096))),
    ]
}

fn read(image: &[u8]) -> gpt::Found {
    gpt::read(&mut Cursor::new(image)).unwrap().unwrap()
}

#[test]
fn sgdisk_finds_nothing_wrong() {
    let disk = Disk::new(partitions(), Options::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    write(&disk, &path);
    if let Some(text) = judge("sgdisk", ["-v".as_ref(), path.as_os_str()]) {
        assert!(text.contains("No problems found"), "{text}");
        assert!(!text.contains("Caution") && !text.contains("Warning"), "{text}");
    }
    if let Some(text) = judge("sgdisk", ["-i".as_ref(), "2".as_ref(), path.as_os_str()]) {
        assert!(text.contains("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 (Linux x86-64 root (/))"), "{text}");
        assert!(text.contains("unique GUID: 11111111-2222-3333-4444-555555555555"), "{text}");
        assert!(text.contains("First sector: 6144") && text.contains("Partition size: 6144 sectors"), "{text}");
        assert!(text.contains("Attribute flags: 1000000000000000"), "{text}");
    }
    if let Some(text) = judge("sfdisk", ["--verify".as_ref(), path.as_os_str()]) {
        assert!(text.contains("No errors detected"), "{text}");
    }
    let image = std::fs::read(&path).unwrap();
    assert_eq!(disk.offset(1), Some(3 << 20));
    assert_eq!(image[3 << 20..][..2_000_001], noise(2, 2_000_001));
    pinned("gpt", "plain", &image, &gpt::dump(&read(&image)));
}

#[test]
fn sectors_of_4096_bytes() {
    let options = || Options { sector_size: SectorSize::Bytes4096, ..Options::default() };
    let disk = Disk::new(partitions(), options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    write(&disk, &path);
    if let Some(text) = judge("fdisk", ["-b".as_ref(), "4096".as_ref(), "-l".as_ref(), path.as_os_str()]) {
        assert!(text.contains("Disklabel type: gpt") && text.contains("Linux root verity (x86-64)"), "{text}");
        assert!(!text.contains("corrupt"), "{text}");
    }
    let image = std::fs::read(&path).unwrap();
    assert_eq!(read(&image).table.sector_size, SectorSize::Bytes4096);
    pinned("gpt", "sectors-of-4096", &image, &gpt::dump(&read(&image)));
}

#[test]
fn hybrid_record_and_boot_program() {
    let hybrid = vec![Hybrid { partition: 1, kind: mbr::kind::LINUX, active: true }];
    let boot_code = vec![0x90; 440];
    let disk = Disk::new(partitions(), Options { hybrid, boot_code, size: 64 << 20, ..Options::default() }).unwrap();
    let image = judge::bytes(&disk);
    assert_eq!(image.len(), 64 << 20);
    let record = mbr::Record::decode(&image).unwrap();
    assert_eq!(record.boot_code, vec![0x90; 440]);
    let places: Vec<_> = record.entries.iter().flatten().map(|e| (e.kind, e.active, e.first_lba, e.sectors)).collect();
    assert_eq!(places, [(0xee, false, 1, 6143), (0x83, true, 6144, 6144)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    write(&disk, &path);
    if let Some(text) = judge("sgdisk", ["-v".as_ref(), path.as_os_str()]) {
        assert!(text.contains("No problems found"), "{text}");
    }
}

#[test]
fn boot_records_of_bios_disks() {
    let fat = mbr::Partition { kind: mbr::kind::FAT16, active: true, size: 1 << 21, content: Arc::new(noise(1, 7)) };
    let linux = mbr::Partition { kind: mbr::kind::LINUX, active: false, size: 0, content: Arc::new(noise(2, 5 << 20)) };
    let options = mbr::Options { boot_code: noise(3, 440), gap: noise(4, 30_000), ..mbr::Options::default() };
    let disk = mbr::Disk::new(vec![fat, linux], options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    write(&disk, &path);
    if let Some(text) = judge("sfdisk", ["-d".as_ref(), path.as_os_str()]) {
        assert!(text.contains("start=        2048, size=        4096, type=e, bootable"), "{text}");
        assert!(text.contains("start=        6144, size=       10240, type=83"), "{text}");
    }
    if let Some(text) = judge("sfdisk", ["--verify".as_ref(), path.as_os_str()]) {
        assert!(text.contains("No errors detected") || text.contains("unallocated"), "{text}");
    }
    let image = std::fs::read(&path).unwrap();
    assert_eq!(image.len() as u64, disk.size());
    assert_eq!(image[512..30_512], noise(4, 30_000));
    let record = mbr::Record::decode(&image).unwrap();
    assert_eq!(&record, disk.record());
    pinned("mbr", "plain", &image, &format!("signature {:08x}\n{:#?}\n", record.signature, record.entries));
}

#[test]
fn guids_follow_the_content() {
    let table = |partitions| Disk::new(partitions, Options::default()).unwrap().table().clone();
    let (first, again) = (table(partitions()), table(partitions()));
    assert_eq!((first.disk, &first.entries), (again.disk, &again.entries));
    let mut other = partitions();
    other[2].content = Arc::new(noise(4, 4096));
    let other = table(other);
    assert_ne!(first.disk, other.disk);
    assert_ne!(first.entries[0].guid, other.entries[0].guid);
    assert_eq!(first.entries[1].guid, other.entries[1].guid);
}

#[test]
fn what_tables_cannot_say_is_refused() {
    let refused = |partitions, options| Disk::new(partitions, options).unwrap_err().message().to_owned();
    let named = |name: &str| vec![Partition::new(gpt::LINUX_DATA, name, Arc::new(vec![0u8]))];
    assert!(refused(named(&"x".repeat(37)), Options::default()).contains("37 UTF-16 units"));
    assert!(refused(vec![named("a").remove(0); 129], Options::default()).contains("129 partitions"));
    let code = Options { boot_code: vec![0; 441], ..Options::default() };
    assert_eq!(refused(named("a"), code), "the boot program for the master boot record has 441 bytes; 440 fit");
    let missing = vec![Hybrid { partition: 7, kind: 0x83, active: false }];
    assert!(refused(named("a"), Options { hybrid: missing, ..Options::default() }).contains("partition 8"));
    let mut huge = named("a");
    huge[0].size = u64::MAX - 5;
    assert!(refused(huge, Options::default()).contains("larger together"));
    let mut same = vec![named("a").remove(0); 2];
    same.iter_mut().for_each(|partition| partition.guid = Some(Guid([7; 16])));
    assert!(refused(same, Options::default()).contains("two partitions have the GUID"));
    let beyond = mbr::Partition { kind: 0x83, active: false, size: 3 << 40, content: Arc::new(vec![]) };
    assert!(mbr::Disk::new(vec![beyond], mbr::Options::default()).unwrap_err().message().contains("2 TiB"));
}

#[test]
fn damage_is_found() {
    let image = judge::bytes(&Disk::new(partitions(), Options::default()).unwrap());
    let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = image.clone();
        change(&mut image);
        match gpt::read(&mut Cursor::new(image)) {
            Ok(Some(found)) => found.backup.unwrap_or_default(),
            Ok(None) => "none".into(),
            Err(error) => error.message().into(),
        }
    };
    assert_eq!(wrong(&|_| ()), "");
    assert_eq!(wrong(&|image| image[512] = b'X'), "none");
    assert!(wrong(&|image| image[600] ^= 1).contains("header checksum"));
    assert!(wrong(&|image| image[1024 + 40] ^= 1).contains("checksum of the entries"));
    assert!(wrong(&|image| image.truncate(image.len() - 512)).contains("backup"));
    assert!(wrong(&|image| image.truncate(3 << 20)).contains("partitions may use sectors"));
    assert!(
        wrong(&|image| {
            let end = image.len();
            image[end - 500] ^= 1;
        })
        .contains("backup header")
    );
}

static SMALL: std::sync::LazyLock<Vec<u8>> =
    std::sync::LazyLock::new(|| judge::bytes(&Disk::new(partitions()[2..].to_vec(), Options::default()).unwrap()));

proptest::proptest! {
    #[test]
    fn no_image_makes_the_reader_panic(at in 512usize..1400, byte: u8, count: u32, size: u32) {
        let mut image = SMALL.clone();
        image[at] = byte;
        image[512 + 80..512 + 84].copy_from_slice(&count.to_le_bytes());
        image[512 + 84..512 + 88].copy_from_slice(&size.to_le_bytes());
        image[512 + 16..512 + 20].fill(0);
        let mut crc = flate2::Crc::new();
        crc.update(&image[512..604]);
        image[512 + 16..512 + 20].copy_from_slice(&crc.sum().to_le_bytes());
        let _ = gpt::read(&mut Cursor::new(image));
    }
}
