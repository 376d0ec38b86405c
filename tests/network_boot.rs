//! `pxe`: machines that fetch kernel and initrd over the network, to the line that a service prints.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "formats/judge.rs"]
mod judge;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use judge::judge;
use support::machine::{BOOT, Machine, available, moby};

/// What the blueprint prints.
const LINE: &str = "minimal: booted";

/// A folder for a TFTP server.
fn pxe(arch: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    build(arch, "pxe", dir.path(), "blueprints/minimal.yml");
    dir
}

fn build(arch: &str, format: &str, dir: &Path, blueprint: &str) {
    let dir = dir.to_str().unwrap();
    moby(["build", "--arch", arch, "--dir", dir, "--name", "m", "--format", format, blueprint]).succeeded();
}

/// Starts QEMU with a network that serves a folder and names one of its files to who asks for an address. `card`: more
/// about the network card. `firmware`: code and empty variables.
fn boots(mut qemu: Command, folder: &Path, file: &str, card: &str, firmware: Option<[&str; 2]>) {
    qemu.args(["-nodefaults", "-no-reboot", "-accel", "tcg", "-m", "1024", "-display", "none", "-serial", "stdio"]);
    let network = format!("user,id=n,restrict=on,tftp={},bootfile={file}", folder.display());
    qemu.args(["-device", "virtio-rng-pci", "-netdev", &network]);
    qemu.args(["-device", &format!("virtio-net-pci,netdev=n,bootindex=0{card}")]);
    if let Some([code, empty]) = firmware {
        let variables = folder.join("variables");
        fs::copy(empty, &variables).unwrap();
        let flash = |unit: u8, more: &str| format!("if=pflash,unit={unit},format=raw,{more}");
        qemu.args(["-boot", "menu=on,splash-time=0", "-drive", &flash(0, &format!("readonly=on,file={code}"))]);
        qemu.args(["-drive", &flash(1, &format!("file={}", variables.display()))]);
    }
    Machine::start_command(qemu).expect(LINE, BOOT);
}

/// QEMU's network card comes with iPXE for both kinds of a PC's firmware, if its package is there.
#[test]
fn amd64_by_bios_and_uefi() {
    let there = Path::new("/usr/lib/ipxe/qemu/efi-virtio.rom").is_file() || available("ipxe-qemu");
    if !there || !available("qemu-system-x86_64") {
        return;
    }
    let dir = pxe("amd64");
    let machine = |firmware| {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "q35", "-cpu", "Nehalem"]);
        boots(qemu, dir.path(), "m.ipxe", "", firmware);
    };
    machine(None);
    let firmware = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
    if Path::new(firmware[0]).is_file() || available("the firmware OVMF") {
        machine(Some(firmware));
    }
}

/// No card brings iPXE for ARM64: the firmware's own PXE loads it as a program, and it starts `autoexec.ipxe` from the
/// folder that it came from.
#[test]
fn arm64_by_uefi() {
    let firmware = ["/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"];
    let there = Path::new(firmware[0]).is_file() || available("the firmware AAVMF");
    if !there || !available("qemu-system-aarch64") {
        return;
    }
    let dir = pxe("arm64");
    let program = tempfile::tempdir().unwrap();
    build("arm64", "tar", program.path(), "tests/boot/ipxe.yml");
    let (archive, member) = (program.path().join("m.tar"), "usr/lib/ipxe/ipxe-arm64.efi");
    let words = ["--warning=no-unknown-keyword", "-C", program.path().to_str().unwrap(), "-xf"];
    judge("tar", words.into_iter().chain([archive.to_str().unwrap(), member])).unwrap();
    fs::copy(program.path().join(member), dir.path().join("ipxe.efi")).unwrap();
    fs::write(dir.path().join("autoexec.ipxe"), "#!ipxe\ndhcp\nchain m.ipxe\n").unwrap();
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-machine", "virt", "-cpu", "cortex-a72"]);
    // The card's own program is one for PCs.
    boots(qemu, dir.path(), "ipxe.efi", ",romfile=", Some(firmware));
}
