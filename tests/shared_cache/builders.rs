//! Machines that build the same blueprint, each with a store of its own.

use std::path::Path;

use moby::store::manifest::REF_NAME;
use moby::store::{Descriptor, Digest, Index};
use serde_json::Value;

use crate::fixtures::noise;
use crate::place::{Ended, Place};

/// The names of the outputs.
pub const OUTPUTS: [&str; 3] = ["at-kernel", "at-initrd.img", "at-cmdline"];

/// A machine with the blueprint `at.yml`: a kernel, a component of three pieces, a small one, an entry of `files`.
/// `variant` is part of the small one.
pub fn machine(variant: &str) -> Place {
    let place = Place::in_target();
    place.write("kernel/build.yml", "image: kernel\nfiles: [{path: /kernel, source: image}]\n");
    place.write("kernel/image", noise(1, 50_000));
    place.write(
        "big/build.yml",
        "image: big\nfiles: [{path: /a, source: a}, {path: /b, source: b}, {path: /c, source: c}]\n",
    );
    for (seed, name) in [(2, "a"), (3, "b"), (4, "c")] {
        place.write(&format!("big/{name}"), noise(seed, 6 << 20));
    }
    let small = format!("image: small\nfiles: [{{path: /etc/small, contents: \"{variant}\"}}]\n");
    place.write("small/build.yml", small);
    place.write(
        "at.yml",
        "kernel: {image: \"@pkg:kernel\", tar: none, cmdline: console=ttyS0}\n\
         init: [\"@pkg:big\", \"@pkg:small\"]\n\
         files: [{path: /etc/motd, contents: hello}]\n",
    );
    place
}

/// Builds with timings, which are returned. Nothing but the program itself is on the PATH.
#[track_caller]
pub fn build(place: &Place, arguments: &[&str]) -> (Timings, String) {
    let mut command = place.command(["build", "--arch", "amd64", "--timings", "-f", "kernel+initrd"]);
    command.args(arguments).arg("at.yml").env("PATH", "/nonexistent");
    let ended = Ended::of(command.output().unwrap()).well();
    (Timings::read(place), ended.err)
}

/// What `--timings` says.
pub struct Timings(Value);

impl Timings {
    /// Of the last build.
    pub fn read(place: &Place) -> Timings {
        Timings(serde_json::from_slice(&place.read("images-out/at-timings.json")).unwrap())
    }

    pub fn made(&self, stage: &str) -> u64 {
        self.0["stages"][stage]["made"].as_u64().unwrap_or(0)
    }

    /// Neither compressed nor built nor compiled anything.
    #[track_caller]
    pub fn nothing_made(&self) {
        for stage in ["compress", "component", "compile", "index"] {
            assert_eq!(self.made(stage), 0, "{stage}: {}", self.0["stages"]);
        }
    }
}

/// The outputs of two machines are the same bytes.
#[track_caller]
pub fn same(one: &Place, two: &Place) {
    for name in OUTPUTS {
        let path = format!("images-out/{name}");
        assert!(one.read(&path) == two.read(&path), "{name} differs");
    }
}

/// `--cache-from` and `--cache-to` for a folder.
pub fn from(folder: &Path) -> String {
    format!("--cache-from=type=local,src={}", folder.display())
}

pub fn to(folder: &Path) -> String {
    format!("--cache-to=type=local,dest={}", folder.display())
}

/// Names of a layout with what they stand for.
pub fn names(layout: &Path) -> Vec<(String, Descriptor)> {
    let index: Index = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    index.manifests.into_iter().map(|d| (d.annotations[REF_NAME].clone(), d)).collect()
}

pub fn blob(layout: &Path, digest: &Digest) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}
