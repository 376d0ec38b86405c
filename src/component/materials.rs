//! What components are made of, beside their own files: Debian's archive and the compiler. Each is opened once.

use std::sync::{Arc, Mutex, PoisonError};

use super::recipe::Recipe;
use super::toolchain::{Debian, Toolchain, for_target};
use crate::Arch;
use crate::deb::{Archive, Freshness, Sources, Wanted};
use crate::error::Result;
use crate::net::Net;
use crate::store::Store;
use crate::ui::Ui;

/// The suite that a toolchain for another architecture comes from. A newer one needs a newer C library than some
/// machines that this program runs on have.
const TOOLCHAIN_SUITE: &str = "bookworm";

/// Archives and toolchains, opened when they are first asked for.
pub(super) struct Source<'a> {
    store: &'a Store,
    net: &'a Net,
    ui: &'a Ui,
    archives: Mutex<Vec<(Wanted, Arc<Archive<'a>>)>>,
    toolchains: Mutex<Vec<Toolchain>>,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(store: &'a Store, net: &'a Net, ui: &'a Ui) -> Source<'a> {
        Source { store, net, ui, archives: Mutex::default(), toolchains: Mutex::default() }
    }

    /// The archive that a recipe's packages come from.
    pub(super) fn archive(&self, recipe: &Recipe, arch: Arch) -> Result<Arc<Archive<'a>>> {
        let wanted = Wanted { suite: recipe.suite.clone(), areas: recipe.areas.clone(), arch };
        // Held while it is opened, so that two components do not fetch the same lists.
        let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, archive)) = archives.iter().find(|(known, _)| *known == wanted) {
            return Ok(archive.clone());
        }
        let archive = Arc::new(self.open(&wanted)?);
        archives.push((wanted, archive.clone()));
        Ok(archive)
    }

    fn open(&self, wanted: &Wanted) -> Result<Archive<'a>> {
        let mut sources = Sources::of_machine()?;
        if self.net.options().offline {
            sources.freshness = Freshness::Offline;
        }
        Archive::open(self.store, self.net, self.ui, &sources, wanted)
    }

    /// The compiler for an architecture.
    pub(super) fn toolchain(&self, arch: Arch) -> Result<Toolchain> {
        let mut toolchains = self.toolchains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = toolchains.iter().find(|toolchain| toolchain.target == arch) {
            return Ok(known.clone());
        }
        let toolchain = for_target(arch, self.store, self.ui, |arches| {
            let open = |arch| {
                let wanted = Wanted { suite: TOOLCHAIN_SUITE.to_owned(), areas: Vec::new(), arch };
                Ok((arch, self.open(&wanted)?))
            };
            Ok(Debian::new(arches.into_iter().map(open).collect::<Result<_>>()?))
        })?;
        toolchains.push(toolchain.clone());
        Ok(toolchain)
    }
}
