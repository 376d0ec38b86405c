//! ISO 9660 images, judged by xorriso, isoinfo, bsdtar and sgdisk.
#![allow(clippy::unwrap_used)]

#[path = "formats/judge.rs"]
mod judge;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use judge::{bytes, judge, noise, pinned, verdict, write};
use moby::formats::fat::{self, Fat};
use moby::formats::iso9660::{BootImage, Hybrid, Iso, Options};
use moby::formats::source::Source;
use moby::rootfs::{Content, Inode, Kind, Meta, Origin, Tree};

/// 2017-04-18 16:30:00 UTC.
const TIME: i64 = 1_492_533_000;
/// 2020-02-29 12:34:56 UTC.
const LATER: i64 = 1_582_979_696;

struct Builder(Tree, moby::rootfs::OriginId);

impl Builder {
    fn new() -> Builder {
        let mut tree = Tree::new(TIME);
        let origin = tree.add_origin(Origin { source: "test".into(), location: "files[0]".into() });
        Builder(tree, origin)
    }

    fn put(&mut self, path: impl AsRef<[u8]>, mode: u32, kind: Kind) {
        let meta = Meta { mode, uid: 1000, gid: 100_000, mtime: LATER, xattrs: Default::default() };
        let inode = Inode { meta, kind, origin: self.1 };
        self.0.insert(path.as_ref(), inode, &Meta::root(0o755, TIME)).unwrap();
    }

    fn file(&mut self, path: impl AsRef<[u8]>, bytes: Vec<u8>) {
        self.put(path, 0o640, Kind::File(Content::bytes(bytes)));
    }

    fn link(&mut self, path: &str, target: &[u8]) {
        self.put(path, 0o777, Kind::Symlink(target.into()));
    }
}

/// Something of everything that a root file system has.
fn tree() -> Builder {
    let mut tree = Builder::new();
    tree.file("etc/hostname", b"moby\n".to_vec());
    tree.file("usr/bin/program.with.dots", noise(1, 100_000));
    tree.file("empty", vec![]);
    tree.file("exactly one sector", noise(2, 2048));
    tree.put("usr/bin/setuid", 0o4755, Kind::File(Content::bytes(noise(3, 10))));
    tree.put("private", 0o1700, Kind::folder());
    tree.file("n".repeat(255), noise(4, 3));
    tree.file("größe und 🦀", noise(5, 4));
    tree.file(b"bytes \xff\xfe", noise(6, 5));
    tree.file("kernel", noise(7, 6));
    tree.file("Kernel", noise(8, 7));
    tree.file("KERNEL", noise(8, 7));
    tree.link("bin", b"usr/bin");
    tree.link("absolute", b"/usr/bin/../bin/./program.with.dots");
    tree.link("long link", &b"a-component-of-a-path/".repeat(45));
    tree.link("slashes", b"//usr//bin/");
    tree.link("one long component", &[b'c'; 255]);
    tree.put("dev/console", 0o600, Kind::CharacterDevice { major: 5, minor: 1 });
    tree.put("dev/vda", 0o660, Kind::BlockDevice { major: 254, minor: 16 });
    tree.put("dev/pipe", 0o644, Kind::Fifo);
    tree.file(vec!["deep"; 30].join("/") + "/file", noise(9, 8));
    for number in 0..300 {
        tree.file(format!("many/file number {number}"), noise(1000 + number, number as usize));
    }
    tree.0.link(b"usr/bin/second name", b"usr/bin/program.with.dots", &Meta::root(0o755, TIME), tree.1).unwrap();
    tree
}

fn options() -> Options {
    Options { label: "MOBY".into(), time: TIME, joliet: true, ..Options::default() }
}

fn efi_volume() -> Arc<dyn Source> {
    let file = fat::File { path: "EFI/BOOT/BOOTX64.EFI".into(), content: Some(Arc::new(noise(20, 100_000))) };
    Arc::new(Fat::new(&[file], &fat::Options { time: TIME, ..fat::Options::default() }).unwrap())
}

/// Compares what a tool unpacked with the tree: names, types, bytes, modes, times, links.
fn compare(tree: &Tree, out: &Path, owners: bool) {
    use std::os::unix::ffi::OsStrExt;
    let mut links: BTreeMap<usize, u64> = BTreeMap::new();
    let mut count = 0;
    tree.walk_all(|path, id| {
        let place = out.join(std::ffi::OsStr::from_bytes(path));
        let found = std::fs::symlink_metadata(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        let inode = tree.inode(id);
        let name = path.escape_ascii();
        match &inode.kind {
            Kind::Folder(_) => assert!(found.is_dir(), "{name}"),
            Kind::File(content) => assert!(std::fs::read(&place).unwrap() == content.read(1 << 30).unwrap(), "{name}"),
            Kind::Symlink(target) => {
                let read = std::fs::read_link(&place).unwrap();
                assert_eq!(read.as_os_str().as_bytes().escape_ascii().to_string(), target.escape_ascii().to_string());
            }
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(*major, *minor);
                assert_eq!(found.rdev(), device, "{name}");
            }
            Kind::Fifo => assert!(found.file_type().is_fifo(), "{name}"),
        }
        if !found.is_symlink() && count > 0 {
            assert_eq!(found.mode() & 0o7777, inode.meta.mode, "mode of {name}");
            assert_eq!(found.mtime(), inode.meta.mtime, "time of {name}");
        }
        // xorriso does not set the owner of links.
        if owners && count > 0 && !found.is_symlink() {
            assert_eq!((found.uid(), found.gid()), (inode.meta.uid, inode.meta.gid), "owner of {name}");
        }
        let known = links.entry(tree.number(id)).or_insert(found.ino());
        assert_eq!(*known, found.ino(), "{name} is another file");
        count += 1;
        Ok(())
    })
    .unwrap();
}

#[test]
fn xorriso_unpacks_what_was_in_the_tree() {
    let mut builder = tree();
    let iso = Iso::new(&builder.0, &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("root.iso");
    write(&iso, &image);
    let list = ["-indev", image.to_str().unwrap(), "-find", "/dev", "-exec", "lsdl", "--"];
    if let Some(text) = judge("xorriso", list) {
        assert!(text.contains("crw-------    1 1000     100000        5,1 Feb"), "{text}");
        assert!(text.contains("brw-rw----    1 1000     100000     254,16 Feb"), "{text}");
    }
    // It does not make devices, and tidies links up.
    builder.0.remove(b"slashes");
    builder.0.remove(b"dev/console");
    builder.0.remove(b"dev/vda");
    let tree = builder.0;
    let out = dir.path().join("out");
    let arguments = [
        "-osirrox",
        "on",
        "-hardlinks",
        "on",
        "-indev",
        image.to_str().unwrap(),
        "-extract",
        "/",
        out.to_str().unwrap(),
    ];
    if let Some(text) = judge("xorriso", arguments) {
        assert!(!text.contains("WARNING") && !text.contains("SORRY") && !text.contains("FAILURE"), "{text}");
        assert!(text.contains("Volume id    : 'MOBY'"), "{text}");
        compare(&tree, &out, rustix::process::geteuid().is_root());
    }
}

#[test]
fn bsdtar_unpacks_what_was_in_the_tree() {
    let tree = tree().0;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("root.iso");
    write(&Iso::new(&tree, &options()).unwrap(), &image);
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let root = rustix::process::geteuid().is_root();
    let arguments = ["-xpf", image.to_str().unwrap(), "-C", out.to_str().unwrap(), "--numeric-owner"];
    if root && judge("bsdtar", arguments).is_some() {
        compare(&tree, &out, true);
    }
}

#[test]
fn isoinfo_lists_all_three_trees() {
    let tree = tree().0;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("root.iso");
    write(&Iso::new(&tree, &options()).unwrap(), &image);
    let image = image.to_str().unwrap();
    if let Some(text) = judge("isoinfo", ["-d", "-i", image]) {
        assert!(text.contains("Joliet with UCS level 3 found"), "{text}");
        assert!(text.contains("Rock Ridge signatures version 1 found"), "{text}");
    }
    let list = |flag: &[&str]| judge("isoinfo", [flag, &["-f", "-i", image]].concat()).unwrap_or_default();
    let (plain, rock_ridge, joliet) = (list(&[]), list(&["-R"]), list(&["-J", "-j", "iso8859-1"]));
    if plain.is_empty() {
        return;
    }
    assert!(plain.contains("/KERNEL2.;1") && plain.contains("/USR/BIN/PROGRAM_WITH.DOTS;1"), "{plain}");
    assert!(rock_ridge.contains("/usr/bin/program.with.dots") && rock_ridge.contains(&"n".repeat(255)), "{rock_ridge}");
    assert!(joliet.contains("/many/file number 299"), "{joliet}");
    assert_eq!(rock_ridge.lines().count(), plain.lines().count());
}

#[test]
fn boots_as_a_cd_and_as_a_disk() {
    let mut builder = tree();
    builder.file("isolinux/isolinux.bin", noise(30, 38_912));
    let boot = vec![BootImage::Program(b"isolinux/isolinux.bin".to_vec()), BootImage::Volume(efi_volume())];
    let hybrid = Some(Hybrid { boot_code: vec![0x90; 432], partitions: Vec::new() });
    let iso = Iso::new(&builder.0, &Options { boot, hybrid, ..options() }).unwrap();
    assert_eq!(iso.size() % (1 << 20), 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.iso");
    write(&iso, &path);
    let image = path.to_str().unwrap();
    let places: Vec<_> = iso.boot_images().collect();
    if let Some(text) =
        judge("xorriso", ["-indev", image, "-report_el_torito", "plain", "-report_system_area", "plain"])
    {
        let table = format!("El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4  {:>10}", places[0].0);
        assert!(text.contains(&table), "{text}");
        assert!(text.contains("El Torito boot img :   2  UEFI  y   none"), "{text}");
        assert!(text.contains("El Torito img opts :   1  boot-info-table"), "{text}");
        assert!(text.contains("El Torito img path :   1  /isolinux/isolinux.bin"), "{text}");
        let efi = places[1].0 * 4;
        assert!(text.contains(&format!("GPT start and size :   1  {efi}  ")), "{text}");
        assert!(text.contains(&format!("MBR partition      :   2   0x80  0xef {efi:>12} ")), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }
    if let Some(text) = judge("sgdisk", ["-v", image]) {
        assert!(text.contains("No problems found"), "{text}");
    }
    let bytes = std::fs::read(&path).unwrap();
    let volume = &bytes[places[1].0 as usize * 2048..][..places[1].1 as usize];
    assert!(volume == judge::bytes(efi_volume().as_ref()));
    assert_eq!(&bytes[432..440], (u64::from(places[0].0) * 4).to_le_bytes());
    let found = moby::formats::gpt::read(&mut std::io::Cursor::new(&bytes)).unwrap().unwrap();
    assert_eq!(found.backup, None);
    let entry = &found.table.entries[0];
    assert_eq!(
        (entry.first_lba, (entry.last_lba + 1 - entry.first_lba) * 512),
        (u64::from(places[1].0) * 4, places[1].1)
    );
}

#[test]
fn pinned_bytes() {
    let mut tree = Builder::new();
    tree.file("boot/program", noise(1, 3000));
    tree.file("boot/a longer name.txt", noise(2, 10));
    tree.link("link", b"boot/program");
    tree.put("null", 0o666, Kind::CharacterDevice { major: 1, minor: 3 });
    let boot = vec![BootImage::Program(b"boot/program".to_vec()), BootImage::Volume(Arc::new(noise(3, 4096)))];
    let hybrid = Some(Hybrid { boot_code: Vec::new(), partitions: Vec::new() });
    let iso = Iso::new(&tree.0, &Options { boot, hybrid, ..options() }).unwrap();
    let image = bytes(&iso);
    let mut dump = format!("boot images {:?}\n", iso.boot_images().collect::<Vec<_>>());
    for sector in [16, 17, 18, 23, 24, 25] {
        dump.push_str(&format!("sector {sector}\n"));
        for line in image[sector * 2048..][..2048].chunks(32).filter(|line| line.iter().any(|byte| *byte != 0)) {
            dump.push_str(&format!("    {}\n", line.escape_ascii()));
        }
    }
    pinned("iso9660", "small", &image, &dump);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let refused = |tree: &Builder, options: Options| Iso::new(&tree.0, &options).unwrap_err().message().to_owned();
    let mut long = Builder::new();
    long.link("link", &[b'x'; 5000]);
    assert!(refused(&long, options()).contains("5000 bytes"));
    let tree = tree();
    let label = Options { label: "lower".into(), ..options() };
    assert_eq!(refused(&tree, label), "\"lower\" is no label for an ISO 9660 volume");
    let missing = Options { boot: vec![BootImage::Program(b"not/there".to_vec())], ..options() };
    assert_eq!(refused(&tree, missing), "the boot program /not/there is no file in the tree");
    let small = Options { boot: vec![BootImage::Program(b"etc/hostname".to_vec())], ..options() };
    assert!(refused(&tree, small).contains("has 5 bytes"));
    let volume = vec![BootImage::Volume(efi_volume())];
    let nothing =
        Options { boot: volume, hybrid: Some(Hybrid { boot_code: vec![1; 432], partitions: Vec::new() }), ..options() };
    assert!(refused(&tree, nothing).contains("nothing that BIOS boots"));
}

#[test]
fn contents_are_stored_once() {
    let one = || {
        let mut tree = Builder::new();
        tree.file("a", noise(1, 1 << 20));
        tree
    };
    let mut two = one();
    two.file("b", noise(1, 1 << 20));
    let size = |tree: &Builder| Iso::new(&tree.0, &options()).unwrap().size();
    assert_eq!(size(&one()), size(&two));
    // The order in which a tree was made does not matter.
    let first = Iso::new(&tree().0, &options()).unwrap();
    let mut other = Builder::new();
    other.0.graft(b"", &tree().0, other.1, &Meta::root(0o755, TIME)).unwrap();
    let second = Iso::new(&other.0, &options()).unwrap();
    assert!(bytes(&first) == bytes(&second));
    assert_eq!(first.identity(), second.identity());
    let _ = verdict("true", [""; 0]);
}
