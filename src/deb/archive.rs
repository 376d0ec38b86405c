//! A suite of the archive with its updates, opened: packages are looked up, resolved and fetched.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::deb_file::{self, Control};
use super::fetch::{self, Answer, Fetch, Validators};
use super::mirror::{MIRROR_VARIABLE, Mirror, Mirrors};
use super::package::Package;
use super::packages::PackageList;
use super::release::Release;
use super::resolve::{self, ResolveOptions, Universe};
use super::signature::Keyring;
use crate::arch::Arch;
use crate::error::{Error, Exit, IoContext, Result};
use crate::store::{Digest, Hasher, Layer, Store};
use crate::ui::Ui;

/// Set to `no`, it lets Release files be used whose `Valid-Until` has passed: for archives frozen on purpose.
pub const VALID_UNTIL_VARIABLE: &str = "MOBY_DEB_CHECK_VALID_UNTIL";

/// The last `InRelease` of a suite, as fetched. The one kind here that is not made from what its key names, but a
/// record of the last answer: the signature is checked anew at each use.
const RELEASE_KIND: &str = "deb-release-1";

/// From a .deb's digest to the layer made from it.
const LAYER_KIND: &str = "deb-layer-1";

/// Debian's largest `InRelease`, that of sid, has 250 KiB.
const RELEASE_LIMIT: u64 = 8 << 20;

/// Packages fetched and inflated at a time. With 2, the 89 packages of a database and a web server (92 MB) take 50 MiB
/// at most; with 3 they took 62 MiB and no less time on two cores.
const PARALLEL: usize = 2;

/// When the mirror is asked whether a cached `InRelease` is still the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// If the last answer is older than this.
    Within(Duration),
    /// Never, if there is a cached one at all.
    Offline,
}

impl Default for Freshness {
    /// Ten minutes: the components of one build see one state of the archive and cost one request, and a package that
    /// an update removes from the mirror is not looked for much longer.
    fn default() -> Freshness {
        Freshness::Within(Duration::from_secs(600))
    }
}

/// What is wanted of the archive.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `bookworm`, `trixie`, `bookworm-backports`, `sid`, ... Updates and security updates of the release come with
    /// it, and the release itself with its backports.
    pub suite: String,
    /// `main` and others; `main` is always in.
    pub areas: Vec<String>,
    /// The architecture of the packages.
    pub arch: Arch,
}

/// Where the archive is and whom to believe.
#[derive(Debug)]
pub struct Sources {
    /// The mirrors.
    pub mirrors: Mirrors,
    /// The keys that may sign.
    pub keyring: Keyring,
    /// The time that dates are checked against.
    pub now: SystemTime,
    /// Whether mirrors are asked for news.
    pub freshness: Freshness,
    /// Whether `Valid-Until` is checked.
    pub check_valid_until: bool,
}

impl Sources {
    /// What this machine's environment, apt sources and keyring say.
    pub fn of_machine() -> Result<Sources> {
        let check = std::env::var(VALID_UNTIL_VARIABLE).unwrap_or_default();
        Ok(Sources {
            mirrors: Mirrors::of_machine()?,
            keyring: Keyring::of_machine()?,
            now: SystemTime::now(),
            freshness: Freshness::default(),
            check_valid_until: !matches!(check.as_str(), "no" | "false" | "0"),
        })
    }
}

/// Suites of the archive for one architecture, opened.
pub struct Archive<'a> {
    store: Store,
    fetch: &'a dyn Fetch,
    ui: Ui,
    wanted: Wanted,
    suites: Vec<Suite>,
}

/// One suite.
#[derive(Debug)]
struct Suite {
    name: String,
    base: String,
    lists: Vec<PackageList>,
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
        let mut suites = Vec::new();
        for suite in opened {
            suites.extend(
                suite.map_err(|error| error.context(format!("opening the Debian archive for {}", wanted.suite)))?,
            );
        }
        Ok(Archive { store: store.clone(), fetch, ui: ui.clone(), wanted: wanted.clone(), suites })
    }

    /// Every package needed for `requests` (`name` or `name=version`), sorted by name.
    pub fn resolve(&self, requests: &[String], options: &ResolveOptions) -> Result<Vec<Package>> {
        let packages = resolve::resolve(self, requests, options)?;
        Ok(packages.into_iter().map(Arc::unwrap_or_clone).collect())
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

/// The suites that belong to the one asked for, and which of them must be there. Of backports the release comes
/// along; sid and experimental have no updates.
fn suites_of(suite: &str) -> Vec<(String, bool)> {
    match suite {
        "sid" | "unstable" => return vec![(suite.to_string(), true)],
        "experimental" | "rc-buggy" => return vec![("sid".to_string(), true), (suite.to_string(), true)],
        _ => {}
    }
    const POCKETS: [&str; 5] = ["-backports-sloppy", "-backports", "-proposed-updates", "-updates", "-security"];
    let base = POCKETS.iter().find_map(|pocket| suite.strip_suffix(pocket)).unwrap_or(suite);
    let mut suites = vec![(base.to_string(), true)];
    suites.extend(["-updates", "-security"].map(|pocket| (format!("{base}{pocket}"), false)));
    match suites.iter_mut().find(|(name, _)| name == suite) {
        Some((_, needed)) => *needed = true,
        None => suites.push((suite.to_string(), true)),
    }
    suites
}

/// What opening a suite needs at hand.
struct Opening<'a> {
    store: &'a Store,
    fetch: &'a dyn Fetch,
    ui: &'a Ui,
    sources: &'a Sources,
    wanted: &'a Wanted,
}

/// A cached answer.
#[derive(Default)]
struct Cached {
    validators: Validators,
    /// The file; empty if there was none.
    message: Vec<u8>,
    /// Whether it is recent enough to be used without asking.
    fresh: bool,
}

impl Opening<'_> {
    /// Opens one suite. `None` if no mirror has it and it is not `needed`.
    fn suite(&self, name: &str, needed: bool) -> Result<Option<Suite>> {
        let mirrors = self.sources.mirrors.for_suite(name);
        let mut failure = None;
        for mirror in &mirrors {
            let release = match self.release(mirror, name) {
                Ok(Some(release)) => release,
                Ok(None) => continue,
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            };
            // "Debian" and "Debian Backports".
            if self.sources.mirrors.from_apt && !release.origin.starts_with("Debian") {
                self.ui.note(format!(
                    "{} has a suite {name} that is not Debian's but {}'s: passed over",
                    fetch::shown(&mirror.base),
                    release.origin.escape_debug()
                ));
                continue;
            }
            return self.lists(mirror, name, needed, &release).map(Some);
        }
        match (failure, needed) {
            (Some(error), _) => Err(error),
            (None, false) => {
                let text = format!("no mirror has the suite {name}: packages are taken without it");
                // Security updates live in an archive of their own, which is easily forgotten.
                if name.ends_with("-security") {
                    self.ui.warn(format!(
                        "{text}; add the base URL of its archive to {MIRROR_VARIABLE} or to apt's sources"
                    ));
                } else {
                    self.ui.note(text);
                }
                Ok(None)
            }
            (None, true) => {
                let asked: Vec<String> = mirrors.iter().map(|mirror| fetch::shown(&mirror.base)).collect();
                let asked = if asked.is_empty() {
                    "no mirror could have it".to_string()
                } else {
                    format!("asked: {}", asked.join(", "))
                };
                Err(Error::usage(format!(
                    "no mirror has the suite \"{name}\" ({asked}; mirrors are from {})",
                    self.sources.mirrors.looked_at
                ))
                .hint("suites are bookworm, trixie, bookworm-backports, sid and the like"))
            }
        }
    }

    /// The checked Release file of a suite; `None` if the mirror does not have the suite.
    fn release(&self, mirror: &Mirror, suite: &str) -> Result<Option<Release>> {
        let url = format!("{}/dists/{suite}/InRelease", mirror.base);
        let place = fetch::shown(&url);
        let check = |message: &[u8]| -> Result<Release> {
            let text = self.sources.keyring.verify(message, &place, self.sources.now)?;
            let release = Release::parse(&text, &place)?;
            let valid = mirror.check_valid_until && self.sources.check_valid_until;
            release.check(suite, &place, self.sources.now, valid)?;
            Ok(release)
        };
        let key = {
            let mut hasher = Hasher::new();
            hasher.field(mirror.base.as_bytes());
            hasher.field(suite.as_bytes());
            hasher.finish()
        };
        let cached = self.cached(&key);
        let offline = self.sources.freshness == Freshness::Offline;
        let usable = cached.as_ref().is_some_and(|cached| cached.fresh || offline);
        // A cached one that is not good any more is no reason to stop: a new one is fetched. An empty one says that
        // the mirror did not have the suite.
        let known = cached.and_then(|cached| match cached.message.is_empty() {
            true => Some((None, cached)),
            false => check(&cached.message).ok().map(|release| (Some(release), cached)),
        });
        let (known, cached) = match known {
            Some((release, _)) if usable => return Ok(release),
            Some((release, cached)) => (Some(release), cached),
            None => (None, Cached::default()),
        };
        if offline && !mirror.base.starts_with("file:") {
            return Err(Error::network(format!("{place} is not in the store, and offline it cannot be fetched")));
        }
        match (fetch::document(self.fetch, &url, RELEASE_LIMIT, &cached.validators), known) {
            (Ok(Answer::Found(message, validators)), known) => {
                let release = check(&message)?;
                match known.flatten() {
                    Some(known) if known.date > release.date => {
                        self.ui.warn(format!("{place} is older than the one fetched before, which is used instead"));
                        Ok(Some(known))
                    }
                    _ => {
                        self.keep(&key, &validators, &message)?;
                        Ok(Some(release))
                    }
                }
            }
            (Ok(Answer::NotModified), Some(Some(release))) => {
                self.keep(&key, &cached.validators, &cached.message)?;
                Ok(Some(release))
            }
            (Ok(Answer::NotModified), _) => {
                Err(Error::network(format!("{place}: the server answered 304 without being asked")))
            }
            (Ok(Answer::Absent), _) => {
                self.keep(&key, &Validators::default(), &[])?;
                Ok(None)
            }
            (Err(error), Some(known)) if error.exit() == Exit::Network => {
                self.ui.warn(format!("{error}; what was fetched before is used"));
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn cached(&self, key: &Digest) -> Option<Cached> {
        let path = self.store.derived(RELEASE_KIND, key)?;
        let bytes = std::fs::read(&path).ok()?;
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let validators = serde_json::from_slice(&bytes[..end]).ok()?;
        let asked = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
        // A time in the future, after a change of the clock, is no sign of freshness.
        let age = self.sources.now.duration_since(asked).ok();
        let fresh = matches!((self.sources.freshness, age), (Freshness::Within(limit), Some(age)) if age < limit);
        Some(Cached { validators, message: bytes[end + 1..].to_vec(), fresh })
    }

    fn keep(&self, key: &Digest, validators: &Validators, message: &[u8]) -> Result<()> {
        let mut bytes =
            serde_json::to_vec(validators).map_err(|error| Error::failed(format!("recording an answer: {error}")))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(message);
        let file = self.store.temporary_file()?;
        std::fs::write(file.path(), bytes).at("writing", file.path())?;
        self.store.put_derived(RELEASE_KIND, key, file).map(drop)
    }

    /// Opens the lists of packages of a suite, fetching those that are not in the store.
    fn lists(&self, mirror: &Mirror, name: &str, needed: bool, release: &Release) -> Result<Suite> {
        let mut areas = BTreeSet::from(["main"]);
        areas.extend(self.wanted.areas.iter().map(String::as_str));
        let mut suite = Suite { name: name.to_string(), base: mirror.base.clone(), lists: Vec::new() };
        let arch = self.wanted.arch.name();
        if needed && !release.architectures.iter().any(|known| known == arch) {
            return Err(Error::usage(format!("the suite \"{name}\" has no packages for {arch}"))
                .hint(format!("it has {}", release.architectures.join(", "))));
        }
        for area in areas {
            if !release.components.iter().any(|known| known == area) {
                if !needed {
                    continue;
                }
                return Err(Error::usage(format!("the suite \"{name}\" has no area \"{}\"", area.escape_debug()))
                    .hint(format!("it has {}", release.components.join(", "))));
            }
            let architectures = [Some(arch), release.separate_all.then_some("all")];
            for architecture in architectures.into_iter().flatten() {
                let Some(index) = release.packages_index(area, architecture) else { continue };
                if let Some(list) = PackageList::open(self.store, &index.plain) {
                    suite.lists.push(list);
                    continue;
                }
                let url = format!("{}/dists/{name}/{}", mirror.base, index.path);
                let task =
                    self.ui.task("fetch", format!("packages of {name} {area} {architecture}"), Some(index.file.size));
                let file = fetch::file(self.fetch, &url, self.store, &index.file.digest, index.file.size, &task)?;
                suite.lists.push(PackageList::build(self.store, file, &index.plain, &fetch::shown(&url))?);
            }
        }
        Ok(suite)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
