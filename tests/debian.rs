//! Against the machine's real Debian archive, with dpkg as the judge. A machine that knows no Debian mirror, or that
//! has no network, cannot run these: they say so, and fail if `CI` is set.

use std::collections::BTreeSet;
use std::process::Command;

use moby::Arch;
use moby::deb::{Archive, Http, ResolveOptions, Sources, Version, Wanted};
use moby::store::{EntryKind, Store};
use moby::ui::{Mode, Ui};

/// Whether a test can run; says why if not.
fn can_run<T>(what: moby::Result<T>) -> Option<T> {
    match what {
        Ok(value) => Some(value),
        Err(error) if std::env::var_os("CI").is_none() && error.exit() != moby::error::Exit::Refused => {
            eprintln!("not run: {error} ({})", error.hint_text().unwrap_or(""));
            None
        }
        Err(error) => panic!("{error} ({})", error.hint_text().unwrap_or("")),
    }
}

fn wanted(arch: Arch) -> Wanted {
    Wanted { suite: "bookworm".to_string(), areas: Vec::new(), arch }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// The store of these tests is kept between runs, for the archive's sake.
fn store() -> Store {
    Store::open(&std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-store")).unwrap()
}

#[test]
fn packages_are_resolved_and_fetched() {
    let store = store();
    let ui = Ui::new(Mode::Plain);
    let http = Http::new().unwrap();
    let Some(sources) = can_run(Sources::of_machine()) else { return };
    for arch in Arch::ALL {
        let start = std::time::Instant::now();
        let Some(archive) = can_run(Archive::open(&store, &http, &ui, &sources, &wanted(arch))) else { return };
        let opened = start.elapsed();
        let packages = archive.resolve(&strings(&["redis-server"]), &ResolveOptions::default()).unwrap();
        eprintln!("{arch}: opened in {opened:?}, resolved in {:?}", start.elapsed() - opened);
        let names: BTreeSet<&str> = packages.iter().map(|package| &*package.name).collect();
        for name in ["redis-server", "redis-tools", "libc6", "libssl3", "libjemalloc2"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        for name in ["debconf", "perl-base", "dpkg", "adduser", "init-system-helpers"] {
            assert!(!names.contains(name), "{name} is among {names:?}");
        }
        assert!(names.len() < 40, "{names:?}");
        for package in &packages {
            assert!(*package.architecture == *arch.name() || &*package.architecture == "all");
        }
        eprintln!("{}", packages.iter().map(|p| format!("{p}\n")).collect::<String>());
    }
}
