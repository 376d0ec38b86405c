//! The same blueprint gives the same bytes, whoever builds it, where and when.
//!
//! One build is done as usual; the others in another folder with an empty store, another umask, locale, time zone, date
//! and number of cores, and as another user. The images of this project go through everything that could differ: package
//! lists, the compilers of both architectures, merging, tables of modules, compression on several threads.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use moby::store::Digest;
use support::machine::{Finished, available, cache_dir, moby};

const FORMATS: &str = "kernel+initrd,tar,docker,tar-kernel-initrd,uki,raw-efi,squashfs,erofs,iso-efi,oci";

/// The digests of all files in a folder.
fn outputs(dir: &Path) -> BTreeMap<String, Digest> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let found: BTreeMap<_, _> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, Digest::of(&fs::read(entry.path()).unwrap()))
        })
        .collect();
    assert_eq!(found.len(), 12, "{found:?}");
    found
}

fn usual(arch: &str, blueprint: &str) -> BTreeMap<String, Digest> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    moby(["build", "--arch", arch, "--format", FORMATS, "--dir", out, blueprint]).succeeded();
    outputs(dir.path())
}

/// Blueprints alone: their `@pkg:` folders are not there, so the recipes inside the program serve.
fn blueprints(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir("blueprints").unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished::from(output).succeeded();
}

/// Another folder, an empty store, umask, locale, time zone, date, one core.
fn elsewhere(arch: &str) {
    let expected = usual(arch, "blueprints/redis.yml");
    let place = tempfile::Builder::new().prefix("an öther place ").tempdir().unwrap();
    blueprints(&place.path().join("deep/er/blueprints"));
    let mut words = vec!["taskset", "-c", "0"];
    if available("faketime") {
        words.extend(["faketime", "-f", "+1d"]);
    }
    let program = env!("CARGO_BIN_EXE_moby");
    words.extend([
        program,
        "build",
        "--arch",
        arch,
        "--format",
        FORMATS,
        "--dir",
        "out",
        "deep/er/blueprints/redis.yml",
    ]);
    run(Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .args(words)
        .current_dir(place.path())
        .env("MOBY_CACHE", place.path().join("store"))
        .envs([("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("TZ", "Asia/Kathmandu"), ("USER", "somebody")])
        .env("TMPDIR", place.path()));
    assert_eq!(outputs(&place.path().join("out")), expected);
}

#[test]
fn built_elsewhere_it_is_the_same_on_amd64() {
    elsewhere("amd64");
}

#[test]
fn built_elsewhere_it_is_the_same_on_arm64() {
    elsewhere("arm64");
}

/// Another user, who has the components but nothing that was derived from them.
#[test]
fn built_by_somebody_else_it_is_the_same() {
    if !rustix::process::getuid().is_root() {
        eprintln!("left out: only root can become somebody else");
        return;
    }
    let expected = usual("amd64", "blueprints/minimal.yml");
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    blueprints(&place.path().join("blueprints"));
    let program = place.path().join("moby");
    fs::copy(env!("CARGO_BIN_EXE_moby"), &program).unwrap();
    let store = place.path().join("store");
    fs::create_dir(&store).unwrap();
    for name in ["blobs", "index.json", "oci-layout"] {
        run(Command::new("cp").args(["-r", "--reflink=auto"]).arg(cache_dir().join(name)).arg(&store));
    }
    run(Command::new("chown").args(["-R", "65534:65534"]).arg(place.path()));
    run(Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["build", "--arch", "amd64", "--format", FORMATS, "--dir", "out", "blueprints/minimal.yml"])
        .current_dir(place.path())
        .env("MOBY_CACHE", &store)
        .env("HOME", "/nonexistent"));
    assert_eq!(outputs(&place.path().join("out")), expected);
}
