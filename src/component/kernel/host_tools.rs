//! What a kernel is compiled with: programs and headers of this machine.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use super::options::Options;
use crate::Arch;
use crate::error::{Error, Result};

/// The machine's tools, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTools {
    /// In front of the names of compiler and linker: empty, or `aarch64-linux-gnu-`.
    pub prefix: &'static str,
    /// Versions of compiler and linker: with other ones the same source gives other bytes.
    pub identity: String,
}

/// Looks for everything that is needed.
///
/// # Errors
/// Exit status 1 with all that is missing and the packages that have it.
pub fn find(target: Arch, options: &Options) -> Result<HostTools> {
    let prefix = prefix(target);
    let compiler = format!("{prefix}gcc");
    let (compiler_package, linker_package) = match (prefix, target) {
        ("", _) => ("gcc".to_string(), "binutils".to_string()),
        (_, Arch::Amd64) => ("gcc-x86-64-linux-gnu".to_string(), "binutils-x86-64-linux-gnu".to_string()),
        (_, Arch::Arm64) => ("gcc-aarch64-linux-gnu".to_string(), "binutils-aarch64-linux-gnu".to_string()),
    };
    let linker = format!("{prefix}ld");
    let mut programs = vec![
        ("make", "make"),
        ("gcc", "gcc"),
        (compiler.as_str(), compiler_package.as_str()),
        (linker.as_str(), linker_package.as_str()),
        ("flex", "flex"),
        ("bison", "bison"),
        ("bc", "bc"),
        ("perl", "perl"),
    ];
    for (option, program, package) in
        [("KERNEL_ZSTD", "zstd", "zstd"), ("KERNEL_XZ", "xz", "xz-utils"), ("KERNEL_LZ4", "lz4", "lz4")]
    {
        if options.value(option) == Some("y") {
            programs.push((program, package));
        }
    }
    let mut missing: Vec<(String, &str)> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(program, package)| (program.to_string(), *package))
        .collect();
    // objtool, which looks through every object file of an x86 kernel, reads ELF with libelf. libc's headers come first:
    // without them nothing is found.
    for (header, package) in [("stdio.h", "libc6-dev"), ("gelf.h", "libelf-dev")] {
        if (header != "gelf.h" || target == Arch::Amd64) && is_there("gcc") && !has_header(header) {
            missing.push((header.to_string(), package));
        }
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        packages.sort_unstable();
        packages.dedup();
        return Err(Error::failed(format!("this machine lacks what a kernel is compiled with: {}", names.join(", ")))
            .hint(format!("on Debian: apt-get install {}", packages.join(" "))));
    }
    let identity = [compiler, linker].iter().map(|program| version(program)).collect::<Result<Vec<_>>>()?.join(", ");
    Ok(HostTools { prefix, identity })
}

/// What cross tools for an architecture are called with; nothing for the machine's own.
fn prefix(target: Arch) -> &'static str {
    match target {
        _ if Arch::host() == Some(target) => "",
        Arch::Amd64 => "x86_64-linux-gnu-",
        Arch::Arm64 => "aarch64-linux-gnu-",
    }
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

fn has_header(name: &str) -> bool {
    let mut command = Command::new("gcc");
    command.args(["-E", "-include", name, "-x", "c", "/dev/null"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The first line of what a program says about its version.
fn version(program: &str) -> Result<String> {
    let failed = |what: String| Error::failed(format!("{program} --version {what}"));
    let output = Command::new(program).arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(format!("cannot be run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().next().filter(|line| output.status.success() && !line.is_empty()) {
        Some(line) => Ok(line.to_string()),
        None => Err(failed(format!("says nothing ({})", output.status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_its_own_target() {
        for arch in Arch::ALL {
            assert_eq!(prefix(arch).is_empty(), Arch::host() == Some(arch));
        }
        assert!(is_there("sh") && !is_there("no such program"));
        assert!(version("no such program").unwrap_err().message().contains("cannot be run"));
    }
}
