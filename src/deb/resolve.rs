//! Which packages are needed for a few: the closure over `Pre-Depends` and `Depends`, on request `Recommends`.
//!
//! Nothing counts as installed, and essential packages are taken only if something depends on them by name. Every
//! choice has a fixed order, so the result depends on the archive and the request alone:
//! needs that one package name can fill are filled first, then those with alternatives; what is chosen already is
//! preferred, then alternatives in their order, real packages before providers, higher versions before lower ones,
//! providers by priority and name. A choice that leads to a conflict or a dead end is taken back and the next one is
//! tried. Within one suite that hardly ever happens; a SAT solver (resolvo) finds the same and needs an adapter of
//! twice this size.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::package::Package;
use super::relation::{Alternatives, Operator, Relation, ShowAlternatives, is_package_name};
use super::version::Version;
use crate::error::{Error, Result};

/// Packages that count as there without being taken, since only maintainer scripts, which are never run, use them:
/// questions at installation, service links, accounts, merged configuration files, kernels' hooks. They and what they
/// need in turn (perl, tar, diversions) would be half of a small image. A recipe that names one gets it all the same.
pub const WITHOUT: [&str; 16] = [
    "adduser",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "initramfs-tools",
    "install-info",
    "linux-base",
    "linux-initramfs-tool",
    "lsb-base",
    "passwd",
    "systemd-sysusers",
    "ucf",
    "update-inetd",
    "xml-core",
];

/// Tries before it is given up. Debian's largest desktop needs 4,000 packages and next to no second try.
const TRIES: usize = 50_000;

/// What to take beside what was asked for.
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// Also what packages recommend, where it can be had.
    pub recommends: bool,
    /// Names of packages, real or virtual, that count as there without being taken; `None` for [`WITHOUT`].
    pub without: Option<Vec<String>>,
}

/// Where packages are looked up.
pub(super) trait Universe {
    /// The packages of this name.
    fn named(&self, name: &str) -> Result<Vec<Arc<Package>>>;
    /// The packages that provide this name.
    fn providing(&self, name: &str) -> Result<Vec<Arc<Package>>>;
    /// Names like this one, for a message.
    fn similar(&self, name: &str) -> Result<Vec<String>>;
    /// What is being looked through, for a message: `bookworm (main) for amd64`.
    fn describe(&self) -> String;
}

/// The packages needed for `requests` (`name` or `name=version`), sorted by name.
pub(super) fn resolve(
    universe: &dyn Universe,
    requests: &[String],
    options: &ResolveOptions,
) -> Result<Vec<Arc<Package>>> {
    let mut resolver =
        Resolver { universe, recommends: options.recommends, without: BTreeSet::new(), known: HashMap::new() };
    let mut needs = Vec::new();
    for request in requests {
        needs.push(resolver.request(request)?);
    }
    let asked: BTreeSet<&str> = needs.iter().flat_map(|need| need.alternatives.iter()).map(|r| &*r.name).collect();
    resolver.without = match &options.without {
        Some(names) => names.iter().map(String::as_str).filter(|name| !asked.contains(name)).map(Box::from).collect(),
        None => WITHOUT.into_iter().filter(|name| !asked.contains(name)).map(Box::from).collect(),
    };
    resolver.search(needs)
}

/// Refuses a request (`name` or `name=version`) that names nothing of the archive.
pub(super) fn check(universe: &dyn Universe, request: &str) -> Result<()> {
    let mut resolver = Resolver { universe, recommends: false, without: BTreeSet::new(), known: HashMap::new() };
    resolver.request(request).map(drop)
}

/// Alternatives of which one is needed.
struct Need {
    alternatives: Alternatives,
    /// Every package that can fill it, best first.
    candidates: Arc<Vec<Arc<Package>>>,
    /// The package that needs them; none for what was asked for.
    by: Option<Box<str>>,
    /// Whether it may stay unfilled (`Recommends`).
    optional: bool,
}

impl Need {
    /// Whether a chosen package fills it.
    fn is_filled(&self, chosen: &BTreeMap<Box<str>, Chosen>) -> bool {
        let there = |package: &Package| chosen.get(&package.name).is_some_and(|c| c.package.version == package.version);
        self.candidates.iter().any(|package| there(package))
    }

    /// Whether packages of several names can fill it.
    fn has_alternatives(&self) -> bool {
        let mut names = self.candidates.iter().map(|package| &package.name);
        let first = names.next();
        !names.all(|name| Some(name) == first)
    }
}

/// A package that was chosen.
#[derive(Clone)]
struct Chosen {
    package: Arc<Package>,
    /// The package for which it was chosen.
    by: Option<Box<str>>,
}

/// What is chosen, and the needs that were not looked at yet.
#[derive(Clone, Default)]
struct State {
    chosen: BTreeMap<Box<str>, Chosen>,
    /// Needs of one package name.
    plain: VecDeque<Arc<Need>>,
    /// Needs with alternatives.
    choices: VecDeque<Arc<Need>>,
    /// Needs that may stay unfilled.
    optional: VecDeque<Arc<Need>>,
}

impl State {
    fn add(&mut self, need: Need) {
        let queue = match (need.optional, need.has_alternatives()) {
            (true, _) => &mut self.optional,
            (false, true) => &mut self.choices,
            (false, false) => &mut self.plain,
        };
        queue.push_back(Arc::new(need));
    }

    /// Takes out the next need that is not filled.
    fn next_need(&mut self) -> Option<Arc<Need>> {
        for queue in [&mut self.plain, &mut self.choices, &mut self.optional] {
            while let Some(need) = queue.pop_front() {
                if !need.is_filled(&self.chosen) {
                    return Some(need);
                }
            }
        }
        None
    }
}

/// A need that was filled in one of several ways, and how things stood before.
struct Decision {
    before: State,
    need: Arc<Need>,
    next: usize,
}

struct Resolver<'a> {
    universe: &'a dyn Universe,
    recommends: bool,
    without: BTreeSet<Box<str>>,
    /// Candidates by what is written in a relation.
    known: HashMap<String, Arc<Vec<Arc<Package>>>>,
}

impl Resolver<'_> {
    /// Turns one request into a need and refuses what the archive does not have.
    fn request(&mut self, request: &str) -> Result<Need> {
        let (name, version) = match request.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (request, None),
        };
        let wrong = |what: &str| Error::usage(format!("\"{}\" is no package: {what}", request.escape_debug()));
        if name.contains(':') {
            return Err(wrong("the architecture is the image's and is not written here"));
        }
        if !is_package_name(name) {
            return Err(wrong("write a Debian package's name, or name=version"));
        }
        let version = version.map(Version::parse).transpose().map_err(|what| wrong(&what))?;
        let relation = Relation { name: name.into(), version: version.map(|version| (Operator::Equal, version)) };
        let named = self.universe.named(name)?;
        let mut candidates: Vec<Arc<Package>> =
            named.iter().filter(|p| relation.accepts(&p.version)).cloned().collect();
        let place = self.universe.describe();
        if named.is_empty() {
            candidates = self.universe.providing(name)?;
            candidates.retain(|package| package.provides(&relation));
            sort_providers(&mut candidates);
            let names: BTreeSet<&str> = candidates.iter().map(|package| &*package.name).collect();
            if names.len() > 1 {
                let list = names.into_iter().collect::<Vec<_>>().join(", ");
                return Err(Error::usage(format!("\"{name}\" is a virtual package of {place}, provided by several"))
                    .hint(format!("name one of {list}")));
            }
        } else {
            sort_versions(&mut candidates);
        }
        if !candidates.is_empty() {
            return Ok(Need {
                alternatives: vec![relation],
                candidates: Arc::new(candidates),
                by: None,
                optional: false,
            });
        }
        if named.is_empty() {
            let error = Error::usage(format!("there is no package \"{name}\" in {place}"));
            let similar = self.universe.similar(name)?;
            return Err(match similar.is_empty() {
                true => error.hint("is it in another suite or area (contrib, non-free, non-free-firmware)?"),
                false => error.hint(format!("similar names are {}", similar.join(", "))),
            });
        }
        Err(Error::usage(format!("{place} has no \"{relation}\"")).hint(format!("it has {}", versions(&named))))
    }

    fn search(&mut self, needs: Vec<Need>) -> Result<Vec<Arc<Package>>> {
        let mut state = State::default();
        needs.into_iter().for_each(|need| state.add(need));
        let mut decisions: Vec<Decision> = Vec::new();
        let mut first_failure: Option<Error> = None;
        for _ in 0..TRIES {
            let failure = match state.next_need() {
                None => return Ok(state.chosen.into_values().map(|chosen| chosen.package).collect()),
                Some(need) if need.candidates.len() == 1 && !need.optional => self.take(&mut state, &need, 0)?,
                Some(need) => {
                    let before = state.clone();
                    decisions.push(Decision { before, need, next: 0 });
                    Some(Failure::TryNext)
                }
            };
            let Some(mut failure) = failure else { continue };
            // Takes back decisions until one has another way that holds.
            loop {
                if let Failure::Because(error) = failure {
                    first_failure.get_or_insert(error);
                }
                let Some(decision) = decisions.last_mut() else {
                    return Err(first_failure.unwrap_or_else(|| Error::failed("the packages cannot be resolved")));
                };
                let at = decision.next;
                decision.next += 1;
                state = decision.before.clone();
                let need = decision.need.clone();
                if at < need.candidates.len() {
                    match self.take(&mut state, &need, at)? {
                        None => break,
                        Some(next) => failure = next,
                    }
                } else {
                    decisions.pop();
                    if need.optional {
                        break;
                    }
                    failure = match need.candidates.is_empty() {
                        true => Failure::Because(self.unfillable(&state, &need)?),
                        false => Failure::TryNext,
                    };
                }
            }
        }
        let error = first_failure.unwrap_or_else(|| Error::failed("the packages cannot be resolved"));
        Err(error.context(format!("gave up after {TRIES} tries; the first that failed was")))
    }

    /// Chooses a candidate of a need.
    fn take(&mut self, state: &mut State, need: &Need, at: usize) -> Result<Option<Failure>> {
        let Some(package) = need.candidates.get(at) else {
            return Ok(Some(Failure::Because(self.unfillable(state, need)?)));
        };
        if let Some(other) = state.chosen.get(&package.name) {
            let error = Error::usage(format!(
                "{} is needed by {}, and {} by {}, but there can be only one",
                package,
                path(state, need.by.as_deref()),
                other.package,
                path(state, other.by.as_deref()),
            ));
            return Ok(Some(Failure::Because(error)));
        }
        for other in state.chosen.values() {
            for (from, to) in [(package, &other.package), (&other.package, package)] {
                if let Some(relation) = from.conflicts.iter().find(|relation| to.satisfies(relation)) {
                    let error = Error::usage(format!(
                        "{from} and {to} exclude each other ({from} conflicts with {relation}); {} is needed by {}, {} by {}",
                        package.name,
                        path(state, need.by.as_deref()),
                        other.package.name,
                        path(state, other.by.as_deref()),
                    ))
                    .hint("ask for one of them only, or name another package that can take the place of one");
                    return Ok(Some(Failure::Because(error)));
                }
            }
        }
        let package = package.clone();
        state.chosen.insert(package.name.clone(), Chosen { package: package.clone(), by: need.by.clone() });
        let recommends = if self.recommends { package.recommends.as_slice() } else { &[] };
        let all =
            package.depends.iter().map(|group| (group, false)).chain(recommends.iter().map(|group| (group, true)));
        for (group, optional) in all {
            if group.iter().any(|relation| self.without.contains(&relation.name)) {
                continue;
            }
            let candidates = self.candidates(group)?;
            let by = Some(package.name.clone());
            state.add(Need { alternatives: group.clone(), candidates, by, optional });
        }
        Ok(None)
    }

    /// Every package that can fill the alternatives, best first.
    fn candidates(&mut self, alternatives: &[Relation]) -> Result<Arc<Vec<Arc<Package>>>> {
        let key = ShowAlternatives(alternatives).to_string();
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let mut candidates: Vec<Arc<Package>> = Vec::new();
        for relation in alternatives {
            let mut named = self.universe.named(&relation.name)?;
            named.retain(|package| relation.accepts(&package.version));
            sort_versions(&mut named);
            let mut providers = self.universe.providing(&relation.name)?;
            providers.retain(|package| package.provides(relation));
            sort_providers(&mut providers);
            for package in named.into_iter().chain(providers) {
                if !candidates.iter().any(|known| known.name == package.name && known.version == package.version) {
                    candidates.push(package);
                }
            }
        }
        let candidates = Arc::new(candidates);
        self.known.insert(key, candidates.clone());
        Ok(candidates)
    }

    /// Why nothing can fill a need.
    fn unfillable(&self, state: &State, need: &Need) -> Result<Error> {
        let mut found = Vec::new();
        for relation in need.alternatives.iter() {
            let named = self.universe.named(&relation.name)?;
            found.push(match named.is_empty() {
                true => format!("there is no {}", relation.name),
                false => format!("of {} there is only {}", relation.name, versions(&named)),
            });
        }
        Ok(Error::usage(format!(
            "{} needs {}, which {} does not have: {}",
            path(state, need.by.as_deref()),
            ShowAlternatives(&need.alternatives),
            self.universe.describe(),
            found.join(", ")
        ))
        .hint("if it is not needed at run time, name it under `without`"))
    }
}

enum Failure {
    Because(Error),
    /// Not a failure of its own: the decision on top has to say how to go on.
    TryNext,
}

/// How it came that a package is needed: `redis-server -> redis-tools -> liblua5.1-0`.
fn path(state: &State, by: Option<&str>) -> String {
    let mut names = Vec::new();
    let mut at = by;
    while let Some(name) = at {
        names.push(name);
        at = state.chosen.get(name).and_then(|chosen| chosen.by.as_deref());
    }
    if names.is_empty() {
        return "the request".to_string();
    }
    names.reverse();
    names.join(" -> ")
}

fn versions(packages: &[Arc<Package>]) -> String {
    let mut packages = packages.to_vec();
    sort_versions(&mut packages);
    packages.iter().map(|package| package.version.as_str()).collect::<Vec<_>>().join(", ")
}

/// Highest first; of equal ones that of the first suite stays in front.
fn sort_versions(packages: &mut [Arc<Package>]) {
    packages.sort_by(|a, b| b.version.cmp(&a.version).then(a.suite.cmp(&b.suite)));
}

fn sort_providers(packages: &mut [Arc<Package>]) {
    let rank = |package: &Package| match &*package.priority {
        "required" => 0,
        "important" => 1,
        "standard" => 2,
        "optional" => 3,
        _ => 4,
    };
    packages.sort_by(|a, b| {
        let order = rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name));
        order.then_with(|| b.version.cmp(&a.version)).then(a.suite.cmp(&b.suite))
    });
}

/// Up to five names that somebody may have meant: one letter off, or with the word in them, shortest first.
pub(super) fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<&str> =
        names.filter(|name| one_letter_off(wanted, name) || (wanted.len() > 2 && name.contains(wanted))).collect();
    found.sort_by_key(|name| (!one_letter_off(wanted, name), !name.starts_with(wanted), name.len(), *name));
    found.dedup();
    found.into_iter().take(5).map(str::to_string).collect()
}

/// Whether one letter was added, left out, replaced, or swapped with its neighbour.
fn one_letter_off(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    match (&a[..a.len() - end], &b[..b.len() - end]) {
        (a, b) if a.len() <= 1 && b.len() <= 1 => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
