//! Volumes with `format: oci`.

use std::path::Path;
use std::process::Command;

use moby::store::Digest;
use moby::store::manifest::media_type;

use crate::bench::{Bench, members};
use crate::fixtures::{Images, Layer, Packing, noise};
use crate::server::Server;

const LOWER: &str = "containers/volumes/images/lower";

/// An index for three platforms, one of them of an architecture that nothing is built for here, and an attestation.
fn images() -> Images {
    let mut images = Images::default();
    let mut manifests = Vec::new();
    for (number, (arch, variant)) in [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v7"))].iter().enumerate() {
        let layer = Layer::new().file("which", &noise(number as u64, 30_000)).bytes();
        let packing = [Packing::Gzip, Packing::Zstd, Packing::Plain][number];
        let mut descriptor = images.image("", &[layer], packing, arch);
        if let Some(variant) = variant {
            descriptor["platform"]["variant"] = (*variant).into();
        }
        manifests.push(descriptor);
    }
    images.index("app/arm:1", media_type::INDEX, manifests[2..].to_vec());
    let mut attestation = images.image("", &[Layer::new().file("sbom", b"{}").bytes()], Packing::Plain, "unknown");
    attestation["platform"] = serde_json::json!({"architecture": "unknown", "os": "unknown"});
    manifests.push(attestation);
    images.index("app/multi:1", media_type::INDEX, manifests);
    images.image("app/single:1", &[Layer::new().file("single", b"one").bytes()], Packing::Docker, "amd64");
    images
}

fn blueprint(host: &str, more: &str) -> String {
    format!("volumes:\n- name: images\n  image: {host}/app/multi:1\n  format: oci\n{more}")
}

/// Puts the files of a volume's folder on disk.
fn unpack(tar: &[u8], folder: &Path) {
    for (path, (kind, _, _, content)) in members(tar) {
        let Some(path) = path.strip_prefix(LOWER) else { continue };
        let path = folder.join(path.trim_start_matches('/'));
        match kind {
            tar::EntryType::Directory => std::fs::create_dir_all(path).unwrap(),
            _ => std::fs::write(path, content).unwrap(),
        }
    }
}

/// The blobs that a volume has.
fn blobs(tar: &[u8]) -> Vec<Digest> {
    let folder = format!("{LOWER}/blobs/sha256/");
    let named = members(tar).into_iter().filter_map(|(path, (kind, mode, mtime, content))| {
        let digest = Digest::from_hex(path.strip_prefix(&folder)?).unwrap();
        assert_eq!((kind, mode, mtime, Digest::of(&content)), (tar::EntryType::Regular, 0o644, 0, digest));
        Some(digest)
    });
    named.collect()
}

#[test]
fn the_platforms_are_kept_byte_for_byte() {
    let images = images();
    let server = Server::honest(images.clone());
    let bench = Bench::new(&blueprint(&server.host(), "  platforms: [linux/arm64, linux/arm/v7]\n  readonly: true\n"));
    let tar = bench.tar("one.tar", &[]);
    // Two images of three blobs, and the index.
    let there = blobs(&tar);
    assert_eq!(there.len(), 7);
    assert!(there.iter().all(|digest| images.blobs.contains_key(digest)));
    let all = members(&tar);
    let (_, mode, mtime, layout) = &all[&format!("{LOWER}/oci-layout")];
    assert_eq!(
        (*mode, *mtime, layout.as_slice()),
        (0o644, 0, b"{\n\t\t\"imageLayoutVersion\": \"1.0.0\"\n\t}".as_slice())
    );
    assert_eq!((all[&format!("{LOWER}/blobs/sha256")].1, all[&format!("{LOWER}/blobs/sha256")].2), (0o755, 0));
    let index = images.tags["app/multi:1"];
    let expected = format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{kind}\",\n   \"manifests\": [\n      {{\n         \"mediaType\": \
         \"{kind}\",\n         \"size\": {},\n         \"digest\": \"{index}\",\n         \"annotations\": {{\n            \
         \"org.opencontainers.image.ref.name\": \"{}/app/multi:1\"\n         }}\n      }}\n   ]\n}}",
        images.blobs[&index].len(),
        server.host(),
        kind = media_type::INDEX,
    );
    assert_eq!(String::from_utf8_lossy(&all[&format!("{LOWER}/index.json")].3), expected);
    // LinuxKit's init sees to the folders that it knows.
    assert!(all.contains_key("containers/volumes/images/tmp"));

    // Another tool reads it.
    let folder = bench.path("layout");
    unpack(&tar, &folder);
    let inspect = Command::new("skopeo")
        .args(["inspect", "--override-arch", "arm64", "--config", "--raw"])
        .arg(format!("oci:{}:{}/app/multi:1", folder.display(), server.host()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inspect.stderr);
    assert!(inspect.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&inspect.stdout).contains("arm64"), "{said}");
}

#[test]
fn without_platforms_all_are_kept() {
    let images = images();
    let server = Server::honest(images.clone());
    let bench = Bench::new(&blueprint(&server.host(), ""));
    // Four images and the index; the other index has one of them too.
    assert_eq!(blobs(&bench.tar("one.tar", &[])).len(), 13);
}

#[test]
fn a_filled_store_and_a_lock_are_enough() {
    let server = Server::honest(images());
    let bench = Bench::new(&blueprint(&server.host(), "  platforms: [linux/arm/v7, linux/amd64]\n"));
    let one = bench.tar("one.tar", &[]);
    assert!(bench.works(&["lock", "web.yml"]).out.contains("app/multi:1: added sha256:"));
    let asked = server.log().len();
    assert_eq!(bench.tar("two.tar", &["--locked", "--offline"]), one);
    assert_eq!(bench.tar("three.tar", &["--offline"]), one);
    std::fs::remove_file(bench.path("web.lock")).unwrap();
    assert_eq!(bench.tar("four.tar", &["--offline"]), one);
    bench.works(&["lock", "--offline", "web.yml"]);
    assert_eq!(bench.tar("five.tar", &["--locked", "--offline"]), one);
    assert_eq!(server.log().len(), asked);

    // A blob that is gone is fetched again, and only that one.
    let multi = blobs(&one).into_iter().max_by_key(|digest| images().blobs[digest].len()).unwrap();
    std::fs::remove_file(bench.path(&format!("store/blobs/sha256/{}", multi.hex()))).unwrap();
    let words = ["build", "--offline", "--format", "tar", "--arch", "amd64", "-o", "x.tar", "web.yml"];
    let ran = bench.run(&words);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert_eq!(bench.tar("six.tar", &["--locked"]), one);
    assert!(server.log().len() <= asked + 2, "{:?}", server.log());

    // One that is damaged is never written.
    let path = bench.path(&format!("store/blobs/sha256/{}", multi.hex()));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = bench.run(&words);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(!bench.path("x.tar").exists());
}

#[test]
fn images_for_other_machines_only_can_be_kept_and_locked() {
    let server = Server::honest(images());
    let host = server.host();
    let bench = Bench::new(&format!(
        "volumes:\n- {{name: images, image: \"{host}/app/arm:1\", format: oci, platforms: [linux/arm]}}\n"
    ));
    bench.works(&["lock", "web.yml"]);
    assert_eq!(blobs(&bench.tar("one.tar", &["--locked"])).len(), 4);
    // Unpacked, it would have to be for the machine that is built.
    bench.write(
        "web.yml",
        format!(
            "init: [\"{host}/app/arm:1\"]\nvolumes:\n- {{name: images, image: \"{host}/app/arm:1\", format: oci}}\n"
        ),
    );
    let ran = bench.run(&["build", "--format", "tar", "--arch", "amd64", "-o", "x.tar", "web.yml"]);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(ran.said.contains("is not there for linux/amd64; it is there for linux/arm/v7"), "{}", ran.said);
}

#[test]
fn an_image_without_an_index_can_be_kept() {
    let images = images();
    let server = Server::honest(images.clone());
    let host = server.host();
    let volume = |platforms: &str| {
        format!("volumes:\n- {{name: images, image: \"{host}/app/single:1\", format: oci, platforms: [{platforms}]}}\n")
    };
    let bench = Bench::new(&volume("linux/amd64"));
    bench.works(&["lock", "web.yml"]);
    let tar = bench.tar("one.tar", &["--locked"]);
    assert_eq!(blobs(&tar).len(), 3);
    let index: serde_json::Value = serde_json::from_slice(&members(&tar)[&format!("{LOWER}/index.json")].3).unwrap();
    assert_eq!(index["manifests"][0]["digest"], images.tags["app/single:1"].to_string());
    assert_eq!(index["manifests"][0]["mediaType"], media_type::DOCKER_MANIFEST);

    bench.write("web.yml", volume("linux/amd64, linux/s390x"));
    let ran = bench.run(&["build", "--format", "tar", "--arch", "amd64", "-o", "x.tar", "web.yml"]);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(ran.said.contains("is not there for linux/s390x; it is there for linux/amd64"), "{}", ran.said);
    assert!(ran.said.contains("web.yml:2:"), "{}", ran.said);
}

#[test]
fn components_can_be_kept() {
    let bench = Bench::new("volumes: [{name: images, image: \"@pkg:hello\", format: oci}]\n");
    bench.write("hello/build.yml", "image: hello\norg: example\nfiles:\n  - {path: hello, source: hello.txt}\n");
    bench.write("hello/hello.txt", "hello");
    let tar = bench.tar("one.tar", &["--offline"]);
    assert_eq!(blobs(&tar).len(), 3);
    bench.write(
        "web.yml",
        "volumes: [{name: images, image: \"@pkg:hello\", format: oci, platforms: [linux/amd64, linux/arm64]}]\n",
    );
    let both = bench.tar("two.tar", &["--offline"]);
    assert!(blobs(&both).len() > 3);
    let index: serde_json::Value = serde_json::from_slice(&members(&both)[&format!("{LOWER}/index.json")].3).unwrap();
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    bench.works(&["lock", "--offline", "web.yml"]);
    assert_eq!(bench.tar("three.tar", &["--offline", "--locked"]), both);
}

#[test]
fn strict_blueprints_have_read_only_volumes_without_a_place_to_write() {
    let server = Server::honest(images());
    let text = blueprint(&server.host(), "  readonly: true\n- name: data\n");
    let bench = Bench::new(&format!("security: strict\n{text}"));
    let all = members(&bench.tar("one.tar", &[]));
    assert!(!all.contains_key("containers/volumes/images/tmp") && all.contains_key("containers/volumes/data/tmp"));
}
