//! `moby verify`: what was built by a lock is reproduced, and what was altered is named by part and field.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use support::machine::{Finished, moby};

const BLUEPRINT: &str = "blueprints/minimal.yml";
/// The root on the disk under dm-verity.
const ROOT: &str = "root: {type: erofs}\n";

/// A folder with a lock and images, written again by the next run.
static IMAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("root.yml"), ROOT).unwrap();
    let lock = dir.join("minimal.lock");
    let lock = lock.to_str().unwrap();
    moby(["lock", "--loaders", "--arch", "amd64", "--lock", lock, BLUEPRINT]).succeeded();
    let to = dir.to_str().unwrap();
    let build = |formats: &str, name: &str, more: &[&str]| {
        let words = ["build", "--locked", "--arch", "amd64", "--lock", lock, "--dir", to, "--name", name];
        moby(words.iter().chain(&["--format", formats, BLUEPRINT]).chain(more)).succeeded();
    };
    build("pxe,oci,tar,raw-efi,qcow2-efi,iso-bios,vhdx,ova", "minimal", &[]);
    build("kernel+erofs", "beside", &[]);
    moby(["keys", "generate", dir.join("keys").to_str().unwrap(), "--force"]).succeeded();
    build("raw-efi", "signed", &[dir.join("root.yml").to_str().unwrap(), "--sign", dir.join("keys").to_str().unwrap()]);
    dir
});

fn verify(image: &Path, more: &[&str]) -> Finished {
    let lock = IMAGES.join("minimal.lock");
    let words = ["verify", "-q", image.to_str().unwrap(), "--lock", lock.to_str().unwrap(), BLUEPRINT];
    moby(words.iter().chain(more))
}

#[test]
fn what_was_built_is_reproduced() {
    for (file, format) in [
        ("minimal-kernel", "kernel+initrd"),
        ("minimal-initrd.img", "kernel+initrd"),
        ("minimal.tar", "tar"),
        ("minimal-oci.tar", "oci"),
        ("minimal-efi.img", "raw-efi"),
        ("minimal-efi.qcow2", "qcow2-efi"),
        ("minimal.iso", "iso-bios"),
        ("minimal.vhdx", "vhdx"),
        ("minimal.ova", "ova"),
    ] {
        let found = verify(&IMAGES.join(file), &[]).succeeded();
        let expected = format!("({format}, amd64), sha256:");
        assert!(found.stdout.starts_with("reproduced: ") && found.stdout.contains(&expected), "{}", found.stdout);
    }
}

/// What belongs to several formats is not taken for one of them.
#[test]
fn a_format_that_cannot_be_told_is_asked_for() {
    for (file, format) in [("minimal.ipxe", "pxe"), ("beside-initrd.img", "kernel+erofs")] {
        let asked = verify(&IMAGES.join(file), &[]);
        assert_eq!(asked.status, Some(2), "{}", asked.stderr);
        assert!(asked.stderr.contains("say --format"), "{}", asked.stderr);
        let found = verify(&IMAGES.join(file), &["--format", format]).succeeded();
        assert!(found.stdout.starts_with("reproduced: "), "{}", found.stdout);
    }
}

#[test]
fn a_signature_is_set_aside_and_named() {
    let root = IMAGES.join("root.yml");
    let found = verify(&IMAGES.join("signed-efi.img"), &[root.to_str().unwrap()]).succeeded();
    assert!(found.stdout.starts_with("reproduced but for the signature of CN="), "{}", found.stdout);
    let json = verify(&IMAGES.join("signed-efi.img"), &["--json", root.to_str().unwrap()]);
    // -q and --json exclude each other.
    assert_eq!(json.status, Some(2), "{}", json.stderr);
}

/// Where some bytes are in a file, after a place.
fn find(path: &Path, wanted: &[u8], after: usize) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let found = bytes[after..].windows(wanted.len()).position(|window| window == wanted);
    (after + found.unwrap_or_else(|| panic!("{}: no {}", path.display(), wanted.escape_ascii()))) as u64
}

fn altered(file: &str, name: &str, at: u64, bytes: &[u8]) -> PathBuf {
    let to = IMAGES.join(name);
    std::fs::copy(IMAGES.join(file), &to).unwrap();
    std::fs::OpenOptions::new().write(true).open(&to).unwrap().write_all_at(bytes, at).unwrap();
    to
}

#[test]
fn differences_are_named() {
    let (disk, signed) = (IMAGES.join("minimal-efi.img"), IMAGES.join("signed-efi.img"));
    let (iso, tar) = (IMAGES.join("minimal.iso"), IMAGES.join("minimal.tar"));
    let root = IMAGES.join("root.yml");
    let root = [root.to_str().unwrap()];
    let console = b"console=ttyS0";
    let cases = [
        (
            altered("minimal-efi.img", "a-efi.img", find(&disk, console, 1 << 20), b"console=ttyS9"),
            &[][..],
            "partition 1 (ESP), FAT, /EFI/BOOT/BOOTX64.EFI, unified kernel image, .cmdline: expected \"console=ttyS0 \
             console=ttyAMA0\", found \"console=ttyS9 console=ttyAMA0\"",
        ),
        (
            altered("minimal-efi.img", "b-efi.img", 512 + 56, b"x"),
            &["--format", "raw-efi", "--arch", "amd64"],
            "it is damaged: the partition table is damaged",
        ),
        (altered("minimal.tar", "c.tar", find(&tar, b"ELF", 0), b"elf"), &[], ": content differs at byte "),
        (altered("minimal.iso", "d.iso", find(&iso, b"ELF", 40 << 10), b"elf"), &[], ": content differs at byte "),
        (
            // The root is the second partition; its first MiB holds file data or metadata.
            altered("signed-efi.img", "e-efi.img", find(&signed, b"ELF", 34 << 20), b"elf"),
            &root[..],
            "partition 2 (root), erofs",
        ),
    ];
    for (image, more, expected) in cases {
        let found = verify(&image, more);
        assert_eq!(found.status, Some(3), "{}: {}{}", image.display(), found.stdout, found.stderr);
        assert!(found.stdout.contains("not reproduced") && found.stdout.contains(expected), "{}", found.stdout);
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn another_blueprint_differs_in_its_files() {
    let more = IMAGES.join("more.yml");
    std::fs::write(&more, "files: [{path: etc/more, contents: 'x', mode: '0644'}]\n").unwrap();
    let found = verify(&IMAGES.join("minimal-initrd.img"), &[more.to_str().unwrap()]);
    assert_eq!(found.status, Some(3), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains("first difference: /etc/more: it is missing"), "{}", found.stdout);
    let wrong = verify(&IMAGES.join("minimal.tar"), &["--format", "nothing"]);
    assert_eq!(wrong.status, Some(2));
    let without = IMAGES.join("other.lock");
    std::fs::copy(IMAGES.join("minimal.lock"), &without).unwrap();
    let image = IMAGES.join("minimal.tar");
    let words = ["verify", image.to_str().unwrap(), "--lock", without.to_str().unwrap()];
    let found = moby(words);
    assert!(found.status == Some(2) && found.stderr.contains("other.yml beside the lock"), "{}", found.stderr);
}
