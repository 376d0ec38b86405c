//! Opening one suite: its `InRelease`, from the mirror or from the last time, and its lists of packages.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::Wanted;
use super::fetch::{self, Answer, Fetch, Validators};
use super::mirror::{MIRROR_VARIABLE, Mirror, Mirrors};
use super::packages::PackageList;
use super::release::Release;
use super::signature::Keyring;
use crate::error::{Error, Exit, IoContext, Result};
use crate::store::{Digest, Hasher, Store};
use crate::ui::Ui;

/// Set to `no`, it lets Release files be used whose `Valid-Until` has passed: for archives frozen on purpose.
pub const VALID_UNTIL_VARIABLE: &str = "MOBY_DEB_CHECK_VALID_UNTIL";

/// The last `InRelease` of a suite, as fetched. The one kind here that is not made from what its key names, but a
/// record of the last answer: the signature is checked anew at each use.
const RELEASE_KIND: &str = "deb-release-1";

/// Debian's largest `InRelease`, that of sid, has 250 KiB.
const RELEASE_LIMIT: u64 = 8 << 20;

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

/// One suite.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) base: String,
    pub(super) lists: Vec<PackageList>,
}

/// The suites that belong to the one asked for, and which of them must be there. Of backports the release comes
/// along; sid and experimental have no updates.
pub(super) fn suites_of(suite: &str) -> Vec<(String, bool)> {
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
pub(super) struct Opening<'a> {
    pub(super) store: &'a Store,
    pub(super) fetch: &'a dyn Fetch,
    pub(super) ui: &'a Ui,
    pub(super) sources: &'a Sources,
    pub(super) wanted: &'a Wanted,
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
    /// Says that a suite that would belong to the one asked for is nowhere.
    pub(super) fn tell_of_missing(&self, name: &str) {
        let text = format!("no mirror has the suite {name}: packages are taken without it");
        // Security updates live in an archive of their own, which is easily forgotten.
        if name.ends_with("-security") {
            self.ui.warn(format!("{text}; add the base URL of its archive to {MIRROR_VARIABLE} or to apt's sources"));
        } else {
            self.ui.note(text);
        }
    }

    /// Opens one suite. `None` if no mirror has it and it is not `needed`.
    pub(super) fn suite(&self, name: &str, needed: bool) -> Result<Option<Suite>> {
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
            (None, false) => Ok(None),
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
            return Err(Error::network(format!("{place} is not in the store, and --offline forbids the network"))
                .hint("do the same once without --offline; what comes stays in the store"));
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
