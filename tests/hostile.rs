//! Blueprints, archives, layers and initrds that are made to hurt: large, exploding, with names that lead elsewhere. Each ends in bounded time and
//! memory with a message that can be read, and leaves nothing behind.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What one run may take: a reader that is quadratic in anything takes far more.
const SECONDS: u64 = 300;
/// Address space in KiB. Reading takes less than 100 bytes for each byte of a blueprint, wherever its size is.
const MEMORY: u32 = 2 << 20;
/// A message that nobody can read is none.
const LONGEST_MESSAGE: usize = 256 << 10;

struct Ran {
    status: i32,
    out: String,
    said: String,
}

fn moby(folder: &Path, words: &[&str]) -> Ran {
    let start = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_moby")])
        .args(words)
        .current_dir(folder)
        .env("MOBY_CACHE", folder.join("store"))
        .output()
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(SECONDS), "{words:?} took {:?}", start.elapsed());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked") && !said.contains("memory allocation"), "{}", said.get(..2000).unwrap_or(&said));
    assert!(said.len() < LONGEST_MESSAGE, "{} bytes", said.len());
    let status = output.status.code().unwrap_or_else(|| panic!("{words:?}: {}", output.status));
    Ran { status, out: String::from_utf8(output.stdout).unwrap(), said }
}

/// Reads a blueprint as `--dry-run` does.
fn read(text: &[u8]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.yml"), text).unwrap();
    moby(folder.path(), &["build", "--dry-run", "x.yml"])
}

#[test]
fn ten_megabytes_of_containers_are_read() {
    let mut text = String::from("onboot:\n");
    let mut count = 0;
    while text.len() < 10 << 20 {
        text += &format!(
            "  - name: container-{count}\n    image: example.org/some/image:{count}\n    command: [\"/bin/a\"]\n"
        );
        count += 1;
    }
    let ran = read(text.as_bytes());
    assert_eq!(ran.status, 0, "{}", ran.said);
    assert_eq!(ran.out.matches("- name: ").count(), count);
}

#[test]
fn ten_megabytes_in_one_value_are_read() {
    let line = "x".repeat(10 << 20);
    for text in [
        format!("files:\n  - path: x\n    contents: {line}\n"),
        format!("files:\n  - path: x\n    contents: |\n{}", format!("      {}\n", "y".repeat(93)).repeat(100_000)),
    ] {
        assert_eq!(read(text.as_bytes()).status, 0);
    }
    // A key has at most 1024 characters (YAML 1.2, section 7.4.2).
    let ran = read(format!("{line}: 1\n").as_bytes());
    assert!(ran.status == 2 && ran.said.contains("not YAML"), "{}", ran.said.get(..300).unwrap_or_default());
    let ran = read(format!("init: [{line}]\n").as_bytes());
    assert!(ran.status == 2 && ran.said.contains("is not an image reference"));
    let ran = read(format!("init: [x, {line}").as_bytes());
    assert!(ran.status == 2 && ran.said.contains("not YAML"));
    let ran = read(&vec![b' '; (16 << 20) + 1]);
    assert!(ran.status == 2 && ran.said.contains("more than the 16777216"), "{}", ran.said);
}

#[test]
fn a_million_mistakes_are_counted() {
    let keys: String = (0..600_000).map(|number| format!("keyy{number}: x\n")).collect();
    let ran = read(keys.as_bytes());
    // More than a million values: refused as a whole.
    assert!(ran.status == 2 && ran.said.contains("more than 1000000 values"), "{}", ran.said);
    let keys: String = (0..300_000).map(|number| format!("servces{number}: x\n")).collect();
    let ran = read(keys.as_bytes());
    assert!(ran.status == 2 && ran.said.contains("300000 mistakes in x.yml, the first 100 shown"));
    let names: String = (0..100_000).map(|_| "  - {name: a/b, image: A}\n").collect();
    let ran = read(format!("services:\n{names}").as_bytes());
    assert!(ran.status == 2 && ran.said.contains("200000 mistakes"), "{}", &ran.said[ran.said.len() - 100..]);
    let same: String = (0..100_000).map(|_| "  - {name: a, image: a}\n").collect();
    assert!(read(format!("services:\n{same}").as_bytes()).said.contains("99999 mistakes"));
}

#[test]
fn what_explodes_is_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{inner}]\n");
    }
    let merges: String = (1..60).map(|n| format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}], k{n}: x}}\n", n - 1)).collect();
    for (text, part) in [
        (laughs, "more than 1000000 values"),
        (format!("m0: &m0 {{k: x}}\n{merges}"), "unknown key"),
        ("[".repeat(900_000), "64 levels"),
        ("{a: ".repeat(900_000), "64 levels"),
        ("- ".repeat(1 << 20), "64 levels"),
        ("a: &a [*a]\n".to_string(), "refers to itself"),
        ("? ".repeat(1 << 20), "64 levels"),
        (format!("init: [{}]\n", "x, ".repeat(1_100_000)), "more than 1000000"),
        ("--- x\n".repeat(1 << 20), "a blueprint is a map"),
        ("%TAG ! tag:x\n".repeat(1 << 19), ""),
        ("\"".repeat(1 << 20), "not YAML"),
        ("# x\n".repeat(2 << 20), "nothing in it"),
    ] {
        let ran = read(text.as_bytes());
        let start: String = text.chars().take(20).collect();
        assert!(ran.status == 2 && ran.said.contains(part), "{start:?}: {} {}", ran.status, ran.said);
    }
}

#[test]
fn a_hundred_thousand_files_are_built() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("files:\n");
    for number in 0..100_000 {
        text += &format!("  - {{path: d{}/e{}/f{number}, contents: {number}x}}\n", number % 97, number % 13);
    }
    std::fs::write(folder.path().join("x.yml"), text).unwrap();
    let ran = moby(folder.path(), &["build", "--format", "tar", "-o", "x.tar", "x.yml"]);
    assert_eq!(ran.status, 0, "{}", ran.said);
    let mut archive = tar::Archive::new(std::fs::File::open(folder.path().join("x.tar")).unwrap());
    let files = archive.entries().unwrap().filter(|entry| entry.as_ref().unwrap().header().entry_type().is_file());
    assert_eq!(files.count(), 100_000);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = "n".repeat(10_000);
    let dots = "../".repeat(3000);
    let names: Vec<(&str, String)> = vec![
        ("a dot-dot", "..".into()),
        ("a way out", "a/../../x".into()),
        ("many", dots),
        ("NUL", "\"a\\0b\"".into()),
        ("a line break", "\"a\\nb\"".into()),
        ("an escape", "\"a\\x1b[31mb\"".into()),
        ("long", long.clone()),
        ("nothing", "''".into()),
    ];
    for (what, name) in &names {
        for (place, text) in [
            ("container", format!("services: [{{name: {name}, image: x}}]\n")),
            ("onboot", format!("onboot: [{{name: {name}, image: x}}]\n")),
            ("volume", format!("volumes: [{{name: {name}}}]\n")),
            ("path", format!("files: [{{path: {name}, contents: x}}]\n")),
            ("image", format!("init: [{name}]\n")),
            ("kernel", format!("kernel: {{image: x, binary: {name}}}\n")),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("x.yml"), &text).unwrap();
            let ran = moby(folder.path(), &["build", "--offline", "--format", "tar", "--dir", "out", "x.yml"]);
            let shown = format!("{what} as {place}: {} {}", ran.status, ran.said.get(..500).unwrap_or(&ran.said));
            let harmless = place == "kernel" && matches!(*what, "a dot-dot" | "an escape" | "long" | "nothing");
            let escape = place == "path" && *what == "an escape";
            match harmless || escape {
                // A name that the image does not have; a file may be called anything but a way out.
                true => assert!([0, 2, 4].contains(&ran.status), "{shown}"),
                false => assert_eq!(ran.status, 2, "{shown}"),
            }
            assert!(!ran.said.contains(['\0', '\u{1b}']), "{shown}");
            let left: Vec<_> =
                std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let known = ["x.yml", "store", "out"];
            assert!(left.iter().all(|name| known.contains(&name.to_str().unwrap())), "{shown}: {left:?}");
        }
    }
}

#[test]
fn lock_files_are_bounded_too() {
    let folder = tempfile::tempdir().unwrap();
    let digest = "0a".repeat(32);
    std::fs::write(folder.path().join("x.yml"), "init: [x]\n").unwrap();
    let package = format!("      - libc6 1 sha256:{digest}\n");
    let entry = |packages: &str| {
        format!(
            "version: 1\nmoby: x\nimages:\n- image: docker.io/library/x\n  recipe: {digest}\n  platforms:\n    amd64:\n      packages:\n{packages}"
        )
    };
    for (text, part) in [
        (entry(&package.repeat(150_000)), "is wanted, but --offline"),
        (entry(&package.repeat(200_000)), "more than the 16777216"),
        (entry("      - a\n".repeat(500_000).as_str()), "500000 mistakes"),
        ("version: 1\nmoby: [[[[[[[[".repeat(1000), "64 levels"),
    ] {
        std::fs::write(folder.path().join("x.lock"), text).unwrap();
        let ran = moby(folder.path(), &["build", "--offline", "--format", "tar", "-o", "x.tar", "x.yml"]);
        assert!([2, 4].contains(&ran.status) && ran.said.contains(part), "{part}: {}", ran.said);
    }
}

/// A member of a tar, its checksum made.
fn member(path: &str, kind: tar::EntryType, content: &[u8], set: impl Fn(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    set(&mut header);
    header.set_cksum();
    let mut bytes = [header.as_bytes().as_slice(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn regular(path: &str, content: &[u8]) -> Vec<u8> {
    member(path, tar::EntryType::Regular, content, |_| {})
}

/// A PAX header with one record.
fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
    member("pax", tar::EntryType::XHeader, &record, |_| {})
}

/// An OCI layout in a tar, with an index of one descriptor.
struct Archive {
    blobs: Vec<u8>,
    top: String,
}

impl Archive {
    fn new() -> Archive {
        Archive { blobs: Vec::new(), top: String::new() }
    }

    /// Adds a blob. Gives its descriptor, which is that of `index.json` if none is added after it.
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> String {
        let digest = moby::store::Digest::of(bytes);
        self.blobs.extend(regular(&format!("blobs/sha256/{}", digest.hex()), bytes));
        let size = bytes.len();
        self.top =
            format!("{{\"mediaType\":\"application/vnd.oci.image.{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}");
        self.top.clone()
    }

    /// An image of one layer, which is given packed, and whose diff ID is given.
    fn image(&mut self, layer: &[u8], diff_id: &moby::store::Digest) -> String {
        let layer = self.blob("layer.v1.tar", layer);
        let config = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{diff_id}\"]}}}}"
        );
        let config = self.blob("config.v1+json", config.as_bytes());
        let manifest = format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]}}");
        self.blob("manifest.v1+json", manifest.as_bytes())
    }

    fn index(&mut self, children: &[String]) -> String {
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", children.join(","));
        self.blob("index.v1+json", index.as_bytes())
    }

    /// Imports it, as a file and as the image of a blueprint, into one store. What was refused left nothing unfinished.
    fn import(&self) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", self.top);
        let tar = [self.blobs.clone(), regular("index.json", index.as_bytes()), vec![0; 1024]].concat();
        std::fs::write(folder.path().join("x.tar"), tar).unwrap();
        let imported = moby(folder.path(), &["cache", "import", "--name", "example.org/x:1", "x.tar"]);
        std::fs::write(folder.path().join("x.yml"), "init: ['oci-archive:x.tar']\n").unwrap();
        let built = moby(folder.path(), &["build", "--format", "tar", "--arch", "amd64", "-o", "out.tar", "x.yml"]);
        match imported.status {
            // An image for a platform is looked for in one index, not in those within it.
            0 => assert!([0, 2].contains(&built.status), "{}", built.said),
            status => assert_eq!(built.status, status, "{}{}", imported.said, built.said),
        }
        assert_eq!(std::fs::read_dir(folder.path().join("store/temporary")).unwrap().count(), 0);
        if imported.status != 0 {
            assert!(!folder.path().join("out.tar").exists());
        }
        imported
    }
}

#[test]
fn graphs_of_indexes_end() {
    let layer = [regular("etc/x", b"x"), vec![0; 1024]].concat();
    let diff_id = moby::store::Digest::of(&layer);
    // Three indexes, each of which names the one before 10,000 times: a million million images.
    let mut archive = Archive::new();
    let mut top = archive.image(&layer, &diff_id);
    for _ in 0..3 {
        top = archive.index(&vec![top; 10_000]);
    }
    let ran = archive.import();
    assert_eq!(ran.status, 0, "{}", ran.said);
    // Sixty-four of them, and a long chain.
    for (length, times) in [(64, 2), (2000, 1)] {
        let mut archive = Archive::new();
        let mut top = archive.image(&layer, &diff_id);
        for _ in 0..length {
            top = archive.index(&vec![top; times]);
        }
        let ran = archive.import();
        assert!(ran.status == 3 && ran.said.contains("indexes within indexes"), "{} {}", ran.status, ran.said);
    }
}

#[test]
fn layers_without_measure_are_refused() {
    let name = |name: &str| format!("SCHILY.xattr.user.{name}");
    let device = |kind| {
        member("dev/x", kind, b"", |header| {
            header.as_gnu_mut().unwrap().dev_major = *b"banana\0\0";
            header.set_device_minor(1).unwrap();
        })
    };
    for (what, tar) in [
        ("more than Linux's 255 and 65536", [pax(&name(&"n".repeat(300)), b"x"), regular("f", b"")].concat()),
        ("more than Linux's 255 and 65536", [pax(&name("x"), &[7; 70_000]), regular("f", b"")].concat()),
        (
            "more than 4095 bytes",
            [pax("linkpath", &[b't'; 5000]), member("l", tar::EntryType::Symlink, b"", |_| {})].concat(),
        ),
        ("unreadable major number", device(tar::EntryType::Char)),
        ("unreadable major number", device(tar::EntryType::Block)),
        ("leaves the root", [pax("path", b"../../x"), regular("f", b"x")].concat()),
    ] {
        refused(1, &tar, what);
    }
    // 600 MiB of attributes in some kilobytes of zstd.
    let entry = [pax(&name("x"), &[7; 60_000]), regular("f", b"")].concat();
    refused((600 << 20) / 60_000, &entry, "take more than 512 MiB");
    fn refused(times: usize, part: &[u8], what: &str) {
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        (0..times).for_each(|_| packed.write_all(part).unwrap());
        packed.write_all(&[0; 1024]).unwrap();
        let mut archive = Archive::new();
        // None of these is read far enough for its diff ID to count.
        archive.image(&packed.finish().unwrap(), &moby::store::Digest::of(b""));
        let ran = archive.import();
        assert!(ran.status == 3 && ran.said.contains(what), "{what}: {} {}", ran.status, ran.said);
    }
}

/// Bytes that nobody has on disk: a gibibyte and some of zeros.
#[test]
fn bombs_do_not_go_off() {
    use std::io::Read;
    const SIZE: u64 = (1 << 30) + (64 << 20);
    let start = member("zeros", tar::EntryType::Regular, b"", |header| header.set_size(SIZE));
    let tar = start.as_slice().chain(std::io::repeat(0).take(SIZE + 1024));
    let bomb = zstd::encode_all(tar, 1).unwrap();
    assert!(bomb.len() < 200_000);
    let mut archive = Archive::new();
    archive.image(&bomb, &moby::store::Digest::of(b""));
    let ran = archive.import();
    assert!(ran.status == 3 && ran.said.contains("over 1100 times as many"), "{} {}", ran.status, ran.said);
    // Zeros as an initrd.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x-initrd.img"), zstd::encode_all(std::io::repeat(0).take(SIZE), 1).unwrap())
        .unwrap();
    let ran = moby(folder.path(), &["check", "x-initrd.img"]);
    assert!(ran.status == 3 && ran.out.contains("more than 67108864 zeros"), "{} {} {}", ran.status, ran.said, ran.out);
}
