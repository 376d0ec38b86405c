//! Registries that are in trouble, damaged or hostile.

use std::time::{Duration, Instant};

use moby::Arch;
use moby::error::Exit;
use moby::net::Reason;
use moby::store::registry::Registry;
use moby::store::{Digest, Manifest};

use crate::fixtures::{self, Images, Layer, Packing, noise};
use crate::server::{Asked, Ending, Reply, Server, ranged};
use crate::{Place, assert_whole, name, net, options, pull, text};

fn large() -> Images {
    let mut images = Images::default();
    images.image("large:1", &[Layer::new().file("x", &noise(7, 3_000_000)).bytes()], Packing::Gzip, "amd64");
    images
}

fn layer_of(images: &Images, name: &str) -> Digest {
    let manifest: Manifest = serde_json::from_slice(&images.blobs[&images.tags[name]]).unwrap();
    manifest.layers[0].digest
}

/// Only layers are spoilt; configurations are small and come with the manifest's checks.
fn is_layer(asked: &Asked, digest: Digest) -> bool {
    asked.path.ends_with(&digest.to_string())
}

#[test]
fn a_registry_that_is_busy_now_and_then_is_asked_again() {
    let images = fixtures::all();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(images.clone(), move |asked, reply| {
        let busy = asked.is_blob() && count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(3);
        if busy { Reply::new(503, b"busy").with("Retry-After", 0) } else { reply }
    });
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "library/app:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn a_cut_transfer_goes_on_where_it_broke() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let size = images.blobs[&layer].len();
    let server = Server::start(images, move |asked, reply| {
        let cut = is_layer(asked, layer) && asked.before < 3;
        if cut { reply.ending(Ending::Cut(700_000)) } else { reply }
    });
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
    let ranges: Vec<String> =
        server.log().iter().filter(|asked| is_layer(asked, layer)).map(|asked| asked.header("range").into()).collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], "");
    let starts: Vec<usize> =
        ranges[1..].iter().map(|r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()).collect();
    assert!(starts.is_sorted_by(|a, b| a < b) && starts[2] < size, "{ranges:?}");
    // What the kernel had not handed over when the connection broke may be lost, not more.
    assert!(starts[2] > 1_000_000, "what was received is kept: {ranges:?}");
}

#[test]
fn a_server_without_ranges_sends_everything_again_and_that_works_too() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let bytes = images.blobs[&layer].clone();
    let server = Server::start(images, move |asked, reply| {
        if !is_layer(asked, layer) {
            return reply;
        }
        let whole = Reply::new(200, &bytes);
        if asked.before == 0 { whole.ending(Ending::Cut(1_000_000)) } else { whole }
    });
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn content_that_changes_between_two_parts_is_fetched_anew() {
    let (old, new) = (noise(1, 1_000_000), noise(2, 900_000));
    let expected = new.clone();
    let server = Server::start(Images::default(), move |asked, _| {
        // An honest server with If-Range: the old tag no longer holds, so all of the new content comes.
        if asked.before == 0 {
            Reply::new(200, &old).with("ETag", "\"old\"").ending(Ending::Cut(500_000))
        } else if asked.header("if-range") == "\"new\"" {
            ranged(asked, &new).with("ETag", "\"new\"")
        } else {
            Reply::new(200, &new).with("ETag", "\"new\"")
        }
    });
    let net = net(options());
    let found = net.get_bytes(&format!("{}/index", server.url()), 2_000_000).unwrap();
    assert!(found == expected);
    assert_eq!(server.log()[1].header("if-range"), "\"old\"");
}

#[test]
fn content_that_always_changes_is_given_up() {
    let server = Server::start(Images::default(), |asked, _| {
        let length = if asked.before % 2 == 0 { 3_000_000 } else { 10 };
        let tag = format!("\"{}\"", asked.before);
        Reply::new(200, &noise(1, 4_000_000)).with("ETag", tag).ending(Ending::Cut(length))
    });
    let failure = net(options()).get_bytes(&format!("{}/x", server.url()), 5_000_000).unwrap_err();
    assert_eq!(failure.reason(), Reason::Broken);
    assert!(server.log().len() < 12, "{} requests", server.log().len());
}

#[test]
fn a_registry_that_answers_a_push_tersely_and_late_is_enough() {
    let images = fixtures::all();
    let source = Server::honest(images.clone());
    // It has all blobs; manifests are busy at first, then taken without a Location.
    let target = Server::start(images, |asked, reply| match asked.method.as_str() {
        "PUT" if asked.before == 0 => Reply::new(503, b"busy"),
        "PUT" => Reply::new(201, b""),
        _ => reply,
    });
    let place = Place::new();
    let net = net(options());
    let registry = Registry::new(&net);
    let from = name(&source.host(), "library/multi:1");
    for arch in Arch::ALL {
        registry.pull(&place.store, &from, arch).unwrap();
    }
    let index = place.store.named(&from.to_string()).unwrap().unwrap();
    registry.push(&place.store, &name(&target.host(), "copy:2"), &index).unwrap();
    let put: Vec<String> = target.log().into_iter().filter(|asked| asked.method == "PUT").map(|a| a.path).collect();
    assert_eq!(put.len(), 6, "{put:?}");
    assert_eq!(put[5], "/v2/copy/manifests/2");
    let missing = Server::start(fixtures::Images::default(), |_, _| Reply::new(500, b"no"));
    let error = registry.push(&place.store, &name(&missing.host(), "copy:2"), &index).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
}

#[test]
fn a_silent_server_is_given_up_and_asked_again() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let server = Server::start(images, move |asked, reply| {
        let stall = is_layer(asked, layer) && asked.before == 0;
        if stall { reply.ending(Ending::Stall(500_000)) } else { reply }
    });
    let place = Place::new();
    let mut options = options();
    options.stall_timeout = Duration::from_millis(500);
    let manifest = pull(options, &place.store, &server.host(), "large:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn damage_on_the_way_is_survived_once() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let server = Server::start(images, move |asked, mut reply| {
        if is_layer(asked, layer) && asked.before == 0 {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let place = Place::new();
    let manifest = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap();
    assert_whole(&place.store, &manifest);
}

#[test]
fn damage_that_stays_is_refused_and_leaves_nothing() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let mut damaged = images.blobs[&layer].clone();
    damaged[10] ^= 1;
    let found = Digest::of(&damaged);
    let server = Server::start(images, move |asked, mut reply| {
        if is_layer(asked, layer) {
            reply.body[10] ^= 1;
        }
        reply
    });
    let place = Place::new();
    let error = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    for part in ["large:1", "layer 1 of 1", &layer.to_string(), &found.to_string(), &server.host()] {
        assert!(error.message().contains(part), "{part} is missing in: {error}");
    }
    assert_eq!(place.temporaries(), 0);
    assert!(!place.store.blob_path(&layer).exists() && !place.store.blob_path(&found).exists());
    assert!(place.store.names().unwrap().is_empty(), "a failed pull names nothing");
}

#[test]
fn too_many_requests_are_obeyed() {
    let images = fixtures::all();
    let server = Server::start(images.clone(), |asked, reply| {
        let limit = asked.is_manifest() && asked.before == 0;
        if limit { Reply::new(429, b"slow down").with("Retry-After", 1) } else { reply }
    });
    let place = Place::new();
    let start = Instant::now();
    pull(options(), &place.store, &server.host(), "library/zstd:1", Arch::Amd64).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After: 1 means a second");

    let server = Server::start(images, |asked, reply| {
        if asked.is_manifest() { Reply::new(429, b"slow down").with("Retry-After", 0) } else { reply }
    });
    let error = pull(options(), &Place::new().store, &server.host(), "library/zstd:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(text(&error).contains("429") && text(&error).contains("slow down"), "{}", text(&error));
    assert_eq!(server.log().iter().filter(|asked| asked.is_manifest()).count(), 5);
}

#[test]
fn lying_manifests_are_refused() {
    let images = fixtures::all();
    let other = images.blobs[&images.tags["library/plain:1"]].clone();
    let claimed = images.tags["library/app:1"];
    // Another manifest under the right digest header, and under a digest that was asked for.
    let lying =
        Server::start(
            images.clone(),
            move |asked, reply| {
                if asked.is_manifest() { Reply { body: other.clone(), ..reply } } else { reply }
            },
        );
    for image in ["library/app:1".to_string(), format!("library/app@{claimed}")] {
        let place = Place::new();
        let error = pull(options(), &place.store, &lying.host(), &image, Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.message().contains(&claimed.to_string()), "{error}");
        assert_eq!(place.blobs(), 0);
    }
    for body in ["", "null", "[]", "{", "{}", r#"{"schemaVersion":1}"#, "<html>", "{\"manifests\":[{}]}", "\u{0}"] {
        let server =
            Server::start(
                images.clone(),
                move |asked, reply| {
                    if asked.is_manifest() { Reply::new(200, body.as_bytes()) } else { reply }
                },
            );
        let error = pull(options(), &Place::new().store, &server.host(), "library/app:1", Arch::Amd64).unwrap_err();
        assert!(matches!(error.exit(), Exit::Refused | Exit::Network), "{body}: {error:?}");
    }
}

#[test]
fn layers_that_do_not_belong_to_their_configuration_are_refused() {
    let mut images = Images::default();
    let layer = Layer::new().file("x", b"x").bytes();
    images.image_with(
        "wrong:1",
        std::slice::from_ref(&layer),
        Packing::Gzip,
        "amd64",
        &[Digest::of(b"other").to_string()],
    );
    images.image_with("count:1", &[layer], Packing::Gzip, "amd64", &[]);
    let garbage = noise(1, 5000);
    images.image_with(
        "garbage:1",
        std::slice::from_ref(&garbage),
        Packing::Gzip,
        "amd64",
        &[Digest::of(&garbage).to_string()],
    );
    let server = Server::honest(images);
    for (image, part) in [("wrong:1", "diff ID"), ("count:1", "names 0 layers"), ("garbage:1", "layer 1 of 1")] {
        let place = Place::new();
        let error = pull(options(), &place.store, &server.host(), image, Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{image}: {error}");
        assert!(error.message().contains(part), "{image}: {error}");
        assert_eq!(place.temporaries(), 0);
        assert!(place.store.names().unwrap().is_empty());
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let right = images.blobs[&layer].clone();
    let mut longer = right.clone();
    longer.push(0);
    for body in [right[..right.len() - 1].to_vec(), longer, Vec::new()] {
        let server = Server::start(
            images.clone(),
            move |asked, reply| {
                if is_layer(asked, layer) { Reply::new(200, &body) } else { reply }
            },
        );
        let place = Place::new();
        let error = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.message().contains(&format!("expected {} bytes", right.len())), "{error}");
        assert_eq!(place.temporaries(), 0);
    }
}

#[test]
fn bodies_without_an_end_are_given_up() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    type Spoilt = fn(&Asked, Digest) -> bool;
    let cases: [Spoilt; 3] =
        [|asked, layer| is_layer(asked, layer), |asked, _| asked.is_manifest(), |asked, _| asked.is_blob()];
    for spoilt in cases {
        let server = Server::start(images.clone(), move |asked, reply| {
            let endless = Reply::new(200, &[b' '; 64 << 10]).ending(Ending::Endless);
            if spoilt(asked, layer) { endless } else { reply }
        });
        let place = Place::new();
        let error = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert_eq!(place.temporaries(), 0);
    }
    // A refusal without an end must not be read to its end.
    let server = Server::start(images, |_, _| Reply::new(404, &[b'x'; 64 << 10]).ending(Ending::Endless));
    let error = pull(options(), &Place::new().store, &server.host(), "large:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(error.message().len() < 1000);
}

#[test]
fn odd_ranges_do_not_mix_contents() {
    let images = large();
    let layer = layer_of(&images, "large:1");
    let bytes = images.blobs[&layer].clone();
    for range in ["bytes 0-9/10", "bytes 5-1/x", "nonsense", "bytes 18446744073709551615-1/2"] {
        let (bytes, server_images) = (bytes.clone(), images.clone());
        let server = Server::start(server_images, move |asked, reply| match asked.before {
            0 if is_layer(asked, layer) => reply.ending(Ending::Cut(500_000)),
            1 if is_layer(asked, layer) => Reply::new(206, &bytes[3..]).with("Content-Range", range),
            _ => reply,
        });
        let place = Place::new();
        let manifest = pull(options(), &place.store, &server.host(), "large:1", Arch::Amd64).unwrap();
        assert_whole(&place.store, &manifest);
    }
}

#[test]
fn an_unreachable_registry_is_named() {
    let port = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let host = format!("127.0.0.1:{port}");
    let error = pull(options(), &Place::new().store, &host, "library/app:1", Arch::Amd64).unwrap_err();
    assert_eq!(error.exit(), Exit::Network);
    assert!(error.message().contains(&host) && error.message().contains("refused"), "{error}");
    let failure = net(options()).get_bytes("http://name.invalid/x", 10).unwrap_err();
    assert_eq!(failure.reason(), Reason::Unreachable);
    for wrong in ["", "x", "file:///etc/passwd", "ftp://example.org/", "http://"] {
        let failure = net(options()).get_bytes(wrong, 10).unwrap_err();
        assert_eq!(failure.reason(), Reason::Url, "{wrong}");
        assert_eq!(moby::Error::from(failure).exit(), Exit::Usage);
    }
}
