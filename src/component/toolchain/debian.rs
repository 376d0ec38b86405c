//! Debian's archive as where toolchains come from.

use super::{Facts, Packages};
use crate::Arch;
use crate::deb;
use crate::error::{Error, Result};
use crate::store::Layer;

/// One suite of the archive, opened once for every architecture that takes part: the machine's and the target's.
#[derive(Debug)]
pub struct Debian<'a> {
    archives: Vec<(Arch, deb::Archive<'a>)>,
}

impl<'a> Debian<'a> {
    /// Takes opened archives. All should be of the same suite: compiler and standard libraries must fit.
    pub fn new(archives: Vec<(Arch, deb::Archive<'a>)>) -> Debian<'a> {
        Debian { archives }
    }

    fn archive(&self, arch: Arch) -> Result<&deb::Archive<'a>> {
        let found = self.archives.iter().find(|(one, _)| *one == arch).map(|(_, archive)| archive);
        found.ok_or_else(|| Error::failed(format!("the package archive was not opened for {arch}")))
    }
}

impl Packages for Debian<'_> {
    fn find(&self, arch: Arch, name: &str) -> Result<Option<Facts>> {
        Ok(self.archive(arch)?.package(name)?.map(|package| Facts {
            name: package.name.to_string(),
            arch,
            version: package.version.to_string(),
            depends: package
                .depends
                .iter()
                .map(|alternatives| alternatives.iter().map(|relation| relation.name.to_string()).collect())
                .collect(),
            sha256: package.sha256,
        }))
    }

    fn fetch(&self, wanted: &[Facts]) -> Result<Vec<Layer>> {
        let mut layers: Vec<Option<Layer>> = vec![None; wanted.len()];
        for (arch, archive) in &self.archives {
            let (mut places, mut packages) = (Vec::new(), Vec::new());
            for (at, facts) in wanted.iter().enumerate().filter(|(_, facts)| facts.arch == *arch) {
                let package = archive.package(&facts.name)?.filter(|package| package.sha256 == facts.sha256);
                packages.push(package.ok_or_else(|| {
                    Error::failed(format!("the archive has no {} {} for {arch} any more", facts.name, facts.version))
                })?);
                places.push(at);
            }
            for (at, layer) in places.into_iter().zip(archive.fetch_all(&packages)?) {
                if let Some(place) = layers.get_mut(at) {
                    *place = Some(layer);
                }
            }
        }
        let complete: Option<Vec<Layer>> = layers.into_iter().collect();
        complete.ok_or_else(|| Error::failed("the package archive was not opened for every architecture asked for"))
    }
}
