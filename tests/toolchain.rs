//! Guest programs, built for both architectures by two users in two places: the bytes must be the same. The foreign
//! toolchain comes from the machine's Debian mirror; a machine without one says so, and fails if `CI` is set.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use moby::component::toolchain::{Archive, BuiltProgram, Debian, Order, Toolchain, own};
use moby::deb::{self, Sources, Wanted};
use moby::error::Exit;
use moby::net::{Net, NetOptions};
use moby::store::Store;
use moby::ui::{Mode, Ui};
use moby::{Arch, Error};

const MANIFEST: &str = r#"[package]
name = "tiny"
version = "0.1.0"
edition = "2024"
build = "build.rs"

[workspace]

[profile.release]
opt-level = "z"
lto = true
panic = "abort"
"#;

const LOCK: &str = "version = 4\n\n[[package]]\nname = \"tiny\"\nversion = \"0.1.0\"\n";

/// The build script runs on the machine, even when the program does not, and what it writes is part of the program.
const SCRIPT: &str = r#"fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/made.rs"), "pub fn place() -> &'static str { file!() }").unwrap();
}
"#;

const MAIN: &str = r#"mod made { include!(concat!(env!("OUT_DIR"), "/made.rs")); }
fn main() {
    let count = std::env::args().count();
    std::thread::spawn(move || println!("{} {} {}", file!(), made::place(), [7, 8][count])).join().unwrap();
}
"#;

fn package(folder: &Path) {
    fs::create_dir_all(folder.join("src")).unwrap();
    for (name, text) in [("Cargo.toml", MANIFEST), ("Cargo.lock", LOCK), ("build.rs", SCRIPT), ("src/main.rs", MAIN)] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// Settings that would change the program if cargo came to see them: in the package's folder they are not copied, and
/// those above it are not looked for.
fn hostile(folder: &Path) {
    fs::create_dir_all(folder.join(".cargo")).unwrap();
    let settings =
        "[build]\nrustflags = [\"-Copt-level=0\"]\nrustc-wrapper = \"/bin/false\"\n[profile.release]\nopt-level = 1\n";
    fs::write(folder.join(".cargo/config.toml"), settings).unwrap();
    fs::write(folder.join("rust-toolchain.toml"), "[toolchain]\nchannel = \"none-such\"\n").unwrap();
}

fn build(toolchain: &Toolchain, source: &Path, store: &Store) -> moby::Result<BuiltProgram> {
    let started = std::time::Instant::now();
    let built = toolchain.build(store, Order { source, package: "tiny", binary: "tiny" }, &Ui::new(Mode::Plain))?;
    eprintln!("{}: {} bytes in {:?}", toolchain.target, built.size, started.elapsed());
    Ok(built)
}

fn show(error: Error) -> String {
    format!("{} ({})", error.message(), error.hint_text().unwrap_or(""))
}

/// Builds the package in two places, and checks everything that is the same for every toolchain.
fn check(toolchain: &Toolchain, first: &Store) -> BuiltProgram {
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let second = tempfile::tempdir().unwrap();
    let second = Store::open(&second.path().join("a store")).unwrap();
    let sources = [places[0].path().join("tiny"), places[1].path().join("o'ther name/of the folder")];
    for source in &sources {
        package(source);
    }
    hostile(places[1].path());
    let programs = [(&sources[0], first), (&sources[1], &second)]
        .map(|(source, store)| build(toolchain, source, store).unwrap_or_else(|error| panic!("{}", show(error))));
    assert_eq!(programs[0].digest, programs[1].digest, "the same sources gave other bytes in another place");
    assert_eq!(programs[0].size, programs[0].file.metadata().unwrap().len());
    let bytes = fs::read(&programs[0].file).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(holds(b"/tiny-0.1.0/out/made.rs"), "the build script's folder should have become a name");
    assert!(!holds(first.root().as_os_str().as_encoded_bytes()));

    let before = programs[0].file.metadata().unwrap().modified().unwrap();
    assert_eq!(build(toolchain, &sources[0], first).unwrap(), programs[0]);
    assert_eq!(programs[0].file.metadata().unwrap().modified().unwrap(), before, "it was built again for nothing");

    fs::write(sources[0].join("src/main.rs"), MAIN.replace("[7, 8]", "[7, 9]")).unwrap();
    assert_ne!(build(toolchain, &sources[0], first).unwrap().digest, programs[0].digest, "the change has no effect");

    fs::write(sources[0].join("src/main.rs"), "fn main() { nonsense }").unwrap();
    let error = build(toolchain, &sources[0], first).unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    assert!(error.message().contains("src/main.rs:1:13") && error.message().contains("nonsense"), "{error}");

    fs::write(sources[0].join("Cargo.lock"), LOCK.replace("0.1.0", "0.2.0")).unwrap();
    let error = build(toolchain, &sources[0], first).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage, "{error}");
    assert!(error.hint_text().unwrap().contains("Cargo.lock"));
    let [program, _] = programs;
    program
}

/// What the program says, run through an emulator if one is needed and there.
fn run(program: &BuiltProgram, arch: Arch) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    fs::copy(&program.file, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = match Arch::host() == Some(arch) {
        true => Command::new(&path).output(),
        false => Command::new(format!("qemu-{}", arch.kernel_name())).arg(&path).output(),
    };
    match output {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: no emulator for {arch}: {error}");
            None
        }
        Err(error) => panic!("no emulator for {arch}, which the package qemu-user has: {error}"),
    }
}

/// What a test needs of the machine's mirror, or why it cannot run.
fn needed<T>(what: moby::Result<T>, lacks: Exit) -> Option<T> {
    match what {
        Ok(value) => Some(value),
        Err(error) if std::env::var_os("CI").is_none() && error.exit() == lacks => {
            eprintln!("not run: {}", show(error));
            None
        }
        Err(error) => panic!("{}", show(error)),
    }
}

/// A store that is kept between runs: a toolchain is 155 MB to fetch and 650 MiB on disk.
fn kept() -> Store {
    Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain-store")).unwrap()
}

fn from_archive(store: &Store, host: Arch, target: Arch) -> Option<Toolchain> {
    let ui = Ui::new(Mode::Plain);
    let http = Net::new(NetOptions::default(), &ui).unwrap();
    let sources = needed(Sources::of_machine(), Exit::Usage)?;
    let mut archives = Vec::new();
    for arch in Arch::ALL {
        let wanted = Wanted { suite: "bookworm".into(), areas: Vec::new(), arch };
        archives.push((arch, needed(deb::Archive::open(store, &http, &ui, &sources, &wanted), Exit::Network)?));
    }
    let debian = Debian::new(archives);
    let started = std::time::Instant::now();
    let chosen = Archive::choose(&debian, host, target).unwrap_or_else(|error| panic!("{}", show(error)));
    eprintln!("chosen in {:?}", started.elapsed());
    let toolchain = chosen.prepare(&debian, store, &ui).unwrap_or_else(|error| panic!("{}", show(error)));
    eprintln!("ready in {:?}\n{}", started.elapsed(), toolchain.identity);
    Some(toolchain)
}

#[test]
fn for_the_machine_itself() {
    let Some(host) = Arch::host() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let toolchain = own::find().unwrap_or_else(|error| panic!("{}", show(error)));
    let program = check(&toolchain, &store);
    assert_eq!(run(&program, host).unwrap(), "src/main.rs /tiny-0.1.0/out/made.rs 8\n");
}

#[test]
fn for_the_other_architecture() {
    let Some(host) = Arch::host() else { return };
    let target = Arch::ALL.into_iter().find(|arch| *arch != host).unwrap();
    let store = kept();
    let Some(toolchain) = from_archive(&store, host, target) else { return };
    let program = check(&toolchain, &store);
    if let Some(said) = run(&program, target) {
        assert_eq!(said, "src/main.rs /tiny-0.1.0/out/made.rs 8\n");
    }
}
