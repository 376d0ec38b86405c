//! Debian's docker-registry with TLS and a password file; skopeo is the other client.

use std::fs;
use std::process::{Command, Stdio};

use moby::Arch;
use moby::component::Components;
use moby::error::Exit;
use moby::net::NetOptions;
use moby::store::registry::Registry;

use crate::fixtures;
use crate::process::{DebianRegistry, Stop, certificates};
use crate::{Place, assert_whole, name, net, options, pull, text};

/// Pushes fixtures with skopeo.
fn fill(registry: &DebianRegistry, images: &fixtures::Images) {
    for image in images.tags.keys() {
        let folder = registry.folder.path().join("fixtures").join(image.replace([':', '/'], "-"));
        images.write_folder(image, &folder);
        let (from, to) = (format!("dir:{}", folder.display()), format!("docker://{}/{image}", registry.host()));
        registry.skopeo(&["copy", "--all", "--preserve-digests", "--dest-creds", "me:secret", &from, &to]);
    }
}

#[test]
fn images_pushed_by_skopeo_are_pulled_over_tls_with_a_password() {
    let registry = DebianRegistry::start();
    let images = fixtures::all();
    fill(&registry, &images);
    let place = Place::new();
    for image in images.tags.keys() {
        let manifest = pull(registry.options(), &place.store, &registry.host(), image, Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
        let named = place.store.named(&format!("{}/{image}", registry.host())).unwrap().unwrap();
        assert_eq!(named.digest, images.tags[image]);
    }
    let net = net(registry.options());
    let resolved = Registry::new(&net).resolve(&name(&registry.host(), "library/multi:1")).unwrap();
    assert_eq!(resolved.digest, images.tags["library/multi:1"]);
}

#[test]
fn a_redirect_from_https_to_plain_http_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    // s_server -HTTP sends files as whole answers.
    fs::write(folder.path().join("file"), "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes").unwrap();
    let redirect = "HTTP/1.0 302 Found\r\nContent-Length: 0\r\nLocation: http://name.invalid/x\r\n\r\n";
    fs::write(folder.path().join("redirect"), redirect).unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let process = Command::new("openssl")
        .current_dir(folder.path())
        .args(["s_server", "-quiet", "-HTTP", "-cert", "server.crt", "-key", "server.key", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl ({error}): apt-get install openssl"));
    let _stop = Stop(process);
    let net = net(NetOptions { cert_files: vec![folder.path().join("ca.crt")], ..options() });
    assert_eq!(net.get_bytes(&format!("https://127.0.0.1:{port}/file"), 10).unwrap(), b"yes");
    let failure = net.get_bytes(&format!("https://127.0.0.1:{port}/redirect"), 10).unwrap_err();
    assert_eq!(failure.reason(), moby::net::Reason::Url);
    assert!(failure.message().contains("from https to plain http"), "{failure}");
}

#[test]
fn without_authority_or_password_the_message_says_what_to_do() {
    let registry = DebianRegistry::start();
    let place = Place::new();
    let right = registry.options();
    let host = registry.host();
    let unknown = NetOptions { cert_files: Vec::new(), ..right.clone() };
    let error = pull(unknown, &place.store, &host, "library/app:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains("--cert-file"), "{}", text(&error));

    let anonymous = NetOptions { docker_config: options().docker_config, ..right.clone() };
    let error = pull(anonymous, &place.store, &host, "library/app:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains(&format!("docker login {host}")), "{}", text(&error));

    let error = pull(right, &place.store, &host, "library/none:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains("404"), "{}", text(&error));
}

#[test]
fn what_is_pushed_is_what_skopeo_reads() {
    let registry = DebianRegistry::start();
    let images = fixtures::all();
    let source = crate::server::Server::honest(images.clone());
    let place = Place::new();
    let net = net(registry.options());
    let client = Registry::new(&net);
    for image in ["library/app:1", "docker/app:1", "library/zstd:1", "library/plain:1"] {
        let manifest = client.pull(&place.store, &name(&source.host(), image), Arch::Amd64).unwrap();
        client.push(&place.store, &name(&registry.host(), image), &manifest).unwrap();
        let url = format!("docker://{}/{image}", registry.host());
        let raw = registry.skopeo(&["inspect", "--raw", "--creds", "me:secret", &url]);
        assert_eq!(moby::store::Digest::of(raw.as_bytes()), manifest.digest, "{image}");
    }
    // An index needs all of its images.
    let image = "library/multi:1";
    client.pull(&place.store, &name(&source.host(), image), Arch::Amd64).unwrap();
    let index = place.store.named(&format!("{}/{image}", source.host())).unwrap().unwrap();
    let error = client.push(&place.store, &name(&registry.host(), image), &index).unwrap_err();
    assert!(error.message().contains("linux/arm64/v8"), "{error}");
    client.pull(&place.store, &name(&source.host(), image), Arch::Arm64).unwrap();
    client.push(&place.store, &name(&registry.host(), image), &index).unwrap();
    let folder = place.path().join("copy");
    let (from, to) = (format!("docker://{}/{image}", registry.host()), format!("oci:{}:it", folder.display()));
    registry.skopeo(&["copy", "--all", "--preserve-digests", "--src-creds", "me:secret", &from, &to]);
    assert!(folder.join("blobs/sha256").join(index.digest.hex()).is_file());

    let wrong = NetOptions { docker_config: options().docker_config, ..registry.options() };
    let net = crate::net(wrong);
    let error = Registry::new(&net).push(&place.store, &name(&registry.host(), image), &index).unwrap_err();
    assert!(text(&error).contains("docker login"), "{}", text(&error));
}

/// A component of no packages, so that no mirror is needed: built for both architectures, indexed, pushed, pulled by
/// somebody else.
#[test]
fn a_component_is_pushed_for_both_architectures() {
    let registry = DebianRegistry::start();
    let (here, there) = (Place::new(), Place::new());
    let folder = here.path().join("hello");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("build.yml"), "image: hello\nfiles: [{path: /a, contents: b}]\nconfig: {readonly: true}\n")
        .unwrap();
    let net = net(registry.options());
    let ui = moby::ui::Ui::new(moby::ui::Mode::Quiet);
    let organisation = format!("{}/example", registry.host());
    let components = Components::new(&here.store, &net, &ui).of_organisation(Some(&organisation));
    let component = components.add(&folder).unwrap();
    assert_eq!(components.index(&component).unwrap_err().exit(), Exit::Usage);
    for arch in Arch::ALL {
        assert!(!components.image(&component, arch, false).unwrap().reused);
        assert!(components.image(&component, arch, false).unwrap().reused);
    }
    let made = components.index(&component).unwrap();
    assert_eq!(made.images.len(), 2);
    let canonical = component.canonical().unwrap();
    Registry::new(&net).push(&here.store, &canonical, &made.index).unwrap();
    assert_eq!(Registry::new(&net).resolve(&canonical).unwrap().digest, made.index.digest);
    for (arch, (_, expected)) in Arch::ALL.into_iter().zip(&made.images) {
        let image = format!("example/hello:{}", component.hash);
        let manifest = pull(registry.options(), &there.store, &registry.host(), &image, arch).unwrap();
        assert_eq!(manifest.digest, expected.digest);
        assert_whole(&there.store, &manifest);
    }
}
