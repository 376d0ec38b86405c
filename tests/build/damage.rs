//! A store that a disk damaged: every kind of thing in it is found and made again, outputs are those of a whole store,
//! and what was made again is said.

use std::path::{Path, PathBuf};

use moby::Arch;

use super::fixtures::{self, Layer, noise};
use super::place::{Ended, Place};
use super::server::Server;

const FORMATS: &str = "tar,kernel+initrd,squashfs,erofs";
const OUTPUTS: [&str; 6] = ["at.tar", "at-kernel", "at-initrd.img", "at-cmdline", "at.squashfs", "at.erofs"];

/// What can happen to a file.
const DAMAGES: [&str; 4] = ["flipped", "short", "empty", "gone"];

fn damage(path: &Path, how: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "flipped" => bytes[middle] ^= 1,
        "short" => bytes.truncate(middle),
        "empty" => bytes.clear(),
        _ => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

/// A place whose blueprint has a kernel with modules and microcode, an image of a registry, two components and a file;
/// built once. What the outputs are comes with it.
fn built(server: &Server) -> (Place, Vec<Vec<u8>>) {
    let place = Place::in_target();
    place.write(
        "at.yml",
        format!(
            "kernel: {{image: {host}/kernel:1, cmdline: console=ttyS0, ucode: ucode.cpio}}\n\
         init: [{host}/app:1, {host}/plain:1, \"@pkg:own\"]\nfiles: [{{path: /etc/motd, contents: hello}}]\n",
            host = server.host()
        ),
    );
    place.write("own/build.yml", "image: own\nfiles: [{path: /own, source: own}]\n");
    place.write("own/own", noise(9, 1_500_000));
    again(&place, &[]).well();
    let good = outputs(&place);
    (place, good)
}

fn images() -> fixtures::Images {
    let modules =
        Layer::new().folder("lib/").folder("lib/modules/").file("lib/modules/x.ko", &text(1, 300_000)).bytes();
    let kernel =
        Layer::new().file("kernel", &noise(1, 200_000)).file("kernel.tar", &modules).file("ucode.cpio", b"microcode");
    let app = Layer::new().file("app", &text(2, 2_000_000)).file("small", b"small");
    let over = Layer::new().file("over", &text(3, 90_000));
    let mut images = fixtures::Images::default();
    images.image("kernel:1", &[kernel.bytes()], fixtures::Packing::Gzip, "amd64");
    images.image("app:1", &[app.bytes(), over.bytes()], fixtures::Packing::Zstd, "amd64");
    images.image("plain:1", &[Layer::new().file("p", &text(4, 70_000)).bytes()], fixtures::Packing::Plain, "amd64");
    images
}

/// Bytes that compress.
fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length).into_iter().map(|byte| byte & 15).collect()
}

#[track_caller]
fn again(place: &Place, arguments: &[&str]) -> Ended {
    let _ = std::fs::remove_dir_all(place.path("images-out"));
    place.build(&[&["-f", FORMATS], arguments, &["at.yml"]].concat())
}

fn outputs(place: &Place) -> Vec<Vec<u8>> {
    OUTPUTS.iter().map(|name| place.read(&format!("images-out/{name}"))).collect()
}

/// All files of a folder of the store.
fn files(place: &Place, folder: &str) -> Vec<PathBuf> {
    place.names(folder).into_iter().map(|name| place.path(format!("{folder}/{name}"))).collect()
}

/// Every kind of derived data is made of blobs, without a network.
#[test]
fn derived_data_is_made_again() {
    let server = Server::honest(images());
    let (place, good) = built(&server);
    let kinds = place.names("store/derived");
    for kind in ["layer-1", "index-1", "cpio-3", "cpio-3-digest", "squashfs-1", "erofs-1", "output-1"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is not in {kinds:?}");
    }
    for kind in kinds.iter().filter(|kind| *kind != "output-1") {
        for how in DAMAGES {
            let folder = format!("store/derived/{kind}");
            let victims = files(&place, &folder);
            victims.iter().for_each(|path| damage(path, how));
            let ended = again(&place, &["--offline"]).well();
            assert!(outputs(&place) == good, "{kind}, {how}: {}", ended.err);
            // What is gone without a trace is made as it was the first time, and so is what has lost its note.
            let is_said = ended.err.contains("is damaged") && ended.err.contains(&format!("derived/{kind}/"));
            assert_eq!(is_said, how != "gone" && !kind.ends_with("-digest"), "{kind}, {how}: {}", ended.err);
            assert!(victims.iter().all(|path| path.exists()), "{kind}, {how}: not all are there again");
            // And now all is well.
            let quiet = again(&place, &["--offline"]).well();
            assert!(!quiet.err.contains("damaged"), "{kind}, {how}: {}", quiet.err);
            assert!(outputs(&place) == good);
        }
    }
}

/// One inflated layer with one wrong byte, for each format on its own: some read contents in several threads.
#[test]
fn a_wrong_byte_of_a_layer_reaches_no_output() {
    let server = Server::honest(images());
    let (place, good) = built(&server);
    for (format, numbers) in [("tar", 0..1), ("kernel+initrd", 1..4), ("squashfs", 4..5), ("erofs", 5..6)] {
        for entry in ["layer-1", "gone"] {
            // Nothing that was made of contents before may hide them.
            for kind in
                place.names("store/derived").iter().filter(|kind| !["layer-1", "index-1"].contains(&kind.as_str()))
            {
                std::fs::remove_dir_all(place.path(format!("store/derived/{kind}"))).unwrap();
            }
            let victims = files(&place, "store/derived/layer-1");
            victims.iter().for_each(|path| damage(path, if entry == "gone" { "gone" } else { "flipped" }));
            let _ = std::fs::remove_dir_all(place.path("images-out"));
            let ended = place.build(&["-f", format, "--offline", "at.yml"]).well();
            for number in numbers.clone() {
                let path = format!("images-out/{}", OUTPUTS[number]);
                assert!(place.read(&path) == good[number], "{format}: {}", ended.err);
            }
            assert_eq!(ended.err.contains("derived/layer-1/"), entry != "gone", "{format}: {}", ended.err);
        }
    }
    // To a stream nothing is written twice; the next attempt is a good one.
    files(&place, "store/derived/layer-1").iter().for_each(|path| damage(path, "flipped"));
    let stream = || place.build(&["-f", "tar", "--offline", "-o", "-", "at.yml"]);
    stream().with(3, &["derived/layer-1/", "is damaged", "expected sha256:", "found sha256:", "do the same again"]);
    assert!(stream().well().out == good[0]);
}

/// Blobs are fetched again or, of components, made again.
#[test]
fn blobs_are_fetched_or_made_again() {
    let server = Server::honest(images());
    let (place, good) = built(&server);
    let blobs = place.names("store/blobs/sha256");
    for how in DAMAGES {
        // As they are, and with all that was made of them gone: then each is read.
        for derived in [true, false] {
            if !derived {
                std::fs::remove_dir_all(place.path("store/derived")).unwrap();
            }
            files(&place, "store/blobs/sha256").iter().for_each(|path| damage(path, how));
            let ended = again(&place, &[]).well();
            assert!(outputs(&place) == good, "{how}: {}", ended.err);
            assert_eq!(ended.err.contains("is damaged"), how != "gone", "{how}: {}", ended.err);
            // Those of which all is derived that the build wants may wait.
            again(&place, &[]).well();
            let _ = std::fs::remove_dir_all(place.path("store/derived"));
            again(&place, &[]).well();
            assert_eq!(place.names("store/blobs/sha256"), blobs, "{how}");
            for path in files(&place, "store/blobs/sha256") {
                let digest = moby::store::Digest::of(&std::fs::read(&path).unwrap());
                assert_eq!(digest.hex().to_string(), path.file_name().unwrap().to_str().unwrap(), "{how}");
            }
        }
    }
}

/// Without the network, what cannot be made is said with its file, what was expected and what there was; what can is made.
#[test]
fn without_a_network_a_damaged_blob_is_named() {
    let server = Server::honest(images());
    let (place, good) = built(&server);
    let named = place.store.named(&format!("{}/app:1", server.host())).unwrap().unwrap();
    let manifest = place.store.platform_manifest(&named, Arch::Amd64).unwrap().unwrap();
    let document: moby::store::Manifest = place.store.read_json(&manifest.digest).unwrap();
    for (digest, layers) in
        [(manifest.digest, false), (document.config.digest, false), (document.layers[0].digest, true)]
    {
        for how in ["flipped", "short", "empty"] {
            let path = place.store.blob_path(&digest);
            damage(&path, how);
            if layers {
                std::fs::remove_dir_all(place.path("store/derived")).unwrap();
            }
            let ended = again(&place, &["--offline"]);
            let file = path.file_name().unwrap().to_str().unwrap();
            let ended = ended.with(4, &[file, "is damaged", "expected", "--offline", "once without --offline"]);
            let message = ended.err.lines().find(|line| line.starts_with("error: ")).unwrap();
            assert!(message.contains(&format!("blobs/sha256/{file}")) && message.contains("expected"), "{message}");
            assert!(how != "flipped" || message.contains("found sha256:"), "{message}");
            // With the network it is fetched.
            again(&place, &[]).well();
            assert!(outputs(&place) == good);
        }
    }
    // A component's blob is made again without any.
    let names = place.store.names().unwrap().into_iter();
    let (_, own) = names.into_iter().find(|(name, _)| name.contains("/own")).unwrap();
    let own: moby::store::Manifest = place.store.read_json(&own.digest).unwrap();
    for derived in [true, false] {
        if !derived {
            std::fs::remove_dir_all(place.path("store/derived")).unwrap();
        }
        // Of what was made of its content, nothing hides the damage.
        for kind in ["cpio-3", "squashfs-1", "erofs-1"] {
            let _ = std::fs::remove_dir_all(place.path(format!("store/derived/{kind}")));
        }
        damage(&place.store.blob_path(&own.layers[0].digest), "flipped");
        let ended = again(&place, &["--offline"]).well();
        assert!(ended.err.contains("is damaged"), "{}", ended.err);
        assert!(outputs(&place) == good);
    }
}

/// `moby verify` builds too.
#[test]
fn verify_makes_again_what_is_damaged() {
    let server = Server::honest(images());
    let (place, _) = built(&server);
    place.moby(["lock", "--arch", "amd64", "at.yml"]).well();
    place.moby(["build", "--arch", "amd64", "--locked", "-f", "kernel+squashfs", "at.yml"]);
    let image = "images-out/at-initrd.img";
    for kind in ["layer-1", "index-1", "cpio-3"] {
        files(&place, "store/derived/cpio-3").iter().for_each(|path| damage(path, "gone"));
        files(&place, &format!("store/derived/{kind}")).iter().for_each(|path| damage(path, "flipped"));
        let verify = ["verify", image, "--lock", "at.lock", "--arch", "amd64", "-f", "kernel+initrd", "--offline"];
        let ended = place.moby(verify).well();
        assert!(String::from_utf8_lossy(&ended.out).contains("reproduced: "), "{}", ended.err);
        assert_eq!(ended.err.contains("is damaged"), kind != "cpio-3", "{}", ended.err);
    }
}

/// Outputs and the notes about them: what is not as it was left is written anew.
#[test]
fn damaged_outputs_are_written_again() {
    let server = Server::honest(images());
    let (place, good) = built(&server);
    let build = || place.build(&["-f", FORMATS, "--offline", "at.yml"]).well();
    for how in DAMAGES {
        files(&place, "store/derived/output-1").iter().for_each(|path| damage(path, how));
        build();
        assert!(outputs(&place) == good, "notes: {how}");
        OUTPUTS.iter().for_each(|name| damage(&place.path(format!("images-out/{name}")), how));
        build();
        assert!(outputs(&place) == good, "outputs: {how}");
    }
}
