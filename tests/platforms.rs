//! Formats on what they are for: hybrid CDs, registries, clouds' archives unpacked, boards; each judged by
//! other programs and booted to the line that a service prints.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "formats/judge.rs"]
mod judge;
mod support;

use std::fs;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use judge::judge;
use support::images::{LINE, OVMF, as_disk, boots};
use support::machine::{BOOT, Machine, available, moby};

/// A folder with formats of a blueprint.
fn built(arch: &str, formats: &str, blueprint: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    moby(["build", "--arch", arch, "--dir", out, "--name", "m", "--format", formats, blueprint]).succeeded();
    dir
}

fn minimal(arch: &str, formats: &str) -> tempfile::TempDir {
    built(arch, formats, "blueprints/minimal.yml")
}

/// A part of an image as a file of its own.
fn part(image: &Path, start: u64) -> PathBuf {
    let mut file = fs::File::open(image).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let path = image.with_extension("part");
    std::io::copy(&mut file, &mut fs::File::create(&path).unwrap()).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_cd_for_both_kinds_of_firmware() {
    let dir = minimal("amd64", "iso");
    let iso = dir.path().join("m-hybrid.iso");
    let report = ["-indev", text(&iso), "-report_el_torito", "plain", "-report_system_area", "plain", "-ls", "/"];
    if let Some(report) = judge("xorriso", report) {
        for expected in ["1  BIOS  y", "2  UEFI  y", "isohybrid-suitable", "MBR isohybrid", "GPT", "'containers'"] {
            assert!(report.contains(expected), "{expected}: {report}");
        }
    }
    if let Some(report) = judge("sgdisk", ["-v", text(&iso)]) {
        assert!(report.contains("No problems found"), "{report}");
    }
    boots("amd64", &iso, &[]);
    boots("amd64", &iso, &["--uefi"]);
    let disk = as_disk(&iso);
    boots("amd64", &disk, &[]);
    boots("amd64", &disk, &["--uefi"]);
}

#[test]
fn a_cd_for_uefi_with_the_root_on_it() {
    let dir = minimal("amd64", "iso-efi");
    let iso = dir.path().join("m-efi.iso");
    // The kernel is in the boot image only.
    if let Some(list) = judge("xorriso", ["-indev", text(&iso), "-ls", "/"]) {
        assert!(list.contains("'containers'") && !list.contains("'boot'"), "{list}");
    }
    boots("amd64", &iso, &[]);
    let disk = dir.path().join("stick-efi.img");
    fs::rename(&iso, &disk).unwrap();
    boots("amd64", &disk, &[]);
}

#[test]
fn a_root_of_iso9660() {
    let dir = minimal("amd64", "kernel+iso");
    let command_line = fs::read_to_string(dir.path().join("m-cmdline")).unwrap();
    let label = command_line.split("root=LABEL=").nth(1).unwrap();
    if let Some(found) = judge("isoinfo", ["-d", "-i", text(&dir.path().join("m-rootfs.iso"))]) {
        assert!(found.contains(&format!("Volume id: {label}")) && found.contains("Rock Ridge"), "{found}");
    }
    boots("amd64", &dir.path().join("m"), &[]);
}

#[test]
fn a_disk_for_both_kinds_of_firmware() {
    let dir = minimal("amd64", "qcow2,usb");
    let (qcow2, raw) = (dir.path().join("m-hybrid.qcow2"), dir.path().join("m.img"));
    judge("qemu-img", ["check", text(&qcow2)]);
    judge("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&qcow2)]);
    boots("amd64", &qcow2, &[]);
    boots("amd64", &qcow2, &["--uefi"]);
}

#[test]
fn what_registries_take() {
    let dir = minimal("amd64", "oci,tar,kernel+initrd");
    let place = |name: &str| dir.path().join(name);
    let archive = |name: &str| format!("oci-archive:{}:{name}", text(&place("m-oci.tar")));
    let layout = place("layout");
    let copy = |name: &str| format!("oci:{}:{name}", text(&layout));
    if let Some(found) = judge("skopeo", ["inspect", &archive("latest")]) {
        assert!(found.contains("\"Architecture\": \"amd64\"") && found.contains("2017-04-18T16:30:00Z"), "{found}");
    }
    let Some(manifest) = judge("skopeo", ["inspect", "--raw", &archive("boot")]) else { return };
    assert!(manifest.contains("\"artifactType\":\"application/vnd.mobyproject.boot.v1\""), "{manifest}");
    for name in ["latest", "boot"] {
        judge("skopeo", ["--insecure-policy", "copy", &archive(name), &copy(name)]);
    }
    // The artefact's layers are the files of kernel+initrd.
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    for (layer, file) in manifest["layers"].as_array().unwrap().iter().zip(["m-kernel", "m-initrd.img", "m-cmdline"]) {
        let digest = layer["digest"].as_str().unwrap().replace(':', "/");
        assert!(fs::read(layout.join("blobs").join(digest)).unwrap() == fs::read(place(file)).unwrap(), "{file}");
    }
    if rustix::process::getuid().is_root() {
        let (bundle, tree) = (place("bundle"), place("tree"));
        let image = format!("{}:latest", text(&layout));
        if judge("umoci", ["unpack", "--image", &image, text(&bundle)]).is_none() {
            return;
        }
        fs::create_dir(&tree).unwrap();
        judge("tar", ["--warning=no-unknown-keyword", "-xpf", text(&place("m.tar")), "-C", text(&tree)]);
        assert_eq!(listing(&bundle.join("rootfs")), listing(&tree));
    }
}

/// Everything below a folder but folders: type, mode, owner, links, target, time, size, and content.
fn listing(folder: &Path) -> String {
    let script = "find . ! -type d -printf '%P %y %m %U:%G %n %l %Ts %s\\n' | LC_ALL=C sort; \
                  find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// `ova` is a machine of amd64 only.
fn disks_of_clouds_and_hypervisors_boot(arch: &str, formats: &str) {
    let dir = minimal(arch, formats);
    // As Google unpacks it, and as VMware does.
    for (archive, member) in [("m.img.tar.gz", "disk.raw"), ("m.ova", "m-disk1.vmdk")] {
        let archive = dir.path().join(archive);
        if archive.is_file() {
            judge("tar", ["-xSf", text(&archive), "-C", text(dir.path()), member]);
        }
    }
    let files = ["m.vhd", "m-dynamic.vhd", "m-azure.vhd", "m.vmdk", "m.vhdx", "m.raw", "disk.raw", "m-disk1.vmdk"];
    let booted = files.iter().map(|name| dir.path().join(name)).filter(|disk| disk.is_file());
    assert_eq!(booted.inspect(|disk| boots(arch, disk, &[])).count(), formats.split(',').count());
}

#[test]
fn disks_of_clouds_and_hypervisors_boot_on_amd64() {
    disks_of_clouds_and_hypervisors_boot("amd64", "vhd,dynamic-vhd,azure,vmdk,aws,gcp,ova");
}

#[test]
fn disks_of_clouds_and_hypervisors_boot_on_arm64() {
    disks_of_clouds_and_hypervisors_boot("arm64", "vhd,dynamic-vhd,azure,vmdk,vhdx,aws,gcp");
}

#[test]
fn cds_and_disks_boot_on_arm64() {
    let dir = minimal("arm64", "qcow2-efi,uki,iso-efi-initrd,iso-efi");
    for name in ["m-efi.qcow2", "m.efi"] {
        boots("arm64", &dir.path().join(name), &[]);
    }
    for name in ["m-efi-initrd.iso", "m-efi.iso"] {
        boots("arm64", &dir.path().join(name), &[]);
        boots("arm64", &as_disk(&dir.path().join(name)), &[]);
    }
}

#[test]
fn roots_beside_kernels_boot_on_arm64() {
    for format in ["kernel+squashfs", "kernel+erofs", "kernel+iso"] {
        let dir = minimal("arm64", format);
        boots("arm64", &dir.path().join("m"), &[]);
    }
}

/// Kernel and initrd out of an archive and out of a registry's artefact are those of `kernel+initrd`, which other tests
/// boot.
fn kernel_and_initrd_are_the_same_everywhere(arch: &str) {
    let dir = minimal(arch, "kernel+initrd,tar-kernel-initrd,oci");
    let unpacked = dir.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    for archive in ["m-initrd.tar", "m-oci.tar"] {
        judge("tar", ["-xf", text(&dir.path().join(archive)), "-C", text(&unpacked)]);
    }
    let json = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |digest: &serde_json::Value| unpacked.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let index = json(&unpacked.join("index.json"));
    let artefact = index["manifests"].as_array().unwrap().iter().find(|one| one["artifactType"].is_string()).unwrap();
    let layers = json(&blob(&artefact["digest"]))["layers"].clone();
    for (number, file) in ["kernel", "initrd.img", "cmdline"].into_iter().enumerate() {
        let expected = fs::read(dir.path().join(format!("m-{file}"))).unwrap();
        assert!(fs::read(unpacked.join(file)).unwrap() == expected, "{file} of tar-kernel-initrd");
        assert!(fs::read(blob(&layers[number]["digest"])).unwrap() == expected, "{file} of oci");
    }
    // As the documentation has it, from the archive.
    for file in ["kernel", "initrd.img", "cmdline"] {
        fs::rename(unpacked.join(file), unpacked.join(format!("m-{file}"))).unwrap();
    }
    boots(arch, &unpacked.join("m"), &[]);
}

#[test]
fn kernel_and_initrd_are_the_same_everywhere_on_amd64() {
    kernel_and_initrd_are_the_same_everywhere("amd64");
}

#[test]
fn kernel_and_initrd_are_the_same_everywhere_on_arm64() {
    kernel_and_initrd_are_the_same_everywhere("arm64");
}

/// A file system alone is a root too: with the kernel of `kernel+...` it boots in place of that format's own.
#[test]
fn file_systems_alone_are_roots() {
    for (arch, alone, with_kernel) in [("amd64", "squashfs", "kernel+squashfs"), ("arm64", "erofs", "kernel+erofs")] {
        let dir = minimal(arch, &format!("{alone},{with_kernel}"));
        let file = |suffix: &str| dir.path().join(format!("m{suffix}"));
        fs::rename(file(&format!(".{alone}")), file(&format!("-{alone}.img"))).unwrap();
        let words = fs::read_to_string(file("-cmdline")).unwrap();
        fs::write(file("-cmdline"), format!("{} root=/dev/vda", words.split(" root=").next().unwrap())).unwrap();
        boots(arch, &file(""), &[]);
    }
}

/// Whatever an initrd or a root is compressed with, Debian's kernel reads it.
#[test]
fn every_compression_boots() {
    for compression in ["none", "gzip", "xz"] {
        let dir = tempfile::tempdir().unwrap();
        let common = ["build", "--arch", "amd64", "--dir", text(dir.path()), "--name", "m"];
        let more = ["--compression", compression, "blueprints/minimal.yml"];
        moby(common.iter().chain(&more)).succeeded();
        boots("amd64", &dir.path().join("m"), &[]);
    }
    for (format, image, kind, compression) in [
        ("kernel+squashfs", "m", "squashfs", "gzip"),
        ("raw-bios", "m-bios.img", "squashfs", "xz"),
        ("raw-efi", "m-efi.img", "erofs", "none"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.yml");
        fs::write(&root, format!("root: {{type: {kind}, compression: {compression}}}\n")).unwrap();
        let common = ["build", "--arch", "amd64", "--dir", text(dir.path()), "--name", "m"];
        moby(common.iter().chain(&["--format", format, "blueprints/minimal.yml", text(&root)])).succeeded();
        boots("amd64", &dir.path().join(image), &[]);
    }
}

/// Sticks by USB, as `dd` writes them, by both kinds of firmware. The root of the CD stays on the stick, so its kernel is
/// one with USB; the disk's is in memory.
#[test]
fn sticks() {
    let emulator = "qemu-system-x86_64";
    if !available(emulator) || !(Path::new(OVMF[0]).is_file() || available("the firmware OVMF")) {
        return;
    }
    let cd = built("amd64", "iso", "tests/boot/usb.yml");
    let disk = minimal("amd64", "usb");
    for image in [cd.path().join("m-hybrid.iso"), disk.path().join("m.img")] {
        for uefi in [false, true] {
            let mut qemu = Command::new(emulator);
            qemu.args([
                "-nodefaults",
                "-no-reboot",
                "-accel",
                "tcg",
                "-machine",
                "q35",
                "-cpu",
                "Nehalem",
                "-m",
                "1024",
            ]);
            qemu.args(["-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci", "-device", "qemu-xhci"]);
            qemu.args(["-drive", &format!("if=none,id=d,format=raw,snapshot=on,file={}", text(&image))]);
            qemu.args(["-device", "usb-storage,drive=d,bootindex=0", "-boot", "menu=on,splash-time=0"]);
            if uefi {
                let variables = cd.path().join("variables");
                fs::copy(OVMF[1], &variables).unwrap();
                let flash = |unit: u8, more: &str| format!("if=pflash,unit={unit},format=raw,{more}");
                qemu.args(["-drive", &flash(0, &format!("readonly=on,file={}", OVMF[0]))]);
                qemu.args(["-drive", &flash(1, &format!("file={}", text(&variables)))]);
            }
            // Firmware reads the whole of a kernel image by USB, which takes an emulator long.
            Machine::start_command(qemu).expect(LINE, BOOT * 3);
        }
    }
}

/// The board's own firmware cannot be emulated. QEMU's board gets what that firmware would load, out of the image.
#[test]
fn a_card_for_raspberry_pis() {
    let dir = built("arm64", "rpi,rpi3", "tests/boot/raspberry-pi.yml");
    let (card, archive) = (dir.path().join("m-rpi.img"), dir.path().join("m-rpi3.tar"));
    if let Some(table) = judge("sfdisk", ["-d", text(&card)]) {
        assert!(table.contains("start=        2048") && table.contains("type=c, bootable"), "{table}");
    }
    let volume = part(&card, 1 << 20);
    judge("fsck.fat", ["-n", text(&volume)]);
    let list = judge("tar", ["-tf", text(&archive)]).unwrap();
    for file in [
        "bootcode.bin",
        "start.elf",
        "start4.elf",
        "fixup.dat",
        "bcm2711-rpi-4-b.dtb",
        "bcm2712-rpi-5-b.dtb",
        "config.txt",
    ] {
        assert!(list.lines().any(|line| line == file), "{file}: {list}");
    }
    if judge("mcopy", ["-n", "-i", text(&volume), "::*", text(dir.path())]).is_none() {
        return;
    }
    for file in list.lines() {
        let packed = Command::new("tar").arg("-xOf").arg(&archive).arg(file).output().unwrap().stdout;
        assert!(packed == fs::read(dir.path().join(file)).unwrap(), "{file}");
    }
    if !available("qemu-system-aarch64") {
        return;
    }
    let file = |name: &str| dir.path().join(name);
    let command_line = fs::read_to_string(file("cmdline.txt")).unwrap();
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-M", "raspi3b", "-smp", "4", "-m", "1G", "-display", "none", "-no-reboot"]);
    // The second port is the one of the header.
    qemu.args(["-serial", "null", "-serial", "stdio", "-append", command_line.trim_end()]);
    qemu.arg("-kernel").arg(file("kernel.img")).arg("-initrd").arg(file("initrd.img"));
    qemu.arg("-dtb").arg(file("bcm2837-rpi-3-b.dtb"));
    Machine::start_command(qemu).expect(LINE, BOOT);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arch: &str, format: &str, text: &str| {
        let out = dir.path().to_str().unwrap();
        let words = ["build", "--arch", arch, "--dir", out, "--format", format, "blueprints/minimal.yml"];
        let finished = moby(words);
        assert_eq!(finished.status, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(text), "{}", finished.stderr);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    };
    for format in ["iso", "qcow2", "usb"] {
        refused("arm64", format, "cannot be made for arm64");
    }
    refused("amd64", "rpi", "rpi cannot be made for amd64");
    // The cloud kernel runs on no board.
    refused("arm64", "rpi", "no device trees of Raspberry Pis");
}
