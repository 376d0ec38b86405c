//! The Debian archive: from a suite's name to layers with the files of packages.
//!
//! | file | step |
//! |---|---|
//! | `mirror` | `MOBY_DEB_MIRROR` or apt's sources -> base URLs |
//! | `fetch`, `network` | base URL and path -> bytes; the network is behind the trait [`Fetch`] |
//! | `signature` | `InRelease` and keyring -> text that Debian signed |
//! | `release` | that text -> digests of the indexes, dates checked |
//! | `packages` | `Packages.xz` -> list on disk with an index |
//! | `opening` | the steps above for one suite, with what is cached of them |
//! | `stanza`, `version`, `relation`, `package` | one entry of the list -> [`Package`] |
//! | `resolve` | names -> every package that they need |
//! | `deb_file` | `.deb` -> layer |
//! | `archive` | all of it together: [`Archive`] |
//!
//! Every byte is checked before it is read as anything: `InRelease` by its OpenPGP signature, the indexes by the digests
//! in it, the packages by the digests in those. Nothing is installed and no maintainer script is run: a package is its
//! files. Packages are data, so any architecture can be had on any machine.
//!
//! Not supported: source packages, `Packages` without `InRelease`, dpkg's diversions and alternatives, packages of two
//! architectures in one image.

mod archive;
mod deb_file;
mod fetch;
mod mirror;
mod network;
mod opening;
mod package;
mod packages;
mod relation;
mod release;
mod resolve;
mod signature;
mod stanza;
#[cfg(test)]
mod test_key;
mod version;

pub use archive::{Archive, Wanted};
pub use fetch::{Answer, CheckedFile, Fetch, Validators};
pub use mirror::{MIRROR_VARIABLE, Mirror, Mirrors};
pub use opening::{Freshness, Sources, VALID_UNTIL_VARIABLE};
pub use package::Package;
pub use relation::{Alternatives, Operator, Relation, ShowAlternatives, is_package_name};
pub use resolve::{ResolveOptions, WITHOUT};
pub use signature::{KEYRING_VARIABLE, Keyring};
pub use version::Version;
