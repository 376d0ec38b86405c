//! `docker-archive:`, `oci:` and `oci-archive:` in place of a reference.

use moby::store::manifest::media_type;

use crate::bench::{Bench, members};
use crate::fixtures::{Images, Layer, Packing};
use crate::server::Server;

fn images() -> Images {
    let mut images = Images::default();
    let mut manifests = Vec::new();
    for arch in ["amd64", "arm64"] {
        let layer = Layer::new().file("which", arch.as_bytes()).bytes();
        manifests.push(images.image("", &[layer], Packing::Gzip, arch));
    }
    images.index("app/web:1", media_type::INDEX, manifests);
    images.image("app/one:1", &[Layer::new().file("one", b"one").bytes()], Packing::Zstd, "amd64");
    images
}

/// A bench with `images/web.tar` (Docker), `images/web-oci.tar`, `images/layout` and `one.tar`, made by the program
/// itself, and the server that the images come from.
fn bench() -> (Bench, Server) {
    let server = Server::honest(images());
    let bench = Bench::new("");
    let (web, one) = (format!("{}/app/web:1", server.host()), format!("{}/app/one:1", server.host()));
    bench.works(&["cache", "pull", "--platform", "all", &web]);
    bench.works(&["cache", "pull", "--arch", "amd64", &one]);
    std::fs::create_dir(bench.path("images")).unwrap();
    let export = |image: &str, format: &str, platform: &str, file: &str| {
        let words = ["cache", "export", image, "--format", format, "--platform", platform, "-o", file];
        bench.works(&words);
    };
    export(&web, "docker", "linux/amd64", "images/web.tar");
    export(&web, "oci", "all", "images/web-oci.tar");
    export(&one, "oci", "linux/amd64", "one.tar");
    let layout = tar::Archive::new(std::fs::File::open(bench.path("images/web-oci.tar")).unwrap());
    let mut layout = layout;
    layout.unpack(bench.path("images/layout")).unwrap();
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    (bench, server)
}

/// What the container's root of the service `web` says that it is for.
fn which(tar: &[u8]) -> String {
    String::from_utf8(members(tar)["containers/services/web/lower/which"].3.clone()).unwrap()
}

fn blueprint(image: &str) -> String {
    format!("services:\n- name: web\n  image: {image}\n")
}

#[test]
fn every_form_gives_the_image() {
    let (bench, server) = bench();
    let asked = server.log().len();
    for image in ["docker-archive:images/web.tar", "oci-archive:images/web-oci.tar", "oci:images/layout"] {
        bench.write("web.yml", blueprint(image));
        assert_eq!(which(&bench.tar("x.tar", &["--offline"])), "amd64", "{image}");
        // The store has no name of it that a registry could have.
        let listed = bench.works(&["cache", "ls"]).out;
        assert!(!listed.contains("/app/web:1 "), "{listed}");
    }
    // Beside the blueprint, wherever the program runs; and by its name, of which the host counts as a part.
    bench.write("folder/web.yml", blueprint(&format!("oci-archive:../images/web-oci.tar:{}/app/web:1", server.host())));
    let words = ["build", "--offline", "--arch", "arm64", "--format", "tar", "-o", "arm.tar", "folder/web.yml"];
    bench.works(&words);
    assert_eq!(which(&bench.read("arm.tar")), "arm64");
    assert_eq!(server.log().len(), asked);
    assert!(bench.works(&["build", "--dry-run", "folder/web.yml"]).out.contains("oci-archive:../images/web-oci.tar"));
    // Wherever an image is named.
    bench.write("web.yml", "init: [\"oci-archive:one.tar\"]\nvolumes:\n- {name: v, image: \"oci:images/layout\", format: oci}\n- {name: w, image: \"oci-archive:one.tar\"}\n");
    let all = members(&bench.tar("y.tar", &["--offline"]));
    assert!(all.contains_key("one") && all.contains_key("containers/volumes/w/lower/one"));
    assert!(all.contains_key("containers/volumes/v/lower/index.json"));
}

#[test]
fn a_lock_has_them_by_digest() {
    let (bench, _server) = bench();
    bench.write("web.yml", blueprint("oci-archive:images/web-oci.tar"));
    bench.works(&["lock", "--offline", "web.yml"]);
    let lock = String::from_utf8(bench.read("web.lock")).unwrap();
    assert!(lock.contains("/app/web:1@sha256:") && lock.contains("amd64:") && lock.contains("arm64:"), "{lock}");
    let tar = bench.tar("one.tar", &["--locked", "--offline"]);
    // Another store, the same archive.
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    assert_eq!(bench.tar("two.tar", &["--locked", "--offline"]), tar);
    // The form does not matter, only what is in it.
    bench.write("web.yml", blueprint("oci:images/layout"));
    assert_eq!(bench.tar("three.tar", &["--locked", "--offline"]), tar);
    // Another archive under the same name has drifted.
    bench.write("web.yml", blueprint("oci-archive:images/web-oci.tar"));
    std::fs::copy(bench.path("one.tar"), bench.path("images/web-oci.tar")).unwrap();
    bench.write("images/web-oci.tar", bench.read("images/web.tar"));
    let ran =
        bench.run(&["build", "--locked", "--offline", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"]);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("is not in the lock"), "{}", ran.said);
}

#[test]
fn mistakes_have_their_places() {
    let (bench, _server) = bench();
    bench.write("junk.tar", [7; 2000]);
    bench.write("damaged.tar", {
        let mut bytes = bench.read("images/web-oci.tar");
        let at = bytes.windows(2).position(|window| window == [0x1f, 0x8b]).unwrap();
        bytes[at + 20] ^= 1;
        bytes
    });
    let ran = |image: &str| {
        bench.write("web.yml", blueprint(image));
        bench.run(&["build", "--offline", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"])
    };
    for (image, status, part) in [
        ("docker-archive:gone.tar", 2, "gone.tar is not there"),
        ("docker-archive:images/web.tar:other:1", 2, "has no image \"other:1\""),
        ("\"docker-archive:\"", 2, "the path after `:` is empty"),
        ("docker-archive:images", 2, "is a folder"),
        ("oci:./one.tar", 2, "is no folder"),
        ("oci:./images", 3, "no index.json"),
        ("oci-archive:junk.tar", 3, "junk.tar"),
        ("oci-archive:damaged.tar", 3, "does not match its digest"),
    ] {
        let ran = ran(image);
        assert_eq!(ran.status, status, "{image}: {}", ran.said);
        assert!(ran.said.contains(part) && ran.said.contains("web.yml:3:"), "{image}: {}", ran.said);
        assert!(!bench.path("x.tar").exists());
    }
    // For another machine.
    bench.write("web.yml", "init: [\"oci-archive:one.tar\"]\n");
    let ran = bench.run(&["build", "--offline", "--format", "tar", "-o", "x.tar", "--arch", "arm64", "web.yml"]);
    assert_eq!(ran.status, 2, "{}", ran.said);
    assert!(ran.said.contains("is there, but not for linux/arm64"), "{}", ran.said);
    // Of several images one has to be named.
    let path = bench.path("images/layout/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let child = serde_json::from_slice::<serde_json::Value>(
        &std::fs::read(
            bench
                .path("images/layout/blobs/sha256")
                .join(index["manifests"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap()),
        )
        .unwrap(),
    )
    .unwrap()["manifests"][0]
        .clone();
    let mut child = child;
    child["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "plain"});
    index["manifests"].as_array_mut().unwrap().push(child);
    std::fs::write(&path, index.to_string()).unwrap();
    bench.write("web.yml", blueprint("oci:images/layout"));
    let ran = bench.run(&["build", "--offline", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"]);
    assert_eq!(ran.status, 2, "{}", ran.said);
    assert!(ran.said.contains("has 2 images") && ran.said.contains(":NAME;"), "{}", ran.said);
    bench.write("web.yml", blueprint("oci:images/layout:plain"));
    assert_eq!(which(&bench.tar("plain.tar", &["--offline"])), "amd64");
}

#[test]
fn commands_take_them_too() {
    let (bench, server) = bench();
    let ran = bench.works(&["cache", "pull", "--offline", "docker-archive:images/web.tar"]);
    assert!(ran.out.starts_with(&format!("{}/app/web:1@sha256:", server.host())), "{}", ran.out);
    bench.works(&[
        "cache",
        "export",
        "oci:images/layout",
        "--format",
        "filesystem",
        "--platform",
        "linux/arm64",
        "-o",
        "root.tar",
    ]);
    assert_eq!(members(&bench.read("root.tar"))["which"].3, b"arm64");
    let ran = bench.run(&["cache", "export", "docker-archive:", "-o", "x.tar"]);
    assert_eq!(ran.status, 2);
    assert!(ran.said.contains("the path after `:` is empty"), "{}", ran.said);
}
