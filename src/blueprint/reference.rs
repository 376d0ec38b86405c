//! Image references: `redis`, `linuxkit/init:v1`, `localhost:5000/a/b@sha256:...`.
//!
//! Short names are expanded as LinuxKit does: no `/` means `docker.io/library/`, and a first part without `.` or `:`
//! that is not `localhost` means `docker.io/`. No tag is added. The grammar is the one of the OCI distribution
//! specification, with sha256 as the only digest.

use std::fmt;
use std::ops::Range;

use super::archive::ArchiveReference;
use super::decode::visible;

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The longest registry and repository together, in bytes.
const LONGEST_NAME: usize = 255;
/// The longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// A parsed image reference. Two are equal when they mean the same, however they were typed.
#[derive(Clone)]
pub struct Reference {
    typed: String,
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is no reference, and which bytes of it are to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparseable {
    /// What is wrong.
    pub message: String,
    /// The bytes of the text.
    pub at: Range<usize>,
}

impl fmt::Display for Unparseable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unparseable {}

fn wrong(message: impl Into<String>, at: Range<usize>) -> Unparseable {
    Unparseable { message: message.into(), at }
}

impl Reference {
    /// Parses and expands.
    pub fn parse(typed: &str) -> Result<Reference, Unparseable> {
        if typed.is_empty() {
            return Err(wrong("an image reference is empty", 0..0));
        }
        if let Some(scheme) = typed.find("://") {
            return Err(wrong("an image reference is no URL: leave this out", 0..scheme + 3));
        }
        let (name_and_tag, digest) = match typed.split_once('@') {
            Some((name, digest)) => (name, Some(check_digest(digest, name.len() + 1)?)),
            None => (typed, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a port.
        let after_slash = name_and_tag.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name_and_tag[after_slash..].find(':').map(|colon| after_slash + colon) {
            Some(colon) => (&name_and_tag[..colon], Some(check_tag(&name_and_tag[colon + 1..], colon + 1)?)),
            None => (name_and_tag, None),
        };
        let (registry, repository, repository_at) = match name.split_once('/') {
            None => (DEFAULT_REGISTRY, format!("library/{name}"), 0),
            Some((first, rest)) if is_registry(first) => {
                check_registry(first)?;
                (first, rest.to_owned(), first.len() + 1)
            }
            Some(_) => (DEFAULT_REGISTRY, name.to_owned(), 0),
        };
        check_repository(&name[repository_at..], repository_at)?;
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(wrong(format!("an image name has at most {LONGEST_NAME} bytes"), 0..name.len()));
        }
        Ok(Reference { typed: typed.to_owned(), registry: registry.to_owned(), repository, tag, digest })
    }

    /// Whether it was written as an image in a file (`docker-archive:PATH`), which no registry has to have.
    pub fn is_in_file(&self) -> bool {
        ArchiveReference::parse(&self.typed).is_some()
    }

    /// The same, written as another text.
    pub(super) fn typed_as(self, typed: &str) -> Reference {
        Reference { typed: typed.to_owned(), ..self }
    }

    /// The text as it was written.
    pub fn as_typed(&self) -> &str {
        &self.typed
    }

    /// Host and port of the registry ("docker.io", "localhost:5000").
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry ("library/redis").
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest ("sha256:" and 64 hexadecimal digits), if one was written.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What to ask a registry for: the digest, else the tag, else "latest".
    pub fn digest_or_tag(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or("latest")
    }

    /// The same image pinned to a digest ("sha256:..."); the tag is kept.
    pub fn with_digest(&self, digest: &str) -> Result<Reference, Unparseable> {
        let digest = check_digest(digest, 0)?;
        let mut pinned = Reference { digest: Some(digest), ..self.clone() };
        pinned.typed = pinned.to_string();
        Ok(pinned)
    }

    fn identity(&self) -> (&str, &str, Option<&str>, Option<&str>) {
        (&self.registry, &self.repository, self.tag(), self.digest())
    }
}

impl fmt::Display for Reference {
    /// The expanded form: `docker.io/library/redis:7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expanded(f, &self.registry, &self.repository, self.tag.as_deref(), self.digest.as_ref())
    }
}

/// Writes `REGISTRY/REPOSITORY:TAG@DIGEST`.
pub(crate) fn write_expanded(
    f: &mut fmt::Formatter<'_>,
    registry: &str,
    repository: &str,
    tag: Option<&str>,
    digest: Option<&impl fmt::Display>,
) -> fmt::Result {
    write!(f, "{registry}/{repository}")?;
    if let Some(tag) = tag {
        write!(f, ":{tag}")?;
    }
    if let Some(digest) = digest {
        write!(f, "@{digest}")?;
    }
    Ok(())
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Reference) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Reference {}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Reference) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Reference) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl std::hash::Hash for Reference {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl std::str::FromStr for Reference {
    type Err = Unparseable;

    fn from_str(typed: &str) -> Result<Reference, Unparseable> {
        Reference::parse(typed)
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_registry(registry: &str) -> Result<(), Unparseable> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if let Some(port) = port
        && port.parse::<u16>().is_err()
    {
        return Err(wrong(format!("`{port}` is not a port"), host.len() + 1..registry.len()));
    }
    if let Some(address) = host.strip_prefix('[') {
        return match address.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(_)) => Ok(()),
            _ => Err(wrong("not an IPv6 address in brackets", 0..host.len())),
        };
    }
    let mut at = 0;
    for part in host.split('.') {
        let fine = !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-');
        if !fine {
            return Err(wrong("not the name of a registry: letters, digits, `-` and `.`", 0..host.len()));
        }
        at += part.len() + 1;
    }
    debug_assert_eq!(at, host.len() + 1);
    Ok(())
}

fn check_repository(repository: &str, offset: usize) -> Result<(), Unparseable> {
    let mut at = offset;
    for part in repository.split('/') {
        let span = at..at + part.len();
        if part.is_empty() {
            return Err(wrong("a part of the image name is empty", span));
        }
        if let Some((index, found)) =
            part.char_indices().find(|(_, c)| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(*c)))
        {
            let message = if found.is_ascii_uppercase() {
                format!("image names are lower case, but `{found}` is not")
            } else {
                format!("{} is not allowed in an image name", visible(found))
            };
            return Err(wrong(message, at + index..at + index + found.len_utf8()));
        }
        // One `.`, one or two `_`, or any number of `-` between letters or digits.
        let separators: Vec<&str> =
            part.split(|c: char| c.is_ascii_alphanumeric()).filter(|separator| !separator.is_empty()).collect();
        let inner = part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric());
        let fine = inner
            && separators.iter().all(|found| matches!(*found, "." | "_" | "__") || found.chars().all(|c| c == '-'));
        if !fine {
            return Err(wrong("`.`, `_` and `-` stand singly between letters or digits of an image name", span));
        }
        at = span.end + 1;
    }
    Ok(())
}

fn check_tag(tag: &str, offset: usize) -> Result<String, Unparseable> {
    let span = offset..offset + tag.len();
    if tag.is_empty() {
        return Err(wrong("the tag after `:` is empty", offset.saturating_sub(1)..offset));
    }
    if tag.len() > LONGEST_TAG {
        return Err(wrong(format!("a tag has at most {LONGEST_TAG} characters"), span));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if let Some((index, found)) = tag.char_indices().find(|(_, c)| !allowed(*c)) {
        let message = format!("{} is not allowed in a tag", visible(found));
        return Err(wrong(message, offset + index..offset + index + found.len_utf8()));
    }
    if tag.starts_with(['.', '-']) {
        return Err(wrong("a tag begins with a letter, a digit or `_`", offset..offset + 1));
    }
    Ok(tag.to_owned())
}

fn check_digest(digest: &str, offset: usize) -> Result<String, Unparseable> {
    let span = offset..offset + digest.len();
    let Some(hex) = digest.strip_prefix("sha256:") else {
        return Err(wrong("a digest begins with `sha256:`, the only one taken", span));
    };
    if hex.len() != 64 {
        return Err(wrong(format!("a sha256 digest has 64 digits, this has {}", hex.chars().count()), span));
    }
    if let Some((index, found)) = hex.char_indices().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f')) {
        let at = offset + 7 + index;
        let message = format!("{} is not a lower-case hexadecimal digit", visible(found));
        return Err(wrong(message, at..at + found.len_utf8()));
    }
    Ok(digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn references_are_expanded() {
        for (typed, full) in [
            ("redis", "docker.io/library/redis"),
            ("redis:7", "docker.io/library/redis:7"),
            ("linuxkit/init:v1.0", "docker.io/linuxkit/init:v1.0"),
            ("localhost/x", "localhost/x"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c"),
            ("a/b/c", "docker.io/a/b/c"),
            ("[::1]:5000/x", "[::1]:5000/x"),
            ("docker.io/x", "docker.io/x"),
            ("a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g"),
        ] {
            assert_eq!(Reference::parse(typed).unwrap().to_string(), full);
        }
        let pinned = Reference::parse(&format!("redis:7@{DIGEST}")).unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (Some("7"), Some(DIGEST)));
        assert_eq!(pinned.to_string(), format!("docker.io/library/redis:7@{DIGEST}"));
        assert_eq!(Reference::parse("redis").unwrap(), Reference::parse("docker.io/library/redis").unwrap());
    }

    #[test]
    fn the_wrong_part_is_named() {
        for (typed, at, message) in [
            ("", "", "empty"),
            ("Redis:7", "R", "lower case"),
            ("a b", " ", "not allowed"),
            ("redis:", ":", "tag after"),
            ("redis:a/b:", ":", "tag after"),
            ("redis:-x", "-", "begins with"),
            ("redis:x y", " ", "not allowed in a tag"),
            ("redis@sha256:12", "sha256:12", "64 digits"),
            ("redis@md5:12", "md5:12", "sha256"),
            ("host:port/x", "port", "not a port"),
            ("a//b", "", "empty"),
            ("a/-b", "-b", "stand singly"),
            ("../x", "..", "registry"),
            ("a..b/c", "a..b", "registry"),
        ] {
            let error = Reference::parse(typed).unwrap_err();
            assert!(error.message.contains(message), "{typed}: {error}");
            assert_eq!(&typed[error.at.clone()], at, "{typed}: {error}");
        }
    }
}
