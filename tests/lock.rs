//! `moby lock`, and building by a lock: against a registry whose tags move.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "registry/fixtures.rs"]
mod fixtures;
#[allow(dead_code)]
#[path = "registry/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use fixtures::{Images, Layer, Packing};
use moby::store::manifest::media_type;
use server::Server;

/// A folder with a blueprint and a store.
struct Bench {
    folder: tempfile::TempDir,
}

struct Ran {
    status: i32,
    out: String,
    said: String,
}

impl Bench {
    fn new(blueprint: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        bench.write("web.yml", blueprint);
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_in_store("store", words)
    }

    fn run_in_store(&self, store: &str, words: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_moby"))
            .args(words)
            .current_dir(self.folder.path())
            .env("MOBY_CACHE", self.path(store))
            .env_remove("MOBY_MIRROR")
            .env("DOCKER_CONFIG", self.path("none"))
            .output()
            .unwrap();
        Ran {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            said: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn works(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.said);
        ran
    }

    fn build(&self, store: &str, flags: &[&str], name: &str) -> Vec<u8> {
        let mut words = vec!["build", "--format", "tar", "--arch", "amd64", "-o", name];
        words.extend_from_slice(flags);
        words.push("web.yml");
        let ran = self.run_in_store(store, &words);
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.said);
        std::fs::read(self.path(name)).unwrap()
    }
}

/// An index for both architectures, whose content is told by `mark`, and an image for one only.
fn images(mark: &str) -> Images {
    let mut images = Images::default();
    let mut manifests = Vec::new();
    for arch in ["amd64", "arm64"] {
        let layer = Layer::new().file("which", format!("{arch} {mark}").as_bytes()).bytes();
        manifests.push(images.image("", &[layer], Packing::Gzip, arch));
    }
    images.index("app/web:1", media_type::INDEX, manifests);
    images.image("app/single:1", &[Layer::new().file("single", mark.as_bytes()).bytes()], Packing::Zstd, "amd64");
    images
}

fn both(old: Images, new: Images) -> Images {
    let mut all = old;
    all.blobs.extend(new.blobs);
    all.kinds.extend(new.kinds);
    all.tags = new.tags;
    all
}

fn blueprint(host: &str) -> String {
    format!("init: [{host}/app/single:1]\nservices: [{{name: web, image: \"{host}/app/web:1\"}}]\n")
}

#[test]
fn a_lock_is_written_kept_and_moved() {
    let first = Server::honest(images("one"));
    let bench = Bench::new(&blueprint(&first.host()));
    let ran = bench.works(&["lock", "web.yml"]);
    assert_eq!(ran.out.lines().filter(|line| line.contains(": added sha256:")).count(), 2, "{}", ran.out);
    let text = bench.read("web.lock");
    let lock = moby::lock::LockFile::parse("web.lock", text.clone()).unwrap();
    let web = &lock.images[&format!("{}/app/web:1", first.host())];
    assert!(web.index.is_some() && web.platforms.len() == 2);
    // For one architecture only, which is no failure.
    let single = &lock.images[&format!("{}/app/single:1", first.host())];
    assert!(single.index.is_none() && single.platforms.len() == 1);
    assert_eq!(lock.to_yaml(), text);
    assert!(!first.log().iter().any(|asked| asked.is_blob() && asked.path.contains("layer")));

    assert_eq!(bench.works(&["lock", "web.yml"]).out, "");
    assert_eq!(bench.read("web.lock"), text);
    drop(first);
}

#[test]
fn one_image_moves_and_is_told() {
    // The registry's tags move when a flag is set.
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (old, new) = (images("one"), images("two"));
    let (tags, flag) = (old.tags.clone(), moved.clone());
    let kept = old.clone();
    let server = Server::start(both(old, new), move |asked, reply| {
        let Some((repository, "1")) = asked.path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/"))
        else {
            return reply;
        };
        if flag.load(std::sync::atomic::Ordering::SeqCst) {
            return reply;
        }
        let digest = tags[&format!("{repository}:1")];
        server::Reply::new(200, &kept.blobs[&digest])
            .with("Content-Type", &kept.kinds[&digest])
            .with("Docker-Content-Digest", digest)
    });
    let bench = Bench::new(&blueprint(&server.host()));
    bench.works(&["lock", "web.yml"]);
    let before = bench.read("web.lock");
    let tar = bench.build("store", &["--locked"], "one.tar");

    moved.store(true, std::sync::atomic::Ordering::SeqCst);
    // The lock decides, whatever the tag stands for by now, and in any store.
    assert_eq!(bench.build("other", &["--locked"], "two.tar"), tar);
    assert_eq!(bench.build("other", &["--locked", "--offline"], "three.tar"), tar);
    assert_eq!(bench.build("third", &["--pull"], "four.tar"), tar);

    let ran = bench.works(&["lock", "--update", "single", "web.yml"]);
    let after = bench.read("web.lock");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 1, "{}", ran.out);
    assert!(lines[0].contains("/app/single:1: amd64 sha256:") && lines[0].contains(" -> sha256:"), "{}", ran.out);
    let changed = before.lines().zip(after.lines()).filter(|(old, new)| old != new).count();
    assert_eq!(changed, 2, "{before}\n{after}");
    assert_ne!(bench.build("store", &["--locked"], "five.tar"), tar);

    let ran = bench.works(&["lock", "--update", "web.yml"]);
    // Index, and manifests of two architectures.
    assert_eq!(ran.out.lines().count(), 3, "{}", ran.out);
    let ran = bench.run(&["lock", "--update", "singel", "web.yml"]);
    assert_eq!(ran.status, 2);
    assert!(ran.said.contains("did you mean single?"), "{}", ran.said);
}

#[test]
fn locked_refuses_drift_and_says_which() {
    let server = Server::honest(images("one"));
    let host = server.host();
    let bench = Bench::new(&blueprint(&host));
    let locked = |bench: &Bench, more: &[&str]| {
        let mut words = vec!["build", "--locked", "--format", "tar", "-o", "out.tar", "--arch", "amd64"];
        words.extend_from_slice(more);
        words.push("web.yml");
        bench.run(&words)
    };
    let ran = locked(&bench, &[]);
    assert_eq!(ran.status, 3);
    assert!(ran.said.contains("--locked needs a lock: web.lock is not there"), "{}", ran.said);

    bench.works(&["lock", "--arch", "amd64", "web.yml"]);
    assert_eq!(locked(&bench, &[]).status, 0);
    bench
        .write("web.yml", &format!("init: [{host}/app/web:2]\nservices: [{{name: w, image: \"{host}/app/web:1\"}}]\n"));
    let ran = locked(&bench, &[]);
    assert_eq!(ran.status, 3);
    assert!(ran.said.contains("app/web:2 is not in the lock"), "{}", ran.said);
    assert!(ran.said.contains("web.yml:1:8:"), "{}", ran.said);
    assert!(ran.said.contains("app/single:1 is locked, but the blueprint does not name it"), "{}", ran.said);

    bench.write("web.yml", &blueprint(&host));
    let ran = bench.run(&["build", "--locked", "--arch", "arm64", "--format", "tar", "-o", "x.tar", "web.yml"]);
    assert_eq!(ran.status, 3);
    assert!(ran.said.contains("app/web:1 is not locked for arm64, only for amd64"), "{}", ran.said);
    assert!(!Path::new(&bench.path("x.tar")).exists());
}

#[test]
fn offline_says_what_it_wants() {
    let server = Server::honest(images("one"));
    let bench = Bench::new(&blueprint(&server.host()));
    let ran = bench.run(&["build", "--offline", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"]);
    assert_eq!(ran.status, 4);
    assert!(ran.said.contains("app/single:1 is wanted, but --offline forbids the network"), "{}", ran.said);
    assert!(server.log().is_empty(), "{:?}", server.log());
    let ran = bench.run(&["lock", "--offline", "web.yml"]);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(!bench.path("web.lock").exists());
    // Once built, what the store has can be locked without a network.
    bench.build("store", &[], "x.tar");
    let asked = server.log().len();
    bench.works(&["lock", "--offline", "--arch", "amd64", "web.yml"]);
    assert_eq!(bench.build("store", &["--locked", "--offline"], "y.tar"), std::fs::read(bench.path("x.tar")).unwrap());
    assert_eq!(server.log().len(), asked);
}

#[test]
fn hostile_locks_are_refused_with_their_places() {
    let server = Server::honest(images("one"));
    let bench = Bench::new(&blueprint(&server.host()));
    bench.works(&["lock", "web.yml"]);
    let good = bench.read("web.lock");
    let digest = "sha256:".to_string() + &"0".repeat(64);
    let line = good.lines().find(|line| line.contains("manifest: ")).unwrap().to_string();
    for (text, status, part) in [
        (good.replace("version: 1", "version: 2"), 2, "a lock of version 2"),
        (good.replace("manifest:", "manifset:"), 2, "did you mean `manifest`?"),
        (good.replacen("manifest: sha256:", "manifest: sha512:", 1), 2, "is not a digest"),
        (good.replacen(&line, &format!("      manifest: {digest}"), 1), 4, "MANIFEST_UNKNOWN"),
        (good.replace("images:", "images: ["), 2, "not YAML"),
        (String::new(), 2, "nothing in it"),
        ("a: ".repeat(100_000), 2, "not YAML"),
        (format!("{good}- image: a b\n  platforms: {{}}\n"), 2, "not an image reference"),
        (format!("{good}- image: nginx\n  platforms: {{}}\n"), 2, "`docker.io/library/nginx`"),
    ] {
        bench.write("web.lock", &text);
        let ran = bench.run(&["build", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"]);
        assert_eq!(ran.status, status, "{part}: {}", ran.said);
        assert!(ran.said.contains(part), "{part}: {}", ran.said);
        assert!(status != 2 || ran.said.contains("web.lock:"), "{}", ran.said);
    }
    // A manifest of another image of the same registry: both are there, but they do not belong together.
    let manifests: Vec<&str> = good.lines().filter(|line| line.contains("manifest: ")).collect();
    bench.write("web.lock", &good.replacen(manifests[1], manifests[0], 1));
    let ran = bench.run(&["build", "--format", "tar", "-o", "x.tar", "--arch", "amd64", "web.yml"]);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("contradicts itself"), "{}", ran.said);
}

/// A recipe without packages, so that nothing has to be fetched to build it.
fn recipe(bench: &Bench, text: &str) {
    std::fs::create_dir_all(bench.path("hello")).unwrap();
    bench.write("hello/build.yml", "image: hello\norg: example\nfiles:\n  - {path: hello, source: hello.txt}\n");
    bench.write("hello/hello.txt", text);
    bench.write("web.yml", "init: [\"@pkg:hello\"]\n");
}

#[test]
fn components_are_locked_by_their_recipes() {
    let bench = Bench::new("");
    recipe(&bench, "one");
    let ran = bench.works(&["lock", "--arch", "amd64", "--offline", "web.yml"]);
    assert!(ran.out.starts_with("docker.io/example/hello: added recipe "), "{}", ran.out);
    let text = bench.read("web.lock");
    let lock = moby::lock::LockFile::parse("web.lock", text.clone()).unwrap();
    let entry = &lock.images["docker.io/example/hello"];
    let platform = &entry.platforms[&moby::Arch::Amd64];
    assert!(entry.recipe.as_ref().is_some_and(|hash| hash.len() == 40) && platform.manifest.is_some());
    let tar = bench.build("store", &["--locked", "--offline"], "one.tar");
    // Another store: built again, with the same digest.
    assert_eq!(bench.build("other", &["--locked", "--offline"], "two.tar"), tar);
    assert_eq!(bench.works(&["lock", "--arch", "amd64", "web.yml"]).out, "");

    recipe(&bench, "two");
    let ran = bench.run(&["build", "--locked", "--arch", "amd64", "--format", "tar", "-o", "x.tar", "web.yml"]);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("docker.io/example/hello has another recipe: locked "), "{}", ran.said);
    let ran = bench.run(&["build", "--arch", "amd64", "--format", "tar", "-o", "x.tar", "web.yml"]);
    assert!(ran.status == 0 && ran.said.contains("resolved as without a lock"), "{}", ran.said);
    let ran = bench.works(&["lock", "--arch", "amd64", "web.yml"]);
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    assert!(ran.out.contains("hello: recipe ") && ran.out.contains(" -> recipe "), "{}", ran.out);
    assert_ne!(bench.build("store", &["--locked", "--offline"], "three.tar"), tar);

    // A lock of what a recipe does not give: other packages or another compiler.
    let after = bench.read("web.lock");
    let digest = |text: &str| text.lines().find(|line| line.contains("manifest: ")).unwrap().to_string();
    bench.write("web.lock", &after.replace(&digest(&after), &digest(&text)));
    let words = ["build", "--locked", "--arch", "amd64", "--format", "tar", "-o", "x.tar", "web.yml"];
    let ran = bench.run_in_store("third", &words);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("its recipe gives sha256:"), "{}", ran.said);
    bench.write("web.lock", &after.replace("recipe: ", "recipe: x"));
    assert!(bench.run(&words).said.contains("`recipe` is a hash"));
}

/// Recipes of our own in the place of the loaders that formats need, so that nothing has to be fetched.
fn loader(bench: &Bench, name: &str, text: &str) {
    std::fs::create_dir_all(bench.path(&format!("components/{name}"))).unwrap();
    let recipe = format!("image: {name}\nfiles:\n  - {{path: /init, contents: {text}, mode: '0755'}}\n");
    bench.write(&format!("components/{name}/build.yml"), &recipe);
}

#[test]
fn loaders_are_locked_too() {
    let bench = Bench::new("kernel: {image: '@pkg:kernel', tar: none, cmdline: x}\n");
    std::fs::create_dir_all(bench.path("kernel")).unwrap();
    bench.write(
        "kernel/build.yml",
        "image: kernel\norg: example\nfiles:\n  - {path: kernel, contents: not a real one}\n",
    );
    for name in moby::lock::LOADERS {
        loader(&bench, name.strip_prefix("components/").unwrap(), "one");
    }
    let lock = |more: &[&str]| {
        let words = [&["lock", "--offline", "--arch", "amd64"], more, &["web.yml"]].concat();
        bench.works(&words).out
    };
    let build = |more: &[&str], store: &str| {
        let words = ["build", "--offline", "--arch", "amd64", "--format", "kernel+squashfs"];
        bench.run_in_store(store, &[&words, more, &["web.yml"]].concat())
    };
    // A lock without loaders: nothing gets in unpinned.
    lock(&[]);
    assert!(!bench.read("web.lock").contains("loaders"));
    let ran = build(&["--locked"], "store");
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("docker.io/moby/stage1 is not among the lock's loaders"), "{}", ran.said);
    assert!(ran.said.contains("moby lock --loaders"), "{}", ran.said);
    assert_eq!(build(&[], "store").status, 0);

    assert_eq!(lock(&["--loaders"]).lines().count(), moby::lock::LOADERS.len());
    let locked = bench.read("web.lock");
    let read = moby::lock::LockFile::parse("web.lock", locked.clone()).unwrap();
    assert_eq!((read.loaders.len(), read.images.len()), (moby::lock::LOADERS.len(), 1));
    assert_eq!(read.to_yaml(), locked);
    let manifest = read.loaders["docker.io/moby/stage1"].platforms[&moby::Arch::Amd64].manifest.unwrap();
    assert!(read.digests().contains(&manifest), "what the lock names is not swept from the store");
    assert_eq!(build(&["--locked"], "store").status, 0);
    assert_eq!(build(&["--locked"], "other").status, 0);
    // They stay without being asked for.
    assert_eq!(lock(&[]), "");
    assert_eq!(bench.read("web.lock"), locked);

    // Another recipe, even where the outputs of the same blueprint are there already.
    loader(&bench, "stage1", "two");
    let ran = build(&["--locked"], "store");
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("the loader docker.io/moby/stage1 has another recipe: locked "), "{}", ran.said);
    let ran = build(&[], "store");
    assert!(ran.status == 0 && ran.said.contains("made as without a lock"), "{}", ran.said);
    let moved = lock(&[]);
    assert!(moved.lines().count() == 2 && moved.contains("stage1: recipe "), "{moved}");
    assert_eq!(build(&["--locked"], "store").status, 0);
    // The same recipe, but not the locked result.
    let after = bench.read("web.lock");
    let other = manifest.to_string();
    let new = moby::lock::LockFile::parse("web.lock", after.clone()).unwrap();
    let new = new.loaders["docker.io/moby/stage1"].platforms[&moby::Arch::Amd64].manifest.unwrap().to_string();
    bench.write("web.lock", &after.replace(&new, &other));
    let ran = build(&["--locked"], "fresh");
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("docker.io/moby/stage1: its recipe gives sha256:"), "{}", ran.said);
    // Another architecture than the locked one.
    bench.write("web.lock", &after);
    let ran =
        bench.run(&["build", "--offline", "--arch", "arm64", "--locked", "--format", "kernel+squashfs", "web.yml"]);
    assert_eq!(ran.status, 3, "{}", ran.said);
    // One of them by its name.
    assert_eq!(lock(&["--update", "stage1"]), "");
    assert_eq!(bench.run(&["lock", "--update", "stage2", "web.yml"]).status, 2);
}

/// `app/single:1-amd64` of a registry is another image than `app/single:1`, whatever the store has; one that was built or
/// imported here under that name is the same.
#[test]
fn a_name_with_an_architecture_counts_if_it_was_made_here() {
    let mut all = images("right");
    let wrong = Layer::new().file("single", b"wrong").bytes();
    all.image("app/single:1-amd64", &[wrong], Packing::Gzip, "amd64");
    let server = Server::honest(all);
    let name = format!("{}/app/single:1", server.host());
    let bench = Bench::new(&format!("init: [{name}]\n"));
    let other = format!("{name}-amd64");
    let has = |tar: &[u8], text: &[u8]| tar.windows(text.len()).any(|part| part == text);
    bench.works(&["cache", "pull", "--arch", "amd64", &other]);
    for flags in [&[][..], &["--pull"]] {
        let built = bench.build("store", flags, "x.tar");
        assert!(has(&built, b"right") && !has(&built, b"wrong"), "{flags:?}");
    }
    // Imported under that name, it counts, and --pull says so.
    bench.works(&["cache", "export", "--format", "docker", "--arch", "amd64", &other, "--outfile", "y.tar"]);
    bench.works(&["cache", "import", "--name", &other, "y.tar"]);
    let ran = bench.works(&["build", "--pull", "--format", "tar", "--arch", "amd64", "-o", "x.tar", "web.yml"]);
    assert!(ran.said.contains(&format!("{other} is taken, which was built here")), "{}", ran.said);
    assert!(has(&std::fs::read(bench.path("x.tar")).unwrap(), b"wrong"));
}
