//! Disks with a verified root: booted on both architectures, judged by foreign tools, and damaged byte by byte, which must
//! never go unseen.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::formats::gpt;
use moby::formats::verity::{self, Superblock, format::BLOCK};
use support::machine::{BOOT, Machine, available, moby};

const SEALED: &str = "root: {type: erofs}\n";
/// What hello of `blueprints/minimal.yml` prints.
const BOOTED: &str = "minimal: booted";

/// Makes formats of the smallest blueprint with something on top, under the name `disk`.
fn build(arch: &str, formats: &str, more: &str, dir: &Path) {
    let path = dir.join("more.yml");
    fs::write(&path, more).unwrap();
    let (dir, path) = (dir.to_str().unwrap(), path.to_str().unwrap());
    let common = ["build", "--arch", arch, "--dir", dir, "--name", "disk"];
    moby(common.iter().chain(&["--format", formats, "blueprints/minimal.yml", path])).succeeded();
}

fn start(arch: &str, disk: &Path, more: &[&str]) -> Option<Machine> {
    let emulator = if arch == "arm64" { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
    let timeout = (BOOT * 3).as_secs().to_string();
    let state = disk.with_extension("state");
    let common = ["--arch", arch, "--timeout", &timeout, "--state", state.to_str().unwrap()];
    available(emulator).then(|| Machine::start(common.iter().chain(more).chain(&[disk.to_str().unwrap()])))
}

/// Boots a disk to its line. Nothing is written to it.
fn boots(arch: &str, disk: &Path) {
    let Some(mut machine) = start(arch, disk, &["--snapshot"]) else { return };
    machine.expect("stage1: root:", BOOT);
    machine.expect(BOOTED, BOOT);
}

/// Runs a judge and gives its verdict; nothing if it is not installed.
fn judge(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let found = ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if found.is_none() && !available(program) {
        return None;
    }
    let output = Command::new(found.unwrap_or_else(|| PathBuf::from(program))).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.success(), text))
}

/// Runs a judge that must be content.
fn judged(program: &str, arguments: &[&str]) -> String {
    let (content, text) = judge(program, arguments).unwrap_or((true, String::new()));
    assert!(content, "{program} {arguments:?}: {text}");
    text
}

/// A partition's bytes.
fn partition(disk: &Path, entry: &gpt::Entry) -> Vec<u8> {
    let mut bytes = vec![0; ((entry.last_lba - entry.first_lba + 1) * 512) as usize];
    File::open(disk).unwrap().read_exact_at(&mut bytes, entry.first_lba * 512).unwrap();
    bytes
}

fn table(disk: &Path) -> gpt::Table {
    let found = gpt::read(&mut File::open(disk).unwrap()).unwrap().unwrap();
    assert_eq!(found.backup, None);
    found.table
}

/// What a UKI's command line says of an option.
fn option(uki: &[u8], name: &str) -> Option<String> {
    let headers = moby::formats::pe::read(&mut Cursor::new(uki)).unwrap();
    let section = moby::formats::pe::section(&headers, ".cmdline").unwrap();
    let bytes = &uki[section.raw_offset as usize..][..section.size() as usize];
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.split_whitespace().find_map(|word| Some(word.strip_prefix(name)?.to_owned()))
}

/// A file of the disk's EFI system partition.
fn esp_file(disk: &Path, path: &str) -> Vec<u8> {
    let esp = partition(disk, &table(disk).entries[0]);
    let size = esp.len() as u64;
    let mut volume = moby::formats::fat::Volume::open(Cursor::new(esp), 0, size).unwrap();
    let file = volume.find(path).unwrap().unwrap_or_else(|| panic!("{path}"));
    let mut bytes = Vec::new();
    volume.read_file(&file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn hash(hex: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

/// The root, its tree, its root hash; GUIDs and names are what the specification wants.
struct Sealed {
    root: Vec<u8>,
    tree: Vec<u8>,
    root_hash: String,
}

impl Sealed {
    fn of(disk: &Path, uki: &str) -> Sealed {
        let table = table(disk);
        let root_hash = option(&esp_file(disk, uki), "roothash=").unwrap();
        let guid = |at: usize| gpt::Guid(hash(&root_hash)[at..at + 16].try_into().unwrap());
        assert_eq!((table.entries[1].guid, table.entries[2].guid), (guid(0), guid(16)));
        let mut tree = partition(disk, &table.entries[2]);
        let superblock = Superblock::decode(tree[..512].try_into().unwrap()).unwrap();
        let mut root = partition(disk, &table.entries[1]);
        root.truncate((superblock.data_blocks * BLOCK) as usize);
        tree.truncate(verity::format::size(superblock.data_blocks) as usize);
        Sealed { root, tree, root_hash }
    }

    /// What stage1 and the kernel see of damage: the superblock is as moby writes it, and everything leads to the root hash.
    fn is_good(&self) -> bool {
        let root_hash = hash(&self.root_hash);
        let Ok(superblock) = Superblock::decode(self.tree[..512].try_into().unwrap()) else { return false };
        let whole = superblock.encode() == self.tree[..512] && self.tree[512..4096].iter().all(|byte| *byte == 0);
        let all = superblock.data_blocks * BLOCK == self.root.len() as u64 && superblock.uuid == root_hash[16..];
        let verified = verity::verify(&mut self.root.as_slice(), &mut Cursor::new(&self.tree), root_hash);
        whole && all && verified.is_ok_and(|(_, mismatch)| mismatch.is_none())
    }

    fn save(&self, dir: &Path) -> [String; 2] {
        [("root", &self.root), ("tree", &self.tree)].map(|(name, bytes)| {
            fs::write(dir.join(name), bytes).unwrap();
            dir.join(name).to_str().unwrap().to_owned()
        })
    }
}

fn judge_disk(disk: &Path, uki: &str) -> Sealed {
    let text = judged("sgdisk", &["-v", disk.to_str().unwrap()]);
    assert!(text.is_empty() || text.contains("No problems found"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let esp = dir.path().join("esp");
    fs::write(&esp, partition(disk, &table(disk).entries[0])).unwrap();
    judged("fsck.fat", &["-n", esp.to_str().unwrap()]);
    let sealed = Sealed::of(disk, uki);
    assert!(sealed.is_good());
    let [root, tree] = sealed.save(dir.path());
    judged("fsck.erofs", &[&root]);
    judged("veritysetup", &["verify", &root, &tree, &sealed.root_hash]);
    sealed
}

#[test]
fn a_sealed_disk_on_amd64() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "raw-efi,qcow2-efi", SEALED, dir.path());
    let disk = dir.path().join("disk-efi.img");
    judge_disk(&disk, "EFI/BOOT/BOOTX64.EFI");
    let qcow2 = dir.path().join("disk-efi.qcow2");
    judged("qemu-img", &["compare", disk.to_str().unwrap(), qcow2.to_str().unwrap()]);
    let names: Vec<String> = table(&disk).entries.iter().map(|entry| String::from_utf16_lossy(&entry.name)).collect();
    assert_eq!(names, ["ESP", "root", "root-verity"]);
    boots("amd64", &disk);
}

#[test]
fn a_sealed_disk_on_arm64() {
    let dir = tempfile::tempdir().unwrap();
    build("arm64", "raw-efi", SEALED, dir.path());
    let disk = dir.path().join("disk-efi.img");
    judge_disk(&disk, "EFI/BOOT/BOOTAA64.EFI");
    boots("arm64", &disk);
}

/// A CD has root and tree as partitions: stage1 maps them on a CD, the kernel makes them on a stick.
#[test]
fn a_sealed_cd_on_amd64() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "iso-efi,iso", SEALED, dir.path());
    let [cd, both] = ["disk-efi.iso", "disk-hybrid.iso"].map(|name| dir.path().join(name));
    for image in [&cd, &both] {
        judge_disk(image, "EFI/BOOT/BOOTX64.EFI");
        let text = image.to_str().unwrap();
        judged("xorriso", &["-indev", text, "-check_media", "--"]);
        // A changed byte of the root is found.
        let root = table(image).entries[1].first_lba * 512;
        let file = OpenOptions::new().read(true).write(true).open(image).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, root + 5000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], root + 5000).unwrap();
        let found = moby(["check", text]);
        assert!(found.status == Some(3) && found.stdout.contains("BROKEN  root"), "{}{}", found.stdout, found.stderr);
        file.write_all_at(&byte, root + 5000).unwrap();
    }
    boots("amd64", &cd);
    boots("amd64", &both);
    let stick = dir.path().join("stick.img");
    fs::rename(&both, &stick).unwrap();
    boots("amd64", &stick);
    fs::rename(&cd, &stick).unwrap();
    boots("amd64", &stick);
}

#[test]
fn a_sealed_cd_on_arm64() {
    let dir = tempfile::tempdir().unwrap();
    build("arm64", "iso-efi", SEALED, dir.path());
    boots("arm64", &dir.path().join("disk-efi.iso"));
}

/// Numbers that look random and are the same each time (SplitMix64, Vigna's public domain code).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// Fifty single bytes of root, tree and superblock, each changed by a random amount, are all found: by our verifier, and
/// by veritysetup unless the byte is one that the kernel ignores, which stage1 then compares.
#[test]
fn no_changed_byte_goes_unseen() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "raw-efi", &format!("{SEALED}{FULL}"), dir.path());
    let disk = dir.path().join("disk-efi.img");
    let mut sealed = Sealed::of(&disk, "EFI/BOOT/BOOTX64.EFI");
    assert!(sealed.is_good());
    let [root_file, tree_file] = sealed.save(dir.path());
    let mut random = Seeded(1);
    // Bytes of the superblock's block that no tool but stage1 looks at: the UUID, and what is unused.
    let only_ours = |at: usize| (16..32).contains(&at) || (82..88).contains(&at) || (120..4096).contains(&at);
    for round in 0..50 {
        let amount = 1 + random.below(255) as u8;
        let (file, bytes, at) = match round % 5 {
            0 => (&tree_file, &mut sealed.tree, random.below(4096)),
            1 => {
                let tree = sealed.tree.len() - 4096;
                (&tree_file, &mut sealed.tree, 4096 + random.below(tree))
            }
            _ => {
                let root = sealed.root.len();
                (&root_file, &mut sealed.root, random.below(root))
            }
        };
        let good = bytes[at];
        bytes[at] = good.wrapping_add(amount);
        let bad = bytes[at];
        let what = format!("byte {at} of {file}: {good:#04x} became {bad:#04x}");
        assert!(!sealed.is_good(), "{what}");
        let write = |byte| OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[byte], at as u64).unwrap();
        write(bad);
        if let Some((content, text)) = judge("veritysetup", &["verify", &root_file, &tree_file, &sealed.root_hash]) {
            assert!(!content || (*file == tree_file && only_ours(at)), "{what}: {text}");
        }
        write(good);
        let bytes = if *file == tree_file { &mut sealed.tree } else { &mut sealed.root };
        bytes[at] = good;
    }
    assert!(sealed.is_good());
    judged("veritysetup", &["verify", &root_file, &tree_file, &sealed.root_hash]);

    // The same in machines: one byte of the root, one of the tree, one that only stage1 looks at.
    let table = table(&disk);
    let (root, tree) = (table.entries[1].first_lba * 512, table.entries[2].first_lba * 512);
    for (at, message) in [
        (root + random.below(sealed.root.len()) as u64, "is corrupted"),
        (tree + 4096 + random.below(sealed.tree.len() - 4096) as u64, "is corrupted"),
        (tree + 20, "stage1: no root"),
    ] {
        let file = OpenOptions::new().read(true).write(true).open(&disk).unwrap();
        let mut good = [0];
        file.read_exact_at(&mut good, at).unwrap();
        file.write_all_at(&[!good[0]], at).unwrap();
        if let Some(mut machine) = start("amd64", &disk, &["--snapshot"]) {
            machine.expect(message, BOOT);
            assert!(!machine.console().contains(BOOTED));
        }
        file.write_all_at(&good, at).unwrap();
    }
    boots("amd64", &disk);
}

/// Everything is read before the root is used.
const FULL: &str = "kernel: {cmdline: console=ttyS0 console=ttyAMA0 moby.root.check=full}\n";

#[test]
fn two_slots() {
    let dir = tempfile::tempdir().unwrap();
    let more = format!("{SEALED}disk: {{slots: 2, slot-size: 96M, data: {{size: 64M, label: state}}}}\n");
    build("amd64", "raw-efi", &more, dir.path());
    let disk = dir.path().join("disk-efi.img");
    let sealed = judge_disk(&disk, "EFI/Linux/moby_1+3.efi");
    let table = table(&disk);
    let [_, a, a_tree, b, b_tree] = table.entries.as_slice() else { panic!("{table:?}") };
    let size = |entry: &gpt::Entry| entry.last_lba - entry.first_lba + 1;
    assert_eq!((size(a), size(a_tree)), (size(b), size(b_tree)));
    assert_eq!(size(a), 96 << 11);
    assert!(size(a_tree) * 512 >= verity::format::size((96 << 20) / BLOCK));
    assert_eq!((a.kind, a_tree.kind), (b.kind, b_tree.kind));
    let names: Vec<String> = table.entries.iter().map(|entry| String::from_utf16_lossy(&entry.name)).collect();
    assert_eq!(names, ["ESP", "root-A", "root-verity-A", "_empty", "_empty"]);
    assert!(partition(&disk, b).iter().chain(&partition(&disk, b_tree)).all(|byte| *byte == 0));

    // Three images fit, and the menu is told not to wait.
    let image = esp_file(&disk, "EFI/Linux/moby_1+3.efi").len() as u64;
    assert!(size(&table.entries[0]) * 512 > 3 * image);
    assert_eq!(esp_file(&disk, "loader/loader.conf"), b"timeout 0\neditor no\nauto-entries no\nauto-firmware no\n");
    drop(sealed);

    // The menu counts the start before it happens.
    if let Some(mut machine) = start("amd64", &disk, &[]) {
        machine.expect(BOOTED, BOOT);
        drop(machine);
        let text = judged("mdir", &["-b", "-i", &format!("{}@@1M", disk.to_str().unwrap()), "::/EFI/Linux"]);
        assert!(text.is_empty() || text.trim() == "::/EFI/Linux/moby_1+2-1.efi", "{text}");
    }
}

/// What has no slots has the same root: disks for BIOS, for both kinds of firmware, and roots beside a kernel.
#[test]
fn other_formats_with_a_verified_root() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "raw,raw-bios,kernel+squashfs", "root: {type: squashfs, onfailure: poweroff}\n", dir.path());
    for name in ["disk.img", "disk-bios.img", "disk"] {
        boots("amd64", &dir.path().join(name));
    }
    let cmdline = fs::read_to_string(dir.path().join("disk-cmdline")).unwrap();
    assert!(cmdline.contains("roothash=") && cmdline.contains("moby.root.hash.offset="), "{cmdline}");
    let offset: u64 =
        cmdline.split("moby.root.hash.offset=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let root_hash = cmdline.split("roothash=").nth(1).unwrap().split(' ').next().unwrap();
    let image = dir.path().join("disk-squashfs.img");
    let image = image.to_str().unwrap();
    judged("veritysetup", &["verify", image, image, root_hash, "--hash-offset", &offset.to_string()]);
}

#[test]
fn a_root_without_verification() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "raw-efi", "root: {verity: false}\n", dir.path());
    let disk = dir.path().join("disk-efi.img");
    let table = table(&disk);
    assert_eq!(table.entries.len(), 2);
    let root = option(&esp_file(&disk, "EFI/BOOT/BOOTX64.EFI"), "root=").unwrap();
    assert_eq!(root, format!("PARTUUID={}", table.entries[1].guid));
    boots("amd64", &disk);
}

/// Another layout in the same place is written anew.
#[test]
fn another_layout_is_another_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut counts = Vec::new();
    for more in ["root: {verity: false}\n", SEALED, SEALED, "root: {}\ndisk: {slots: 2}\n", "root: {type: initrd}\n"] {
        build("amd64", "raw-efi", more, dir.path());
        counts.push(table(&dir.path().join("disk-efi.img")).entries.len());
    }
    assert_eq!(counts, [2, 3, 3, 5, 1]);
}

/// The number of threads, the folder and the umask change nothing.
#[test]
fn sealed_disks_are_reproducible() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let more = format!("{SEALED}disk: {{slots: 2}}\n");
    for (dir, threads) in folders.iter().zip(["1", "2", "7"]) {
        let path = dir.path().join("more.yml");
        fs::write(&path, &more).unwrap();
        let mut command =
            support::machine::command(["build", "--arch", "amd64", "--name", "disk", "--format", "raw-efi"]);
        command.arg("--dir").arg(dir.path()).arg("blueprints/minimal.yml").arg(path);
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        support::machine::Finished::from(output).succeeded();
    }
    let [first, others @ ..] = folders.map(|dir| moby_digest(&dir.path().join("disk-efi.img")));
    assert!(others.iter().all(|other| *other == first));
}

/// What is known of contents from earlier builds changes no byte, whatever became of it; nor does what the disk is wrapped in.
#[test]
fn what_was_checked_before_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let more = "root: {type: erofs, compression: none}\n";
    let seen = support::machine::cache_dir().join("derived/erofs-seen-1");
    let damages: [&dyn Fn(); 3] = [&|| _ = fs::remove_dir_all(&seen), &|| (), &|| {
        for entry in fs::read_dir(&seen).unwrap() {
            let file = OpenOptions::new().write(true).open(entry.unwrap().path()).unwrap();
            file.write_all_at(b"damage", 40).unwrap();
        }
    }];
    let mut digests = Vec::new();
    for damage in damages {
        damage();
        build("amd64", "raw-efi,qcow2-efi,vhdx", more, dir.path());
        let [raw, qcow2, vhdx] = ["disk-efi.img", "disk-efi.qcow2", "disk.vhdx"].map(|name| dir.path().join(name));
        let said = judged("qemu-img", &["check", qcow2.to_str().unwrap()]);
        assert!(said.is_empty() || said.contains("No errors"), "{said}");
        for container in [&qcow2, &vhdx] {
            judged("qemu-img", &["compare", raw.to_str().unwrap(), container.to_str().unwrap()]);
        }
        let compact = qcow2.metadata().unwrap().len() < raw.metadata().unwrap().len() * 19 / 20;
        assert!(compact, "{} bytes", qcow2.metadata().unwrap().len());
        digests.push([&raw, &qcow2, &vhdx].map(|path| moby_digest(path)));
        for path in [&raw, &qcow2, &vhdx] {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(digests.iter().all(|other| *other == digests[0]), "{digests:?}");
}

/// The root is written straight into the disk's file: when there is no room left, the old disk is there and nothing else.
#[test]
fn a_full_disk_leaves_the_old_one() {
    let mounted = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: `unshare -m` and mounting need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("more.yml");
    fs::write(&more, SEALED).unwrap();
    for (format, file) in [("raw-efi", "disk-efi.img"), ("qcow2-efi", "disk-efi.qcow2")] {
        let script = format!(
            "mkdir -p $dir/out; mount -t tmpfs -o size=9m none $dir/out; echo old > $dir/out/{file}\n\
             $moby build --arch amd64 -f {format} --dir $dir/out --name disk blueprints/minimal.yml $dir/more.yml 2>&1 \
             && echo status 0 || echo status $?\n\
             ls -A $dir/out; cat $dir/out/{file}\n"
        );
        let output = Command::new("unshare")
            .args(["-m", "sh", "-euc", &script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("moby", env!("CARGO_BIN_EXE_moby"))
            .env("dir", dir.path())
            .env("MOBY_CACHE", support::machine::cache_dir())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("No space left on device") && said.contains("\nhint: free some space"), "{said}");
        assert!(said.ends_with(&format!("status 5\n{file}\nold\n")), "{said}");
        assert!(said.contains(&format!("out/{file}")), "the file is not named: {said}");
    }
}

fn moby_digest(path: &Path) -> String {
    let mut hasher = moby::store::Hasher::new();
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finish().hex(),
            count => hasher.write_all(&buffer[..count]).unwrap(),
        }
    }
}

/// The signature of a root hash is one that OpenSSL takes, as veritysetup's manual makes it.
#[test]
fn root_hashes_are_signed() {
    use moby::secure_boot::signing::{Place, Signing};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    moby(["keys", "generate", &path("keys")]).succeeded();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let signing = Signing::with_key(&Place { keys: Some(dir.path().join("keys")), certificate: None }, now).unwrap();
    let digits = "58b8a3a05b427f62ec42a4e5d9f1db38a2dfe0737d03fb3bdf836686ef38e0e5";
    fs::write(path("signature"), signing.root_hash(digits).unwrap()).unwrap();
    fs::write(path("digits"), digits).unwrap();
    let (signature, content, certificate) = (path("signature"), path("digits"), path("keys/db.crt"));
    let common = ["smime", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", &certificate];
    let verify = [&common[..], &["-in", &signature, "-content", &content]].concat();
    judged("openssl", &verify);
    fs::write(&content, digits.replace('5', "6")).unwrap();
    assert!(judge("openssl", &verify).is_none_or(|(content, _)| !content));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (formats, more, message) in [
        ("raw-efi", "root: {signature: required}\n", "needs a key"),
        ("raw-bios", "root: {}\ndisk: {slots: 2}\n", "cannot choose between two roots"),
        ("raw-bios", "root: {}\ndisk: {data: {}}\n", "no place for a data partition"),
        ("raw-efi", "root: {}\ndisk: {slots: 2, slot-size: 1M}\n", "slot-size is 1M, and the root has"),
        ("raw-efi", "root: {}\nkernel: {cmdline: a roothash=00}\n", "has `roothash=`"),
        ("raw-efi", "root: {}\nkernel: {tar: none}\n", "CONFIG_EROFS_FS, and the kernel has it as a module"),
        ("raw-efi", "disk: {slots: 2}\n", "needs a root on the disk"),
    ] {
        let path = dir.path().join("more.yml");
        fs::write(&path, more).unwrap();
        let (out, path) = (out.to_str().unwrap(), path.to_str().unwrap());
        let output =
            moby(["build", "--arch", "amd64", "--dir", out, "--format", formats, "blueprints/minimal.yml", path]);
        assert_ne!(output.status, Some(0), "{more}");
        assert!(output.stderr.contains(message), "{more}: {}", output.stderr);
        let left: Vec<_> = fs::read_dir(out).map_or(Vec::new(), |entries| entries.collect());
        assert!(left.is_empty(), "{left:?}");
    }
}
