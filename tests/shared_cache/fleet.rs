//! Several builders with one cache.

use std::process::Stdio;

use crate::builders::{Timings, build, from, machine, names, same, to};
use crate::place::{Ended, Place};
use crate::process::DebianRegistry;

/// `--offline` too: with a folder as the cache nothing else is needed.
#[test]
fn a_fresh_machine_makes_nothing_out_of_a_folder() {
    let (first, second) = (machine("x"), machine("x"));
    let cache = first.path("cache");
    // Nothing is there yet, which is said, and is no mistake.
    let (timings, said) = build(&first, &[&from(&cache), &to(&cache)]);
    assert!(said.contains("there is nothing yet") && said.contains("7 of 7 entries are new"), "{said}");
    assert_eq!((timings.made("compress") > 4, timings.made("component")), (true, 3));
    let (timings, said) = build(&second, &["--offline", &format!("{},trust=components", from(&cache))]);
    timings.nothing_made();
    assert!(!said.contains("warning"), "{said}");
    same(&first, &second);
    // What is there is not sent again, by whomever.
    for place in [&first, &second] {
        let (_, said) = build(place, &[&to(&cache)]);
        assert!(said.contains("0 of 7 entries are new"), "{said}");
    }
    // Nothing new stays in the store: what was fetched is what would have been made.
    let kinds = second.names("store/derived");
    assert_eq!(kinds, ["cpio-3", "cpio-3-digest", "index-1", "output-1"]);
    let held = |place: &Place| [place.names("store/blobs/sha256"), place.names("store/derived/cpio-3")];
    assert_eq!(held(&first), held(&second));
    // One component changed: only it and its archive are made.
    let third = machine("y");
    let (timings, _) = build(&third, &[&format!("{},trust=components", from(&cache))]);
    assert_eq!((timings.made("component"), timings.made("compress")), (1, 2), "the task and the archive");
}

/// What a cache has of components nothing vouches for, unless the lock names it.
#[test]
fn components_need_a_lock_or_trust() {
    let (first, second, third) = (machine("x"), machine("x"), machine("x"));
    let cache = first.path("cache");
    build(&first, &[&to(&cache)]);
    let (timings, said) = build(&second, &[&from(&cache)]);
    assert!(said.contains("has an image of moby/big") && said.contains("nothing vouches for"), "{said}");
    // The archives are looked through, and need no trust.
    assert_eq!((timings.made("component"), timings.made("compress")), (3, 0));
    first.moby(["lock", "--arch", "amd64", "at.yml"]).well();
    third.write("at.lock", first.read("at.lock"));
    let (timings, _) = build(&third, &["--locked", &from(&cache)]);
    timings.nothing_made();
    same(&first, &third);
    // Images only where they are wanted.
    let small = first.path("small-cache");
    build(&first, &[&format!("{},mode=min", to(&small))]);
    assert!(names(&small).iter().all(|(name, _)| name.starts_with("cpio-3-")));
}

/// A component with a program of its own.
fn program(place: &Place, folder: &str, name: &str, more: &str) {
    let recipe = format!("image: {name}\ncargo: {{path: source, package: tool, binary: tool}}\n{more}");
    place.write(&format!("{folder}/build.yml"), recipe);
    place.write(
        &format!("{folder}/source/Cargo.toml"),
        "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    let lock = "version = 4\n\n[[package]]\nname = \"tool\"\nversion = \"0.1.0\"\n";
    place.write(&format!("{folder}/source/Cargo.lock"), lock);
    place.write(&format!("{folder}/source/src/main.rs"), "fn main() { println!(\"tool\") }\n");
}

/// A loader that a lock names comes out of the cache like what the blueprint names: nothing is compiled or downloaded,
/// and nothing is taken on trust.
#[test]
fn locked_loaders_come_from_the_cache() {
    let arch = moby::Arch::host().unwrap().to_string();
    let with_loaders = || {
        let place = machine("x");
        for loader in moby::lock::LOADERS {
            let name = loader.strip_prefix("components/").unwrap();
            place.write(&format!("{loader}/build.yml"), format!("image: {name}\nfiles: [{{path: /x, contents: x}}]\n"));
        }
        // The one that this format needs is compiled.
        program(&place, "components/stage1", "stage1", "files: [{path: /init, contents: init, mode: \"0755\"}]\n");
        place
    };
    let (first, second, third) = (with_loaders(), with_loaders(), with_loaders());
    let cache = first.path("cache");
    let home = std::env::var_os("HOME").unwrap_or_default();
    let mut lock = first.command(["lock", "--loaders", "--arch", &arch, "at.yml"]);
    Ended::of(lock.env("HOME", &home).output().unwrap()).well();
    let build = |place: &Place, arguments: &[&str]| {
        let mut command = place.command(["build", "--arch", &arch, "--timings", "-f", "kernel+squashfs", "--locked"]);
        command.args(arguments).arg("at.yml").env("PATH", "/nonexistent").env("HOME", "/nonexistent");
        Ended::of(command.output().unwrap())
    };
    build(&first, &[&to(&cache)]).well();
    let manifest = {
        let text = String::from_utf8(first.read("at.lock")).unwrap();
        let lock = moby::lock::LockFile::parse("at.lock", text).unwrap();
        lock.loaders["docker.io/moby/stage1"].platforms[&moby::Arch::host().unwrap()].manifest.unwrap()
    };
    assert!(names(&cache).iter().any(|(name, _)| *name == format!("image-{}", manifest.hex())));
    second.write("at.lock", first.read("at.lock"));
    let ended = build(&second, &["--offline", &from(&cache)]).well();
    Timings::read(&second).nothing_made();
    assert!(!ended.err.contains("warning") && !ended.err.contains("nothing vouches"), "{}", ended.err);
    for name in ["at-kernel", "at-initrd.img", "at-cmdline", "at-squashfs.img"] {
        let path = format!("images-out/{name}");
        assert!(first.read(&path) == second.read(&path), "{name}");
    }
    // Another image in its place is not what the lock names: it is not taken, and the right one is made here.
    let tag = format!("image-{}", manifest.hex());
    let path = cache.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let is = |entry: &serde_json::Value, name: &str| entry["annotations"].to_string().contains(name);
    let other = entries.iter().find(|entry| is(entry, "image-") && !is(entry, &tag)).unwrap()["digest"].clone();
    entries.iter_mut().find(|entry| is(entry, &tag)).unwrap()["digest"] = other;
    std::fs::write(&path, index.to_string()).unwrap();
    third.write("at.lock", first.read("at.lock"));
    let mut command = third.command(["build", "--arch", &arch, "--timings", "-f", "kernel+squashfs", "--locked"]);
    command.args(["--offline", &from(&cache), "at.yml"]).env("HOME", &home);
    let ended = Ended::of(command.output().unwrap()).well();
    assert!(
        ended.err.contains("has an image of moby/stage1") && ended.err.contains("nothing vouches"),
        "{}",
        ended.err
    );
    assert_eq!(Timings::read(&third).made("component"), 1, "{}", ended.err);
    assert!(first.read("images-out/at-initrd.img") == third.read("images-out/at-initrd.img"));
}

/// A component with a program needs a compiler once in the fleet.
#[test]
fn a_program_is_compiled_once() {
    let program = |place: &Place| program(place, "tool", "tool", "");
    let (first, second) = (Place::in_target(), Place::in_target());
    program(&first);
    program(&second);
    let cache = first.path("cache");
    let arch = moby::Arch::host().unwrap().to_string();
    let pkg = |place: &Place, cache: &str| {
        let mut command = place.command(["pkg", "build", "--arch", &arch, cache, "tool"]);
        // The compiler is found by the home folder.
        command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
        command
    };
    let ended = Ended::of(pkg(&first, &to(&cache)).output().unwrap()).well();
    assert!(String::from_utf8_lossy(&ended.out).trim_end().ends_with(" built"), "{}", ended.err);
    let mut command = pkg(&second, &format!("{},trust=components", from(&cache)));
    let again = Ended::of(command.env("PATH", "/nonexistent").env("HOME", "/nonexistent").output().unwrap()).well();
    let digest = |ended: &Ended| String::from_utf8_lossy(&ended.out).split(' ').nth(1).unwrap().to_owned();
    assert_eq!(digest(&ended), digest(&again));
    assert!(String::from_utf8_lossy(&again.out).trim_end().ends_with(" there already"));
}

/// Two builders with parts in common fill one cache at the same time, twice; nothing of either is lost.
#[test]
fn two_builders_fill_a_cache_at_once() {
    let registry = DebianRegistry::start();
    let options = registry.options();
    let password = options.docker_config.unwrap();
    let authority = registry.authority();
    let reference = format!("type=registry,ref={}/team/cache:main", registry.host());
    let folder = tempfile::tempdir().unwrap();
    let local = [from(&folder.path().join("c")), to(&folder.path().join("c"))];
    let remote = [format!("--cache-from={reference}"), format!("--cache-to={reference}")];
    for [from, to] in [local, remote] {
        let builders = [machine("x"), machine("y")];
        let command = |place: &Place, cache: &str| {
            let mut command = place.command(["build", "--arch", "amd64", "-f", "kernel+initrd", "--timings", cache]);
            command.arg("--cert-file").arg(&authority).arg("at.yml");
            command.env("DOCKER_CONFIG", &password).env("PATH", "/nonexistent");
            command
        };
        let start = |place: &Place| {
            let mut command = command(place, &to);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<_> = builders.iter().map(start).collect();
        for child in running {
            Ended::of(child.wait_with_output().unwrap()).well();
        }
        for (variant, first) in ["x", "y"].into_iter().zip(&builders) {
            let fresh = machine(variant);
            let ended = Ended::of(command(&fresh, &format!("{from},trust=components")).output().unwrap()).well();
            let timings: serde_json::Value = serde_json::from_slice(&fresh.read("images-out/at-timings.json")).unwrap();
            for stage in ["compress", "component"] {
                assert_eq!(timings["stages"][stage]["made"], 0, "{stage}: {}", ended.err);
            }
            same(first, &fresh);
        }
    }
    // Without the password nothing can be read, which stops nobody, or written, which is an error.
    let stranger = machine("x");
    let run = |cache: String| {
        let mut command = stranger.command(["build", "--arch", "amd64", "-f", "kernel+initrd", &cache]);
        command.arg("--cert-file").arg(&authority).arg("at.yml");
        Ended::of(command.output().unwrap())
    };
    let ended = run(format!("--cache-from={reference}")).well();
    assert_eq!(ended.err.matches("is of no help").count(), 1, "{}", ended.err);
    let ended = run(format!("--cache-to={reference}")).with(4, &["sending to the cache", "docker login"]);
    assert!(stranger.path("images-out/at-initrd.img").exists(), "{}", ended.err);
    let ended = run(format!("--cache-to={reference},ignore-error=true")).well();
    assert!(ended.err.contains("warning: sending to the cache"), "{}", ended.err);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = machine("x");
    for (arguments, words) in [
        (&["--cache-from", "type=s3,bucket=b"][..], &["no cache of type s3", "registry and local"][..]),
        (&["--cache-to", "type=local,src=x"], &["type=local needs dest"]),
        (&["--cache-from", "x/y:z,trust=yes"], &["is not NAME=VALUE"]),
    ] {
        let ended = place.build(&[arguments, &["at.yml"]].concat());
        assert_eq!(ended.status, Some(2), "{}", ended.err);
        words.iter().for_each(|word| assert!(ended.err.contains(word), "{}", ended.err));
    }
    place.build(&["--offline", "--cache-to", "x.example/y", "at.yml"]).with(2, &["with --offline"]);
    // A file where the folder should be, and a folder of something else.
    place.write("file", "x");
    place.write("other/index.json", "nonsense");
    place.build(&["--cache-from", "type=local,src=other", "at.yml"]).with(3, &["no index of an image layout"]);
    place.build(&["-f", "kernel+initrd", "--cache-to", "type=local,dest=file", "at.yml"]);
    assert_eq!(place.read("file"), b"x");
}
