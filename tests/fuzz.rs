//! The fuzz targets, run with generated input on stable Rust.
//!
//! Each runs a few hundred cases, always others. `FUZZ_CASES=100000 cargo test --release --test fuzz` runs longer; what
//! it finds is shown in its smallest form. `fuzz/README.md` has the way with libFuzzer.

#![allow(clippy::unwrap_used)]

#[path = "formats/sealed.rs"]
mod sealed;
#[path = "fuzz/targets.rs"]
mod targets;

use proptest::prelude::*;

fn config() -> ProptestConfig {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 10_000, ..ProptestConfig::default() }
}

/// YAML, word by word: more of it is nearly right than of random bytes.
fn yaml(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let marks: &'static [&'static str] = &[
        ": ", ":", "\n", "\n  ", "\n    ", "- ", "\n- ", "\n  - ", "{", "}", "[", "]", ", ", "\"", "'", " #", "&a ",
        "*a", "!!str ", "|\n", ">-\n", "---\n", "<<", "\\", "\r\n", "\t", "\u{feff}", "\u{85}", "\u{2028}", "..", "/",
        "%%%",
    ];
    let piece = prop_oneof![
        5 => prop::sample::select(words).prop_map(str::to_owned),
        6 => prop::sample::select(marks).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// A good text with a few places overwritten.
fn damaged(good: Vec<String>, words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, yaml(words)), 1..4);
    (prop::sample::select(good), edits).prop_map(|(text, edits)| {
        let mut text: Vec<char> = text.chars().collect();
        for (at, length, new) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars().take(12));
        }
        text.into_iter().collect()
    })
}

const BLUEPRINT_WORDS: &[&str] = &[
    "kernel",
    "image",
    "services",
    "files",
    "name",
    "init",
    "onboot",
    "volumes",
    "path",
    "contents",
    "mode",
    "binds",
    "rlimits",
    "devices",
    "mounts",
    "runtime",
    "uid",
    "tmpfs",
    "@pkg:x",
    "0666",
    "1.5",
    "~",
    "true",
    "yes",
    "nofile,1,2",
    "/a:/b:ro",
    "redis:7",
    "CAP_CHOWN",
    "résumé",
    "☃",
    "all",
    "18446744073709551615",
    "-1",
];

const LOCK_WORDS: &[&str] = &[
    "version",
    "moby",
    "images",
    "image",
    "recipe",
    "index",
    "platforms",
    "amd64",
    "arm64",
    "manifest",
    "config",
    "packages",
    "1",
    "2",
    "sha256:",
    "docker.io/library/x:1",
    "libc6 2.41-12 sha256:",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
];

fn good_blueprints() -> Vec<String> {
    let folder = std::fs::read_dir("tests/blueprints").unwrap();
    folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

fn good_lock() -> String {
    let digest = "sha256:".to_string() + &"ab".repeat(32);
    format!(
        "version: 1\nmoby: 0.1.0\nimages:\n- image: docker.io/a/b:1\n  index: {digest}\n  platforms:\n    amd64:\n      \
         manifest: {digest}\n      config: {digest}\n- image: docker.io/moby/redis\n  recipe: 0123456789abcdef\n  \
         platforms:\n    arm64:\n      packages:\n      - libc6 2.41-12 {digest}\n"
    )
}

/// Blueprints of one container, with a label.
fn containers() -> impl Strategy<Value = String> {
    let values: &'static [&'static str] = &[
        "[]",
        "{}",
        "''",
        "x",
        "/x",
        "true",
        "5",
        "-1",
        "[all]",
        "[CAP_KILL]",
        "['/a:/b:ro']",
        "['v:/v']",
        "host",
        "new",
        "[{type: proc}]",
        "[{type: bind, source: v, destination: /x, options: [ro]}]",
        "['nofile,1,unlimited']",
        "[{path: all, type: b}]",
        "[{path: /dev/x, type: c, major: 1, minor: 2, mode: '0660'}]",
        "['/t:size=1m']",
        "{memory: {limit: 1, swappiness: 3}, cpu: {shares: 2}}",
        "{a: b}",
        "[{hostID: 1, containerID: 2, size: 3}]",
        "{mkdir: [x], bindNS: {net: /y}, interfaces: [{name: z, add: veth, peer: w}], mounts: [{type: overlay}]}",
        "strict",
        "[x, 100]",
        "['A=B', 'C']",
    ];
    let keys: Vec<&'static str> = moby::blueprint::LABEL.keys.iter().map(|key| key.name).collect();
    let pair = (prop::sample::select(keys), prop::sample::select(values)).prop_map(|(key, value)| (key, value));
    let pairs =
        || prop::collection::btree_map(pair.clone().prop_map(|(key, _)| key), prop::sample::select(values), 0..6);
    (pairs(), pairs()).prop_map(|(own, label)| {
        let lines = |pairs: &std::collections::BTreeMap<&str, &str>, indent: &str| -> String {
            pairs.iter().map(|(key, value)| format!("{indent}{key}: {value}\n")).collect()
        };
        let (own, label) = (lines(&own, "    "), lines(&label, ""));
        format!("volumes: [{{name: v}}]\nservices:\n  - name: x\n    image: y\n{own}%%%{label}")
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn blueprints(text in prop_oneof![yaml(BLUEPRINT_WORDS), damaged(good_blueprints(), BLUEPRINT_WORDS)]) {
        targets::blueprint(text.as_bytes());
    }

    #[test]
    fn references(text in prop_oneof![
        "[a-z]{0,3}[:/@._-]{0,2}[A-Za-z0-9]{0,4}[:/@.\\[\\]-]{0,2}[a-z0-9]{0,70}",
        "(localhost|docker\\.io|\\[::1\\]|a\\.b)?(:[0-9]{1,6})?(/[a-z0-9._-]{1,5}){0,3}(:[\\PC]{0,3})?(@sha256:[0-9a-f]{63,65})?",
        "\\PC{0,12}",
    ]) {
        targets::reference(text.as_bytes());
    }

    #[test]
    fn configurations(text in prop_oneof![containers(), damaged(good_blueprints(), BLUEPRINT_WORDS)]) {
        targets::configuration(text.as_bytes());
    }

    #[test]
    fn locks(text in prop_oneof![yaml(LOCK_WORDS), damaged(vec![good_lock()], LOCK_WORDS)]) {
        targets::lock(text.as_bytes());
    }

    #[test]
    fn bytes_of_any_kind(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        targets::blueprint(&bytes);
        targets::reference(&bytes);
        targets::lock(&bytes);
    }
}

/// Small images of several kinds: a sealed disk, its parts by themselves.
static GOOD_IMAGES: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
    let disk = sealed::disk(sealed::Flaw::None);
    let mut squashfs = std::io::Cursor::new(Vec::new());
    moby::formats::squashfs::write(&sealed::tree(true), &mut squashfs, &Default::default()).unwrap();
    let mut iso = Vec::new();
    let cd = moby::formats::iso9660::Iso::new(&sealed::tree(true), &Default::default()).unwrap();
    moby::formats::source::Source::write_to(&cd, &mut iso).unwrap();
    let esp = disk[1 << 20..2 << 20].to_vec();
    vec![disk, esp, sealed::root(true), squashfs.into_inner(), iso, sealed::initrd(true)]
});

proptest! {
    // Each case reads an image twice.
    #![proptest_config(ProptestConfig { cases: config().cases / 4, ..config() })]

    #[test]
    fn images(
        which in 0usize..6,
        // Most of what is looked at lies in the first KiB of something.
        places in prop::collection::vec((0usize..256, 0usize..4096, any::<u8>()), 0..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = GOOD_IMAGES[which].clone();
        for (block, within, value) in places {
            let at = (block * 4096 + within) % bytes.len();
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        targets::image(&bytes);
    }
}

proptest! {
    // Each case makes a store on disk.
    #![proptest_config(ProptestConfig { cases: config().cases / 8, ..config() })]

    #[test]
    fn archives(
        names in prop::collection::vec(prop::sample::select(vec![
            "index.json", "manifest.json", "c.json", "l/layer.tar", "oci-layout", "./index.json", "../x.json", "x.tar",
            "blobs/sha256/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "blobs/sha256/..",
        ]), 0..6),
        contents in prop::collection::vec(prop::sample::select(vec![
            "", "x", "{}", "[]", "[{\"Config\":\"c.json\",\"Layers\":[\"l/layer.tar\"],\"RepoTags\":[\"a:1\"]}]",
            "{\"manifests\":[]}", "{\"rootfs\":{\"diff_ids\":[]}}", "\u{1f}\u{8b}", "{\"manifests\":[{\"digest\":\
             \"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"size\":1}]}",
        ]), 6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in names.iter().zip(&contents) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let end = if whole { bytes.len() } else { cut.index(bytes.len() + 1) };
        targets::archive(&bytes[..end]);
    }
}
