//! A registry as the cache: what is asked of it, and what it does wrong.

use std::path::Path;

use moby::store::Digest;
use moby::store::manifest::media_type;

use crate::builders::{blob, build, machine, names, same, to};
use crate::fixtures::Images;
use crate::place::Place;
use crate::server::{Ending, Reply, Server};

/// What a registry would hold after the same build.
fn served(layout: &Path) -> Images {
    let mut images = Images::default();
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let digest = Digest::from_hex(path.file_name().unwrap().to_str().unwrap()).unwrap();
        images.blobs.insert(digest, std::fs::read(blob(layout, &digest)).unwrap());
    }
    for (name, descriptor) in names(layout) {
        images.kinds.insert(descriptor.digest, media_type::MANIFEST.to_string());
        images.tags.insert(format!("team/cache:main-{name}"), descriptor.digest);
    }
    images
}

fn filled() -> (Place, Images) {
    let place = machine("x");
    let cache = place.path("cache");
    build(&place, &[&to(&cache)]);
    let images = served(&cache);
    (place, images)
}

fn from(server: &Server) -> String {
    format!("--cache-from=type=registry,ref={}/team/cache:main,trust=components", server.host())
}

#[test]
fn only_what_is_wanted_is_asked_for() {
    let (first, images) = filled();
    let server = Server::honest(images);
    let place = machine("x");
    let (timings, _) = build(&place, &[&from(&server)]);
    timings.nothing_made();
    same(&first, &place);
    let log = server.log();
    let bundles = log.iter().filter(|asked| asked.path.contains("/manifests/main-cpio-3-")).count();
    // Folders, two components, `files`: a question each, however many pieces they have.
    assert_eq!(bundles, 4);
    let blobs = log.iter().filter(|asked| asked.is_blob()).count();
    assert_eq!(blobs, 3 * 2 + 6, "layers and configurations of three images; six archives");
    assert!(!log.iter().any(|asked| asked.path.contains("tags/list") || asked.path.contains("_catalog")));
    assert!(server.most_busy() <= 4, "{}", server.most_busy());
    // Another build of the same has it all.
    let before = server.log().len();
    std::fs::remove_dir_all(place.path("images-out")).unwrap();
    build(&place, &[&from(&server)]).0.nothing_made();
    assert_eq!(server.log().len(), before);
    // One component is another: what is common comes from the cache, without what is not wanted.
    let other = machine("y");
    let before = server.log().len();
    build(&other, &[&from(&server)]);
    let blobs = server.log()[before..].iter().filter(|asked| asked.is_blob()).count();
    assert_eq!(blobs, 2 * 2 + 5);
}

#[test]
fn broken_transfers_go_on() {
    let (first, images) = filled();
    let server = Server::start(images, |asked, reply| match (asked.is_blob(), asked.before) {
        (true, 0) => {
            let length = reply.body.len() / 2;
            reply.ending(Ending::Cut(length))
        }
        (false, 0) if asked.is_manifest() => Reply::new(503, b"not now").with("Retry-After", 0),
        _ => reply,
    });
    let place = machine("x");
    build(&place, &[&from(&server)]).0.nothing_made();
    same(&first, &place);
}

#[test]
fn a_registry_that_fails_stops_nobody() {
    let (first, images) = filled();
    let flip = |mut reply: Reply| {
        let middle = reply.body.len() / 2;
        if let Some(byte) = reply.body.get_mut(middle) {
            *byte ^= 1;
        }
        reply
    };
    type Spoil = fn(bool, bool, Reply) -> Option<Reply>;
    let spoils: [(&str, Spoil); 5] = [
        ("no blobs", |is_blob, _, _| is_blob.then(|| Reply::new(404, b"no such blob"))),
        ("forbidden", |_, _, _| Some(Reply::new(403, b"no"))),
        ("nonsense", |_, is_manifest, _| is_manifest.then(|| Reply::new(200, b"<html>hello</html>"))),
        ("another manifest", |_, is_manifest, _| {
            is_manifest.then(|| Reply::new(200, br#"{"schemaVersion":2,"manifests":[]}"#))
        }),
        ("damaged blobs", |_, _, _| None),
    ];
    for (what, spoil) in spoils {
        let server = Server::start(images.clone(), move |asked, reply| {
            let (is_blob, is_manifest) = (asked.is_blob(), asked.is_manifest());
            match spoil(is_blob, is_manifest, reply.clone()) {
                Some(spoilt) => spoilt,
                None if what == "damaged blobs" && is_blob => flip(reply),
                None => reply,
            }
        });
        let place = machine("x");
        let (timings, said) = build(&place, &[&from(&server)]);
        assert!(timings.made("compress") > 4 && timings.made("component") == 3, "{what}: {said}");
        same(&first, &place);
        assert_eq!(place.names("store/temporary"), Vec::<String>::new(), "{what}");
    }
}

/// Nobody listens: the builder asks once, says so, and goes on.
#[test]
fn a_registry_that_is_gone_is_asked_once() {
    let (first, _) = filled();
    let port = crate::support::machine::free_port();
    let place = machine("x");
    let (_, said) = build(&place, &[&format!("--cache-from=127.0.0.1:{port}/team/cache")]);
    assert_eq!(said.matches("is of no help").count(), 1, "{said}");
    same(&first, &place);
}
