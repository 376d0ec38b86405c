//! The machine's own Rust toolchain, for the machine's own architecture.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cargo::{Toolchain, clear_environment, quoted};
use super::{multiarch, target_triple};
use crate::Arch;
use crate::error::{Error, IoContext, Result};
use crate::store::Hasher;

/// What goes into a static program beside Rust's own libraries: it names the C library's version better than any
/// version number, and where the C compiler has none of these, there is nothing to link with.
const LINKED: [&str; 3] = ["libc.a", "libgcc.a", "libgcc_eh.a"];

/// Finds the toolchain: `rustc` and `cargo` in `PATH` or rustup's folder, and `cc`.
///
/// # Errors
/// Exit status 1 if one of the three or the static C library is missing, with what to install as the hint.
pub fn find() -> Result<Toolchain> {
    let arch = Arch::host().ok_or_else(|| {
        Error::failed(format!("programs are built on amd64 and arm64, and this machine is {}", env::consts::ARCH))
    })?;
    let rustc = compiler()?;
    let sysroot = PathBuf::from(answer(&rustc, &["--print", "sysroot"])?.trim());
    // Behind rustup's proxies, which choose by the current folder, is one real compiler.
    let rustc = Some(sysroot.join("bin/rustc")).filter(|path| path.is_file()).unwrap_or(rustc);
    let cargo = Some(sysroot.join("bin/cargo")).filter(|path| path.is_file()).map_or_else(cargo, Ok)?;
    let version = answer(&rustc, &["-vV"])?;
    let line = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown");
    if line("host: ") != target_triple(arch) {
        return Err(Error::failed(format!(
            "{} is for {}, but programs for this machine are built with {}",
            rustc.display(),
            line("host: "),
            target_triple(arch)
        ))
        .hint(format!("with rustup: rustup default stable-{}", target_triple(arch))));
    }
    let script = format!(
        "exec {} \"$@\" -Clinker=cc --remap-path-prefix {}=/rustc/{}\n",
        quoted(rustc.as_os_str())?,
        quoted(sysroot.join("lib/rustlib/src/rust").as_os_str())?,
        line("commit-hash: "),
    );
    Ok(Toolchain {
        identity: format!("{version}{}\n{}", self::version(&cargo)?, c_library(arch)?),
        target: arch,
        host: line("host: ").to_string(),
        cargo,
        scripts: vec![("rustc", script)],
        // The linker may put a digest of what it read into the program; nobody reads it.
        flags: vec!["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,--build-id=none"],
    })
}

/// The `cargo` of this machine.
pub(super) fn cargo() -> Result<PathBuf> {
    found("cargo").ok_or_else(missing)
}

/// What cargo calls itself. It takes part in the names of symbols, and so in the bytes.
pub(super) fn version(cargo: &Path) -> Result<String> {
    Ok(answer(cargo, &["-V"])?.trim().to_string())
}

fn compiler() -> Result<PathBuf> {
    found("rustc").ok_or_else(missing)
}

fn missing() -> Error {
    Error::failed("this component is a Rust program, and there is no cargo and rustc on this machine to build it with")
        .hint("install Rust with rustup or as the package cargo of your distribution, 1.89 or newer")
}

fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The C compiler's version and the digest of what it links statically.
fn c_library(arch: Arch) -> Result<String> {
    let cc = found("cc").ok_or_else(|| {
        Error::failed("there is no C compiler (cc) on this machine, which links Rust programs")
            .hint("install gcc and the C library's development files; on Debian: gcc libc6-dev")
    })?;
    let mut hasher = Hasher::new();
    for name in LINKED {
        let path = PathBuf::from(answer(&cc, &[&format!("-print-file-name={name}")])?.trim());
        // The compiler repeats the bare name if it has no such file.
        if !path.is_absolute() {
            return Err(Error::failed(format!(
                "{} has no {name}, which static programs are linked with",
                cc.display()
            ))
            .hint(format!(
                "install the static C library: libc6-dev on Debian, glibc-static elsewhere ({})",
                multiarch(arch)
            )));
        }
        let mut file = File::open(&path).at("reading", &path)?;
        io::copy(&mut file, &mut hasher).at("reading", &path)?;
    }
    let version = answer(&cc, &["--version"])?;
    Ok(format!("{}, C library {}", version.lines().next().unwrap_or_default(), hasher.finish()))
}

/// What a program prints, run in the root folder, so that no setting of the current one reaches it.
fn answer(program: &Path, arguments: &[&str]) -> Result<String> {
    let asked = || format!("{} {}", program.display(), arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    clear_environment(&mut command);
    command.env("LC_ALL", "C");
    let output = command.output().at("running", program)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::failed(format!("{} failed ({}): {}", asked(), output.status, said.trim())));
    }
    String::from_utf8(output.stdout).map_err(|_| Error::failed(format!("{} did not answer in UTF-8", asked())))
}
