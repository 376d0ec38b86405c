//! `--docker`, with a program of that name that has one image.

use std::os::unix::fs::PermissionsExt;

use crate::bench::{Bench, members};
use crate::fixtures::{Images, Layer, Packing};
use crate::server::Server;

const BUILD: [&str; 8] = ["build", "--docker", "--arch", "amd64", "--format", "tar", "-o", "x.tar"];

/// A registry's image and a local one of the same name, and a bench whose docker has the local one.
struct Local {
    bench: Bench,
    server: Server,
    path: String,
}

fn local(program: &str) -> Local {
    let [mut far, mut near] = [Images::default(), Images::default()];
    for (images, mark) in [(&mut far, "far"), (&mut near, "near")] {
        images.image("app/web:1", &[Layer::new().file("which", mark.as_bytes()).bytes()], Packing::Gzip, "amd64");
        images.image("app/arm:1", &[Layer::new().file("which", mark.as_bytes()).bytes()], Packing::Gzip, "arm64");
    }
    far.image("app/other:1", &[Layer::new().file("other", b"far").bytes()], Packing::Gzip, "amd64");
    let bench = Bench::new("");
    let source = Server::honest(near);
    for (name, arch) in [("web", "amd64"), ("arm", "arm64")] {
        let image = format!("{}/app/{name}:1", source.host());
        bench.works(&["cache", "pull", "--arch", arch, &image]);
        let platform = format!("linux/{arch}");
        let file = format!("{name}.tar");
        bench.works(&["cache", "export", "--format", "docker", "--platform", &platform, &image, "-o", &file]);
    }
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    let server = Server::honest(far);
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'save --' ] || exit 9\necho \"$3\" >> '{log}'\ncase \"$3\" in\n\
         */app/web:1*) exec cat '{web}' ;;\n*/app/arm:1) exec cat '{arm}' ;;\n*/app/junk:1) head -c 5000 /dev/zero | tr '\\0' x ;;\n\
         *) echo 'Error response from daemon: reference does not exist' >&2; exit 1 ;;\nesac\n",
        log = bench.path("asked").display(),
        web = bench.path("web.tar").display(),
        arm = bench.path("arm.tar").display(),
    );
    bench.write(&format!("bin/{program}"), script);
    std::fs::set_permissions(bench.path(&format!("bin/{program}")), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bench.path("bin").display());
    bench.write("web.yml", format!("init: [\"{0}/app/web:1\", \"{0}/app/other:1\"]\n", server.host()));
    Local { bench, server, path }
}

impl Local {
    fn run(&self, words: &[&str]) -> crate::bench::Ran {
        self.bench.run_with(&[("PATH", self.path.as_str())], words)
    }

    fn build(&self, more: &[&str]) -> crate::bench::Ran {
        let words: Vec<&str> = BUILD.iter().copied().chain(more.iter().copied()).chain(["web.yml"]).collect();
        self.run(&words)
    }

    fn which(&self) -> String {
        String::from_utf8(members(&self.bench.read("x.tar"))["which"].3.clone()).unwrap()
    }
}

#[test]
fn what_is_local_comes_first() {
    for program in ["docker", "podman"] {
        let local = local(program);
        let ran = local.build(&[]);
        assert_eq!(ran.status, 0, "{}", ran.said);
        assert_eq!(local.which(), "near");
        assert!(
            ran.said.contains(&format!("{program} has no {}/app/other:1: Error response", local.server.host())),
            "{}",
            ran.said
        );
        assert!(!local.server.log().iter().any(|asked| asked.path.contains("app/web")));
        // Without the flag the registry's counts: the local one has left no name.
        let words: Vec<&str> = BUILD.iter().copied().filter(|word| *word != "--docker").chain(["web.yml"]).collect();
        assert_eq!(local.run(&words).status, 0);
        assert_eq!(local.which(), "far");
    }
}

#[test]
fn a_lock_has_the_local_image_by_digest() {
    let local = local("docker");
    let ran = local.run(&["lock", "--docker", "web.yml"]);
    assert_eq!(ran.status, 0, "{}", ran.said);
    assert_eq!(local.build(&["--locked"]).status, 0);
    assert_eq!(local.which(), "near");
    // Another store: the local image is looked for again, and is the one that is locked.
    std::fs::remove_dir_all(local.bench.path("store")).unwrap();
    assert_eq!(local.build(&["--locked"]).status, 0);
    assert_eq!(local.which(), "near");
    // And once in the store, nobody is asked.
    std::fs::remove_file(local.bench.path("asked")).unwrap();
    assert_eq!(local.build(&["--locked", "--offline"]).status, 0);
    assert!(!local.bench.path("asked").exists());
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let local = local("docker");
    let host = local.server.host();
    let digest = "sha256:".to_string() + &"1".repeat(64);
    local.bench.write("web.yml", format!("init: [\"{host}/app/web:1@{digest}\"]\n"));
    let ran = local.build(&[]);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(ran.said.contains("but not with the digest"), "{}", ran.said);
    local.bench.write("web.yml", format!("init: [\"{host}/app/arm:1\"]\n"));
    let ran = local.build(&[]);
    assert_eq!(ran.status, 4, "{}", ran.said);
    assert!(ran.said.contains("for arm64, not for amd64"), "{}", ran.said);
    local.bench.write("web.yml", format!("init: [\"{host}/app/junk:1\"]\n"));
    let ran = local.build(&[]);
    assert_eq!(ran.status, 3, "{}", ran.said);
    assert!(ran.said.contains("save wrote of") && ran.said.contains("web.yml:1:"), "{}", ran.said);
}

#[test]
fn without_docker_it_says_what_to_do() {
    let bench = Bench::new("init: [\"localhost:1/x\"]\n");
    let words: Vec<&str> = BUILD.iter().copied().chain(["web.yml"]).collect();
    let ran = bench.run_with(&[("PATH", "/nowhere")], &words);
    assert_eq!(ran.status, 2, "{}", ran.said);
    assert!(ran.said.contains("neither docker nor podman") && ran.said.contains("docker-archive:FILE"), "{}", ran.said);
}
