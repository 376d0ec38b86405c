//! Mirrors and where requests go.

use moby::Arch;
use moby::net::NetOptions;

use crate::fixtures::{self, Images};
use crate::server::{Reply, Server};
use crate::{Place, assert_whole, options, pull};

fn with_mirrors(mirrors: &[String]) -> NetOptions {
    NetOptions { mirrors: mirrors.iter().map(|text| text.parse().unwrap()).collect(), ..options() }
}

#[test]
fn a_mirror_serves_in_the_place_of_a_registry_that_cannot_be_reached() {
    let mirror = Server::honest(fixtures::all());
    let place = Place::new();
    for (spec, registry) in [
        (format!("docker.io={}", mirror.url()), "docker.io"),
        (format!("docker.io={}", mirror.url()), "registry-1.docker.io"),
        (mirror.url(), "registry.invalid"),
    ] {
        let manifest = pull(with_mirrors(&[spec]), &place.store, registry, "library/multi:1", Arch::Arm64).unwrap();
        assert_whole(&place.store, &manifest);
        // The name is the registry's, not the mirror's.
        assert!(place.store.named(&format!("{registry}/library/multi:1")).unwrap().is_some());
    }
    assert!(mirror.log().iter().any(|asked| asked.query == "ns=registry.invalid"));
}

#[test]
fn what_a_mirror_does_not_have_comes_from_the_registry() {
    let origin = Server::honest(fixtures::all());
    let empty = Server::honest(Images::default());
    let broken = Server::start(fixtures::all(), |asked, mut reply| {
        if asked.is_blob() {
            reply.body[5] ^= 1;
        }
        reply
    });
    let forbidden = Server::start(fixtures::all(), |_, _| Reply::new(403, b"no"));
    let other = Server::honest(fixtures::all());
    for mirror in [&empty, &broken, &forbidden] {
        let place = Place::new();
        let mirrors = [mirror.url(), format!("elsewhere.example.org={}", other.url())];
        let manifest =
            pull(with_mirrors(&mirrors), &place.store, &origin.host(), "library/app:1", Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
        assert!(!mirror.log().is_empty(), "the mirror is asked first");
    }
    assert!(other.log().is_empty(), "a mirror of another registry is not asked");
}

#[test]
fn a_dead_mirror_is_asked_once() {
    let origin = Server::honest(fixtures::all());
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let place = Place::new();
    let start = std::time::Instant::now();
    let mirrors = [format!("http://127.0.0.1:{port}")];
    let manifest = pull(with_mirrors(&mirrors), &place.store, &origin.host(), "library/app:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
    // One round of retries takes 3 s; seven documents would take 21.
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "{:?}", start.elapsed());
}
