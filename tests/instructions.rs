//! Instructions of the inner loops, counted by callgrind and held against those of `instructions.json`: a change that
//! makes one of them do much more work is seen, on however busy a machine. Times are for `cargo bench` and
//! `tests/bench/run`.
//!
//! The counts are of release builds, one thread, without the processor's instructions for SHA-256, which valgrind does
//! not know. Versions of compilers and dependencies may change them by some percent. To write them down anew:
//!
//!     MOBY_RECORD=1 cargo test --release --test instructions

#![allow(clippy::unwrap_used)]

#[path = "../benches/inner_loops/mod.rs"]
mod inner_loops;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// So many times the recorded count is too much.
const TOLERANCE: f64 = 1.5;
/// MiB of the inputs.
const SIZE: usize = 2;
const RECORD: &str = "tests/instructions.json";
/// Names of a loop and whether to run it, for the program under callgrind: this one.
const LOOP: &str = "MOBY_TEST_LOOP";
const RUNS: &str = "MOBY_TEST_RUNS";

#[test]
fn one_loop() {
    let Ok(name) = std::env::var(LOOP) else { return };
    let one = inner_loops::ALL.into_iter().find(|one| one.name == name).unwrap();
    let mut run = (one.prepare)(SIZE);
    for _ in 0..std::env::var(RUNS).unwrap().parse().unwrap() {
        run();
    }
}

/// Instructions of preparing a loop and running it so many times.
fn count(name: &str, runs: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "one_loop", "--test-threads=1"])
        .env(LOOP, name)
        .env(RUNS, runs.to_string())
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap().1;
    line.trim().parse().unwrap()
}

#[test]
fn no_inner_loop_does_much_more_than_it_did() {
    if cfg!(debug_assertions) {
        eprintln!("left out: the counts are of release builds");
        return;
    }
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").is_err(), "valgrind is not installed");
        eprintln!("left out: valgrind is not installed");
        return;
    }
    let found: BTreeMap<&str, u64> =
        inner_loops::ALL.iter().map(|one| (one.name, count(one.name, 1).saturating_sub(count(one.name, 0)))).collect();
    for one in inner_loops::ALL {
        let (each, count) = if one.bytes { ("byte", SIZE << 20) } else { ("entry", SIZE * inner_loops::ENTRIES) };
        println!("{}: {:.1} instructions a {each}", one.name, found[one.name] as f64 / count as f64);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD);
    if std::env::var_os("MOBY_RECORD").is_some() {
        return std::fs::write(path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let recorded: BTreeMap<String, u64> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(recorded.keys().map(String::as_str).eq(found.keys().copied()), "{RECORD} has other loops");
    let too_many: Vec<String> = found
        .iter()
        .filter(|(name, count)| **count as f64 > recorded[**name] as f64 * TOLERANCE)
        .map(|(name, count)| format!("{name}: {count} instructions, {} are recorded", recorded[*name]))
        .collect();
    assert!(too_many.is_empty(), "{}", too_many.join("; "));
}
