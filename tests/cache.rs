//! `moby cache`: in and out of the store, with skopeo and Debian's registry as judges, and what is taken away.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "registry/fixtures.rs"]
mod fixtures;
#[allow(dead_code)]
#[path = "registry/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "registry/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use moby::error::Exit;
use moby::store::{Digest, Limits, Store};
use server::Server;

struct Bench {
    folder: tempfile::TempDir,
    docker_config: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let docker_config = folder.path().join("none");
        Bench { folder, docker_config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.path(name)).unwrap()
    }

    fn try_cache(&self, store: &str, words: &[&str]) -> Result<Vec<u8>, (i32, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_moby"))
            .arg("cache")
            .args(words)
            .current_dir(self.folder.path())
            .env("MOBY_CACHE", self.path(store))
            .env("DOCKER_CONFIG", &self.docker_config)
            .env_remove("MOBY_MIRROR")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(output.stdout) } else { Err((output.status.code().unwrap(), said)) }
    }

    fn cache(&self, store: &str, words: &[&str]) -> String {
        let out = self.try_cache(store, words).unwrap_or_else(|error| panic!("{words:?}: {error:?}"));
        String::from_utf8(out).unwrap()
    }
}

fn size(folder: &Path) -> u64 {
    let mut all = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        all += if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() };
    }
    all
}

/// Makes everything in a folder look unused for so many days.
fn age(folder: &Path, days: u64) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, days);
        } else {
            let time = SystemTime::now() - Duration::from_secs(days * 86_400);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn out_and_in_again() {
    let server = Server::honest(fixtures::all());
    let host = server.host();
    let bench = Bench::new();
    let (multi, app) = (format!("{host}/library/multi:1"), format!("{host}/library/app:1"));
    let pulled = bench.cache("one", &["pull", "--platform", "all", &multi, &app]);
    assert_eq!(pulled.lines().count(), 3, "{pulled}");
    let list: serde_json::Value = serde_json::from_str(&bench.cache("one", &["ls", "--json"])).unwrap();
    assert_eq!(list[1]["platforms"], serde_json::json!(["linux/amd64", "linux/arm64/v8"]));
    let table = bench.cache("one", &["ls"]);
    assert!(table.contains("amd64 arm64") && table.contains("NAME"), "{table}");

    bench.cache("one", &["export", "--platform", "all", &multi, "-o", "multi.tar"]);
    bench.cache("one", &["export", "--format", "docker", "--arch", "amd64", &app, "--outfile", "app.tar"]);
    let imported = bench.cache("two", &["import", "multi.tar"]);
    assert_eq!(imported.trim(), format!("{multi} {}", list[1]["digest"].as_str().unwrap()));
    assert_eq!(bench.cache("two", &["import", "app.tar"]).split(' ').next(), Some(app.as_str()));
    for (name, arch) in [(&multi, "amd64"), (&multi, "arm64"), (&app, "amd64")] {
        let export =
            |store| bench.try_cache(store, &["export", "--format", "filesystem", "--arch", arch, name]).unwrap();
        assert!(export("one") == export("two"), "{name} {arch}");
    }
    // What goes in comes out, byte for byte.
    bench.cache("two", &["export", "--platform", "all", &multi, "-o", "again.tar"]);
    assert!(std::fs::read(bench.path("multi.tar")).unwrap() == std::fs::read(bench.path("again.tar")).unwrap());

    // Other tools read them.
    let skopeo = |words: &[&str]| {
        process::run(
            "skopeo",
            Command::new("skopeo").arg("--insecure-policy").args(words).current_dir(bench.folder.path()),
        )
    };
    let inspected = skopeo(&["inspect", "--override-arch", "arm64", "oci-archive:multi.tar"]);
    assert!(inspected.contains("\"Architecture\": \"arm64\""), "{inspected}");
    let inspected: serde_json::Value = serde_json::from_str(&skopeo(&["inspect", "docker-archive:app.tar"])).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 5);
    // And theirs are read here.
    skopeo(&["copy", "docker-archive:app.tar", "oci-archive:theirs.tar:example.org/theirs/app:2"]);
    skopeo(&["copy", "oci-archive:theirs.tar", "docker-archive:docker.tar:example.org/theirs/app:3"]);
    process::run("gzip", Command::new("gzip").arg("docker.tar").current_dir(bench.folder.path()));
    for (file, name) in [("theirs.tar", "example.org/theirs/app:2"), ("docker.tar.gz", "example.org/theirs/app:3")] {
        assert_eq!(bench.cache("three", &["import", file]).split(' ').next(), Some(name));
        let tree = bench.try_cache("three", &["export", "--format", "filesystem", "--arch", "amd64", name]).unwrap();
        assert!(
            tree == bench.try_cache("one", &["export", "--format", "filesystem", "--arch", "amd64", &app]).unwrap()
        );
    }
}

#[test]
fn pushed_images_are_those_of_the_store() {
    let registry = process::DebianRegistry::start();
    let options = registry.options();
    let server = Server::honest(fixtures::all());
    let mut bench = Bench::new();
    bench.docker_config = options.docker_config.unwrap();
    let authority = registry.authority();
    let authority = authority.to_str().unwrap();
    let (from, to) = (format!("{}/library/multi:1", server.host()), format!("{}/my/multi:2", registry.host()));
    bench.cache("one", &["pull", "--platform", "all", &from]);
    let push = |more: &[&str], image: &str| {
        let words = [&["push", "--cert-file", authority, "--remote-name", &to], more, &[image]].concat();
        bench.try_cache("one", &words)
    };
    let said = String::from_utf8(push(&["--with-arch-tags"], &from).unwrap()).unwrap();
    assert!(said.contains("my/multi:2-amd64") && said.contains("my/multi:2-arm64"), "{said}");
    let raw = registry.skopeo(&["inspect", "--creds", "me:secret", "--raw", &format!("docker://{to}-arm64")]);
    assert!(raw.contains("layers"), "{raw}");
    // Again: nothing to do. Another image under the name: refused, until it is said.
    push(&[], &from).unwrap();
    let other = format!("{}/library/app:1", server.host());
    bench.cache("one", &["pull", "--arch", "amd64", &other]);
    let (status, said) = push(&[], &other).unwrap_err();
    assert!(status == Exit::Refused as i32 && said.contains("--override"), "{said}");
    push(&["--override"], &other).unwrap();
    assert!(registry.skopeo(&["inspect", "--creds", "me:secret", &format!("docker://{to}")]).contains("\"Layers\""));
    let (_, said) = bench.try_cache("one", &["push", "--offline", &other]).unwrap_err();
    assert!(said.contains("--offline forbids"), "{said}");
    // What the registry has just so may go; the rest stays.
    bench.cache("two", &["pull", "--cert-file", authority, "--arch", "amd64", &to]);
    bench.cache("two", &["pull", "--arch", "amd64", &from]);
    drop(server);
    let gone = bench.cache("two", &["clean", "--published-only", "--cert-file", authority]);
    assert_eq!(gone, format!("removed {to}\n"));
}

#[test]
fn removing_an_image_leaves_the_others_whole() {
    let server = Server::honest(fixtures::all());
    let bench = Bench::new();
    let name = |image: &str| format!("{}/{image}:1", server.host());
    // The same layers under other media types.
    for image in ["library/app", "docker/app", "library/zstd"] {
        bench.cache("one", &["pull", "--arch", "amd64", &name(image)]);
    }
    let (status, said) = bench.try_cache("one", &["rm", &name("library/ap")]).unwrap_err();
    assert!(status == 2 && said.contains("did you mean") && said.contains("library/app:1?"), "{said}");
    let before = bench.store("one").items().unwrap().len();
    bench.cache("one", &["rm", &name("docker/app")]);
    // Manifest, configuration: the layers are the other's too.
    let after = bench.store("one").items().unwrap().len();
    assert!(after < before && after > 10, "{before} {after}");
    bench.cache("one", &["export", "--format", "filesystem", "--arch", "amd64", &name("library/app"), "-o", "x.tar"]);
    bench.cache("one", &["rm", &name("library/app"), &name("library/zstd")]);
    assert_eq!(bench.store("one").items().unwrap().len(), 0);
    assert_eq!(bench.cache("one", &["ls"]), "the store is empty\n");
}

#[test]
fn what_was_not_used_goes_but_not_what_a_lock_names() {
    let server = Server::honest(fixtures::all());
    let bench = Bench::new();
    let name = |image: &str| format!("{}/library/{image}:1", server.host());
    std::fs::write(bench.path("kept.yml"), format!("init: [\"{}\"]\n", name("zstd"))).unwrap();
    let moby = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
        command.args(words).current_dir(bench.folder.path()).env("MOBY_CACHE", bench.path("one"));
        process::run("moby", &mut command)
    };
    moby(&["lock", "kept.yml"]);
    for image in ["app", "zstd", "plain"] {
        bench.cache("one", &["pull", "--arch", "amd64", &name(image)]);
    }
    let store = bench.store("one");
    store.put_bytes(b"loose").unwrap();
    drop(store);
    let root = bench.path("one");
    age(&root, 40);
    // Used today, by a build.
    bench.cache("one", &["export", "--format", "filesystem", "--arch", "amd64", &name("plain"), "-o", "p.tar"]);

    let dry = bench.cache("one", &["gc", "--dry-run"]);
    assert_eq!(dry, format!("would remove {}\n", name("app")));
    let before = size(&root);
    assert_eq!(bench.cache("one", &["gc"]), format!("removed {}\n", name("app")));
    assert!(size(&root) < before);
    assert_eq!(bench.cache("one", &["gc"]), "");
    // Even when nothing may be left; --keep-lock does the same for locks that were not used here.
    assert_eq!(bench.cache("one", &["gc", "--max-size", "0"]), format!("removed {}\n", name("plain")));
    moby(&["build", "--locked", "--offline", "--format", "tar", "-o", "k.tar", "--arch", "amd64", "kept.yml"]);
    std::fs::rename(bench.path("kept.lock"), bench.path("moved.lock")).unwrap();
    assert_eq!(bench.cache("one", &["gc", "--max-size", "0", "--keep-lock", "moved.lock"]), "");
    std::fs::write(bench.path("moved.lock"), "version: 1\n").unwrap();
    let (status, said) = bench.try_cache("one", &["gc", "--keep-lock", "moved.lock"]).unwrap_err();
    assert!(status == 2 && said.contains("needs the key `images`"), "{said}");
    std::fs::remove_file(bench.path("moved.lock")).unwrap();
    bench.cache("one", &["gc", "--max-size", "0"]);
    assert_eq!(bench.store("one").items().unwrap().len(), 0);
}

#[test]
fn room_is_made_from_the_oldest() {
    let server = Server::honest(fixtures::all());
    let bench = Bench::new();
    let name = |image: &str| format!("{}/library/{image}:1", server.host());
    for (image, days) in [("zstd", 3), ("app", 2), ("plain", 1)] {
        bench.cache("one", &["pull", "--arch", "amd64", &name(image)]);
        if days > 1 {
            age(&bench.path("one"), days);
        }
    }
    // 70 KB of noise twice: the blob and its inflated layer.
    let total = bench.store("one").items().unwrap().iter().map(|item| item.size).sum::<u64>();
    let gone = bench.cache("one", &["gc", "--max-size", &(total - 100_000).to_string()]);
    assert_eq!(gone, format!("removed {}\n", name("zstd")));
    let gone = bench.cache("one", &["gc", "--max-size", "150K"]);
    assert_eq!(gone, format!("removed {}\n", name("app")));
}

#[test]
fn beside_a_running_build_young_files_stay() {
    let bench = Bench::new();
    let build = bench.store("one");
    // Fetched a moment ago, and not named yet.
    let young = build.put_bytes(b"young").unwrap();
    let old = build.put_bytes(b"old").unwrap();
    let long_ago = SystemTime::now() - 2 * DAY;
    std::fs::File::options().append(true).open(build.blob_path(&old)).unwrap().set_modified(long_ago).unwrap();
    bench.cache("one", &["gc", "--older-than", "0s", "--max-size", "0"]);
    assert!(build.blob_path(&young).exists() && !build.blob_path(&old).exists());
    let (status, said) = bench.try_cache("one", &["clean"]).unwrap_err();
    assert!(status == 1 && said.contains("another process has the store"), "{said}");
    drop(build);
    bench.cache("one", &["clean"]);
    assert!(!bench.path("one/blobs/sha256").join(young.hex()).exists());
}

#[test]
fn collections_and_pulls_at_once_leave_whole_images() {
    let server = Server::honest(fixtures::all());
    let bench = Bench::new();
    let name = format!("{}/library/app:1", server.host());
    let reference = {
        bench.cache("reference", &["pull", "--arch", "amd64", &name]);
        bench.try_cache("reference", &["export", "--format", "filesystem", "--arch", "amd64", &name]).unwrap()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                bench.cache("one", &["gc", "--max-size", "0"]);
            }
        });
        scope.spawn(|| {
            for _ in 0..8 {
                // One process: between two, a collection may well take the image.
                std::fs::write(bench.path("b.yml"), format!("init: [\"{name}\"]\n")).unwrap();
                let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
                command.args(["build", "--format", "tar", "-o", "b.tar", "--arch", "amd64", "b.yml"]);
                process::run("moby", command.current_dir(bench.folder.path()).env("MOBY_CACHE", bench.path("one")));
            }
        });
    });
    bench.cache("one", &["pull", "--arch", "amd64", &name]);
    let tree = bench.try_cache("one", &["export", "--format", "filesystem", "--arch", "amd64", &name]).unwrap();
    assert!(tree == reference);
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // The name as it is: the builder would refuse `..`.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_archives_are_refused_and_leave_no_names() {
    let bench = Bench::new();
    let store = bench.store("one");
    let known = |text: &str| Some(text.to_string());
    let layer = archive(&[("x", b"y")]);
    let config = |diff_id: &Digest| {
        format!("{{\"architecture\":\"amd64\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{diff_id}\"]}}}}")
    };
    let (right, wrong) = (config(&Digest::of(&layer)), config(&Digest::of(b"")));
    let list = br#"[{"Config":"c.json","RepoTags":["a/b:1"],"Layers":["l/layer.tar"]}]"#.as_slice();
    let digest = Digest::of(b"x");
    let index = format!(
        "{{\"manifests\":[{{\"digest\":\"{digest}\",\"size\":1,\"annotations\":{{\"io.containerd.image.name\":\"n\"}}}}]}}"
    );
    let blob = format!("blobs/sha256/{}", digest.hex());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let truncated = gzip.finish().unwrap()[..30].to_vec();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "neither index.json nor manifest.json"),
        (b"\x1f\x8b\x08 not gzip at all".to_vec(), "cannot be read"),
        (truncated, "cannot be read"),
        (vec![0xff; 3000], "cannot be read"),
        (archive(&[("manifest.json", b"{")]), "manifest.json of the archive"),
        (archive(&[("manifest.json", list)]), "\"c.json\" is not in the archive"),
        (archive(&[("manifest.json", list), ("c.json", right.as_bytes())]), "\"l/layer.tar\" is not in the archive"),
        (archive(&[("manifest.json", list), ("c.json", wrong.as_bytes()), ("l/layer.tar", &layer)]), "diff ID"),
        (archive(&[("manifest.json", list), ("c.json", b"[]"), ("l/layer.tar", &layer)]), "a/b:1"),
        (archive(&[("index.json", index.as_bytes())]), "index.json names it"),
        (archive(&[("index.json", index.as_bytes()), (&blob, b"y")]), "does not match its digest"),
        (archive(&[("index.json", index.as_bytes()), (&blob, b"x")]), "no manifest"),
        (archive(&[("index.json", index.as_bytes()), ("blobs/sha256/../../../x", b"x")]), "blob of the name"),
        (archive(&[("manifest.json", &vec![b' '; (4 << 20) + 1])]), "more than 4194304 bytes"),
    ];
    for (bytes, part) in cases {
        let error = store.import(bytes.as_slice(), None, &known).unwrap_err();
        assert!(error.message().contains(part), "{part}: {error}");
    }
    // A good one after all of these.
    let good = archive(&[("l/layer.tar", &layer), ("c.json", right.as_bytes()), ("manifest.json", list)]);
    assert!(store.names().unwrap().is_empty());
    assert_eq!(store.import(good.as_slice(), None, &known).unwrap()[0].name, "a/b:1");
    assert_eq!(store.import(good.as_slice(), Some("other"), &known).unwrap()[0].name, "other");
    assert_eq!(store.names().unwrap().len(), 2);
    assert!(!bench.path("x").exists());
    let collected = store.collect(&Limits { max_size: Some(0), ..Limits::default() }, &BTreeSet::new()).unwrap();
    assert_eq!((collected.names.len(), collected.left), (2, 0));
}
