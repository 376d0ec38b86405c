//! Boots images that were made from `blueprints/minimal.yml` and what builds on it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::machine::{BOOT, Machine, available};

/// What every such blueprint prints.
pub const LINE: &str = "minimal: booted";
/// Where Debian has UEFI's code and variables.
pub const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// Starts an image, or what a name stands for, if there is an emulator. Nothing is written to it; the folder is for what
/// the machine keeps beside it.
pub fn started(arch: &str, path: &Path, more: &[&str]) -> Option<(Machine, TempDir)> {
    let emulator = if arch == "arm64" { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
    let firmware = !more.contains(&"--uefi") || Path::new(OVMF[0]).is_file() || available("the firmware OVMF");
    if !available(emulator) || !firmware {
        return None;
    }
    let state = tempfile::tempdir().expect("a folder");
    let timeout = (BOOT * 3).as_secs().to_string();
    let words =
        ["--arch", arch, "--snapshot", "--timeout", &timeout, "--state", state.path().to_str().expect("a UTF-8 path")];
    let words = words.iter().copied().chain(more.iter().copied()).chain([path.to_str().expect("a UTF-8 path")]);
    Some((Machine::start(words), state))
}

/// Boots an image to its line.
pub fn boots(arch: &str, path: &Path, more: &[&str]) {
    if let Some((mut machine, _state)) = started(arch, path, more) {
        machine.expect(LINE, BOOT);
    }
}

/// The same file as a disk: `moby run` takes a name that ends in `.iso` for a CD.
pub fn as_disk(iso: &Path) -> PathBuf {
    let disk = iso.with_extension("img");
    fs::hard_link(iso, &disk).expect("a link");
    disk
}
