//! The same blueprint gives the same bytes, whoever builds it, where and when.
//!
//! One build is done as usual; the others in another folder with an empty store, another umask, locale, time zone, date
//! and number of cores, and as another user. The images of this project go through everything that could differ: package
//! lists, the compilers of both architectures, merging, tables of modules, compression on several threads.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use moby::Arch;
use moby::outputs::Format;
use moby::store::{Digest, Hasher};
use support::machine::{Finished, available, cache_dir, moby};

/// Every format of an architecture, in rounds in which no two write the same file. Without those for Raspberry Pis, whose
/// parts the cloud kernel does not have; they are made by the writers of the others.
fn rounds(arch: &str) -> Vec<String> {
    let arch: Arch = arch.parse().unwrap();
    let mut rounds: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for row in Format::ALL.iter().filter(|row| row.arches.contains(&arch) && !row.name.starts_with("rpi")) {
        let clashes = |suffixes: &Vec<&str>| row.suffixes.iter().any(|suffix| suffixes.contains(suffix));
        let at = rounds.iter().position(|(_, suffixes)| !clashes(suffixes)).unwrap_or_else(|| {
            rounds.push(Default::default());
            rounds.len() - 1
        });
        rounds[at].0.push(row.name);
        rounds[at].1.extend(row.suffixes);
    }
    rounds.into_iter().map(|(names, _)| names.join(",")).collect()
}

/// The digests of all files in a folder.
fn outputs(dir: &Path) -> BTreeMap<String, Digest> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let mut hasher = Hasher::new();
            std::io::copy(&mut fs::File::open(entry.path()).unwrap(), &mut hasher).unwrap();
            (name, hasher.finish())
        })
        .collect()
}

/// Builds as `command` does, round by round into `dir`, and gives the digests of everything.
fn build(arch: &str, dir: &Path, mut command: impl FnMut(&str)) -> Vec<BTreeMap<String, Digest>> {
    let rounds = rounds(arch);
    let built: Vec<_> = rounds
        .iter()
        .map(|formats| {
            command(formats);
            let found = outputs(dir);
            fs::remove_dir_all(dir).unwrap();
            assert!(found.len() > formats.split(',').count(), "{formats}: {found:?}");
            found
        })
        .collect();
    assert!(built.len() > 1);
    built
}

fn usual(arch: &str, blueprint: &str) -> Vec<BTreeMap<String, Digest>> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    build(arch, &out, |formats| {
        moby(["build", "--arch", arch, "--format", formats, "--dir", out.to_str().unwrap(), blueprint]).succeeded();
    })
}

/// Fails with the names of the files that differ.
#[track_caller]
fn same(built: &[BTreeMap<String, Digest>], expected: &[BTreeMap<String, Digest>]) {
    let names = |all: &[BTreeMap<String, Digest>]| {
        all.iter().flatten().map(|(name, digest)| format!("{name} {digest}")).collect::<BTreeSet<_>>()
    };
    let (built, expected) = (names(built), names(expected));
    let differ: Vec<_> = built.symmetric_difference(&expected).collect();
    assert!(differ.is_empty(), "{differ:#?}");
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
    let built = build(arch, &place.path().join("out"), |formats| {
        let build = [program, "build", "--arch", arch, "--dir", "out", "--format", formats];
        run(Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .args(words.iter().chain(&build))
            .arg("deep/er/blueprints/redis.yml")
            .current_dir(place.path())
            .env("MOBY_CACHE", place.path().join("store"))
            .envs([("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8"), ("TZ", "Asia/Kathmandu"), ("USER", "somebody")])
            .env("TMPDIR", place.path()));
    });
    same(&built, &expected);
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
    let built = build("amd64", &place.path().join("out"), |formats| {
        run(Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["build", "--arch", "amd64", "--format", formats, "--dir", "out", "blueprints/minimal.yml"])
            .current_dir(place.path())
            .env("MOBY_CACHE", &store)
            .env("HOME", "/nonexistent"));
    });
    same(&built, &expected);
}
