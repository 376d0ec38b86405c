//! Boots what UEFI boots, and roots on disks of their own, to the line that `blueprints/minimal.yml` prints; lets foreign
//! tools judge the files.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::machine::{BOOT, Machine, available, moby};

/// Makes formats of the smallest blueprint.
fn build(arch: &str, formats: &str, dir: &Path) {
    let dir = dir.to_str().unwrap();
    moby(["build", "--arch", arch, "--dir", dir, "--format", formats, "blueprints/minimal.yml"]).succeeded();
}

/// Boots one of the files, or what a name stands for. Nothing is written to it.
fn boots(arch: &str, dir: &Path, name: &str) {
    let emulator = if arch == "arm64" { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
    if !available(emulator) {
        return;
    }
    let timeout = (BOOT * 3).as_secs().to_string();
    let (path, state) = (dir.join(name), dir.join("state"));
    let (path, state) = (path.to_str().unwrap(), state.to_str().unwrap());
    let snapshot = "--snapshot";
    let mut machine = Machine::start(["--arch", arch, "--timeout", &timeout, "--state", state, snapshot, path]);
    machine.expect("minimal: booted", BOOT);
}

/// Runs a judge that must be content.
fn judged(program: &str, arguments: &[&str], path: &Path) -> String {
    // Debian keeps tools for disks where users' paths do not lead.
    let found = ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if found.is_none() && !available(program) {
        return String::new();
    }
    let output = Command::new(found.unwrap_or_else(|| PathBuf::from(program))).args(arguments).arg(path).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The EFI system partition of a disk, from the first MiB on, as a file of its own.
fn partition(disk: &Path) -> PathBuf {
    let mut file = std::fs::File::open(disk).unwrap();
    let size = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    let path = disk.with_extension("fat");
    let mut out = std::fs::File::create(&path).unwrap();
    std::io::copy(&mut file.take(size - (2 << 20)), &mut out).unwrap();
    out.flush().unwrap();
    path
}

fn judge_disk(disk: &Path) {
    let table = judged("sgdisk", &["-v"], disk);
    assert!(table.is_empty() || table.contains("No problems found"), "{table}");
    judged("fsck.fat", &["-n"], &partition(disk));
}

#[test]
fn disks_for_uefi_on_amd64() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "raw-efi,qcow2-efi", dir.path());
    let raw = dir.path().join("minimal-efi.img");
    judge_disk(&raw);
    let qcow2 = dir.path().join("minimal-efi.qcow2");
    judged("qemu-img", &["check"], &qcow2);
    judged("qemu-img", &["compare", raw.to_str().unwrap()], &qcow2);
    boots("amd64", dir.path(), "minimal-efi.img");
    boots("amd64", dir.path(), "minimal-efi.qcow2");
}

#[test]
fn a_disk_for_uefi_on_arm64() {
    let dir = tempfile::tempdir().unwrap();
    build("arm64", "raw-efi", dir.path());
    judge_disk(&dir.path().join("minimal-efi.img"));
    boots("arm64", dir.path(), "minimal-efi.img");
}

#[test]
fn a_unified_kernel_image() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "uki", dir.path());
    let text = judged("objdump", &["-h"], &dir.path().join("minimal.efi"));
    for section in [".osrel", ".cmdline", ".uname", ".initrd", ".linux"] {
        assert!(text.is_empty() || text.contains(section), "{section}: {text}");
    }
    boots("amd64", dir.path(), "minimal.efi");
}

#[test]
fn a_cd_for_uefi_and_the_same_as_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "iso-efi-initrd", dir.path());
    let iso = dir.path().join("minimal-efi-initrd.iso");
    boots("amd64", dir.path(), "minimal-efi-initrd.iso");
    std::fs::rename(&iso, dir.path().join("stick-efi.img")).unwrap();
    boots("amd64", dir.path(), "stick-efi.img");
}

#[test]
fn a_root_of_squashfs() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "kernel+squashfs", dir.path());
    judged("unsquashfs", &["-s"], &dir.path().join("minimal-squashfs.img"));
    boots("amd64", dir.path(), "minimal");
}

#[test]
fn a_root_of_erofs() {
    let dir = tempfile::tempdir().unwrap();
    build("amd64", "kernel+erofs", dir.path());
    judged("fsck.erofs", &[], &dir.path().join("minimal-erofs.img"));
    boots("amd64", dir.path(), "minimal");
}

/// Containers of the same disk, as QEMU reads them.
#[test]
fn containers_hold_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["minimal.vhdx", "minimal.vmdk", "minimal.vhd", "minimal-dynamic.vhd", "minimal-azure.vhd"];
    build("amd64", "aws,vhdx,vmdk,vhd,dynamic-vhd,azure,gcp,ova", dir.path());
    let raw = dir.path().join("minimal.raw");
    judge_disk(&raw);
    if available("qemu-img") {
        for file in files {
            let path = dir.path().join(file);
            let format = match path.extension().and_then(|end| end.to_str()) {
                Some("vhd") => "vpc",
                Some(other) => other,
                None => "raw",
            };
            judged("qemu-img", &["compare", "-f", "raw", "-F", format, raw.to_str().unwrap()], &path);
        }
    }
    let members = judged("tar", &["tf"], &dir.path().join("minimal.ova"));
    assert!(members.starts_with("minimal.ovf\n") && members.contains("minimal-disk1.vmdk"), "{members}");
    assert_eq!(judged("tar", &["tzf"], &dir.path().join("minimal.img.tar.gz")), "disk.raw\n");
    boots("amd64", dir.path(), "minimal.vhdx");
}

#[test]
fn sizes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let common = ["build", "--arch", "amd64", "--dir", out, "blueprints/minimal.yml"];
    moby(common.iter().chain(&["--format", "raw-efi", "--size", "1G"])).succeeded();
    let disk = dir.path().join("minimal-efi.img");
    assert_eq!(disk.metadata().unwrap().len(), 1 << 30);
    judge_disk(&disk);
    let refused = |more: &[&str], text: &str| {
        let output = moby(common.iter().chain(more));
        assert_ne!(output.status, Some(0));
        assert!(output.stderr.contains(text), "{}", output.stderr);
    };
    refused(&["--format", "raw-efi", "--size", "2"], "the disk needs");
    refused(&["--format", "tar", "--size", "1G"], "--size is for disk images");
    refused(&["--format", "kernel+initrd,kernel+erofs"], "both write NAME-kernel");
}
