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

/// The blueprint of those formats whose parts the cloud kernel does not have.
const RASPBERRY_PI: &str = "tests/boot/raspberry-pi.yml";

/// Every format of an architecture, in rounds in which no two write the same file; and the blueprint that has what the
/// formats of a round need.
fn rounds<'a>(arch: &str, blueprint: &'a str) -> Vec<(&'a str, String)> {
    let arch: Arch = arch.parse().unwrap();
    let mut rounds: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
    for row in Format::ALL.iter().filter(|row| row.arches.contains(&arch)) {
        let blueprint = if row.name.starts_with("rpi") { RASPBERRY_PI } else { blueprint };
        let clashes = |suffixes: &Vec<&str>| row.suffixes.iter().any(|suffix| suffixes.contains(suffix));
        let fits = |(of, _, suffixes): &(&str, _, Vec<&str>)| *of == blueprint && !clashes(suffixes);
        let at = rounds.iter().position(fits).unwrap_or_else(|| {
            rounds.push((blueprint, Vec::new(), Vec::new()));
            rounds.len() - 1
        });
        rounds[at].1.push(row.name);
        rounds[at].2.extend(row.suffixes);
    }
    rounds.into_iter().map(|(blueprint, names, _)| (blueprint, names.join(","))).collect()
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
fn build(
    arch: &str,
    blueprint: &str,
    dir: &Path,
    mut command: impl FnMut(&str, &str),
) -> Vec<BTreeMap<String, Digest>> {
    let rounds = rounds(arch, blueprint);
    let built: Vec<_> = rounds
        .iter()
        .map(|(blueprint, formats)| {
            command(blueprint, formats);
            let found = outputs(dir);
            fs::remove_dir_all(dir).unwrap();
            // Formats of several files are in every round but that of boards.
            let least = formats.split(',').count() + usize::from(*blueprint != RASPBERRY_PI);
            assert!(found.len() >= least, "{formats}: {found:?}");
            found
        })
        .collect();
    assert!(built.len() > 1);
    built
}

fn usual(arch: &str, blueprint: &str) -> Vec<BTreeMap<String, Digest>> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    build(arch, blueprint, &out, |blueprint, formats| {
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
    let all = fs::read_dir("blueprints").unwrap().map(|entry| entry.unwrap().path());
    for blueprint in all.chain([RASPBERRY_PI.into()]) {
        fs::copy(&blueprint, to.join(blueprint.file_name().unwrap())).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished::from(output).succeeded();
}

/// Another folder, an empty store, umask, locale, time zone, date, one core.
fn elsewhere(arch: &str) {
    let blueprint = "blueprints/redis.yml";
    let expected = usual(arch, blueprint);
    let place = tempfile::Builder::new().prefix("an öther place ").tempdir().unwrap();
    blueprints(&place.path().join("deep/er/blueprints"));
    let mut words = vec!["taskset", "-c", "0"];
    if available("faketime") {
        words.extend(["faketime", "-f", "+1d"]);
    }
    let program = env!("CARGO_BIN_EXE_moby");
    let built = build(arch, blueprint, &place.path().join("out"), |blueprint, formats| {
        let build = [program, "build", "--arch", arch, "--dir", "out", "--format", formats];
        run(Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .args(words.iter().chain(&build))
            .arg(Path::new("deep/er/blueprints").join(Path::new(blueprint).file_name().unwrap()))
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
    let blueprint = "blueprints/minimal.yml";
    let expected = usual("amd64", blueprint);
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
    let built = build("amd64", blueprint, &place.path().join("out"), |blueprint, formats| {
        run(Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["build", "--arch", "amd64", "--format", formats, "--dir", "out", blueprint])
            .current_dir(place.path())
            .env("MOBY_CACHE", &store)
            .env("HOME", "/nonexistent"));
    });
    same(&built, &expected);
}
