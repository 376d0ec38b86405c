//! Several builds at once, and builds that are killed.

use std::process::Stdio;
use std::time::Duration;

use moby::store::Store;

use super::fixtures::{Images, Packing, awkward_layers};
use super::layers::{Image, Member, layer, noise};
use super::place::{Ended, Place};
use super::server::Server;

/// Four processes start with one empty store and fetch the same images from one registry.
#[test]
fn builds_that_share_a_cold_store_all_succeed_alike() {
    let mut images = Images::default();
    images.image("app:1", &awkward_layers(), Packing::Gzip, "amd64");
    let large = layer(&[Member::file("large", &noise(1, 9_000_000)), Member::file("other", &noise(2, 3_000_000))]);
    images.image("large:1", std::slice::from_ref(&large), Packing::Zstd, "amd64");
    images.image("same:1", &[large], Packing::Docker, "amd64");
    let server = Server::honest(images);
    let host = server.host();
    let place = Place::new();
    place.write(
        "all.yml",
        format!(
            "init: [\"{host}/app:1\"]\nservices:\n  - {{name: a, image: \"{host}/large:1\"}}\n  \
             - {{name: b, image: \"{host}/same:1\"}}\n"
        ),
    );
    for round in ["cold", "warm"] {
        let builds: Vec<_> = (0..4)
            .map(|number| {
                let folder = format!("{round}-{number}");
                let arguments = ["build", "--arch", "amd64", "-f", "tar,kernel+initrd", "--dir", &folder, "all.yml"];
                place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for build in builds {
            Ended::of(build.wait_with_output().unwrap()).well();
        }
        for name in ["all.tar", "all-initrd.img"] {
            let first = place.read(&format!("cold-0/{name}"));
            for number in 0..4 {
                assert!(place.read(&format!("{round}-{number}/{name}")) == first, "{round} {number} {name}");
            }
        }
    }
    assert!(place.names("store/temporary").is_empty());
    whole(&place.store);
}

/// Every blob is what its name says.
fn whole(store: &Store) {
    for entry in std::fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let digest = moby::store::Digest::of(&std::fs::read(&path).unwrap());
        assert_eq!(path.file_name().unwrap().to_str(), Some(digest.hex().as_str()));
    }
}

/// Killed at any moment: the old output or the new one, never a part; the next build works and clears up.
#[test]
fn a_killed_build_leaves_no_part_under_the_final_name() {
    let place = Place::new();
    let data = layer(&[Member::file("a", &noise(1, 12_000_000)), Member::file("b", &noise(2, 12_000_000))]);
    Image::new("docker.io/library/large:1", vec![data]).put(&place.store);
    place.write("large.yml", "init: [\"large:1\"]\n");
    place.build(&["-f", "tar,kernel+initrd", "--dir", "good", "large.yml"]).well();
    let good = ["large.tar", "large-initrd.img"].map(|name| (name, place.read(&format!("good/{name}"))));
    let mut killed = 0;
    for step in 0..24 {
        let _ = std::fs::remove_dir_all(place.path("store/derived"));
        let old = step % 2 == 0;
        for (name, _) in &good {
            let path = place.path(format!("out/{name}"));
            let _ = std::fs::remove_file(&path);
            if old {
                place.write(&format!("out/{name}"), "old");
            }
        }
        let arguments = ["build", "--arch", "amd64", "-f", "tar,kernel+initrd", "--dir", "out", "large.yml"];
        let mut build = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(25 * step));
        build.kill().unwrap();
        killed += usize::from(!build.wait().unwrap().success());
        for (name, expected) in &good {
            match std::fs::read(place.path(format!("out/{name}"))) {
                Ok(bytes) => assert!(bytes == *expected || (old && bytes == b"old"), "{step}: {name} is a part"),
                Err(_) => assert!(!old, "{step}: the old {name} is gone"),
            }
        }
    }
    assert!(killed > 0, "no build was killed before its end");
    place.build(&["-f", "tar,kernel+initrd", "--dir", "out", "large.yml"]).well();
    for (name, expected) in &good {
        assert!(place.read(&format!("out/{name}")) == *expected, "{name}");
    }
    assert_eq!(place.names("out"), ["large-initrd.img", "large.tar"], "what killed builds left is still there");
    whole(&place.store);
}
