//! `--decompress-kernel`, with Debian's kernels.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::machine::{BOOT, Machine, available, moby};

/// Builds a kernel's parts, as they are and unpacked.
fn kernels(arch: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let blueprint = folder.path().join("k.yml");
    let image = format!("@pkg:{}/kernels/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(&blueprint, format!("kernel: {{image: \"{image}\"}}\n")).unwrap();
    let build = |flags: &[&str]| {
        let mut words = vec!["build", "--arch", arch, "--dir", folder.path().to_str().unwrap()];
        words.extend(flags);
        words.push(blueprint.to_str().unwrap());
        moby(words).succeeded();
        std::fs::read(folder.path().join("k-kernel")).unwrap()
    };
    (build(&[]), build(&["--decompress-kernel"]))
}

/// What Linux's scripts/extract-vmlinux does: the first place with the magic number from which a program unpacks
/// something. What follows the stream is a mistake to that program, and none here.
fn extracted(kernel: &[u8], magic: &[u8], program: &[&str]) -> Vec<u8> {
    let at = kernel.windows(magic.len()).position(|window| window == magic).unwrap();
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let rest = kernel[at..].to_vec();
    // It stops reading where its stream ends.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&rest)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[test]
fn debians_kernels_come_out_as_linux_own_script_finds_them() {
    for (name, magic, program) in [
        ("6.1-cloud", &[0x02, 0x21, 0x4c, 0x18][..], &["lz4", "-dc"][..]),
        ("6.12-cloud", &[0x28, 0xb5, 0x2f, 0xfd], &["zstd", "-dcq"]),
    ] {
        if !available(program[0]) {
            continue;
        }
        let (packed, unpacked) = kernels("amd64", name);
        assert!(unpacked.starts_with(b"\x7fELF") && unpacked.len() > packed.len());
        assert!(extracted(&packed, magic, program) == unpacked, "{name}");
    }
}

#[test]
fn a_kernel_that_is_not_packed_stays_as_it_is() {
    let (packed, unpacked) = kernels("arm64", "6.1-cloud");
    assert!(packed == unpacked && packed[0x38..0x3c] == *b"ARM\x64");
}

#[test]
fn loaders_that_need_the_packed_kernel_are_not_given_the_other() {
    for (format, part) in [("raw-efi", "booted by UEFI"), ("iso-bios", "booted by BIOS")] {
        let ran =
            moby(["build", "--arch", "amd64", "--decompress-kernel", "--format", format, "blueprints/minimal.yml"]);
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

/// QEMU starts an ELF kernel by its PVH note.
#[test]
fn an_unpacked_kernel_boots() {
    if !available("qemu-system-x86_64") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    moby(["build", "--arch", "amd64", "--dir", dir, "--decompress-kernel", "blueprints/minimal.yml"]).succeeded();
    let timeout = (BOOT * 3).as_secs().to_string();
    let mut machine = Machine::start(["--arch", "amd64", "--dir", dir, "--timeout", &timeout, "minimal"]);
    machine.expect("minimal: booted", BOOT);
}
