//! Compressed file systems out of a cache: the pieces of a component in one blob, looked through before they are used.

use std::path::Path;

use moby::store::Digest;
use serde_json::Value;

use crate::builders::{Timings, blob, from, machine, names, to};
use crate::fixtures::noise;
use crate::place::{Ended, Place};

const OUTPUTS: [&str; 2] = ["at.squashfs", "at.erofs"];

/// The usual machine, with a component of many files that get smaller.
fn texts(variant: &str) -> Place {
    let place = machine(variant);
    let mut recipe = "image: texts\nfiles:\n".to_owned();
    for number in 0..=40u64 {
        let length = if number == 40 { 3 << 20 } else { 3000 + 9000 * number as usize };
        place.write(&format!("texts/{number}"), text(number, length));
        recipe.push_str(&format!("- {{path: /usr/texts/{number}, source: \"{number}\"}}\n"));
    }
    place.write("texts/build.yml", recipe);
    let blueprint = String::from_utf8(place.read("at.yml")).unwrap();
    place.write("at.yml", blueprint.replace("\"@pkg:big\"", "\"@pkg:big\", \"@pkg:texts\""));
    place
}

fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length)
        .chunks(7)
        .flat_map(|bytes| [b"some words ", &bytes[..bytes.len().min(3)]].concat())
        .take(length)
        .collect()
}

#[track_caller]
fn build(place: &Place, arguments: &[&str]) -> (Timings, String) {
    let mut command = place.command(["build", "--arch", "amd64", "--timings", "-f", "squashfs,erofs"]);
    command.args(arguments).arg("at.yml").env("PATH", "/nonexistent");
    let ended = Ended::of(command.output().unwrap()).well();
    (Timings::read(place), ended.err)
}

fn outputs(place: &Place) -> Vec<Vec<u8>> {
    OUTPUTS.iter().map(|name| place.read(&format!("images-out/{name}"))).collect()
}

#[test]
fn a_fresh_machine_compresses_nothing() {
    let first = texts("x");
    let cache = first.path("cache");
    let (timings, said) = build(&first, &[&to(&cache)]);
    assert!(timings.made("compress") >= 6, "{said}");
    let expected = outputs(&first);
    // Of each file system a blob for each component, under the root's name and its own.
    for kind in ["squashfs-pack-1-", "erofs-pack-1-"] {
        let mut counts = Vec::new();
        for (_, bundle) in names(&cache).into_iter().filter(|(name, _)| name.starts_with(kind)) {
            let manifest: Value =
                serde_json::from_slice(&std::fs::read(blob(&cache, &bundle.digest)).unwrap()).unwrap();
            counts.push(manifest["layers"].as_array().unwrap().len());
        }
        counts.sort_unstable();
        // The kernel, two large components and what belongs to nothing larger; one that is small may start no piece.
        assert_eq!(counts.pop(), Some(5), "{kind}");
        assert!((3..=5).contains(&counts.len()) && counts.iter().all(|count| *count == 1), "{kind}: {counts:?}");
    }
    let second = texts("x");
    let source = format!("{},trust=components", from(&cache));
    let (timings, said) = build(&second, &["--offline", &source]);
    timings.nothing_made();
    assert!(!said.contains("warning"), "{said}");
    assert!(outputs(&second) == expected);
    // What was fetched is what would have been made, and the packs are gone again.
    for kind in ["squashfs-1", "erofs-1"] {
        let folder = format!("store/derived/{kind}");
        assert!(second.names(&folder).len() > 5);
        assert_eq!(first.names(&folder), second.names(&folder));
    }
    for place in [&first, &second] {
        assert!(
            place
                .names("store/derived")
                .iter()
                .all(|kind| !kind.contains("pack") || place.names(&format!("store/derived/{kind}")).is_empty())
        );
        assert!(place.names("store/temporary").is_empty());
    }
    // With all of it there, nothing is fetched.
    std::fs::remove_dir_all(second.path("images-out")).unwrap();
    let (timings, said) = build(&second, &[&source]);
    assert!(timings.made("fetch") == 0, "{said}");
    timings.nothing_made();
    // And what is there is not sent again.
    let (_, said) = build(&second, &[&to(&cache)]);
    assert!(said.contains(" 0 of "), "{said}");
    // One component is another: the rest comes from the cache, though nobody built that root.
    let third = texts("y");
    let (timings, said) = build(&third, &[&source]);
    let alone = texts("y");
    build(&alone, &[]);
    assert!(outputs(&third) == outputs(&alone));
    assert!((1..=4).contains(&timings.made("compress")), "the changed one, and pieces at its edges: {said}");
}

/// The cache is in order, and lies: each pack has other bytes, under their own digest.
fn lie(layout: &Path, change: impl Fn(usize, &mut Vec<u8>)) {
    let mut index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blob(layout, &digest), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    for entry in index["manifests"].as_array_mut().unwrap() {
        if !entry["annotations"].to_string().contains("-pack-1-") {
            continue;
        }
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(blob(layout, &digest)).unwrap()).unwrap();
        for (number, layer) in manifest["layers"].as_array_mut().unwrap().iter_mut().enumerate() {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            let mut bytes = std::fs::read(blob(layout, &digest)).unwrap();
            change(number, &mut bytes);
            let (digest, size) = put(&bytes);
            (layer["digest"], layer["size"]) = (digest.into(), size.into());
        }
        let (digest, size) = put(manifest.to_string().as_bytes());
        (entry["digest"], entry["size"]) = (digest.into(), size.into());
    }
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

fn number(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

#[test]
fn lies_change_no_byte() {
    let first = texts("x");
    let cache = first.path("cache");
    build(&first, &[&to(&cache)]);
    let expected = outputs(&first);
    type Lie<'l> = &'l dyn Fn(usize, &mut Vec<u8>);
    let lies: [(&str, Lie<'_>); 5] = [
        ("no pack", &|_, bytes| bytes[0] ^= 1),
        ("noise", &|seed, bytes| *bytes = noise(seed as u64 + 1, bytes.len())),
        ("another one's pieces", &|_, bytes| {
            // The keys stay, the places go round.
            let count = number(bytes, 8);
            let places: Vec<Vec<u8>> = (0..count).map(|n| bytes[16 + n * 48 + 32..16 + n * 48 + 48].to_vec()).collect();
            for (n, place) in places.iter().cycle().skip(1).take(count).enumerate() {
                bytes[16 + n * 48 + 32..16 + n * 48 + 48].copy_from_slice(place);
            }
        }),
        ("endless pieces", &|_, bytes| {
            for n in 0..number(bytes, 8) {
                bytes[16 + n * 48 + 40..16 + n * 48 + 48].copy_from_slice(&(u64::MAX - n as u64).to_le_bytes());
            }
        }),
        ("a byte in each piece", &|_, bytes| {
            for n in 0..number(bytes, 8) {
                let (start, size) = (number(bytes, 16 + n * 48 + 32), number(bytes, 16 + n * 48 + 40));
                if size > 0 {
                    bytes[start + n * 31 % size] ^= 1 << (n % 8);
                }
            }
        }),
    ];
    for (number, (what, change)) in lies.into_iter().enumerate() {
        let lying = first.path(format!("lying-{number}"));
        let status = std::process::Command::new("cp").arg("-r").args([&cache, &lying]).status().unwrap();
        assert!(status.success());
        lie(&lying, change);
        let place = texts("x");
        let source = format!("{},trust=components", from(&lying));
        let (timings, said) = build(&place, &[&source]);
        assert!(outputs(&place) == expected, "{what}: {said}");
        assert!(timings.made("compress") >= 2, "{what}: {said}");
        assert_eq!(said.contains("has wrong data for"), what != "endless pieces", "{what}: {said}");
        // Who may write there puts it right.
        if what == "a byte in each piece" {
            build(&texts("x"), &[&source, &to(&lying)]);
            let place = texts("x");
            let (timings, said) = build(&place, &[&source]);
            timings.nothing_made();
            assert!(!said.contains("warning") && outputs(&place) == expected, "{said}");
        }
    }
}
