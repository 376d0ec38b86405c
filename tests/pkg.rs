//! `moby pkg` as LinuxKit's users know it: tags by git's trees, extra sources, folders with a Dockerfile.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A git repository with a package, and a store of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        place.write(
            "pkg/hello/build.yml",
            "image: hello\norg: example\nfiles:\n  - {path: /hello, source: hello.txt}\n",
        );
        place.write("pkg/hello/hello.txt", "hello\n");
        place.write("common/shared.txt", "shared\n");
        place.write("other.txt", "not of the package\n");
        place.git(&["init", "-q"]);
        place.commit();
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What git says, for comparison.
    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap_or_else(|error| panic!("git ({error}): apt-get install git"));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
        command.arg("pkg").args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.env("MOBY_CACHE", self.path().join(".git/moby-store")).env_remove("LINUXKIT_PKG_ORG");
        // As a container needs it, where the tests run as root and without other storage.
        command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// The names of the store.
    fn names(&self) -> String {
        let index = self.path().join(".git/moby-store/index.json");
        fs::read_to_string(index).unwrap_or_default()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn sha1(text: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("sha1sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..40].to_owned()
}

const HELLO: &str = "pkg/hello";

#[test]
fn a_tag_is_the_tree_that_git_knows() {
    let place = Place::new();
    let tree = place.git(&["rev-parse", "HEAD:pkg/hello"]);
    assert_eq!(place.prints(&["show-tag", HELLO]), format!("example/hello:{tree}"));
    assert_eq!(place.prints(&["show-tag", "--canonical", HELLO]), format!("docker.io/example/hello:{tree}"));
    // What is beside the folder is nothing to it.
    place.write("other.txt", "changed");
    assert_eq!(place.prints(&["show-tag", HELLO]), format!("example/hello:{tree}"));
    // A changed file, a new one, a staged one.
    let clean = |shown: &str| shown == format!("example/hello:{tree}");
    let mut seen = Vec::new();
    for change in ["pkg/hello/hello.txt", "pkg/hello/new.txt"] {
        place.write(change, "other\n");
        let shown = place.prints(&["show-tag", HELLO]);
        assert!(shown.starts_with(&format!("example/hello:{tree}-dirty-")), "{shown}");
        assert_eq!(shown.len(), format!("example/hello:{tree}-dirty-").len() + 7, "{shown}");
        assert!(!seen.contains(&shown), "other content has another tag");
        seen.push(shown);
    }
    place.git(&["add", "-A"]);
    assert_eq!(place.prints(&["show-tag", HELLO]), seen[1], "staged is not committed");
    // The commit is another one, of which the folder says nothing.
    assert!(clean(&place.prints(&["show-tag", "--hash-commit", "HEAD~0", HELLO])));
    place.commit();
    let shown = place.prints(&["show-tag", HELLO]);
    assert!(!shown.contains("dirty") && !clean(&shown), "{shown}");
    assert!(clean(&place.prints(&["show-tag", "--hash-commit", "HEAD~1", HELLO])));
    assert!(place.refused(&["show-tag", "--hash-commit", "nowhere", HELLO], 2).contains("is not in nowhere"));
}

#[test]
fn flags_take_the_place_of_what_git_and_the_recipe_say() {
    let place = Place::new();
    let tree = place.git(&["rev-parse", "HEAD:pkg/hello"]);
    let root = place.git(&["rev-parse", "HEAD^{tree}"]);
    for (flags, expected) in [
        (&["--org", "registry.example/group"][..], format!("registry.example/group/hello:{tree}")),
        (&["--hash", "abc"], "example/hello:abc".into()),
        (&["--tag", "v1"], "example/hello:v1".into()),
        (&["--tag", "v1-{{.Hash}}"], format!("example/hello:v1-{tree}")),
        (&["--tag", "v1-%h", "--hash", "abc"], "example/hello:v1-abc".into()),
        (&["--hash-path", "."], format!("example/hello:{root}")),
        (&["--build-yml", "other.yml"], format!("other/hello:{}", "?")),
    ] {
        if flags[0] == "--build-yml" {
            place.write("pkg/hello/other.yml", "image: hello\norg: other\nfiles: []\n");
            let shown = place.prints(&[&["show-tag"], flags, &[HELLO]].concat());
            assert!(shown.starts_with(&format!("other/hello:{tree}-dirty-")), "{shown}");
            continue;
        }
        assert_eq!(place.prints(&[&["show-tag"], flags, &[HELLO]].concat()), expected, "{flags:?}");
    }
    fs::remove_file(place.path().join("pkg/hello/other.yml")).unwrap();
    let shown = place.prints(&["show-tag", "--force-dirty", HELLO]);
    assert!(shown.starts_with(&format!("example/hello:{tree}-dirty-")), "{shown}");
    let output = place.command(&["show-tag", "--dev", HELLO]).env("USER", "somebody").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "somebody/hello:dev\n");
    // The recipe's own template.
    place.write("pkg/hello/build.yml", "image: hello\ntag: \"1.2-{{.Hash}}\"\nfiles: []\n");
    place.commit();
    let tree = place.git(&["rev-parse", "HEAD:pkg/hello"]);
    assert_eq!(place.prints(&["show-tag", HELLO]), format!("moby/hello:1.2-{tree}"));
}

#[test]
fn extra_sources_are_part_of_the_tag_and_of_the_image() {
    let place = Place::new();
    let recipe = "image: hello\nextra-sources: ['../../common:common', '../../other.txt:o.txt']\n\
                  files:\n  - {path: /shared, source: common/shared.txt}\n  - {path: /o, source: o.txt}\n";
    place.write("pkg/hello/build.yml", recipe);
    place.commit();
    let ids = ["HEAD:pkg/hello", "HEAD:common", "HEAD:other.txt"].map(|what| place.git(&["rev-parse", what]));
    let clean = format!("moby/hello:{}", sha1(&ids.concat()));
    assert_eq!(place.prints(&["show-tag", HELLO]), clean);
    let before = place.prints(&["build", HELLO]);
    assert!(before.starts_with(&format!("docker.io/{clean}-")), "{before}");
    // LinuxKit does not see these.
    place.write("common/shared.txt", "changed\n");
    let shown = place.prints(&["show-tag", HELLO]);
    assert!(shown.starts_with(&format!("{clean}-dirty-")), "{shown}");
    let after = place.prints(&["build", HELLO]);
    let digest = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
    assert_ne!(digest(&before), digest(&after));
    // One that is there twice, one that is nowhere.
    place.write("pkg/hello/build.yml", "image: hello\nextra-sources: ['../../common:hello.txt']\nfiles: []\n");
    assert!(place.refused(&["show-tag", HELLO], 2).contains("hello.txt is there already"));
    place.write("pkg/hello/build.yml", "image: hello\nextra-sources: ['../../commun:x']\nfiles: []\n");
    assert!(place.refused(&["show-tag", HELLO], 2).contains("No such file"));
}

#[test]
fn without_git_the_recipes_hash_serves() {
    let place = Place::new();
    let tree = place.prints(&["show-tag", HELLO]);
    // No git on this machine.
    let empty = tempfile::tempdir().unwrap();
    let without = place.command(&["show-tag", HELLO]).env("PATH", empty.path()).output().unwrap();
    let without = String::from_utf8(without.stdout).unwrap();
    let hash = without.trim().strip_prefix("example/hello:").unwrap();
    assert!(hash.len() == 40 && !tree.contains(hash), "{without}");
    // Not in git; the same content, the same hash.
    let outside = tempfile::tempdir().unwrap();
    for file in ["build.yml", "hello.txt"] {
        fs::copy(place.path().join(HELLO).join(file), outside.path().join(file)).unwrap();
    }
    let path = outside.path().to_str().unwrap();
    assert_eq!(place.prints(&["show-tag", path]), format!("example/hello:{hash}"));
    // The program's own, whatever the store lies in.
    let own = place.prints(&["show-tag", "components/redis"]);
    assert!(own.starts_with("moby/redis:") && !own.contains("dirty"), "{own}");
}

#[test]
fn the_store_has_the_image_under_both_names() {
    let place = Place::new();
    let tree = place.prints(&["show-tag", HELLO]);
    let built = place.prints(&["build", "--platforms", "linux/amd64,linux/arm64,linux/riscv64", HELLO]);
    assert_eq!(built.lines().count(), 2, "{built}");
    assert!(built.lines().all(|line| line.starts_with(&format!("docker.io/{tree}-")) && line.ends_with(" built")));
    let names = place.names();
    assert_eq!(names.matches("docker.io/example/hello:").count(), 4, "{names}");
    // The recipe's hash is the one that `@pkg:` goes by: nothing is built a second time.
    assert!(place.prints(&["build", HELLO]).ends_with("there already"));
    place.prints(&["manifest", HELLO]);
    assert!(place.names().contains(&format!("\"docker.io/{tree}\"")), "{}", place.names());
    // Nothing is sent that git does not know, nothing is done in a dry run.
    assert!(place.prints(&["push", "--dry-run", HELLO]).ends_with("to be pushed"));
    place.write("pkg/hello/hello.txt", "other\n");
    let said = place.refused(&["push", HELLO], 3);
    assert!(said.contains("-dirty-") && said.contains("differs from what is committed"), "{said}");
    assert!(place.refused(&["build", "--platforms", "linux/amd46", HELLO], 2).contains("amd46"));
}

const DOCKERFILE: &str = "FROM scratch\nARG PKG_HASH\nARG GREETING=none\nLABEL greeting=$GREETING\n\
                          COPY hello.txt /hello.txt\nCOPY common /common\nENTRYPOINT [\"/hello\"]\n";
const WITH_DOCKERFILE: &str = "image: hello\norg: example\narches: [amd64, arm64, riscv64]\n\
                               extra-sources: ['../../common:common']\nbuildArgs: [GREETING=recipe]\n\
                               config: {binds: [\"/etc:/etc:ro\"]}\n";

fn with_dockerfile() -> Place {
    let place = Place::new();
    place.write("pkg/hello/Dockerfile", DOCKERFILE);
    place.write("pkg/hello/build.yml", WITH_DOCKERFILE);
    place.commit();
    place
}

fn config(place: &Place, name: &str) -> serde_json::Value {
    let index: serde_json::Value = serde_json::from_str(&place.names()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let named = |entry: &&serde_json::Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
    let entry = entries.iter().find(named).unwrap_or_else(|| panic!("{name} is not in {}", place.names()));
    let read = |digest: &serde_json::Value| -> serde_json::Value {
        let path = digest.as_str().unwrap().replace(':', "/");
        let bytes = fs::read(place.path().join(".git/moby-store/blobs").join(path)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    read(&read(&entry["digest"])["config"]["digest"])
}

/// Debian's buildah builds it, for both architectures.
#[test]
fn a_dockerfile_is_built_by_buildah() {
    let works = Command::new("buildah").arg("images").env("STORAGE_DRIVER", "vfs").output();
    if !works.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "buildah does not work: apt-get install buildah, as root"
        );
        eprintln!("skipped: buildah does not work here: apt-get install buildah, as root");
        return;
    }
    let place = with_dockerfile();
    let tag = place.prints(&["show-tag", HELLO]);
    let built = place.prints(&["build", "--platforms", "linux/amd64,linux/arm64", HELLO]);
    assert_eq!(built.lines().count(), 2, "{built}");
    for arch in ["amd64", "arm64"] {
        let config = config(&place, &format!("docker.io/{tag}-{arch}"));
        assert_eq!(config["architecture"], arch);
        assert_eq!(config["config"]["Labels"]["org.mobyproject.config"], r#"{"binds":["/etc:/etc:ro"]}"#);
        assert_eq!(config["config"]["Labels"]["greeting"], "recipe");
        assert_eq!(config["config"]["Entrypoint"][0], "/hello");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    }
    // Built again in a blueprint only if something changed; the arguments of a file count.
    assert!(place.prints(&["build", HELLO]).ends_with("there already"));
    place.write("arguments", "# not one\nGREETING=file\n");
    place.prints(&["build", "--arch", "amd64", "--tag", "file", "--build-arg-file", "arguments", HELLO]);
    let config = config(&place, "docker.io/example/hello:file-amd64");
    assert_eq!(config["config"]["Labels"]["greeting"], "file");
    place.write("blueprint.yml", "services: [{name: hello, image: '@pkg:pkg/hello'}]\n");
    let mut command = place.command(&[]);
    let mut build = Command::new(env!("CARGO_BIN_EXE_moby"));
    for (name, value) in command.get_envs() {
        build.env(name, value.unwrap_or_default());
    }
    let output =
        build.args(["build", "--arch", "amd64", "-o", "x.tar", "blueprint.yml"]).current_dir(place.path()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let listed = Command::new("tar").args(["tf", "x.tar"]).current_dir(place.path()).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("containers/services/hello/") && listed.contains("common/shared.txt"), "{listed}");
    command.stdin(Stdio::null());
    // A mistake in it is shown as buildah says it.
    place.write("pkg/hello/Dockerfile", "FROM scratch\nCOPY nothing /\n");
    assert!(place.refused(&["build", HELLO], 1).contains("nothing"));
}

/// A program in the path that writes down what it is told.
fn fake(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn docker_buildx_serves_where_there_is_no_buildah() {
    let place = with_dockerfile();
    let programs = tempfile::tempdir().unwrap();
    let path = programs.path().display().to_string();
    // It answers for its version, and fails to build.
    let script = format!(
        "if [ \"$2\" = version ]; then exit 0; fi\nfor a in \"$@\"; do echo \"$a\"; done >{path}/said\n\
                          echo no driver; exit 1"
    );
    fake(programs.path(), "docker", &script);
    let output = place.command(&["build", "--arch", "arm64", HELLO]).env("PATH", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("docker buildx failed") && said(&output).contains("no driver"));
    let told = fs::read_to_string(programs.path().join("said")).unwrap();
    for expected in [
        "buildx\nbuild\n--platform\nlinux/arm64\n",
        "\n--label\norg.mobyproject.config={\"binds\":[\"/etc:/etc:ro\"]}\n",
        "\n--build-arg\nGREETING=recipe\n",
        "\n--network\nnone\n",
        // No part of a path: a comma in it would end the field.
        "\n--output\ntype=oci,dest=image.tar,name=docker.io/example/hello:",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
    let output = place.command(&["build", "--network", "--disable-cache", HELLO]).env("PATH", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = fs::read_to_string(programs.path().join("said")).unwrap();
    assert!(!told.contains("--network") && told.contains("\n--no-cache\n"), "{told}");
}

#[test]
fn a_dockerfile_without_a_builder_is_said() {
    let place = with_dockerfile();
    let empty = tempfile::tempdir().unwrap();
    let output = place.command(&["build", HELLO]).env("PATH", empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("neither buildah nor docker buildx") && said.contains("packages, files, cargo"), "{said}");
    for (recipe, message) in [
        ("image: x\ndockerfile: Dockerfile\npackages: [a]\n", "`packages` says what is in the image"),
        ("image: x\npackages: [a]\nbuildArgs: [A=b]\n", "`buildArgs` is about a Dockerfile"),
        ("image: x\ndockerfile: ../Dockerfile\n", "is not in the recipe's folder"),
        ("image: x\ndockerfile: Dockerfile.gone\n", "there is no Dockerfile"),
        ("image: x\nbuildArgs: ['A=@lkt:pkg:x']\n", "only LinuxKit works out"),
    ] {
        place.write("pkg/hello/build.yml", recipe);
        assert!(place.refused(&["build", HELLO], 2).contains(message), "{recipe}");
    }
}
