//! A suite of the archive with its updates, opened: packages are looked up, resolved and fetched.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::deb_file::{self, Control};
use super::fetch::{self, Fetch};
use super::opening::{Opening, Sources, Suite, suites_of};
use super::package::Package;
use super::resolve::{self, ResolveOptions, Universe};
use crate::arch::Arch;
use crate::error::{Error, Exit, IoContext, Result};
use crate::store::{Digest, Layer, Store};
use crate::ui::Ui;

/// From a .deb's digest to the layer made from it.
const LAYER_KIND: &str = "deb-layer-1";

/// Packages fetched and inflated at a time. With 2, the 89 packages of a database and a web server (92 MB) take 50 MiB
/// at most; with 3 they took 62 MiB and no less time on two cores.
const PARALLEL: usize = 2;

/// What is wanted of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `bookworm`, `trixie`, `bookworm-backports`, `sid`, ... Updates and security updates of the release come with
    /// it, and the release itself with its backports.
    pub suite: String,
    /// `main` and others; `main` is always in.
    pub areas: Vec<String>,
    /// The architecture of the packages.
    pub arch: Arch,
}

/// Suites of the archive for one architecture, opened.
pub struct Archive<'a> {
    store: Store,
    fetch: &'a dyn Fetch,
    ui: Ui,
    wanted: Wanted,
    suites: Vec<Suite>,
}

impl std::fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("wanted", &self.wanted).field("suites", &self.suites).finish_non_exhaustive()
    }
}

impl<'a> Archive<'a> {
    /// Opens what is wanted: gets and checks `InRelease` and the lists of packages of every suite, those that changed.
    pub fn open(
        store: &Store,
        fetch: &'a dyn Fetch,
        ui: &Ui,
        sources: &Sources,
        wanted: &Wanted,
    ) -> Result<Archive<'a>> {
        let opening = Opening { store, fetch, ui, sources, wanted };
        let names = suites_of(&wanted.suite);
        let opened: Vec<Result<Option<Suite>>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                names.iter().map(|(name, needed)| scope.spawn(|| opening.suite(name, *needed))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let opened = opened.into_iter().collect::<Result<Vec<_>>>();
        let opened =
            opened.map_err(|error| error.context(format!("opening the Debian archive for {}", wanted.suite)))?;
        for (suite, (name, _)) in opened.iter().zip(&names) {
            if suite.is_none() {
                opening.tell_of_missing(name);
            }
        }
        let suites = opened.into_iter().flatten().collect();
        Ok(Archive { store: store.clone(), fetch, ui: ui.clone(), wanted: wanted.clone(), suites })
    }

    /// Every package needed for `requests` (`name` or `name=version`), sorted by name.
    pub fn resolve(&self, requests: &[String], options: &ResolveOptions) -> Result<Vec<Package>> {
        let packages = resolve::resolve(self, requests, options)?;
        Ok(packages.into_iter().map(Arc::unwrap_or_clone).collect())
    }

    /// Refuses a request (`name` or `name=version`) that names nothing of the archive, with what is like it.
    pub fn check(&self, request: &str) -> Result<()> {
        resolve::check(self, request)
    }

    /// The package of this name and version whose file has this digest, if the archive still has it.
    pub fn exact(&self, name: &str, version: &str, sha256: &Digest) -> Result<Option<Package>> {
        let is = |package: &Arc<Package>| package.version.as_str() == version && package.sha256 == *sha256;
        Ok(self.named(name)?.into_iter().find(is).map(Arc::unwrap_or_clone))
    }

    /// The highest version of a package, if the archive has one.
    pub fn package(&self, name: &str) -> Result<Option<Package>> {
        let newest =
            self.named(name)?.into_iter().reduce(|best, next| if next.version > best.version { next } else { best });
        Ok(newest.map(Arc::unwrap_or_clone))
    }

    /// The suites that were opened: name and base URL. Optional ones (`-updates`, `-security`) may be missing.
    pub fn suites(&self) -> impl Iterator<Item = (&str, &str)> {
        self.suites.iter().map(|suite| (suite.name.as_str(), suite.base.as_str()))
    }

    /// The files of a package as a layer: from the store, else fetched, checked and inflated. The .deb is not kept.
    pub fn fetch(&self, package: &Package) -> Result<Layer> {
        if let Some(layer) = self.stored(package) {
            return Ok(layer);
        }
        let suite = self
            .suites
            .get(package.suite)
            .ok_or_else(|| Error::failed(format!("{package} is from another archive than the one that was opened")))?;
        let url = format!("{}/{}", suite.base, package.filename);
        let task = self.ui.task("fetch", package.to_string(), Some(package.size));
        let fetched = fetch::file(self.fetch, &url, &self.store, &package.sha256, package.size, &task);
        let file = fetched.map_err(|error| {
            let hint = error.hint_text().map(str::to_string);
            let error = error.context(format!("fetching the Debian package {package}"));
            match (hint, error.exit()) {
                (Some(hint), _) => error.hint(hint),
                (None, Exit::Network) => {
                    error.hint("an update may have replaced it on the mirror a moment ago: try again in ten minutes")
                }
                _ => error,
            }
        })?;
        let read = deb_file::read(&self.store, file).map_err(|error| error.context(fetch::shown(&url)))?;
        let (control, pending) = read;
        let said = (control.package.as_str(), control.version.as_str(), control.architecture.as_str());
        if said != (&package.name, package.version.as_str(), &package.architecture) {
            return Err(Error::refused(format!(
                "{} is {} {} for {}, but the archive's index says {package} for {}",
                fetch::shown(&url),
                said.0,
                said.1,
                said.2,
                package.architecture
            )));
        }
        let layer = pending.commit(None)?;
        let record = serde_json::to_vec(&StoredLayer { control, diff_id: layer.diff_id })
            .map_err(|error| Error::failed(format!("recording {package}: {error}")))?;
        let file = self.store.temporary_file()?;
        std::fs::write(file.path(), record).at("writing", file.path())?;
        self.store.put_derived(LAYER_KIND, &package.sha256, file)?;
        Ok(layer)
    }

    /// The layers of several packages in their order, a few fetched at a time.
    pub fn fetch_all(&self, packages: &[Package]) -> Result<Vec<Layer>> {
        let next = AtomicUsize::new(0);
        let layers: Mutex<Vec<Option<Result<Layer>>>> = Mutex::new(packages.iter().map(|_| None).collect());
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(packages.len()) {
                scope.spawn(|| {
                    while let Some((at, package)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, packages.get(at)?)))
                    {
                        let layer = self.fetch(package);
                        if layer.is_err() {
                            next.store(packages.len(), Ordering::Relaxed);
                        }
                        if let Some(slot) = layers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
                            *slot = Some(layer);
                        }
                    }
                });
            }
        });
        let slots = layers.into_inner().unwrap_or_else(PoisonError::into_inner);
        // After a failure the rest was not begun; the failure itself is among what was.
        slots.into_iter().flatten().collect()
    }

    /// The layer of a package that was inflated before.
    fn stored(&self, package: &Package) -> Option<Layer> {
        let record = std::fs::read(self.store.derived(LAYER_KIND, &package.sha256)?).ok()?;
        let record: StoredLayer = serde_json::from_slice(&record).ok()?;
        self.store.inflated(&record.diff_id)
    }

    fn parse(&self, suite: usize, stanzas: Vec<String>) -> Result<impl Iterator<Item = Arc<Package>>> {
        let parsed: Result<Vec<_>> =
            stanzas.iter().map(|text| Package::parse(text, self.wanted.arch, suite).map(Arc::new)).collect();
        let arch = self.wanted.arch.name();
        Ok(parsed?
            .into_iter()
            .filter(move |package| matches!(&*package.architecture, "all") || *package.architecture == *arch))
    }
}

impl Universe for Archive<'_> {
    fn named(&self, name: &str) -> Result<Vec<Arc<Package>>> {
        let mut found = Vec::new();
        for (at, suite) in self.suites.iter().enumerate() {
            for list in &suite.lists {
                found.extend(self.parse(at, list.named(name)?)?);
            }
        }
        Ok(found)
    }

    fn providing(&self, name: &str) -> Result<Vec<Arc<Package>>> {
        let mut found = Vec::new();
        for (at, suite) in self.suites.iter().enumerate() {
            for list in &suite.lists {
                let stanzas = self.parse(at, list.providing(name)?)?;
                found.extend(stanzas.filter(|package| package.provides.iter().any(|provided| *provided.name == *name)));
            }
        }
        Ok(found)
    }

    fn similar(&self, name: &str) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for list in self.suites.iter().flat_map(|suite| &suite.lists) {
            names.extend(list.names()?);
        }
        Ok(resolve::similar(name, names.iter().map(String::as_str)))
    }

    fn describe(&self) -> String {
        let mut areas = vec!["main"];
        areas.extend(self.wanted.areas.iter().map(String::as_str).filter(|area| *area != "main"));
        format!("{} ({}) for {}", self.wanted.suite, areas.join(", "), self.wanted.arch)
    }
}

/// What is kept of a .deb beside its layer.
#[derive(Serialize, Deserialize)]
struct StoredLayer {
    #[serde(flatten)]
    control: Control,
    diff_id: Digest,
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
