//! Images that boot by BIOS: judged by other programs, and booted under SeaBIOS.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "formats/judge.rs"]
mod judge;
mod support;

use std::ffi::OsStr;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use judge::judge;
use support::machine::{BOOT, Machine, available, moby};

/// The folder with all images of blueprints/minimal.yml, made once. Nothing drops it: so it is one that the next run
/// writes again.
static IMAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bios");
    build("raw-bios,qcow2-bios,iso-bios,raw", &dir);
    dir
});

fn build(formats: &str, dir: &Path) {
    let dir = dir.to_str().expect("a UTF-8 path");
    moby(["build", "--arch", "amd64", "--format", formats, "--dir", dir, "blueprints/minimal.yml"]).succeeded();
}

fn boots(image: &Path) {
    boots_with(image, &[]);
}

fn boots_with(image: &Path, more: &[&str]) {
    if !available("qemu-system-x86_64") {
        return;
    }
    let state = tempfile::tempdir().expect("a folder");
    let timeout = (BOOT * 3).as_secs().to_string();
    let words = ["--arch", "amd64", "--snapshot", "--timeout", &timeout, "--state"];
    let mut arguments: Vec<&OsStr> = words.into_iter().map(OsStr::new).collect();
    arguments.push(state.path().as_os_str());
    arguments.extend(more.iter().map(OsStr::new));
    arguments.push(image.as_os_str());
    let mut machine = Machine::start(arguments);
    machine.expect("minimal: booted", BOOT);
}

#[test]
fn raw_bios_boots() {
    boots(&IMAGES.join("minimal-bios.img"));
}

#[test]
fn qcow2_bios_boots() {
    boots(&IMAGES.join("minimal.qcow2"));
}

#[test]
fn raw_boots_by_bios() {
    boots(&IMAGES.join("minimal.img"));
}

#[test]
fn raw_boots_by_uefi() {
    if Path::new("/usr/share/OVMF").is_dir() || available("the firmware OVMF") {
        boots_with(&IMAGES.join("minimal.img"), &["--uefi"]);
    }
}

#[test]
fn iso_bios_boots_as_a_cd() {
    boots(&IMAGES.join("minimal.iso"));
}

#[test]
fn iso_bios_boots_as_a_disk() {
    let disk = IMAGES.join("cd-as-disk.img");
    std::fs::copy(IMAGES.join("minimal.iso"), &disk).expect("a copy");
    boots(&disk);
}

#[test]
fn other_programs_find_disks_right() {
    let raw = IMAGES.join("minimal-bios.img");
    judge("sfdisk", [OsStr::new("-V"), raw.as_os_str()]);
    if let Some(text) = judge("sfdisk", [OsStr::new("-d"), raw.as_os_str()]) {
        assert!(
            text.contains("label: dos") && text.contains("start=        2048") && text.contains("bootable"),
            "{text}"
        );
    }
    let volume = IMAGES.join("volume");
    let mut from = std::fs::File::open(&raw).expect("the disk");
    from.seek(SeekFrom::Start(1 << 20)).expect("the volume's start");
    std::io::copy(&mut from, &mut std::fs::File::create(&volume).expect("a file")).expect("a copy");
    if let Some(text) = judge("fsck.fat", [OsStr::new("-n"), OsStr::new("-v"), volume.as_os_str()]) {
        assert!(text.contains("2048 hidden sectors") && text.contains("System ID \"SYSLINUX\""), "{text}");
    }
    let qcow2 = IMAGES.join("minimal.qcow2");
    judge("qemu-img", [OsStr::new("check"), qcow2.as_os_str()]);
    judge("qemu-img", [OsStr::new("compare"), qcow2.as_os_str(), raw.as_os_str()]);
}

#[test]
fn other_programs_find_disks_for_both_right() {
    let raw = IMAGES.join("minimal.img");
    judge("sfdisk", [OsStr::new("-V"), raw.as_os_str()]);
    if let Some(text) = judge("sfdisk", [OsStr::new("-d"), raw.as_os_str()]) {
        assert!(text.contains("label: gpt") && text.contains("LegacyBIOSBootable"), "{text}");
    }
}

#[test]
fn other_programs_find_cds_right() {
    let iso = IMAGES.join("minimal.iso");
    let arguments = [
        "-indev".as_ref(),
        iso.as_os_str(),
        "-report_el_torito".as_ref(),
        "plain".as_ref(),
        "-ls".as_ref(),
        "/".as_ref(),
    ];
    if let Some(text) = judge("xorriso", arguments) {
        assert!(text.contains("boot-info-table isohybrid-suitable"), "{text}");
        assert!(text.contains("'MOBY-") && text.contains("'containers'"), "{text}");
    }
}

#[test]
fn the_same_system_gives_the_same_bytes() {
    let again = tempfile::tempdir().expect("a folder");
    build("raw-bios,iso-bios,raw", again.path());
    for name in ["minimal-bios.img", "minimal.iso", "minimal.img"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).expect("the image");
        assert!(read(again.path()) == read(&IMAGES), "{name} differs");
    }
}

#[test]
fn arm64_has_no_bios() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("a UTF-8 path");
    let finished = moby(["build", "--arch", "arm64", "--format", "raw-bios", "--dir", path, "blueprints/minimal.yml"]);
    assert_ne!(finished.status, Some(0));
    assert!(finished.stderr.contains("raw-bios cannot be made for arm64"), "{}", finished.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
}
