//! Boots under Secure Boot: what is signed runs, what is not or was altered does not, and a TPM holds what was predicted.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::secure_boot::generate::{Generate, KeyKind};
use p256::elliptic_curve::rand_core::OsRng;
use support::machine::{BOOT, Machine, available, moby};

fn keys(dir: &Path, name: &str) -> PathBuf {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let keys = dir.join(name);
    // Debian's firmware checks RSA only.
    let request = Generate { name: name.to_owned(), kind: KeyKind::Rsa2048, days: 30, now, force: false };
    request.write(&keys, &mut OsRng).unwrap();
    keys
}

fn start(arch: &str, image: &Path, keys: &Path, state: &Path) -> Machine {
    let timeout = (BOOT * 3).as_secs().to_string();
    let words = ["--arch", arch, "--timeout", &timeout, "--snapshot", "--secure-boot"].map(std::ffi::OsStr::new);
    let paths = [keys.as_os_str(), "--state".as_ref(), state.as_os_str(), image.as_os_str()];
    Machine::start(words.into_iter().chain(paths))
}

/// The firmware does not start it, and `moby run` says so by its status.
fn refused(arch: &str, image: &Path, keys: &Path, state: &Path) {
    let mut machine = start(arch, image, keys, state);
    let status = machine.wait(BOOT);
    let console = machine.console();
    assert!(status == 3 && console.contains("Access Denied"), "status {status}; the console:\n{console}");
    assert!(!console.contains("Linux version"), "{console}");
}

fn secure(arch: &str, emulator: &str) {
    if !available(emulator) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (keys, others) = (keys(dir.path(), "keys"), keys(dir.path(), "others"));
    let build = |to: &str, formats: &str, more: &[&str]| {
        let to = dir.path().join(to);
        let words = ["build", "--arch", arch, "--format", formats, "--dir", to.to_str().unwrap()];
        moby(words.iter().chain(more).chain(&["blueprints/minimal.yml"])).succeeded();
        to
    };
    let signed = build("signed", "raw-efi,uki", &["--sign", keys.to_str().unwrap()]);
    let unsigned = build("unsigned", "uki", &[]);
    let state = dir.path().join("state");
    // A program by itself, and a disk.
    let mut machine = start(arch, &signed.join("minimal.efi"), &keys, &state);
    machine.expect("minimal: booted", BOOT);
    drop(machine);
    judge_variables(&state);
    let disk = signed.join("minimal-efi.img");
    start(arch, &disk, &keys, &state).expect("minimal: booted", BOOT);
    refused(arch, &unsigned.join("minimal.efi"), &keys, &state);
    refused(arch, &disk, &others, &state);
    // One bit of the kernel.
    let file = std::fs::File::options().read(true).write(true).open(&disk).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 30 << 20).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 30 << 20).unwrap();
    refused(arch, &disk, &keys, &state);
}

/// The variables as another program reads them. It is no package of Debian 12's, so tests do not ask for it; the firmware
/// itself is the judge that is always there.
fn judge_variables(state: &Path) {
    let stores = state.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let store = stores.into_iter().find(|path| path.to_string_lossy().contains("uefi-secure-")).unwrap();
    let Ok(output) = Command::new("virt-fw-vars").arg("--input").arg(store).arg("--print").output() else {
        eprintln!("left out: virt-fw-vars is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["PK  ", "KEK ", "db  ", "SecureBootEnable    : bool: ON", "CustomMode          : bool: off"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn amd64() {
    secure("amd64", "qemu-system-x86_64");
}

#[test]
fn arm64() {
    secure("arm64", "qemu-system-aarch64");
}

/// A TPM in software; two banks only, since the firmware hashes every program once for each.
fn tpm(dir: &Path) -> Vec<String> {
    let state = dir.join("tpm");
    std::fs::create_dir(&state).unwrap();
    let socket = state.join("socket");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    };
    let (folder, path) = (state.to_str().unwrap(), socket.to_str().unwrap());
    run("swtpm_setup", &["--tpm2", "--tpmstate", folder, "--pcr-banks", "sha1,sha256"]);
    let control = format!("type=unixio,path={path}");
    let state = format!("dir={folder}");
    run("swtpm", &["socket", "--tpm2", "--tpmstate", &state, "--ctrl", &control, "--daemon", "--terminate"]);
    let chardev = format!("socket,id=tpmc,path={path}");
    ["-chardev", &chardev, "-tpmdev", "emulator,id=tpm,chardev=tpmc", "-device", "tpm-tis,tpmdev=tpm"]
        .map(str::to_owned)
        .to_vec()
}

/// Boots an image that prints its registers. `more` is a second blueprint.
fn as_predicted(secure_boot: bool, more: &str) {
    if !["qemu-system-x86_64", "swtpm", "swtpm_setup"].into_iter().all(available) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path(), "keys");
    let keys = keys.to_str().unwrap();
    let (out, state) = (dir.path().to_str().unwrap(), dir.path().join("state"));
    let second = dir.path().join("more.yml");
    std::fs::write(&second, more).unwrap();
    let words = ["build", "--arch", "amd64", "--format", "raw-efi", "--sign", keys, "--dir", out, "--name", "pcrs"];
    let blueprints = ["tests/boot/pcrs.yml", second.to_str().unwrap()];
    moby(words.iter().chain(blueprints.iter().take(if more.is_empty() { 1 } else { 2 }))).succeeded();
    let image = dir.path().join("pcrs-efi.img");
    let (image, state) = (image.to_str().unwrap(), state.to_str().unwrap());
    let mut measure = vec!["measure", image];
    let mut run = vec!["--arch", "amd64", "--uefi", "--snapshot", "--timeout", "600", "--state", state];
    if secure_boot {
        measure.extend(["--keys", keys]);
        run.extend(["--secure-boot", keys]);
    }
    let predicted: serde_json::Value = serde_json::from_str(&moby(measure).succeeded().stdout).unwrap();
    let device = tpm(dir.path());
    run.extend([image, "--"]);
    run.extend(device.iter().map(String::as_str));
    let mut machine = Machine::start(run);
    machine.expect("pcr done", BOOT * 2);
    let console = machine.console();
    for bank in ["sha1", "sha256"] {
        for pcr in ["4", "7", "11", "12"] {
            let value = predicted["boots"][0]["pcrs"][pcr][bank].as_str().unwrap().to_uppercase();
            assert!(console.contains(&format!("pcr {bank} {pcr} {value}")), "PCR {pcr} is not {value}:\n{console}");
        }
    }
}

#[test]
fn a_tpm_holds_what_was_predicted_under_secure_boot() {
    as_predicted(true, "");
}

#[test]
fn a_tpm_holds_what_was_predicted_without_secure_boot() {
    as_predicted(false, "");
}

/// Two programs, of which the first hands the second its command line.
#[test]
fn a_tpm_holds_what_was_predicted_of_two_slots() {
    as_predicted(true, "root: {type: erofs}\ndisk: {slots: 2}\n");
}
