//! Against the machine's real Debian archive, with dpkg and apt as judges. A machine that knows no Debian mirror, or
//! has no network or no dpkg, cannot run these: they say so, and fail if `CI` is set.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use moby::Arch;
use moby::deb::{Archive, Package, ResolveOptions, Sources, Version, Wanted};
use moby::error::Exit;
use moby::net::{Net, NetOptions};
use moby::store::{EntryKind, Store};
use moby::ui::{Mode, Ui};

/// What a test needs of the machine, or why it cannot run. `lacks` is what the machine may lack.
fn needed<T>(what: moby::Result<T>, lacks: Exit) -> Option<T> {
    match what {
        Ok(value) => Some(value),
        Err(error) if std::env::var_os("CI").is_none() && error.exit() == lacks => {
            eprintln!("not run: {error} ({})", error.hint_text().unwrap_or(""));
            None
        }
        Err(error) => panic!("{error} ({})", error.hint_text().unwrap_or("")),
    }
}

/// The output of a program; `None` if the machine does not have it.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).env("LC_ALL", "C").output() {
        Ok(done) => {
            assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
            Some(String::from_utf8(done.stdout).unwrap())
        }
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {program}: {error}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn net() -> Net {
    Net::new(NetOptions::default(), &Ui::new(Mode::Plain)).unwrap()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn names(packages: &[Package]) -> BTreeSet<String> {
    packages.iter().map(|package| package.name.to_string()).collect()
}

/// The archive in a store that is kept between runs, so that 18 MiB are not fetched each time.
fn archive<'a>(net: &'a Net, suite: &str, arch: Arch) -> Option<Archive<'a>> {
    let sources = needed(Sources::of_machine(), Exit::Usage)?;
    let store = Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-store")).unwrap();
    let wanted = Wanted { suite: suite.to_string(), areas: Vec::new(), arch };
    let start = std::time::Instant::now();
    let archive = needed(Archive::open(&store, net, &Ui::new(Mode::Plain), &sources, &wanted), Exit::Network)?;
    eprintln!("{suite} {arch}: opened in {:?}", start.elapsed());
    Some(archive)
}

#[test]
fn a_server_and_all_that_it_needs_is_resolved() {
    let net = net();
    for arch in Arch::ALL {
        let Some(archive) = archive(&net, "bookworm", arch) else { return };
        let start = std::time::Instant::now();
        let packages = archive.resolve(&strings(&["redis-server"]), &ResolveOptions::default()).unwrap();
        eprintln!("{arch}: resolved in {:?}: {packages:?}", start.elapsed(), packages = names(&packages));
        let found = names(&packages);
        for name in ["redis-server", "redis-tools", "libc6", "libssl3", "libjemalloc2"] {
            assert!(found.contains(name), "{name} is not among {found:?}");
        }
        for name in ["debconf", "perl-base", "dpkg", "adduser", "init-system-helpers"] {
            assert!(!found.contains(name), "{name} is among {found:?}");
        }
        assert!(packages.iter().all(|p| *p.architecture == *arch.name() || &*p.architecture == "all"));
        let mistake = archive.resolve(&strings(&["redis-sever"]), &ResolveOptions::default()).unwrap_err();
        assert!(mistake.hint_text().unwrap().contains("redis-server"));
    }
}

/// apt, told that nothing is installed, must come to the same packages; it adds the essential ones, which is why
/// those are asked for too. Where apt's sources have changed since its last update it is no judge.
#[test]
fn apt_comes_to_the_same_packages() {
    let Some(arch) = Arch::host() else { return };
    let net = net();
    let Some(archive) = archive(&net, "bookworm", arch) else { return };
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("status");
    std::fs::write(&status, "").unwrap();
    let asked = ["redis-server", "nginx-light", "openssh-server", "python3", "curl", "postgresql-15"];
    let status = format!("Dir::State::Status={}", status.display());
    let mut arguments =
        vec!["-s", "--no-install-recommends", "-o", &status, "-o", "APT::Get::AllowUnauthenticated=false"];
    arguments.extend(["install", "-qq"].iter().chain(&asked));
    let Some(simulated) = output("apt-get", &arguments) else { return };
    // Inst NAME (VERSION RELEASE [ARCH])
    let apt: BTreeMap<&str, &str> = simulated
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_once(" ("))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .collect();
    let options = ResolveOptions { recommends: false, without: Some(Vec::new()) };
    let packages = archive.resolve(&strings(&asked), &options).unwrap();
    let ours: BTreeMap<&str, &str> = packages.iter().map(|p| (&*p.name, p.version.as_str())).collect();
    if apt.iter().any(|(name, version)| ours.get(name).is_some_and(|ours| ours != version)) {
        eprintln!("not judged: apt's lists are of another day");
        return;
    }
    let missing: Vec<_> = ours.keys().filter(|name| !apt.contains_key(**name)).collect();
    let more: Vec<_> = apt.keys().filter(|name| !ours.contains_key(**name)).collect();
    eprintln!("{} packages; apt has not {missing:?}; apt has also {more:?}", ours.len());
    assert!(apt.len() > 50);
    assert_eq!(missing, Vec::<&&str>::new());
    assert_eq!(more, Vec::<&&str>::new());
}

#[test]
fn files_are_those_that_dpkg_sees() {
    let net = net();
    for arch in Arch::ALL {
        let Some(archive) = archive(&net, "bookworm", arch) else { return };
        let package = archive.package("sysvinit-utils").unwrap().unwrap();
        let layer = archive.fetch(&package).unwrap();
        assert_eq!(archive.fetch(&package).unwrap().diff_id, layer.diff_id);
        let (_, base) = archive.suites().next().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let deb = folder.path().join("it.deb");
        let Some(_) = output("curl", &["-sfo", deb.to_str().unwrap(), &format!("{base}/{}", package.filename)]) else {
            return;
        };
        let Some(listing) = output("dpkg-deb", &["-c", deb.to_str().unwrap()]) else { return };
        // -rwxr-xr-x root/root     22904 2022-12-15 08:31 ./bin/pidof [-> /target]
        let theirs: BTreeSet<(String, String)> = listing
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                let (mode, size) = (words.next().unwrap(), words.nth(1).unwrap());
                let rest = words.skip(2).collect::<Vec<_>>().join(" ");
                let path = rest.split(" -> ").next().unwrap().trim_start_matches("./").trim_end_matches('/');
                (path.to_string(), format!("{} {size}", &mode[..1]))
            })
            .collect();
        let ours = layer.index.entries.iter().map(|entry| {
            let what = match &entry.kind {
                EntryKind::Folder => "d 0".to_string(),
                EntryKind::File { size, .. } => format!("- {size}"),
                EntryKind::Symlink(_) => "l 0".to_string(),
                other => panic!("{other:?}"),
            };
            (String::from_utf8(entry.path.clone()).unwrap(), what)
        });
        assert_eq!(ours.collect::<BTreeSet<_>>(), theirs);
    }
}

#[test]
fn other_suites_are_had_from_the_same_mirrors() {
    let net = net();
    let Some(bookworm) = archive(&net, "bookworm", Arch::Amd64) else { return };
    let Some(backports) = archive(&net, "bookworm-backports", Arch::Amd64) else { return };
    let version = |archive: &Archive, name: &str| archive.package(name).unwrap().unwrap().version;
    assert!(version(&backports, "qemu-system-x86") > version(&bookworm, "qemu-system-x86"));
    let Some(trixie) = archive(&net, "trixie", Arch::Arm64) else { return };
    assert!(version(&trixie, "libc6") > version(&bookworm, "libc6"));
    let kernel = strings(&["linux-image-cloud-arm64"]);
    let packages = trixie.resolve(&kernel, &ResolveOptions::default()).unwrap();
    eprintln!("{:?}", names(&packages));
    assert!(packages.iter().any(|package| package.name.starts_with("linux-image-6.12")));
}

#[test]
fn dpkg_orders_versions_alike() {
    let net = net();
    let Some(archive) = archive(&net, "bookworm", Arch::Amd64) else { return };
    let packages = archive.resolve(&strings(&["postgresql-15", "openssh-server"]), &ResolveOptions::default()).unwrap();
    let mut versions: Vec<String> = packages.iter().map(|package| package.version.to_string()).collect();
    let more =
        ["1.0~rc1-1", "1.0-1", "1:0", "0", "1.0-1~bpo12+1", "1.0-1+b1", "1.0+dfsg-1", "1.00-1", "2.36-9+deb12u14"];
    versions.extend(strings(&more));
    // Neighbours in an order that mixes them, and each with itself.
    let pairs = versions.iter().zip(versions.iter().skip(7).chain(&versions)).take(150);
    for (left, right) in pairs.chain(versions.iter().zip(&versions).take(5)) {
        let (a, b) = (Version::parse(left).unwrap(), Version::parse(right).unwrap());
        for (operator, expected) in [("lt", a < b), ("eq", a == b)] {
            let status = Command::new("dpkg").args(["--compare-versions", left, operator, right]).status();
            let Ok(status) = status else {
                assert!(std::env::var_os("CI").is_none(), "dpkg is missing");
                return eprintln!("not run: no dpkg");
            };
            assert_eq!(status.success(), expected, "{left} {operator} {right}");
        }
    }
}
