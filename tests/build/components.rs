//! Components in builds: what is said where one cannot be taken, and `moby pkg build` by itself.

use super::place::Place;
use super::support::machine::command;

/// What is said about an `@pkg:` that cannot be read stands at its place in the blueprint.
#[test]
fn a_folder_that_is_no_component_is_shown_in_the_blueprint() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("empty")).unwrap();
    place.write("docker/Dockerfile", "FROM scratch\n");
    place.write("broken/build.yml", "image: broken\npackges: [redis-server]\n");
    place.write("a-file", "x");
    place.write("project/at.yml", "init:\n  - \"@pkg:../empty\"\n");
    for (template, words) in [
        ("@pkg:empty", &["empty has no build.yml", "the book's chapter on components"][..]),
        ("@pkg:docker", &["docker has no build.yml", "it has a Dockerfile: a build.yml with the line"]),
        ("@pkg:no/such/folder", &["there is no folder", "no/such/folder", "relative to the blueprint's own folder"]),
        ("@pkg:a-file", &["a-file is a file, and a component is a folder"]),
        ("@pkg:broken", &["broken/build.yml:2:1", "unknown key `packges`", "did you mean `packages`?"]),
        ("@pkg:", &["needs a folder"]),
        ("@pgk:empty", &["is not a template"]),
    ] {
        place.write("at.yml", format!("init:\n  - \"{template}\"\n"));
        let ended = place.build(&["at.yml"]).with(2, words);
        assert!(ended.err.contains("at.yml:2:5"), "{}", ended.err);
        // A dry run reads components too.
        place.build(&["--dry-run", "at.yml"]).with(2, words);
    }
    // The folder is looked for from the blueprint's own.
    place.build(&["project/at.yml"]).with(2, &["project/at.yml:2:5", "has no build.yml"]);
    assert!(!place.path("images-out").exists());
}

#[test]
fn a_component_is_built_for_the_architectures_that_it_names() {
    let place = Place::new();
    place.write("only/build.yml", "image: only\narches: [amd64]\nfiles:\n  - {path: etc/x, contents: x}\n");
    place.write("only.yml", "init: [\"@pkg:only\"]\n");
    let words = &["only", "cannot be built for arm64", "arches: [amd64]"];
    place.moby(["pkg", "build", "--arch", "arm64", "only"]).with(2, words);
    place.moby(["pkg", "build", "--platforms", "linux/arm64", "only"]).with(2, words);
    place.moby(["build", "--arch", "arm64", "only.yml"]).with(2, words);
    place.moby(["pkg", "build", "--arch", "amd64", "only"]).well();
    place.build(&["-f", "tar", "only.yml"]).well();
    assert_eq!(place.names("images-out"), ["only.tar"]);
}

/// The image in the store was damaged, or a part of it is gone: it is built again.
#[test]
fn a_component_that_is_damaged_in_the_store_is_built_again() {
    let place = Place::new();
    place.write("x/build.yml", "image: x\nfiles:\n  - {path: etc/x, contents: text of x}\n");
    place.write("x.yml", "init: [\"@pkg:x\"]\n");
    place.build(&["-f", "tar", "x.yml"]).well();
    let good = place.read("images-out/x.tar");
    for damage in ["gone", "flipped"] {
        let _ = std::fs::remove_dir_all(place.path("store/derived"));
        for name in place.names("store/blobs/sha256") {
            let path = place.path(format!("store/blobs/sha256/{name}"));
            if damage == "gone" {
                std::fs::remove_file(path).unwrap();
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
        }
        let ended = place.build(&["-f", "tar", "x.yml"]).well();
        assert_eq!(ended.err.contains("is damaged"), damage == "flipped", "{}", ended.err);
        assert!(place.read("images-out/x.tar") == good, "{damage}");
    }
}

#[test]
fn folders_that_pkg_build_cannot_take() {
    let place = Place::new();
    place.write("docker/Dockerfile", "FROM scratch\n");
    place.write("source/build.yml", "image: source\nfiles:\n  - {path: a, source: not-there}\n");
    place.write("cargo/build.yml", "image: cargo\ncargo: {package: x, path: ../nowhere}\n");
    place.write("big/build.yml", vec![b'#'; 2 << 20]);
    place.write("bytes/build.yml", b"image: \xff\n");
    place.write("users/build.yml", "image: users\nusers:\n  - {name: a, uid: 1}\n  - {name: b, uid: 1}\n");
    for (folder, words) in [
        ("docker", &["Dockerfile"][..]),
        ("nowhere", &["there is no folder nowhere"]),
        ("source", &["source/build.yml:3:", "not-there"]),
        ("cargo", &["cargo/build.yml:2:", "nowhere"]),
        ("big", &["larger than"]),
        ("bytes", &["not UTF-8"]),
        ("users", &["\"a\" and \"b\" have the same id 1"]),
    ] {
        let ended = place.moby(["pkg", "build", folder]);
        assert_eq!(ended.status, Some(2), "{folder}: {}", ended.err);
        for word in words {
            assert!(ended.err.contains(word), "{folder}: \"{word}\" is not in:\n{}", ended.err);
        }
    }
}

/// Against the machine's own Debian archive, where it has one.
#[test]
fn a_package_that_is_not_there_is_named_with_those_that_are_like_it() {
    let place = Place::new();
    place.write("like/build.yml", "image: like\npackages: [busybox-statc]\n");
    let mut build = command(["pkg", "build"]);
    let output = build.arg(place.path("like")).output().unwrap();
    let ended = super::place::Ended::of(output);
    if ended.status == Some(4) && std::env::var_os("CI").is_none() {
        eprintln!("left out: no Debian archive can be reached: {}", ended.err);
        return;
    }
    let words = ["like/build.yml", "there is no package \"busybox-statc\"", "busybox-static"];
    ended.with(2, &words);
}
