//! Where the Debian archive is: `MOBY_DEB_MIRROR`, else the machine's own apt sources. There is no default host.
//!
//! Sources of apt are read as sources.list(5) describes them: one-line (`*.list`) and deb822 (`*.sources`). Schemes
//! other than http, https, file and copy (`mirror+file:`, `cdrom:`, `tor+http:`) are passed over. Whether a
//! source is Debian's is told by its suites' names here and by what its signed Release file says later, never by its
//! host's name.

use std::path::{Path, PathBuf};

use super::stanza::{Stanza, stanzas};
use crate::error::{Error, IoContext, Result};

/// The environment variable that names mirrors, separated by spaces or commas.
pub const MIRROR_VARIABLE: &str = "MOBY_DEB_MIRROR";

/// Debian's code names since its archive has had `InRelease` files, and the names of its moving suites. A suite may
/// carry one of [`POCKETS`]. Only apt's sources are judged by this list: a recipe may ask for any suite.
const SUITES: [&str; 13] = [
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "experimental",
];

/// What may follow a suite's name.
const POCKETS: [&str; 6] = ["", "-updates", "-security", "-backports", "-backports-sloppy", "-proposed-updates"];

/// A sources file larger than this is no sources file.
const FILE_LIMIT: u64 = 1 << 20;

/// One base URL, the folder that has `dists` and `pool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Without a slash at its end.
    pub base: String,
    /// The suites that a source of apt names for it; empty for `MOBY_DEB_MIRROR`, which may have any.
    pub suites: Vec<String>,
    /// Whether a Release file whose `Valid-Until` has passed is refused; apt's `Check-Valid-Until`.
    pub check_valid_until: bool,
}

/// Every mirror known.
#[derive(Clone, Debug)]
pub struct Mirrors {
    /// In the order in which they are asked.
    pub list: Vec<Mirror>,
    /// Whether they come from apt's sources, among which may be others than Debian's.
    pub from_apt: bool,
    /// What was looked at, for messages.
    pub looked_at: String,
}

impl Mirrors {
    /// The mirrors of this machine: `MOBY_DEB_MIRROR`, else apt's sources in `/etc/apt`.
    pub fn of_machine() -> Result<Mirrors> {
        let named = std::env::var(MIRROR_VARIABLE).unwrap_or_default();
        Mirrors::find(&named, Path::new("/etc/apt"))
    }

    /// The mirrors in `named` (what `MOBY_DEB_MIRROR` holds), else those in the sources of the folder `apt`.
    pub fn find(named: &str, apt: &Path) -> Result<Mirrors> {
        let urls: Vec<&str> = named.split([' ', ',', '\t', '\n']).filter(|url| !url.is_empty()).collect();
        if !urls.is_empty() {
            let mut list = Vec::new();
            for url in urls {
                let base = usable(url).ok_or_else(|| {
                    Error::usage(format!("{MIRROR_VARIABLE} has \"{}\", which is no mirror's URL", url.escape_debug()))
                        .hint("a mirror is http://, https:// or file:/ and the path of the folder that has dists/ and pool/")
                })?;
                list.push(Mirror { base, suites: Vec::new(), check_valid_until: true });
            }
            return Ok(Mirrors { list, from_apt: false, looked_at: MIRROR_VARIABLE.to_string() });
        }
        let mut list = Vec::new();
        let files = source_files(apt)?;
        for file in &files {
            let size = file.metadata().at("reading", file)?.len();
            if size > FILE_LIMIT {
                return Err(Error::failed(format!("{} has {size} bytes, too many for apt's sources", file.display())));
            }
            let text = String::from_utf8_lossy(&std::fs::read(file).at("reading", file)?).into_owned();
            let found = if file.extension().is_some_and(|e| e == "sources") { deb822(&text) } else { one_line(&text) };
            for mirror in found {
                add(&mut list, mirror);
            }
        }
        let looked_at = match files.len() {
            0 => format!("{} (no sources there)", apt.display()),
            _ => files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        };
        if list.is_empty() {
            return Err(Error::usage(format!(
                "no Debian mirror is known: {MIRROR_VARIABLE} is not set, and {looked_at} names none"
            ))
            .hint(format!(
                "set {MIRROR_VARIABLE} to the URL of a Debian mirror (the folder that has dists/ and pool/), and after a space that of its security archive"
            )));
        }
        Ok(Mirrors { list, from_apt: true, looked_at })
    }

    /// The mirrors to ask for a suite, best first: those whose sources name it. If none does, all that could have it:
    /// every one for `MOBY_DEB_MIRROR`; for apt's sources those that have main suites, since a security archive has
    /// no others and the main archive no security suite.
    pub fn for_suite(&self, suite: &str) -> Vec<&Mirror> {
        let named: Vec<&Mirror> = self.list.iter().filter(|mirror| mirror.suites.iter().any(|s| s == suite)).collect();
        if !named.is_empty() {
            return named;
        }
        let security = |suite: &str| suite.ends_with("-security");
        let could = |mirror: &&Mirror| {
            mirror.suites.is_empty() || mirror.suites.iter().any(|known| security(known) == security(suite))
        };
        self.list.iter().filter(could).collect()
    }
}

/// Adds a mirror, joining it with one of the same URL.
fn add(list: &mut Vec<Mirror>, mirror: Mirror) {
    match list.iter_mut().find(|known| known.base == mirror.base) {
        Some(known) => {
            known.suites.extend(mirror.suites);
            known.check_valid_until &= mirror.check_valid_until;
        }
        None => list.push(mirror),
    }
}

/// The base URL in the form in which it is used, if its scheme can be used.
fn usable(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let rest = rest.trim_end_matches('/');
    match scheme {
        "http" | "https" if rest.strip_prefix("//").is_some_and(|host| !host.is_empty()) => {
            Some(format!("{scheme}:{rest}"))
        }
        "file" | "copy" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            path.starts_with('/').then(|| format!("file:{path}"))
        }
        _ => None,
    }
}

fn is_debian_suite(suite: &str) -> bool {
    SUITES.iter().any(|name| suite.strip_prefix(name).is_some_and(|pocket| POCKETS.contains(&pocket)))
}

/// `sources.list` and the files of `sources.list.d` in the order of their names, as apt reads them.
fn source_files(apt: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let parts = apt.join("sources.list.d");
    match std::fs::read_dir(&parts) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
        entries => {
            for entry in entries.at("reading", &parts)? {
                let path = entry.at("reading", &parts)?.path();
                if path.extension().is_some_and(|e| e == "list" || e == "sources") && path.is_file() {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    let main = apt.join("sources.list");
    if main.is_file() {
        files.insert(0, main);
    }
    Ok(files)
}

/// One-line sources: `deb [option=value ...] URL suite component...`.
fn one_line(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '['])) else { continue };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(url), Some(suite)) = (words.next(), words.next()) else { continue };
        let check = !options.split_whitespace().any(|option| {
            option.split_once('=').is_some_and(|(name, value)| name == "check-valid-until" && is_no(value))
        });
        mirrors.extend(debian_mirror(url, std::iter::once(suite), words, check));
    }
    mirrors
}

/// Sources in deb822 form.
fn deb822(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for text in stanzas(text) {
        let stanza = Stanza::new(&text);
        let words = |name: &str| stanza.field(name).unwrap_or("").split_whitespace();
        if !words("Types").any(|kind| kind == "deb") || stanza.field("Enabled").is_some_and(is_no) {
            continue;
        }
        let check = !stanza.field("Check-Valid-Until").is_some_and(is_no);
        for url in words("URIs") {
            mirrors.extend(debian_mirror(url, words("Suites"), words("Components"), check));
        }
    }
    mirrors
}

/// The mirror if it can be Debian's: a usable URL, suites of Debian's names, the component `main`.
fn debian_mirror<'a>(
    url: &str,
    suites: impl Iterator<Item = &'a str>,
    mut components: impl Iterator<Item = &'a str>,
    check_valid_until: bool,
) -> Option<Mirror> {
    let suites: Vec<String> = suites.filter(|suite| is_debian_suite(suite)).map(str::to_string).collect();
    if suites.is_empty() || !components.any(|component| component == "main") {
        return None;
    }
    Some(Mirror { base: usable(url)?, suites, check_valid_until })
}

/// How apt's options say no (apt.conf(5)).
fn is_no(value: &str) -> bool {
    ["no", "false", "without", "off", "disable", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apt(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn bases(mirrors: &[&Mirror]) -> Vec<String> {
        mirrors.iter().map(|mirror| mirror.base.clone()).collect()
    }

    #[test]
    fn both_forms_of_sources_are_read() {
        let folder = apt(&[
            (
                "sources.list",
                "# deb http://no/debian bookworm main\ndeb [arch=amd64 check-valid-until=no] http://one/debian/ bookworm main contrib # x\ndeb-src http://src/debian bookworm main\n",
            ),
            (
                "sources.list.d/b.sources",
                "Types: deb deb-src\n# note\nURIs: http://two/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\nURIs: https://sec/debian-security\nSuites: bookworm-security\nComponents: main\n\nTypes: deb\nEnabled: no\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\n",
            ),
            (
                "sources.list.d/a.list",
                "deb https://third/apt cloud-bookworm main\ndeb http://docker/linux bookworm stable\ndeb mirror+file:/etc/m bookworm main\ndeb file:///srv/debian trixie main\n",
            ),
            ("sources.list.d/c.list.disabled", "deb http://no/debian bookworm main\n"),
        ]);
        let mirrors = Mirrors::find(" ", folder.path()).unwrap();
        assert!(mirrors.from_apt);
        assert_eq!(
            bases(&mirrors.list.iter().collect::<Vec<_>>()),
            ["http://one/debian", "file:/srv/debian", "http://two/debian", "https://sec/debian-security"]
        );
        assert!(!mirrors.list[0].check_valid_until && mirrors.list[2].check_valid_until);
        assert_eq!(bases(&mirrors.for_suite("bookworm-updates")), ["http://two/debian"]);
        assert_eq!(bases(&mirrors.for_suite("trixie")), ["file:/srv/debian"]);
        assert_eq!(bases(&mirrors.for_suite("trixie-security")), ["https://sec/debian-security"]);
        assert_eq!(bases(&mirrors.for_suite("sid")).len(), 3);
    }

    #[test]
    fn the_variable_comes_first() {
        let mirrors = Mirrors::find("http://a/debian/, file:///srv/x https://b/s", Path::new("/nowhere")).unwrap();
        assert_eq!(bases(&mirrors.for_suite("trixie")), ["http://a/debian", "file:/srv/x", "https://b/s"]);
        assert!(Mirrors::find("a/debian", Path::new("/nowhere")).is_err());
        assert!(Mirrors::find("ftp://a/debian", Path::new("/nowhere")).is_err());
    }

    #[test]
    fn without_a_mirror_it_says_what_to_do() {
        let folder = apt(&[("sources.list.d/x.list", "deb http://third/apt nodistro main\n")]);
        let error = Mirrors::find("", folder.path()).unwrap_err();
        assert!(error.message().contains("x.list"), "{error}");
        assert!(error.hint_text().unwrap().contains(MIRROR_VARIABLE));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "((deb|URIs:|Suites:|Types:)?[ -~]{0,30}\n){0,8}") {
            let _ = (one_line(&text), deb822(&text));
        }
    }
}
