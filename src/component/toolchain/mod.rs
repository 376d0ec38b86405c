//! Building guest programs: a Cargo package in, one static ELF program for the target architecture out.
//!
//! Nothing is installed and no root is needed. There are two toolchains:
//!
//! - [`own`]: the machine's own cargo and rustc with its C compiler as linker, for its own architecture.
//! - [`archive`]: the Rust compiler, standard libraries, C library and linker out of Debian packages, unpacked as
//!   data into a folder of the store. It serves the other architecture, for which a stock toolchain has no standard
//!   library, and on request the own one too.
//!
//! | file | does |
//! |---|---|
//! | `../source.rs` | which files a program is made from, their digest, the snapshot that is compiled |
//! | `profile.rs` | the release profile: what the package says, and what is fixed |
//! | `own.rs`, `archive.rs` | find the toolchain and what it is called in the key |
//! | `debian.rs` | Debian's archive as the source of packages |
//! | `unpack.rs` | writes the files of packages into a folder |
//! | `cargo.rs` | runs cargo and keeps the program |
//! | `elf.rs` | checks that the program is static and for the right machine |
//!
//! # Same bytes everywhere
//!
//! The program depends on its sources, its lock file, the toolchain and nothing else: not on folders, users, the
//! number of cores, the locale, or what `~/.cargo/config.toml` says about flags and profiles. Its registries, proxies
//! and credentials are used as they are set there.

pub mod archive;
mod cargo;
mod debian;
mod elf;
pub mod own;
mod profile;
mod unpack;

pub use archive::{Archive, Facts, Packages};
pub use cargo::{BuiltProgram, Order, Toolchain};
pub use debian::Debian;
pub use unpack::unpack;

use crate::Arch;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::ui::Ui;

/// The toolchain for an architecture: the machine's own for its own, else one out of packages. `packages` is called
/// in the second case only, with the architectures that it must know: the machine's and the target's.
///
/// # Errors
/// What [`own::find`], [`Archive::choose`] and [`Archive::prepare`] have, and exit status 1 on a machine of another
/// architecture.
pub fn for_target<P: Packages>(
    target: Arch,
    store: &Store,
    ui: &Ui,
    packages: impl FnOnce([Arch; 2]) -> Result<P>,
) -> Result<Toolchain> {
    let host = Arch::host().ok_or_else(|| {
        Error::failed(format!("programs are built on amd64 and arm64, and this machine is {}", std::env::consts::ARCH))
    })?;
    if host == target {
        return own::find();
    }
    let packages = packages([host, target])?;
    Archive::choose(&packages, host, target)?.prepare(&packages, store, ui)
}

/// What Rust calls an architecture's Linux with the GNU C library.
fn target_triple(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64-unknown-linux-gnu",
        Arch::Arm64 => "aarch64-unknown-linux-gnu",
    }
}

/// What Debian calls the same: its folders of libraries and its cross tools are named so.
fn multiarch(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64-linux-gnu",
        Arch::Arm64 => "aarch64-linux-gnu",
    }
}
