//! Caches that are damaged or lie, and stores that are.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use moby::formats::compress::Compressor;
use moby::store::{Digest, decompress};
use serde_json::Value;

use crate::builders::{OUTPUTS, blob, build, from, machine, names, same, to};
use crate::place::Place;

/// Changes what every bundle names, and has it named by its new digest: the cache is in order, and lies.
fn rewrite(layout: &Path, change: impl Fn(usize, Vec<u8>) -> Vec<u8>) {
    let mut index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blob(layout, &digest), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut number = 0;
    for entry in index["manifests"].as_array_mut().unwrap() {
        if !entry["annotations"].to_string().contains("\"cpio-") {
            continue;
        }
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(blob(layout, &digest)).unwrap()).unwrap();
        for layer in manifest["layers"].as_array_mut().unwrap() {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            let (digest, size) = put(&change(number, std::fs::read(blob(layout, &digest)).unwrap()));
            (layer["digest"], layer["size"]) = (digest.into(), size.into());
            number += 1;
        }
        let (digest, size) = put(manifest.to_string().as_bytes());
        (entry["digest"], entry["size"]) = (digest.into(), size.into());
    }
    assert!(number > 4);
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    decompress(bytes).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A filled cache and the machine that filled it.
fn filled(arguments: &[&str]) -> (Place, std::path::PathBuf) {
    let place = machine("x");
    let cache = place.path("cache");
    build(&place, &[arguments, &[&to(&cache)]].concat());
    (place, cache)
}

fn copied(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
fn lies_are_not_used() {
    let (first, cache) = filled(&[]);
    let flip = |bytes: &[u8], at: usize| {
        let mut plain = inflated(bytes);
        let at = at % plain.len();
        plain[at] ^= 1;
        zstd(&plain)
    };
    type Lie<'l> = &'l dyn Fn(usize, Vec<u8>) -> Vec<u8>;
    let lies: [(&str, Lie<'_>); 8] = [
        ("another content", &|_, bytes| flip(&bytes, 300)),
        ("another header", &|_, bytes| flip(&bytes, 21)),
        ("another trailer", &|_, bytes| flip(&bytes, inflated(&bytes).len() - 8)),
        ("one more frame", &|_, bytes| [bytes, zstd(b"0707")].concat()),
        ("a frame that is passed over", &|_, bytes| [bytes, b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec()].concat()),
        ("something in the same frame", &|_, bytes| zstd(&[inflated(&bytes), b"07".to_vec()].concat())),
        ("less", &|_, bytes| zstd(&inflated(&bytes)[..100])),
        ("noise", &|number, bytes| crate::fixtures::noise(number as u64 + 50, bytes.len())),
    ];
    let folder = tempfile::tempdir_in(first.path("")).unwrap();
    for (number, (what, lie)) in lies.into_iter().enumerate() {
        let lying = folder.path().join(number.to_string());
        copied(&cache, &lying);
        rewrite(&lying, lie);
        let place = machine("x");
        let source = format!("{},trust=components", from(&lying));
        let (timings, said) = build(&place, &[&source]);
        assert!(said.contains("has wrong data for"), "{what}: {said}");
        assert!(timings.made("compress") > 4, "{what}");
        same(&first, &place);
        if number > 1 {
            continue;
        }
        // What the first cache has wrong comes from the second.
        let place = machine("x");
        build(&place, &[&source, &from(&cache)]).0.nothing_made();
        same(&first, &place);
        // Who may write there puts it right.
        let healer = machine("x");
        build(&healer, &[&source, &to(&lying)]);
        let place = machine("x");
        let (timings, said) = build(&place, &[&source]);
        timings.nothing_made();
        assert!(!said.contains("warning"), "{said}");
        same(&first, &place);
    }
}

/// A compression that is another one of the same content: the image is as good, but not the same bytes. This is the
/// limit of what looking through shows; `docs/shared-cache.md` says so.
#[test]
fn the_same_content_compressed_otherwise_is_taken() {
    let (first, cache) = filled(&[]);
    rewrite(&cache, |_, bytes| zstd(&inflated(&bytes)));
    let place = machine("x");
    build(&place, &[&from(&cache)]);
    let initrd = |place: &Place| inflated(&place.read("images-out/at-initrd.img"));
    assert!(initrd(&first) == initrd(&place));
}

#[test]
fn gzip_is_looked_through_too() {
    let gzip = crate::fixtures::gzip;
    looked_through("gzip:1", |number, bytes| match number % 3 {
        // A name in the header, one more member, other content.
        0 => [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 4, 255, b'x', 0][..], &bytes[10..]].concat(),
        1 => [bytes, gzip(b"0707")].concat(),
        _ => gzip(&changed(&bytes)),
    });
}

#[test]
fn xz_is_looked_through_too() {
    let xz = |bytes: &[u8], method: &str| {
        let mut out = Compressor::new(Vec::new(), method.parse().unwrap()).unwrap();
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    looked_through("xz:1", |number, bytes| match number % 3 {
        // Another check, which Linux may not know; one more stream; other content.
        0 => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut out = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            out.write_all(&inflated(&bytes)).unwrap();
            out.finish().unwrap()
        }
        1 => [bytes, xz(b"0707", "xz:1")].concat(),
        _ => xz(&changed(&bytes), "xz:1"),
    });
}

/// The same archive with another mode of a file, or whatever stands there.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut plain = inflated(bytes);
    plain[300] ^= 1;
    plain
}

/// Fills a cache with archives in a compression, has them changed, and builds without any of them.
fn looked_through(compression: &str, change: impl Fn(usize, Vec<u8>) -> Vec<u8>) {
    let (first, cache) = filled(&["--compression", compression]);
    let place = machine("x");
    let source = format!("{},trust=components", from(&cache));
    let (timings, _) = build(&place, &["--compression", compression, &source]);
    timings.nothing_made();
    same(&first, &place);
    rewrite(&cache, change);
    let place = machine("x");
    let (timings, said) = build(&place, &["--compression", compression, &source]);
    assert!(timings.made("compress") > 4, "{said}");
    same(&first, &place);
}

/// A folder that was damaged by a disk, or cleaned up by half.
#[test]
fn a_damaged_cache_is_no_harm() {
    let (first, cache) = filled(&[]);
    // An image has two names.
    let layers: BTreeSet<Digest> = names(&cache)
        .into_iter()
        .flat_map(|(_, named)| {
            let manifest: Value = serde_json::from_slice(&std::fs::read(blob(&cache, &named.digest)).unwrap()).unwrap();
            let layers = manifest["layers"].as_array().unwrap().clone();
            layers.into_iter().map(|layer| layer["digest"].as_str().unwrap().parse::<Digest>().unwrap())
        })
        .collect();
    for damage in ["flipped", "short", "gone", "manifests"] {
        let hurt = first.path(damage);
        copied(&cache, &hurt);
        let documents = names(&cache).into_iter().map(|(_, named)| named.digest);
        let victims: BTreeSet<Digest> = if damage == "manifests" { documents.collect() } else { layers.clone() };
        for digest in victims {
            let path = blob(&hurt, &digest);
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            std::fs::remove_file(&path).unwrap();
            let middle = bytes.len() / 2;
            match damage {
                "gone" => continue,
                "short" => bytes.truncate(middle),
                _ => bytes[middle] ^= 1,
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let place = machine("x");
        let (timings, said) = build(&place, &[&format!("{},trust=components", from(&hurt))]);
        assert!(timings.made("compress") > 4 && timings.made("component") == 3, "{damage}: {said}");
        assert_eq!(damage == "gone", !said.contains("warning"), "{damage}: {said}");
        same(&first, &place);
        assert_eq!(place.names("store/temporary"), Vec::<String>::new());
    }
}

/// An image under the tag of another recipe, in a cache that is trusted: mistaken rather than wicked, and seen.
#[test]
fn an_image_of_another_recipe_is_not_taken() {
    let (first, cache) = filled(&[]);
    let path = cache.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let components: Vec<usize> =
        (0..entries.len()).filter(|n| entries[*n]["annotations"].to_string().contains("\"component-")).collect();
    let first_digest = entries[components[0]]["digest"].clone();
    for pair in components.windows(2) {
        entries[pair[0]]["digest"] = entries[pair[1]]["digest"].clone();
    }
    entries[*components.last().unwrap()]["digest"] = first_digest;
    std::fs::write(&path, index.to_string()).unwrap();
    let place = machine("x");
    let (timings, said) = build(&place, &[&format!("{},trust=components", from(&cache))]);
    assert_eq!(timings.made("component"), 3, "{said}");
    assert!(said.contains("made from something else"), "{said}");
    same(&first, &place);
}

/// The store's own archives are looked at before they go into an image.
#[test]
fn a_damaged_archive_of_the_store_is_made_again() {
    let (first, _) = filled(&[]);
    let good = OUTPUTS.map(|name| first.read(&format!("images-out/{name}")));
    let archives = first.names("store/derived/cpio-3");
    for damage in ["flipped", "short", "note"] {
        for name in &archives {
            let path = first.path(format!("store/derived/cpio-3/{name}"));
            match damage {
                "note" => {
                    let note = first.path(format!("store/derived/cpio-3-digest/{name}"));
                    let text = std::fs::read(&note).unwrap();
                    std::fs::write(&note, &text[..text.len() / 2]).unwrap();
                }
                _ => {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    bytes.truncate(if damage == "short" { middle } else { bytes.len() });
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        }
        std::fs::remove_dir_all(first.path("images-out")).unwrap();
        let (timings, said) = build(&first, &[]);
        assert_eq!(timings.made("compress") as usize, archives.len() + 1, "{damage}");
        assert_eq!(said.contains("is damaged; it is made again"), damage != "note", "{said}");
        assert!(OUTPUTS.map(|name| first.read(&format!("images-out/{name}"))) == good, "{damage}");
    }
}
