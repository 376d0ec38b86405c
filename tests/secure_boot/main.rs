//! Keys, signatures and measurements for Secure Boot, from the command line, judged by openssl, sbverify and others.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod keys;
mod measure;
mod mistakes;
mod sign;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby::secure_boot::generate::{Generate, KeyKind};
use p256::elliptic_curve::rand_core::OsRng;
use support::machine::{Finished, available, moby};

/// A day in 2026.
const NOW: i64 = 1_790_000_000;

/// A folder of keys. RSA keys take a second each, so tests about anything else have P-256.
fn keys_at(dir: &Path, name: &str, kind: KeyKind, now: i64) -> PathBuf {
    let keys = dir.join(name);
    let request = Generate { name: name.to_owned(), kind, days: 3650, now, force: false };
    request.write(&keys, &mut OsRng).unwrap();
    keys
}

/// The real clock: the program judges by it.
fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn keys(dir: &Path, name: &str) -> PathBuf {
    keys_at(dir, name, KeyKind::P256, now())
}

/// Runs a tool that must be content; its standard output. Nothing where it is not installed.
fn tool(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<Vec<u8>> {
    if !available(program) {
        return None;
    }
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    Some(output.stdout)
}

/// An EFI program: systemd's stub, where the machine has it.
fn program() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    if !path.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "systemd-boot-efi is not installed");
        eprintln!("left out: systemd-boot-efi is not installed");
        return None;
    }
    Some(path)
}

/// Fails the test unless the program ended with a status and said this.
#[track_caller]
fn refused(finished: Finished, status: i32, text: &str) {
    assert!(
        finished.status == Some(status) && finished.stderr.contains(text),
        "status {:?} and not {status}, or not \"{text}\":\n{}",
        finished.status,
        finished.stderr
    );
}

/// Runs `moby` with paths and words.
fn run(words: &[&dyn AsRef<OsStr>]) -> Finished {
    moby(words.iter().map(|word| word.as_ref().to_owned()))
}
