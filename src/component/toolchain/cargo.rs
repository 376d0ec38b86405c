//! Runs cargo and keeps what it makes.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{elf, profile, target_triple};
use crate::Arch;
use crate::component::source::Sources;
use crate::error::{Error, IoContext, Result};
use crate::store::{Checked, Digest, Hasher, Store};
use crate::ui::Ui;

/// The number goes up when the same sources give another program.
const KIND: &str = "program-1";

/// A program larger than this is not one of ours.
const PROGRAM_LIMIT: u64 = 1 << 30;

/// How much of the compiler's output an error shows.
const TAIL_LINES: usize = 60;
const LINE_LIMIT: u64 = 4096;

/// Variables of the environment that cargo and what it runs may see; one that ends in `_` stands for all that start so.
/// All others are hidden: dozens change flags and paths. These say where things are and how to reach registries.
const PASSED: [&str; 25] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_",
    "SSH_",
    "GIT_",
    "XDG_RUNTIME_DIR",
];

/// A toolchain that is ready to build for one architecture.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Everything that it is, in lines: versions and digests. Two toolchains with the same text give the same bytes.
    pub identity: String,
    /// The architecture of what it makes.
    pub target: Arch,
    /// Rust's name of the machine that it runs on.
    pub(super) host: String,
    pub(super) cargo: PathBuf,
    /// Scripts that are written beside each other before a build, without their first lines: name and text.
    pub(super) scripts: Vec<(&'static str, String)>,
    /// Flags of rustc for the target that cargo must know of. They hold no paths, since cargo hashes them.
    pub(super) flags: Vec<&'static str>,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The folder that holds `Cargo.toml`, `Cargo.lock` and all sources.
    pub source: &'a Path,
    /// The package's name.
    pub package: &'a str,
    /// The program's name, one of the package's `[[bin]]`.
    pub binary: &'a str,
}

/// A program in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltProgram {
    /// Where it lies: a static ELF executable (its mode in the store says nothing).
    pub file: PathBuf,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// [`Toolchain::identity`] of what made it.
    pub toolchain: String,
}

/// The start of every script for rustc: folders of the machine become names of packages. Cargo does not know of these
/// flags, so the folders do not reach the hashes in symbols either. Dependencies were compiled the same way, so the
/// paths that come in from them are names already.
const RUSTC_START: &str = "#!/bin/sh
if [ -n \"$CARGO_PKG_NAME\" ]; then
  set -- \"$@\" --remap-path-prefix \"$CARGO_MANIFEST_DIR=/$CARGO_PKG_NAME-$CARGO_PKG_VERSION\"
  if [ -n \"$OUT_DIR\" ]; then
    set -- \"$@\" --remap-path-prefix \"$OUT_DIR=/$CARGO_PKG_NAME-$CARGO_PKG_VERSION/out\"
  fi
fi
";

impl Toolchain {
    /// Builds a program, or finds it in the store if it was built from the same before. Several builds of the same
    /// sources wait for each other. What cargo leaves behind speeds up the next build and is removed after a day.
    ///
    /// # Errors
    /// Exit status 1 if it does not compile (with the end of the compiler's output), 2 if the folder is not a
    /// package, 4 if a dependency cannot be fetched.
    pub fn build(&self, store: &Store, order: Order<'_>, ui: &Ui) -> Result<BuiltProgram> {
        let folder = order.source.canonicalize().at("opening the sources", order.source)?;
        let sources = Sources::of_program(&folder)?;
        let manifest = read_manifest(&folder.join("Cargo.toml"))?;
        let profile = profile::release(&manifest);
        let digest = sources.digest(&folder)?;
        let key = self.key(&digest, &profile, order);
        let damaged = |path: &Path| ui.warn(format!("{} is damaged; it is compiled again", path.display()));
        if let Some(there) = store.checked(KIND, &key, damaged)? {
            return Ok(self.built(there));
        }
        let place = self.place(store, &folder)?;
        let _lock = lock(&place)?;
        if let Some(there) = store.checked(KIND, &key, damaged)? {
            return Ok(self.built(there));
        }
        if sources.copy(&folder, &place.join("source"))? != digest {
            return Err(Error::failed(format!("{} changed while it was read", folder.display())).hint("build again"));
        }
        self.write_scripts(&place.join("bin"))?;
        let _task = ui.task("compile", format!("{} for {}", order.binary, self.target), None);
        // In two steps, so that what the network did is told from what the compiler said.
        self.run(&place, &["fetch", "--locked", "--target", &self.host, "--target", target_triple(self.target)], &[])?;
        let package = ["--package", order.package, "--bin", order.binary];
        let target = ["build", "--release", "--frozen", "--target", target_triple(self.target)];
        self.run(&place, &[target.as_slice(), package.as_slice()].concat(), &profile)?;
        let made = place.join("target").join(target_triple(self.target)).join("release").join(order.binary);
        elf::check_static(&made, self.target)?;
        self.warn_of_paths(&made, &[&place, store.root()], order, ui)?;
        let mut file = store.temporary_file()?;
        let mut from = File::open(&made).at("opening", &made)?;
        let size = io::copy(&mut Read::by_ref(&mut from).take(PROGRAM_LIMIT + 1), &mut file).at("copying", &made)?;
        if size > PROGRAM_LIMIT {
            return Err(Error::failed(format!("the program {} is larger than {PROGRAM_LIMIT} bytes", made.display())));
        }
        Ok(self.built(store.put_checked(KIND, &key, file)?))
    }

    fn key(&self, sources: &Digest, profile: &[String], order: Order<'_>) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(KIND.as_bytes());
        hasher.field(sources.as_bytes());
        hasher.field(self.identity.as_bytes());
        hasher.field(self.host.as_bytes());
        for text in [target_triple(self.target), order.package, order.binary] {
            hasher.field(text.as_bytes());
        }
        hasher.field(profile.join("\n").as_bytes());
        hasher.field(self.flags.join("\n").as_bytes());
        hasher.finish()
    }

    fn built(&self, there: Checked) -> BuiltProgram {
        let Checked { path: file, size, digest } = there;
        BuiltProgram { file, digest, size, toolchain: self.identity.clone() }
    }

    /// The folder where these sources are compiled with this toolchain.
    fn place(&self, store: &Store, folder: &Path) -> Result<PathBuf> {
        let mut hasher = Hasher::new();
        hasher.field(folder.as_os_str().as_bytes());
        hasher.field(self.identity.as_bytes());
        hasher.field(target_triple(self.target).as_bytes());
        let name = format!("program-{}", hasher.finish().hex().get(..16).unwrap_or_default());
        let place = store.root().join("temporary").join(name);
        for folder in ["", "bin"] {
            let path = place.join(folder);
            fs::create_dir_all(&path).at("making", &path)?;
        }
        Ok(place)
    }

    fn write_scripts(&self, folder: &Path) -> Result<()> {
        for (name, text) in &self.scripts {
            let path = folder.join(name);
            let start = if *name == "rustc" { RUSTC_START } else { "#!/bin/sh\n" };
            let text = format!("{start}{text}");
            // A script that is the same keeps its time: cargo asks a compiler that is newer for its version again.
            if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
                continue;
            }
            fs::write(&path, text).at("writing", &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("writing", &path)?;
        }
        Ok(())
    }

    fn run(&self, place: &Path, arguments: &[&str], profile: &[String]) -> Result<()> {
        let mut command = Command::new(&self.cargo);
        command.arg(arguments[0]).arg("--manifest-path").arg(place.join("source/Cargo.toml")).args(&arguments[1..]);
        for setting in profile {
            command.arg("--config").arg(setting);
        }
        // From the root folder: cargo looks for settings in the current folder and all above it.
        command.current_dir("/");
        clear_environment(&mut command);
        let flags = self.flags.join("\u{1f}");
        command
            .env("RUSTC", place.join("bin/rustc"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", place.join("target"))
            .env("CARGO_BUILD_BUILD_DIR", place.join("target"));
        for (name, value) in [
            ("RUSTC_WRAPPER", ""),
            ("RUSTC_WORKSPACE_WRAPPER", ""),
            ("CARGO_INCREMENTAL", "0"),
            ("CARGO_TERM_COLOR", "never"),
            ("CARGO_TERM_PROGRESS_WHEN", "never"),
            ("SOURCE_DATE_EPOCH", "0"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC0"),
        ] {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().at("starting", &self.cargo)?;
        let tail = child.stderr.take().map(tail).unwrap_or_default();
        let status = child.wait().at("waiting for", &self.cargo)?;
        if status.success() { Ok(()) } else { Err(diagnose(arguments[0] == "fetch", status, &tail)) }
    }

    /// Says when the program holds a path of this machine, which the same sources would not give elsewhere.
    fn warn_of_paths(&self, program: &Path, folders: &[&Path], order: Order<'_>, ui: &Ui) -> Result<()> {
        let homes = [env::var_os("CARGO_HOME").map(PathBuf::from), env::home_dir().map(|home| home.join(".cargo"))];
        let folders = folders.iter().map(|path| path.to_path_buf()).chain(homes.into_iter().flatten());
        let wanted: Vec<PathBuf> = folders.filter(|path| path.as_os_str().len() > 4).collect();
        let longest = wanted.iter().map(|path| path.as_os_str().len()).max().unwrap_or(0);
        let mut file = File::open(program).at("opening", program)?;
        let mut window = Vec::new();
        loop {
            let kept = window.len().min(longest);
            window.drain(..window.len() - kept);
            let read = file.by_ref().take(256 << 10).read_to_end(&mut window).at("reading", program)?;
            for path in &wanted {
                let bytes = path.as_os_str().as_bytes();
                if window.windows(bytes.len()).any(|part| part == bytes) {
                    ui.warn(format!(
                        "the program {} holds the path {}; built elsewhere, its bytes will differ",
                        order.binary,
                        path.display()
                    ));
                    return Ok(());
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// Hides everything of the environment that is not known to be harmless: flags, wrappers, preloaded libraries.
pub(super) fn clear_environment(command: &mut Command) {
    command.env_clear();
    for (name, value) in env::vars_os() {
        if passed(name.as_bytes()) {
            command.env(name, value);
        }
    }
}

fn passed(name: &[u8]) -> bool {
    PASSED.iter().any(|one| if one.ends_with('_') { name.starts_with(one.as_bytes()) } else { name == one.as_bytes() })
}

/// The manifest's text; a broken one is cargo's to complain about.
fn read_manifest(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)).at("reading", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes the folder for this build, and makes it look used: the store removes what is a day old.
fn lock(place: &Path) -> Result<File> {
    let path = place.join("lock");
    let lock = File::create(&path).at("opening the lock", &path)?;
    lock.lock().at("taking the lock", &path)?;
    let used = place.join("used");
    let _ = fs::remove_file(&used);
    fs::write(&used, "").at("writing", &used)?;
    Ok(lock)
}

/// Reads to the end and keeps the last lines, cut to a bounded length.
fn tail(stream: impl Read) -> VecDeque<String> {
    let mut stream = BufReader::new(stream);
    let mut lines = VecDeque::new();
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line) {
            // The child's exit says what happened.
            Ok(0) | Err(_) => return lines,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line);
        // Progress is not part of a diagnosis.
        let progress = ["Compiling ", "Downloading ", "Downloaded ", "Updating ", "Fresh ", "Locking ", "Finished "];
        if progress.iter().any(|word| line.trim_start().starts_with(word)) {
            continue;
        }
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.trim_end().to_string());
    }
}

fn diagnose(fetching: bool, status: std::process::ExitStatus, tail: &VecDeque<String>) -> Error {
    let said = tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let message = |what: &str| format!("{what} ({status}):\n{}", said.trim_end());
    if said.contains("--locked was passed") || said.contains("`--locked`") {
        return Error::usage(message("the program's Cargo.lock does not fit its Cargo.toml"))
            .hint("run cargo update --workspace in the program's folder, and keep the new Cargo.lock");
    }
    // The dynamic linker's "version `GLIBC_2.38' not found (required by ...)".
    if said.contains("version `GLIBC_") {
        return Error::failed(message("the compiler out of packages does not run on this machine"))
            .hint("this machine's C library is older than that of the packages; use those of an older suite");
    }
    // What the shell says in the script `cc`.
    if said.contains("cc: not found") {
        return Error::failed(message("build scripts and procedural macros cannot be linked"))
            .hint("install a C compiler for this machine; on Debian: gcc libc6-dev");
    }
    const NETWORK: [&str; 9] = [
        "failed to download",
        "download of ",
        "failed to fetch",
        "failed to clone",
        "spurious network error",
        "network failure",
        "Could not resolve host",
        "Couldn't resolve host",
        "failed to query replaced source",
    ];
    if fetching && NETWORK.iter().any(|sign| said.contains(sign)) {
        return Error::network(message("the program's dependencies could not be fetched"))
            .hint("cargo fetches them, with the registries and proxies of its own settings");
    }
    Error::failed(message(if fetching { "cargo could not read the program" } else { "the program does not compile" }))
}

/// A word for the shell.
pub(super) fn quoted(text: &OsStr) -> Result<String> {
    let text = text.to_str().ok_or_else(|| Error::usage(format!("{} is not a path in UTF-8", text.display())))?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use std::os::unix::process::ExitStatusExt;

    fn toolchain() -> Toolchain {
        Toolchain {
            identity: "rustc 1".into(),
            target: Arch::Arm64,
            host: "x86_64-unknown-linux-gnu".into(),
            cargo: "/bin/false".into(),
            scripts: Vec::new(),
            flags: vec!["-Ca"],
        }
    }

    #[test]
    fn the_key_holds_all_that_the_bytes_depend_on() {
        let order = Order { source: Path::new("/anywhere"), package: "p", binary: "b" };
        let (sources, profile) = (Digest::of(b"sources"), vec!["profile.release.lto=true".to_string()]);
        let made = toolchain();
        let same = made.key(&sources, &profile, order);
        assert_eq!(made.key(&sources, &profile, Order { source: Path::new("/elsewhere"), ..order }), same);
        let others = [
            made.key(&Digest::of(b"others"), &profile, order),
            made.key(&sources, &[], order),
            made.key(&sources, &profile, Order { package: "q", ..order }),
            made.key(&sources, &profile, Order { binary: "c", ..order }),
            Toolchain { identity: "rustc 2".into(), ..toolchain() }.key(&sources, &profile, order),
            Toolchain { target: Arch::Amd64, ..toolchain() }.key(&sources, &profile, order),
            Toolchain { flags: vec!["-Cb"], ..toolchain() }.key(&sources, &profile, order),
        ];
        assert!(others.iter().all(|other| *other != same));
    }

    #[test]
    fn failures_are_told_apart() {
        let exit = |fetching, said: &str| {
            let tail = tail(said.as_bytes());
            diagnose(fetching, std::process::ExitStatus::from_raw(101 << 8), &tail)
        };
        let clone = "error: failed to get `x` as a dependency\n\nCaused by:\n  failed to clone into: /x\n";
        assert_eq!(exit(true, clone).exit(), Exit::Network);
        assert_eq!(exit(true, "error: download of config.json failed\n").exit(), Exit::Network);
        let locked = "error: cannot update the lock file /x because --locked was passed to prevent this\n";
        assert_eq!(exit(true, locked).exit(), Exit::Usage);
        assert_eq!(exit(true, "error: failed to parse manifest\n").exit(), Exit::Failed);
        let compile = exit(false, "   Compiling x v1\nerror[E0425]: failed to download what is not there\n");
        assert_eq!(compile.exit(), Exit::Failed);
        assert!(compile.message().contains("E0425") && !compile.message().contains("Compiling"), "{compile}");
    }

    #[test]
    fn output_without_end_takes_no_room() {
        let lines = tail(io::repeat(b'x').take(64 << 20));
        assert_eq!(lines.len(), TAIL_LINES);
        assert!(lines.iter().all(|line| line.len() as u64 <= LINE_LIMIT));
    }

    #[test]
    fn settings_of_the_environment_do_not_pass() {
        for name in ["PATH", "CARGO_HTTP_CAINFO", "CARGO_REGISTRIES_MINE_TOKEN", "https_proxy"] {
            assert!(passed(name.as_bytes()), "{name}");
        }
        for name in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "PATHS", "CC", "LD_PRELOAD"] {
            assert!(!passed(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn words_for_the_shell() {
        let text = "a b'c$(d)\\\"\n";
        let script = format!("printf %s {}", quoted(text.as_ref()).unwrap());
        assert_eq!(Command::new("sh").args(["-c", &script]).output().unwrap().stdout, text.as_bytes());
        assert!(quoted(OsStr::from_bytes(b"\xff")).is_err());
    }
}
