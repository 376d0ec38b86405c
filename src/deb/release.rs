//! The `Release` file of a suite: which indexes it has, their digests, and until when it may be believed.
//!
//! Only `InRelease` is read, never `Release` with `Release.gpg`: Debian has had the former since 2012, and one file
//! cannot be half new. Only SHA-256 is read of its lists of digests.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::signature::CLOCK_TOLERANCE;
use super::stanza::Stanza;
use crate::error::{Error, Result};
use crate::store::Digest;

/// A file that a Release file lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What is used of a Release file.
#[derive(Clone, Debug)]
pub struct Release {
    /// Whose archive it is; Debian's says `Debian`.
    pub origin: String,
    /// The moving name, such as `stable`.
    pub suite: String,
    /// The lasting name, such as `bookworm`.
    pub codename: String,
    /// When it was made.
    pub date: SystemTime,
    /// When it ends to be valid. Debian's stable releases do not say; its security and update suites do.
    pub valid_until: Option<SystemTime>,
    /// Whether files can be had under their digests, so that an update of the archive cannot come in between.
    pub by_hash: bool,
    /// Areas: `main`, `contrib`, ...
    pub components: Vec<String>,
    /// Architectures.
    pub architectures: Vec<String>,
    /// Whether packages for all architectures have an index of their own that the others leave out.
    pub separate_all: bool,
    /// Every file listed, by its path below the suite's folder.
    pub files: BTreeMap<String, Listed>,
}

impl Release {
    /// Reads the text of a Release file whose signature was checked. `what` names it.
    pub fn parse(text: &str, what: &str) -> Result<Release> {
        let text = text.replace("\r\n", "\n");
        let stanza = Stanza::new(&text);
        let wrong = |problem: String| Error::refused(format!("{what} {problem}"));
        let words = |name: &str| -> Vec<String> {
            stanza.field(name).unwrap_or("").split_whitespace().map(str::to_string).collect()
        };
        let time = |name: &str| -> Result<Option<SystemTime>> {
            let Some(value) = stanza.field(name) else { return Ok(None) };
            parse_date(value)
                .map(Some)
                .ok_or_else(|| wrong(format!("has an unreadable {name}: \"{}\"", value.escape_debug())))
        };
        let mut files = BTreeMap::new();
        for line in stanza.field("SHA256").unwrap_or("").lines() {
            let mut words = line.split_whitespace();
            let entry = (
                words.next().and_then(Digest::from_hex),
                words.next().and_then(|size| size.parse().ok()),
                words.next(),
            );
            match entry {
                (Some(digest), Some(size), Some(path)) => {
                    files.insert(path.to_string(), Listed { digest, size });
                }
                _ if line.trim().is_empty() => {}
                _ => return Err(wrong(format!("has an unreadable line under SHA256: \"{}\"", line.escape_debug()))),
            }
        }
        if files.is_empty() {
            return Err(wrong("lists no files with SHA-256 digests".to_string()));
        }
        let architectures = words("Architectures");
        let no_separate_all = stanza.field("No-Support-for-Architecture-all") == Some("Packages");
        Ok(Release {
            origin: stanza.field("Origin").unwrap_or("").to_string(),
            suite: stanza.field("Suite").unwrap_or("").to_string(),
            codename: stanza.field("Codename").unwrap_or("").to_string(),
            date: time("Date")?.ok_or_else(|| wrong("has no Date".to_string()))?,
            valid_until: time("Valid-Until")?,
            by_hash: stanza.field("Acquire-By-Hash") == Some("yes"),
            // The security archive says `updates/main` and lists `main/...`.
            components: words("Components").iter().map(|c| c.rsplit('/').next().unwrap_or(c).to_string()).collect(),
            separate_all: !no_separate_all && architectures.iter().any(|name| name == "all"),
            architectures,
            files,
        })
    }

    /// Checks that this is the suite that was asked for, that it is not from the future, and, with
    /// `check_valid_until`, that it may still be believed at the time `now`.
    pub fn check(&self, suite: &str, what: &str, now: SystemTime, check_valid_until: bool) -> Result<()> {
        if suite != self.codename && suite != self.suite {
            return Err(Error::refused(format!(
                "{what} is of the suite \"{}\" (code name \"{}\"), not of \"{suite}\"",
                self.suite.escape_debug(),
                self.codename.escape_debug()
            ))
            .hint("the mirror is wrong, or somebody in between answers with another suite's file"));
        }
        if self.date > now + CLOCK_TOLERANCE {
            return Err(Error::refused(format!("{what} was made {} from now", show(self.date, now)))
                .hint("is this machine's clock right?"));
        }
        match self.valid_until {
            Some(until) if check_valid_until && until < now => Err(Error::refused(format!(
                "{what} ended to be valid {} ago: the mirror is out of date, or somebody withholds updates",
                show(now, until)
            ))
            .hint(format!(
                "use a mirror that is kept up to date; for an archive frozen on purpose set {}=no",
                super::opening::VALID_UNTIL_VARIABLE
            ))),
            _ => Ok(()),
        }
    }

    /// The `Packages` index of an area and architecture: what it is when inflated, and the smallest listed file that
    /// holds it. `None` if the suite has none.
    pub fn packages_index(&self, area: &str, architecture: &str) -> Option<PackagesIndex> {
        let path = format!("{area}/binary-{architecture}/Packages");
        let plain = *self.files.get(&path)?;
        let (path, file) = [".xz", ".zst", ".gz", ""].into_iter().find_map(|suffix| {
            let path = format!("{path}{suffix}");
            self.files.get(&path).map(|file| (path.clone(), *file))
        })?;
        let path = match (self.by_hash, path.rsplit_once('/')) {
            (true, Some((folder, _))) => format!("{folder}/by-hash/SHA256/{}", file.digest.hex()),
            _ => path,
        };
        Some(PackagesIndex { path, file, plain })
    }
}

/// Where a `Packages` index lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagesIndex {
    /// The path below the suite's folder.
    pub path: String,
    /// The file at that path, compressed or not.
    pub file: Listed,
    /// The index itself.
    pub plain: Listed,
}

/// A span of time for people.
fn show(later: SystemTime, earlier: SystemTime) -> String {
    let hours = later.duration_since(earlier).unwrap_or_default().as_secs() / 3600;
    if hours >= 48 { format!("{} days", hours / 24) } else { format!("{hours} hours") }
}

/// Reads a date of a Release file: `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 5322 with the zone UTC, GMT or +0000).
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(',')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [day, month, year, time, zone] = words[..] else { return None };
    if !matches!(zone, "UTC" | "GMT" | "Z" | "+0000") {
        return None;
    }
    let day: u64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = year.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if hour > 23 || minute > 59 || second > 60 || clock.next().is_some() {
        return None;
    }
    // Years that start in March have their odd day at the end, which makes the count of days a formula.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\r\nSuite: stable-security\r\nCodename: x-security\r\nDate: Sat, 11 Jul 2026 10:16:37 UTC\r\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\r\nAcquire-By-Hash: yes\r\nArchitectures: all amd64\r\nComponents: updates/main updates/contrib\r\nMD5Sum:\r\n d41d8cd98f00b204e9800998ecf8427e 0 nothing\r\nSHA256:\r\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\r\n aa b\r\n";

    fn release() -> Release {
        Release::parse(&TEXT.replace(" aa b\r\n", ""), "it").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn fields_are_read() {
        let release = release();
        assert_eq!(release.components, ["main", "contrib"]);
        assert_eq!(release.date, at(1_783_764_997));
        assert!(release.by_hash && release.separate_all);
        let index = release.packages_index("main", "amd64").unwrap();
        assert_eq!(index.path, format!("main/binary-amd64/by-hash/SHA256/{}", Digest::of(b"").hex()));
        assert_eq!(index.file, index.plain);
        assert!(release.packages_index("main", "arm64").is_none());
        assert!(Release::parse(TEXT, "it").unwrap_err().message().contains("aa b"));
    }

    #[test]
    fn dates_are_read() {
        let seconds = |text| parse_date(text).map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(seconds("Fri, 01 Mar 2024 00:00:00 +0000"), Some(1_709_251_200));
        assert_eq!(seconds("Fri, 01 Mar 2024 00:00:00 CET"), None);
        assert_eq!(seconds("1 Mar 2024"), None);
        assert_eq!(seconds("Fri, 32 Mar 2024 00:00:00 UTC"), None);
    }

    #[test]
    fn other_suites_old_ones_and_the_future_are_refused() {
        let release = release();
        let date = 1_783_764_997;
        let check = |suite, now, valid| release.check(suite, "it", at(now), valid).map_err(|e| e.to_string());
        assert_eq!(check("x-security", date, true), Ok(()));
        assert_eq!(check("stable-security", date + 86_400, true), Ok(()));
        assert!(check("x", date, true).unwrap_err().contains("not of \"x\""));
        assert!(check("x-security", date - 7200, true).unwrap_err().contains("from now"));
        assert!(check("x-security", date + 8 * 86_400, true).unwrap_err().contains("24 hours ago"));
        assert_eq!(check("x-security", date + 8 * 86_400, false), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "((Date|SHA256|Suite|Components): ?[ -~]{0,40}\r?\n ?){0,8}", date in "[ -~]{0,40}") {
            let _ = Release::parse(&text, "it");
            let _ = parse_date(&date);
        }
    }
}
