//! Blueprints that are made to hurt: large, exploding, with names that lead elsewhere. Each ends in bounded time and
//! memory with a message that can be read, and leaves nothing behind.

#![allow(clippy::unwrap_used)]

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
