//! Disks with two slots, booted: an update from inside, a good boot, an update that does not work, and the way back.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::machine::{BOOT, Machine, available, moby};

fn build(version: u8, dir: &Path) -> PathBuf {
    let (name, own) = (format!("version{version}"), format!("tests/boot/slots-{version}.yml"));
    let dir_text = dir.to_str().unwrap();
    let arguments = ["build", "--arch", "amd64", "--dir", dir_text, "--name", &name, "--format", "raw-efi"];
    moby(arguments.iter().chain(&["tests/boot/slots.yml", own.as_str()])).succeeded();
    dir.join(format!("{name}-efi.img"))
}

/// Tools that are not ours look at the disk that was changed.
fn judge(disk: &Path, dir: &Path) {
    if available("qemu-img") && Path::new("/usr/sbin/sgdisk").is_file() {
        let output = Command::new("/usr/sbin/sgdisk").arg("-v").arg(disk).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("No problems found"), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let info = Command::new("/usr/sbin/sgdisk").args(["-i", "1"]).arg(disk).output().unwrap();
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        let size =
            info.lines().find_map(|line| line.strip_prefix("Partition size: ")?.split(' ').next()?.parse::<u64>().ok());
        let mut file = std::fs::File::open(disk).unwrap();
        file.seek(SeekFrom::Start(1 << 20)).unwrap();
        let esp = dir.join("esp.fat");
        let mut out = std::fs::File::create(&esp).unwrap();
        std::io::copy(&mut file.take(size.unwrap() * 512), &mut out).unwrap();
        let output = Command::new("/usr/sbin/fsck.fat").arg("-n").arg(&esp).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Seven boots in one machine.
#[test]
fn an_update_a_bad_update_and_the_way_back() {
    if !available("qemu-system-x86_64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = [1, 2, 3].map(|version| build(version, dir.path()));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let timeout = (BOOT * 10).as_secs().to_string();
    let state = text(&dir.path().join("state"));
    let (second, third) = (text(&second), text(&third));
    let arguments = ["--arch", "amd64", "--timeout", &timeout, "--state", &state, "--disk", &second, "--disk", &third];
    let first_text = text(&first);
    // `moby run` ends a machine that restarts; the last word counts for QEMU.
    let restarts = [first_text.as_str(), "--", "-action", "reboot=reset"];
    let mut machine = Machine::start(arguments.iter().chain(&restarts));
    machine.expect("slots: version 1", BOOT);
    machine.expect("a good boot: moby_1+2-1.efi is moby_1.efi now", BOOT);
    machine.expect("slot B: moby_2+3.efi", BOOT);
    machine.expect("slots: version 2", BOOT);
    machine.expect("a good boot: moby_2+2-1.efi is moby_2.efi now", BOOT);
    machine.expect("slot A: moby_3+3.efi", BOOT);
    for _ in 0..3 {
        machine.expect("slots: version 3", BOOT);
    }
    machine.expect("slots: version 2", BOOT);
    machine.expect("moby_2.efi was good before", BOOT);
    machine.expect("the new image is in slot A already, as moby_3+0-3.efi", BOOT);
    let console = machine.console();
    assert_eq!(console.matches("slots: version 3").count(), 3, "{console}");
    drop(machine);
    let shown = moby(["update", "show", "--disk", &first_text]).succeeded().stdout;
    assert!(shown.contains("slot A: generation 3, failed 3 times"), "{shown}");
    assert!(shown.contains("slot B: generation 2, good"), "{shown}");
    assert!(shown.contains("starts next: moby_2.efi"), "{shown}");
    judge(&first, dir.path());
}

/// The same without a machine: what a factory or a test does.
#[test]
fn updates_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let [disk, second] = [1, 2].map(|version| build(version, dir.path()));
    let disk_text = disk.to_str().unwrap();
    let shown = moby(["update", "show", "--disk", disk_text]).succeeded().stdout;
    assert!(
        shown.contains("slot A: generation 1, on trial, 3 tries left") && shown.contains("slot B: unused"),
        "{shown}"
    );
    let staged = moby(["update", "stage", second.to_str().unwrap(), "--disk", disk_text]).succeeded().stdout;
    assert!(staged.starts_with("slot B: moby_2+3.efi, root hash "), "{staged}");
    judge(&disk, dir.path());
    let again = moby(["update", "stage", second.to_str().unwrap(), "--disk", disk_text]);
    assert_eq!(again.status, Some(3), "{}", again.stderr);
    assert!(again.stderr.contains("moby_2+3.efi") || again.stderr.contains("nothing to update"), "{}", again.stderr);
}

/// A disk that something else has is left alone.
#[test]
fn disks_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.img");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let disk_text = disk.to_str().unwrap();
    // Another update: it has the disk while it waits for the rest of its image.
    let mut other = Command::new(env!("CARGO_BIN_EXE_moby"))
        .args(["update", "stage", "-", "--disk", disk_text])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let refused = || moby(["update", "reset-data", "--disk", disk_text]);
    let message = "another program has locked the disk";
    let deadline = Instant::now() + Duration::from_secs(60);
    while !refused().stderr.contains(message) {
        assert!(Instant::now() < deadline, "{}", refused().stderr);
    }
    assert_eq!(refused().status, Some(3));
    drop(other.stdin.take());
    assert_eq!(other.wait().unwrap().code(), Some(3));
    assert!(!refused().stderr.contains(message), "{}", refused().stderr);
    // A machine that has not even started.
    if !available("qemu-system-x86_64") {
        return;
    }
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-S", "-display", "none", "-nodefaults", "-drive", &format!("if=ide,format=raw,file={disk_text}")])
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = refused();
    while !seen.stderr.contains(message) && Instant::now() < deadline {
        seen = refused();
    }
    machine.kill().unwrap();
    machine.wait().unwrap();
    assert!(seen.stderr.contains(message), "{}", seen.stderr);
    let content = std::fs::read(&disk).unwrap();
    assert!(content.iter().all(|byte| *byte == 0));
}

/// A data partition: made, grown with the disk, reset.
#[test]
fn what_is_written_stays() {
    if !available("qemu-system-x86_64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir_text = dir.path().to_str().unwrap();
    let arguments = ["build", "--arch", "amd64", "--dir", dir_text, "--format", "raw-efi", "tests/boot/data.yml"];
    moby(arguments).succeeded();
    let disk = dir.path().join("data-efi.img");
    let disk_text = disk.to_str().unwrap();
    let content = disk.metadata().unwrap().len();
    let boot = |expected: &[&str]| {
        let state = dir.path().join("state");
        let timeout = (BOOT * 3).as_secs().to_string();
        let mut machine =
            Machine::start(["--arch", "amd64", "--timeout", &timeout, "--state", state.to_str().unwrap(), disk_text]);
        expected.iter().for_each(|text| machine.expect(text, BOOT));
        assert_eq!(machine.wait(BOOT), 0, "{}", machine.console());
    };
    let grow =
        |more: u64| std::fs::File::options().write(true).open(&disk).unwrap().set_len(content + (more << 20)).unwrap();
    // What a larger disk has behind the image.
    grow(100);
    boot(&[
        "making partition 4",
        "formatting /dev/vda4",
        "is mounted on /var",
        "machine: /dev/vda4 /var ext4 rw,nosuid,nodev,noexec",
        "container: /dev/vda4 /var ext4 rw,nosuid,nodev,",
        "data: boot 1, ",
    ]);
    grow(200);
    boot(&["partition 4 of vda grows to ", "growing the file system", "is mounted on /var", "data: boot 2, "]);
    let asked = moby(["update", "reset-data", "--disk", disk_text]).succeeded().stdout;
    assert_eq!(asked, "the next boot formats partition 4\n");
    boot(&["formatting /dev/vda4", "is mounted on /var", "data: boot 1, "]);
    let table = Command::new("/usr/sbin/sgdisk").arg("-v").arg(&disk).output();
    if let Ok(table) = table {
        let text = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(text.contains("No problems found"), "{text}");
    }
}

/// Before anything is fetched or built.
#[test]
fn encryption_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blueprint = dir.path().join("secret.yml");
    std::fs::write(&blueprint, "root: {}\ndisk: {data: {encrypt: tpm2}}\n").unwrap();
    let refused = moby(["build", "--dir", dir.path().to_str().unwrap(), blueprint.to_str().unwrap()]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("`encrypt: tpm2` is not made yet"), "{}", refused.stderr);
}
