//! Which packages a kernel lies in.
//!
//! Debian's `linux-image-cloud-amd64` has no files; it depends on the package of one kernel version. That one depends
//! on linux-base, kmod and initramfs-tools, for maintainer scripts which are not run here, so the usual closure over
//! dependencies would bring a shell, perl and more. Newer kernels are split up further, into `linux-modules-VERSION`
//! and the like.

use crate::deb::{Archive, Package, Relation};
use crate::error::{Error, Result};

/// Metapackages that point to metapackages: Debian has one step, more than this is a circle.
const STEPS: usize = 8;

/// What kernels are split into.
const PARTS: [&str; 4] = ["linux-image-", "linux-modules-", "linux-binary-", "linux-base-"];

/// The packages that `package`, a metapackage or a kernel's own package, has its kernel in; the one with the kernel
/// first. Nothing else that they depend on is among them.
///
/// # Errors
/// Exit status 2 if the archive has no such package, or if it is an unsigned one; 3 if it leads to no kernel.
pub fn packages(archive: &Archive<'_>, package: &str) -> Result<Vec<Package>> {
    walk(package, |name| archive.package(name))
}

fn walk(package: &str, find: impl Fn(&str) -> Result<Option<Package>>) -> Result<Vec<Package>> {
    if package.ends_with("-unsigned") {
        return Err(Error::usage(format!(
            "{package} has a kernel that is not signed, and modules that a kernel under Secure Boot refuses"
        ))
        .hint(format!("name {}", package.trim_end_matches("-unsigned"))));
    }
    let found = find(package)?;
    let mut kernel = found.ok_or_else(|| {
        Error::usage(format!("the archive has no package {package}"))
            .hint("kernels are called linux-image-amd64, linux-image-cloud-amd64, linux-image-arm64 and so on")
    })?;
    let mut steps = 0;
    while let Some(relation) = part(&kernel, &PARTS[..1]) {
        steps += 1;
        if steps > STEPS {
            return Err(Error::refused(format!(
                "the package {package} leads from one package to the next, in a circle"
            )));
        }
        kernel = meant(&kernel, relation, &find)?;
    }
    let mut all = vec![kernel];
    let mut at = 0;
    while let Some(package) = all.get(at).cloned() {
        at += 1;
        for relation in parts(&package, &PARTS) {
            if all.len() < STEPS && !all.iter().any(|known| known.name == relation.name) {
                all.push(meant(&package, relation, &find)?);
            }
        }
    }
    Ok(all)
}

/// Dependencies that are kernels' packages, the first of alternatives.
fn parts<'p>(package: &'p Package, prefixes: &'p [&str]) -> impl Iterator<Item = &'p Relation> {
    let first = package.depends.iter().filter_map(|alternatives| alternatives.first());
    first.filter(|relation| prefixes.iter().any(|prefix| relation.name.starts_with(prefix)))
}

fn part<'p>(package: &'p Package, prefixes: &'p [&str]) -> Option<&'p Relation> {
    parts(package, prefixes).next()
}

fn meant(by: &Package, relation: &Relation, find: impl Fn(&str) -> Result<Option<Package>>) -> Result<Package> {
    let found = find(&relation.name)?.filter(|package| relation.accepts(&package.version));
    found.ok_or_else(|| {
        Error::refused(format!("{by} depends on {relation}, which the archive does not have"))
            .hint("a mirror may be in the middle of an update: try again in ten minutes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;
    use crate::error::Exit;

    fn package(name: &str, depends: &str) -> Package {
        let digest = "0".repeat(64);
        let text = format!(
            "Package: {name}\nVersion: 2\nArchitecture: amd64\nFilename: a\nSize: 1\nSHA256: {digest}\nDepends: {depends}\n"
        );
        Package::parse(&text, Arch::Amd64, 0).unwrap()
    }

    fn names(start: &str, all: &[Package]) -> Result<Vec<String>> {
        let found = walk(start, |name| Ok(all.iter().find(|package| &*package.name == name).cloned()))?;
        Ok(found.iter().map(|package| package.name.to_string()).collect())
    }

    #[test]
    fn a_metapackage_leads_to_its_kernel() {
        let all = [
            package("linux-image-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64 (= 2)"),
            package("linux-image-6.1.0-56-cloud-amd64", "kmod, linux-base (>= 4.3~), initramfs-tools | dracut"),
            package("linux-image-new", "linux-image-7-new"),
            package("linux-image-7-new", "linux-binary-7 (>= 1), linux-base-7"),
            package("linux-binary-7", "linux-modules-7"),
            package("linux-base-7", "linux-base, linux-modules-7"),
            package("linux-modules-7", ""),
        ];
        assert_eq!(names("linux-image-cloud-amd64", &all).unwrap(), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(names("linux-image-6.1.0-56-cloud-amd64", &all).unwrap(), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(
            names("linux-image-new", &all).unwrap(),
            ["linux-image-7-new", "linux-binary-7", "linux-base-7", "linux-modules-7"]
        );
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let all = [
            package("linux-image-gone", "linux-image-6 (= 2)"),
            package("linux-image-other", "linux-image-5 (= 3)"),
            package("linux-image-5", ""),
            package("linux-image-round", "linux-image-round"),
        ];
        let failed = |name: &str, exit: Exit| {
            let error = names(name, &all).unwrap_err();
            assert_eq!(error.exit(), exit, "{error}");
            error.message().to_string()
        };
        assert!(failed("linux-image-gone", Exit::Refused).contains("linux-image-6 (= 2)"));
        assert!(failed("linux-image-other", Exit::Refused).contains("does not have"));
        assert!(failed("linux-image-round", Exit::Refused).contains("circle"));
        assert!(failed("linux-image-5-unsigned", Exit::Usage).contains("not signed"));
        assert!(failed("linux-imag", Exit::Usage).contains("no package"));
    }
}
