//! What the archive says about one binary package.

use super::relation::{self, Alternatives, Relation};
use super::stanza::Stanza;
use super::version::Version;
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::store::Digest;

/// A binary package of the archive: one stanza of a `Packages` index (Debian Policy 5.3).
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Version,
    /// `amd64`, `arm64` or `all`.
    pub architecture: Box<str>,
    /// The path of the .deb below the mirror's base URL.
    pub filename: Box<str>,
    /// The size of the .deb in bytes.
    pub size: u64,
    /// The digest of the .deb.
    pub sha256: Digest,
    /// The source package that it was built from: its name.
    pub source: Box<str>,
    /// The source package's version, which differs from the package's own after a rebuild (`+b1`).
    pub source_version: Version,
    /// `required`, `important`, `standard`, `optional` or `extra`.
    pub priority: Box<str>,
    /// `Pre-Depends` and `Depends`.
    pub depends: Vec<Alternatives>,
    /// `Recommends`.
    pub recommends: Vec<Alternatives>,
    /// `Provides`: virtual packages, their versions with `=`.
    pub provides: Vec<Relation>,
    /// `Conflicts` and `Breaks`, which mean the same when nothing is ever upgraded.
    pub conflicts: Vec<Relation>,
    /// Which of the archive's suites it is from; decides which mirror is asked.
    pub(super) suite: usize,
}

impl Package {
    /// Reads a stanza. `suite` is the archive's number of the suite that it is from.
    pub(crate) fn parse(text: &str, arch: Arch, suite: usize) -> Result<Package> {
        let stanza = Stanza::new(text);
        let name = stanza.field("Package").unwrap_or("");
        let wrong = |what: &str| {
            Error::refused(format!("the archive's entry of the package \"{}\" {what}", name.escape_debug()))
        };
        if !relation::is_package_name(name) {
            return Err(wrong("has no proper name"));
        }
        let required = |field: &str| {
            stanza
                .field(field)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| wrong(&format!("lacks the field {field}")))
        };
        let version_of =
            |text: &str| Version::parse(text).map_err(|what| wrong(&format!("has a wrong version: {what}")));
        let relations = |field: &str| -> Result<Vec<Alternatives>> {
            relation::parse(stanza.field(field).unwrap_or(""), arch)
                .map_err(|what| wrong(&format!("has a wrong {field}: {what}")))
        };
        // In these fields nothing is an alternative.
        let flat = |field| -> Result<Vec<Relation>> { Ok(relations(field)?.into_iter().flatten().collect()) };
        let version = version_of(required("Version")?)?;
        // `Source: name` or `Source: name (version)`.
        let (source, source_version) =
            match stanza.field("Source").map(|text| text.split_once('(').unwrap_or((text, ""))) {
                Some((source, bracket)) => {
                    let inner = bracket.trim_end().trim_end_matches(')').trim();
                    (source.trim(), if inner.is_empty() { version.clone() } else { version_of(inner)? })
                }
                None => (name, version.clone()),
            };
        let filename = required("Filename")?.trim_start_matches("./");
        if filename.starts_with('/') || filename.split('/').any(|part| part == "..") {
            return Err(wrong("has a Filename that leaves the archive"));
        }
        let mut depends = relations("Pre-Depends")?;
        depends.extend(relations("Depends")?);
        let mut conflicts = flat("Conflicts")?;
        conflicts.extend(flat("Breaks")?);
        Ok(Package {
            name: name.into(),
            version,
            architecture: required("Architecture")?.into(),
            filename: filename.into(),
            size: required("Size")?.parse().map_err(|_| wrong("has a Size that is no number"))?,
            sha256: Digest::from_hex(required("SHA256")?).ok_or_else(|| wrong("has a SHA256 that is no digest"))?,
            source: source.into(),
            source_version,
            priority: stanza.field("Priority").unwrap_or("optional").into(),
            depends,
            recommends: relations("Recommends")?,
            provides: flat("Provides")?,
            conflicts,
            suite,
        })
    }

    /// Whether the package is, or provides, what a relation names.
    pub fn satisfies(&self, relation: &Relation) -> bool {
        (*self.name == *relation.name && relation.accepts(&self.version)) || self.provides(relation)
    }

    /// Whether the package provides what a relation names, under a name that need not be its own.
    pub fn provides(&self, relation: &Relation) -> bool {
        self.provides.iter().any(|provided| {
            *provided.name == *relation.name
                && relation.accepts_provided(provided.version.as_ref().map(|(_, version)| version))
        })
    }
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: nginx-light\nSource: nginx (1.22.1-9)\nVersion: 1.22.1-9+b1\nArchitecture: amd64\nDepends: libc6 (>= 2.34), iproute2\nPre-Depends: dpkg\nProvides: httpd, nginx (= 1.22.1-9)\nBreaks: nginx-common (<< 1)\nConflicts: x\nPriority: optional\nFilename: pool/main/n/nginx/a.deb\nSize: 17\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

    #[test]
    fn stanzas_are_read() {
        let package = Package::parse(TEXT, Arch::Amd64, 3).unwrap();
        assert_eq!((&*package.source, package.source_version.as_str()), ("nginx", "1.22.1-9"));
        assert_eq!((package.depends.len(), package.conflicts.len(), package.provides.len()), (3, 2, 2));
        let satisfies = |text: &str| package.satisfies(&relation::parse(text, Arch::Amd64).unwrap()[0][0]);
        assert!(satisfies("nginx-light (>= 1.22.1-9)") && satisfies("httpd") && satisfies("nginx (>= 1.22)"));
        assert!(!satisfies("httpd (>= 1)") && !satisfies("nginx (>> 1.22.1-9)") && !satisfies("dpkg"));
    }

    #[test]
    fn wrong_stanzas_are_refused() {
        for (from, to, expected) in [
            ("Version: 1.22.1-9+b1", "Version: -", "wrong version"),
            ("Filename: pool", "Filename: ../pool", "leaves the archive"),
            ("Size: 17", "Size: -1", "no number"),
            ("SHA256: e3", "SHA256: e", "no digest"),
            ("iproute2", "iproute2 (2)", "wrong Depends"),
            ("Package: nginx-light", "Package: ../x", "no proper name"),
            ("Architecture: amd64\n", "", "lacks the field Architecture"),
        ] {
            let error = Package::parse(&TEXT.replace(from, to), Arch::Amd64, 0).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
