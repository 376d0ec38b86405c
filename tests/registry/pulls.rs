//! Pulls that work.

use moby::Arch;
use moby::error::Exit;
use moby::store::manifest::media_type;
use moby::store::registry::Registry;
use moby::store::{Digest, Index};

use crate::fixtures::{self, Packing};
use crate::server::{Reply, Server};
use crate::{Place, assert_whole, name, net, options, pull, text};

#[test]
fn every_kind_of_image_comes_whole() {
    let images = fixtures::all();
    let server = Server::honest(images.clone());
    let place = Place::new();
    for (image, digest) in &images.tags {
        let manifest = pull(options(), &place.store, &server.host(), image, Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
        let named = place.store.named(&format!("{}/{image}", server.host())).unwrap().unwrap();
        assert_eq!(named.digest, *digest, "the store names what the tag names");
        assert_eq!(named.media_type, images.kinds[digest]);
    }
    assert_eq!(place.temporaries(), 0);
}

#[test]
fn a_platform_is_chosen_and_a_missing_one_is_explained() {
    let mut images = fixtures::all();
    let layer = fixtures::Layer::new().file("x", b"x").bytes();
    let only = images.image("", std::slice::from_ref(&layer), Packing::Gzip, "amd64");
    images.index("only:1", media_type::INDEX, vec![only]);
    let server = Server::honest(images.clone());
    let place = Place::new();
    for image in ["library/multi:1", "docker/multi:1"] {
        let manifest = pull(options(), &place.store, &server.host(), image, Arch::Arm64).unwrap();
        assert_whole(&place.store, &manifest);
        let index: Index = place.store.read_json(&images.tags[image]).unwrap();
        assert_eq!(index.manifests[1].digest, manifest.digest);
    }
    let error = pull(options(), &place.store, &server.host(), "only:1", Arch::Arm64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(error.message().ends_with("is not there for linux/arm64; it is there for linux/amd64"), "{error}");
    // An image without an index says in its configuration what it is for.
    let error = pull(options(), &place.store, &server.host(), "library/app:1", Arch::Arm64).unwrap_err();
    assert!(error.message().contains("is for amd64, not for arm64"), "{error}");
}

#[test]
fn nothing_is_fetched_twice() {
    let images = fixtures::all();
    let server = Server::honest(images.clone());
    let place = Place::new();
    pull(options(), &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    let before = server.log().len();
    pull(options(), &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    let asked: Vec<String> = server.log()[before..].iter().map(|asked| asked.path.clone()).collect();
    assert_eq!(asked, ["/v2/", "/v2/library/app/manifests/1"], "only the tag is looked up");

    let before = server.log().len();
    let pinned = format!("library/app:1@{}", images.tags["library/app:1"]);
    let host = server.host();
    drop(server);
    let net = net(options());
    // With the digest known and everything there, no server is needed.
    Registry::new(&net).pull(&place.store, &name(&host, &pinned), Arch::Amd64).unwrap();
    assert!(before > 0);
}

#[test]
fn a_damaged_blob_in_the_store_is_fetched_again() {
    let server = Server::honest(fixtures::all());
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "library/zstd:1", Arch::Amd64).unwrap();
    let document: moby::store::Manifest = place.store.read_json(&manifest.digest).unwrap();
    let path = place.store.blob_path(&document.layers[0].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_dir_all(place.store.root().join("derived")).unwrap();
    pull(options(), &place.store, &server.host(), "library/zstd:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn layers_come_four_at_a_time() {
    let mut images = fixtures::Images::default();
    let layers: Vec<Vec<u8>> =
        (0..8).map(|n| fixtures::Layer::new().file("x", &fixtures::noise(n, 2000)).bytes()).collect();
    images.image("many:1", &layers, Packing::Gzip, "amd64");
    let server = Server::start(images, |asked, reply| {
        if asked.is_blob() {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        reply
    });
    let place = Place::new();
    pull(options(), &place.store, &server.host(), "many:1", Arch::Amd64).unwrap();
    assert_eq!(server.most_busy(), 4);
}

#[test]
fn concurrent_pulls_into_one_store_do_no_harm() {
    let images = fixtures::all();
    let server = Server::honest(images.clone());
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (place, server, images) = (&place, &server, &images);
            scope.spawn(move || {
                let store = moby::store::Store::open(place.store.root()).unwrap();
                let arch = if thread == 1 { Arch::Arm64 } else { Arch::Amd64 };
                for image in images.tags.keys().filter(|name| thread != 1 || name.contains("multi")) {
                    let manifest = pull(options(), &store, &server.host(), image, arch).unwrap();
                    assert_whole(&store, &manifest);
                }
            });
        }
    });
    assert_eq!(place.store.names().unwrap().len(), images.tags.len());
    assert_eq!(place.temporaries(), 0);
}

#[test]
fn a_tag_is_resolved_by_headers_alone_or_by_its_document() {
    let images = fixtures::all();
    let honest = Server::honest(images.clone());
    let silent = Server::start(images.clone(), |asked, mut reply| {
        reply.headers.retain(|(name, _)| name != "Docker-Content-Digest");
        if asked.method == "HEAD" && asked.is_manifest() { Reply::new(405, b"") } else { reply }
    });
    for server in [&honest, &silent] {
        let net = net(options());
        let found = Registry::new(&net).resolve(&name(&server.host(), "library/multi:1")).unwrap();
        let digest = images.tags["library/multi:1"];
        assert_eq!((found.digest, found.size), (digest, images.blobs[&digest].len() as u64));
        assert_eq!(found.media_type, media_type::INDEX);
    }
    assert!(honest.log().iter().all(|asked| asked.method == "HEAD" || asked.path == "/v2/"));
    let net = net(options());
    let error = Registry::new(&net).resolve(&name(&honest.host(), "library/none:1")).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains("404"), "{}", text(&error));
}

#[test]
fn a_download_becomes_a_blob() {
    let mut images = fixtures::Images::default();
    let (digest, size) = images.blob(fixtures::noise(9, 500_000));
    let server = Server::honest(images);
    let place = Place::new();
    let net = net(options());
    let task = net.ui().task("fetch", "x", None);
    let url = format!("{}/v2/x/blobs/{digest}", server.url());
    assert_eq!(net.download_blob(&url, &place.store, Some(&digest), Some(size), &task).unwrap(), digest);
    assert_eq!(net.get_bytes(&url, size).unwrap().len() as u64, size);
    let error = moby::Error::from(net.get_bytes(&url, size - 1).unwrap_err());
    assert_eq!(error.exit(), Exit::Refused);
    let place = Place::new();
    for (expected, size) in [(Digest::of(b"other"), None), (digest, Some(size + 1)), (digest, Some(1))] {
        let failure = net.download_blob(&url, &place.store, Some(&expected), size, &task).unwrap_err();
        let error = moby::Error::from(failure);
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert_eq!((place.blobs(), place.temporaries()), (0, 0));
    }
}
