//! A Rust toolchain out of Debian packages, for any architecture from any other.
//!
//! The packages are data: they are fetched and checked by the archive's reader, the files that a compiler needs are
//! unpacked into `derived/toolchain-1/DIGEST` of the store, and nothing of the machine but its cargo, its C compiler
//! and its C library take part. The C compiler links only what runs while compiling (build scripts, procedural macros).
//!
//! | package | for | gives |
//! |---|---|---|
//! | `rustc-web` or `rustc`, the newer | machine | the compiler |
//! | `libstd-rust-*-dev` of the same version | machine and target | Rust's standard library |
//! | `binutils-TARGET` | machine | the linker |
//! | what these depend on | machine | shared libraries: LLVM and its |
//! | `libc6-dev`, `libgcc-*-dev` of the default gcc | target | the static C library, start-up objects |
//!
//! No version is named here: each is followed from one package to the next.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cargo::{Toolchain, quoted};
use super::{multiarch, own, target_triple, unpack};
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::store::{Digest, Hasher, Layer, Store};
use crate::ui::Ui;

/// The number goes up when other files are kept than before.
const KIND: &str = "toolchain-1";

/// More packages than this cannot be the shared libraries of a compiler and a linker.
const PACKAGE_LIMIT: usize = 100;

/// What is known about a package before it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name, without an architecture.
    pub name: String,
    /// The architecture that it was asked for (a package for all of them is one too).
    pub arch: Arch,
    /// Its version.
    pub version: String,
    /// What it depends on (`Depends` and `Pre-Depends`), names only: of each entry one must be there.
    pub depends: Vec<Vec<String>>,
    /// The digest of the package file.
    pub sha256: Digest,
}

/// A Debian archive, as far as a toolchain needs one.
pub trait Packages {
    /// The newest version of a package, or `None` if there is no such package for this architecture.
    fn find(&self, arch: Arch, name: &str) -> Result<Option<Facts>>;

    /// The files of packages, in the order asked for; fetched and checked if they are not in the store.
    fn fetch(&self, wanted: &[Facts]) -> Result<Vec<Layer>>;
}

/// The packages that make up a toolchain.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive {
    host: Arch,
    target: Arch,
    packages: Vec<Facts>,
}

impl Archive {
    /// Chooses the packages of a toolchain that runs on `host` and compiles for `target`.
    ///
    /// # Errors
    /// Exit status 1 if the archive lacks one.
    pub fn choose(packages: &dyn Packages, host: Arch, target: Arch) -> Result<Archive> {
        let need = |arch: Arch, name: &str| packages.find(arch, name)?.ok_or_else(|| missing(arch, name));
        let compilers = [packages.find(host, "rustc")?, packages.find(host, "rustc-web")?];
        let compiler = compilers.into_iter().flatten().max_by_key(|facts| release(&facts.version));
        let compiler = compiler.ok_or_else(|| missing(host, "rustc"))?;
        let library = compiler
            .depends
            .iter()
            .flatten()
            .find(|name| name.starts_with("libstd-rust-") && name.ends_with("-dev"))
            .ok_or_else(|| Error::failed(format!("the package {} names no standard library", compiler.name)))?;
        let mut chosen = BTreeMap::new();
        let (own, foreign) = (need(host, library)?, need(target, library)?);
        for found in [&own, &foreign] {
            if found.version != compiler.version {
                return Err(Error::failed(format!(
                    "{library} for {} has version {}, but {} has {}",
                    found.arch, found.version, compiler.name, compiler.version
                ))
                .hint("the archive is being updated; try again in an hour"));
            }
        }
        let linker = need(host, &format!("binutils-{}", multiarch(target).replace('_', "-")))?;
        for root in [compiler, own, linker] {
            close(packages, root, &mut chosen)?;
        }
        for facts in [foreign, need(target, "libc6-dev")?, gcc_library(packages, target)?] {
            chosen.insert((facts.name.clone(), facts.arch), facts);
        }
        Ok(Archive { host, target, packages: chosen.into_values().collect() })
    }

    /// The packages, sorted by name.
    pub fn packages(&self) -> &[Facts] {
        &self.packages
    }

    /// Makes the toolchain ready: fetches and unpacks what is not in the store.
    pub fn prepare(&self, packages: &dyn Packages, store: &Store, ui: &Ui) -> Result<Toolchain> {
        let mut hasher = Hasher::new();
        let mut identity = String::new();
        for facts in &self.packages {
            hasher.update(facts.sha256.as_bytes());
            identity.push_str(&format!("{} {} {} {}\n", facts.name, facts.version, facts.arch, facts.sha256));
        }
        hasher.field(self.host.name().as_bytes());
        hasher.field(self.target.name().as_bytes());
        let root = store.derived_path(KIND, &hasher.finish());
        if !root.is_dir() {
            self.unpack(packages, store, &root, ui)?;
        }
        let cargo = own::cargo()?;
        identity.push_str(&own::version(&cargo)?);
        Ok(Toolchain {
            identity,
            target: self.target,
            host: target_triple(self.host).to_string(),
            cargo,
            scripts: self.scripts(&root)?,
            flags: vec!["-Ctarget-feature=+crt-static"],
        })
    }

    fn unpack(&self, packages: &dyn Packages, store: &Store, root: &Path, ui: &Ui) -> Result<()> {
        // One lock for all toolchains: they share packages, whose inflated layers are removed below.
        let lock_path = root.with_file_name("lock");
        if let Some(above) = root.parent() {
            fs::create_dir_all(above).at("making", above)?;
        }
        let lock = File::create(&lock_path).at("opening the lock", &lock_path)?;
        lock.lock().at("taking the lock", &lock_path)?;
        // Another build may have made it while this one waited.
        if root.is_dir() {
            return Ok(());
        }
        let layers = packages.fetch(&self.packages)?;
        if layers.len() != self.packages.len() {
            return Err(Error::failed("the package archive gave other packages than were asked for"));
        }
        let label = |facts: &Facts| format!("the package {} {} ({})", facts.name, facts.version, facts.arch);
        let layers: Vec<_> = self.packages.iter().map(label).zip(layers).collect();
        let _task = ui.task("unpack", format!("Rust compiler for {}", self.target), None);
        let folder = store.temporary_folder()?;
        let made = folder.path().join("root");
        fs::create_dir(&made).at("making", &made)?;
        unpack(&layers, &made, |path| self.keeps(path))?;
        sync(&made)?;
        fs::rename(&made, root).at("putting in place", root)?;
        // The large ones are in no image and were needed only for this: they would double the 650 MiB.
        for (facts, (_, layer)) in self.packages.iter().zip(&layers) {
            if ["rustc", "libstd-rust", "libllvm"].iter().any(|start| facts.name.starts_with(start)) {
                fs::remove_file(&layer.file).at("removing", &layer.file)?;
            }
        }
        Ok(())
    }

    /// Whether a compiler needs a file: 650 MiB of 690 MiB, mostly for the compiler, LLVM and two standard libraries.
    fn keeps(&self, path: &[u8]) -> bool {
        let Ok(path) = std::str::from_utf8(path) else { return false };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (host, target) = (multiarch(self.host), multiarch(self.target));
        let runs = folder.trim_start_matches("usr/").strip_prefix("lib/") == Some(host)
            && name.starts_with("lib")
            && name.contains(".so");
        let links = folder.trim_start_matches("usr/").strip_prefix("lib/") == Some(target) && is_object(name);
        let gcc = folder.strip_prefix("usr/lib/gcc/").and_then(|rest| rest.split_once('/'));
        let starts = gcc.is_some_and(|(triple, version)| triple == target && !version.contains('/'))
            && (name.starts_with("crt") || matches!(name, "libgcc.a" | "libgcc_eh.a"));
        let tool = folder == "usr/bin" && (name == "rustc" || name == linker(self.target));
        runs || links || starts || tool || folder.starts_with("usr/lib/rustlib/")
    }

    /// The scripts through which cargo and rustc call what was unpacked.
    fn scripts(&self, root: &Path) -> Result<Vec<(&'static str, String)>> {
        let (host, target) = (multiarch(self.host), multiarch(self.target));
        let libraries = format!("{0}/usr/lib/{host}:{0}/lib/{host}", root.display());
        if libraries.matches(':').count() != 1 {
            return Err(Error::usage(format!("the store's folder has a colon in its path: {}", root.display()))
                .hint("a search path cannot hold one; choose another folder with --cache"));
        }
        let gcc = gcc_folder(&root.join("usr/lib/gcc").join(target))?;
        let root_text = quoted(root.as_os_str())?;
        let libraries = quoted(libraries.as_ref())?;
        // Only what is compiled for the target has --target among its arguments.
        let rustc = format!(
            "linker=cc\nflavor=gcc\n\
             for argument; do case $argument in --target|--target=*) linker=ld; flavor=ld;; esac; done\n\
             LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec {root_text}/usr/bin/rustc \
             --sysroot {root_text}/usr \"$@\" \"-Clinker=${{0%/*}}/$linker\" -Clinker-flavor=$flavor\n"
        );
        // The machine's own linker must not be given the compiler's libraries.
        let cc = "unset LD_LIBRARY_PATH\nexec cc \"$@\"\n".to_string();
        // What a C compiler adds to a static link: start-up objects around everything, and the three libraries that
        // need each other. A position-independent program has its own kinds of them.
        let ld = format!(
            "start=crt1 kind=T end=\n\
             for argument; do case $argument in -pie) start=rcrt1 kind=S end=S;; esac; done\n\
             libc={root_text}/usr/lib/{target} gcc={gcc}\n\
             LD_LIBRARY_PATH={libraries} exec {root_text}/usr/bin/{linker} --build-id=none \"-L$libc\" \"-L$gcc\" \
             \"$libc/$start.o\" \"$libc/crti.o\" \"$gcc/crtbegin$kind.o\" \"$@\" \
             --start-group -lgcc -lgcc_eh -lc --end-group \"$gcc/crtend$end.o\" \"$libc/crtn.o\"\n",
            gcc = quoted(gcc.as_os_str())?,
            linker = linker(self.target),
        );
        Ok(vec![("rustc", rustc), ("cc", cc), ("ld", ld)])
    }
}

fn missing(arch: Arch, name: &str) -> Error {
    Error::failed(format!("the package archive has no {name} for {arch}, which building programs needs"))
        .hint("use a suite of Debian that has it: bookworm or newer")
}

/// The upstream release in a Debian version of the compiler: `1.96.0+dfsg1-1~deb12u2` is (1, 96, 0).
fn release(version: &str) -> (u32, u32, u32) {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Adds a package and what it depends on: of each alternative the first that there is. Left out is what the machine
/// has (its C library, which nothing built for it may be older than, and its C compiler) and what is not a file.
fn close(packages: &dyn Packages, root: Facts, chosen: &mut BTreeMap<(String, Arch), Facts>) -> Result<()> {
    let mut open = vec![root];
    while let Some(facts) = open.pop() {
        let arch = facts.arch;
        for alternatives in &facts.depends {
            let left_out = |name: &String| {
                matches!(name.as_str(), "libc6" | "libc-dev" | "libc6-dev" | "gcc" | "binutils")
                    || (name.starts_with("gcc-") && name.ends_with("-base"))
            };
            if alternatives.iter().any(left_out)
                || alternatives.iter().any(|name| chosen.contains_key(&(name.clone(), arch)))
            {
                continue;
            }
            let mut found = None;
            for name in alternatives {
                found = packages.find(arch, name)?;
                if found.is_some() {
                    break;
                }
            }
            let found = found.ok_or_else(|| missing(arch, &alternatives.join(" or ")))?;
            if !open.iter().any(|waiting| waiting.name == found.name) {
                open.push(found);
            }
        }
        chosen.insert((facts.name.clone(), arch), facts);
        if chosen.len() > PACKAGE_LIMIT {
            return Err(Error::failed(format!("a compiler that depends on more than {PACKAGE_LIMIT} packages")));
        }
    }
    Ok(())
}

/// The static libraries and start-up objects of the architecture's default gcc: `gcc` depends on `gcc-12`, which
/// depends on `libgcc-12-dev`; newer suites have a `gcc-14-aarch64-linux-gnu` between them.
fn gcc_library(packages: &dyn Packages, arch: Arch) -> Result<Facts> {
    let mut name = "gcc".to_string();
    for _ in 0..5 {
        let facts = packages.find(arch, &name)?.ok_or_else(|| missing(arch, &name))?;
        let depends = || facts.depends.iter().flatten();
        if let Some(library) = depends().find(|name| name.starts_with("libgcc-") && name.ends_with("-dev")) {
            return packages.find(arch, library)?.ok_or_else(|| missing(arch, library));
        }
        let versioned = |name: &&String| {
            name.strip_prefix("gcc-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        name = match depends().filter(|name| !name.ends_with("-base")).filter(versioned).max_by_key(|name| name.len()) {
            Some(next) if *next != name => next.clone(),
            _ => break,
        };
    }
    Err(missing(arch, "libgcc-dev"))
}

/// `usr/lib/gcc/TRIPLET/VERSION`, which holds one version.
fn gcc_folder(above: &Path) -> Result<PathBuf> {
    let mut folders = fs::read_dir(above).at("reading", above)?;
    match (folders.next(), folders.next()) {
        (Some(only), None) => Ok(only.at("reading", above)?.path()),
        _ => Err(Error::failed(format!("{} should hold the libraries of one gcc", above.display()))
            .hint("delete the folder derived/ of the store; what is in it is made anew")),
    }
}

fn is_object(name: &str) -> bool {
    name.ends_with(".a") || name.ends_with(".o")
}

fn linker(target: Arch) -> String {
    format!("{}-ld.bfd", multiarch(target))
}

/// Waits until all of it is on the disk: the folder must not be put in place with empty files after a power cut.
fn sync(folder: &Path) -> Result<()> {
    let open = File::open(folder).at("opening", folder)?;
    rustix::fs::syncfs(&open).map_err(std::io::Error::from).at("writing", folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as lines of `name arch version: dependency, one | other`.
    struct Text(&'static str);

    impl Packages for Text {
        fn find(&self, arch: Arch, name: &str) -> Result<Option<Facts>> {
            Ok(self.0.lines().find_map(|line| {
                let (head, depends) = line.trim().split_once(':')?;
                let [found, arches, version] = head.split(' ').collect::<Vec<_>>()[..] else { return None };
                let split = |text: &str, at| {
                    text.split(at).map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect::<Vec<_>>()
                };
                (found == name && (arches == "any" || arches == arch.name())).then(|| Facts {
                    name: name.into(),
                    arch,
                    version: version.into(),
                    depends: split(depends, ',').iter().map(|entry| split(entry, '|')).collect(),
                    sha256: Digest::of(line.as_bytes()),
                })
            }))
        }

        fn fetch(&self, _: &[Facts]) -> Result<Vec<Layer>> {
            Ok(Vec::new())
        }
    }

    const BOOKWORM: &str = "rustc any 1.63.0-2: libstd-rust-dev
        rustc-web any 1.96.0-1: libc6, libgcc-s1, libstd-rust-web-dev, gcc, libc-dev, binutils
        libstd-rust-web-dev any 1.96.0-1: libstd-rust-web-1.96
        libstd-rust-web-1.96 any 1.96.0-1: libc6, libllvm22, libstdc++6
        libllvm22 any 22: libgcc-s1, missing | libz
        libz any 1: libc6
        libgcc-s1 any 12: gcc-12-base, libc6
        libstdc++6 any 12: gcc-12-base, libgcc-s1
        binutils-aarch64-linux-gnu any 2.40: binutils-common
        binutils-x86-64-linux-gnu any 2.40: binutils-common
        binutils-common any 2.40:
        libc6-dev any 2.36: libc6
        gcc any 12: cpp, gcc-12
        gcc-12 any 12.2: gcc-12-base, libgcc-12-dev
        libgcc-12-dev any 12.2: gcc-12-base";

    #[test]
    fn versions_are_followed() {
        for (host, target) in [(Arch::Amd64, Arch::Arm64), (Arch::Arm64, Arch::Amd64)] {
            let archive = Archive::choose(&Text(BOOKWORM), host, target).unwrap();
            let names: Vec<_> = archive.packages().iter().map(|p| format!("{}:{}", p.name, p.arch)).collect();
            let linker = if target == Arch::Arm64 { "binutils-aarch64-linux-gnu" } else { "binutils-x86-64-linux-gnu" };
            let mut expected: Vec<_> = ["binutils-common", linker, "libgcc-s1", "libllvm22", "libstd-rust-web-1.96"]
                .into_iter()
                .chain(["libstd-rust-web-dev", "libstdc++6", "libz", "rustc-web"])
                .map(|name| format!("{name}:{host}"))
                .chain(["libc6-dev", "libgcc-12-dev", "libstd-rust-web-dev"].map(|name| format!("{name}:{target}")))
                .collect();
            expected.sort();
            let mut found = names.clone();
            found.sort();
            assert_eq!(found, expected);
        }
        let own = Archive::choose(&Text(BOOKWORM), Arch::Arm64, Arch::Arm64).unwrap();
        assert_eq!(own.packages().iter().filter(|p| p.name == "libstd-rust-web-dev").count(), 1);
    }

    #[test]
    fn newer_suites_name_gcc_by_its_target() {
        let text = Text(
            "gcc any 14: cpp, gcc-aarch64-linux-gnu, gcc-14
             gcc-14 any 14: gcc-14-base, cpp-14, gcc-14-aarch64-linux-gnu
             gcc-14-aarch64-linux-gnu any 14: libgcc-14-dev
             libgcc-14-dev any 14: x",
        );
        assert_eq!(gcc_library(&text, Arch::Arm64).unwrap().name, "libgcc-14-dev");
        assert!(gcc_library(&Text("gcc any 14: gcc"), Arch::Arm64).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["rustc-web", "libllvm22", "binutils-aarch64-linux-gnu", "libc6-dev", "libgcc-12-dev"] {
            let text: String = BOOKWORM
                .lines()
                .filter(|line| !line.trim().starts_with(&format!("{name} ")))
                .map(|l| format!("{l}\n"))
                .collect();
            let error = Archive::choose(&Text(text.leak()), Arch::Amd64, Arch::Arm64).unwrap_err();
            let named = if name == "rustc-web" { "libstd-rust-dev" } else { name };
            assert!(error.message().contains(named), "{name}: {error}");
        }
        assert_eq!(release("1:1.96.0+dfsg1-1~deb12u2"), (1, 96, 0));
        assert!(release("1.100.0") > release("1.96.2"));
        assert_eq!(release("what"), (0, 0, 0));
    }
}
