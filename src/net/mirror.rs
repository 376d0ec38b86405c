//! Registries that are asked in another's place.

use std::fmt;
use std::str::FromStr;

use super::Url;
use crate::error::Error;

/// The registry that references without a host name mean, as references spell it.
const DOCKER_HUB: &str = "docker.io";

/// A registry to ask before the one that a reference names: `[REGISTRY=]URL`. Without a registry it stands for all of
/// them. `docker.io` covers that registry's other two names, `index.docker.io` and `registry-1.docker.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    registry: Option<String>,
    url: Url,
}

impl Mirror {
    /// Whether this mirror stands for the given registry.
    pub fn covers(&self, registry: &str) -> bool {
        self.registry.as_deref().is_none_or(|mirrored| mirrored == hub_or(registry))
    }

    /// Where the mirror is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads a list separated by commas or white space, as `MOBY_MIRROR` holds it.
    pub fn parse_list(text: &str) -> Result<Vec<Mirror>, Error> {
        text.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

fn hub_or(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

impl FromStr for Mirror {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mirror, Error> {
        let wrong = |why: &str| {
            Error::usage(format!("a mirror {why}"))
                .hint("a mirror is [REGISTRY=]URL, as in docker.io=https://mirror.example.org")
        };
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        let (registry, url) = match text.split_once('=') {
            Some((registry, url)) if !is_url => (Some(registry), url),
            _ => (None, text),
        };
        if registry.is_some_and(|name| name.is_empty() || name.contains('/')) {
            return Err(wrong("has no registry's host name before the ="));
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong("needs a URL that begins with http:// or https://"));
        }
        let url = Url::parse(url).map_err(|error| wrong(&format!("has a URL that is none: {error}")))?;
        if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("needs a URL with a host and without query and fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("takes no password in its URL; it belongs in Docker's config.json"));
        }
        Ok(Mirror { registry: registry.map(|name| hub_or(name).to_string()), url })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.registry {
            Some(registry) => write!(f, "{registry}={}", self.url),
            None => write!(f, "{}", self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_covers_what_it_says() {
        let hub: Mirror = "docker.io=https://m.example.org".parse().unwrap();
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert!(hub.covers(name), "{name}");
        }
        assert!(!hub.covers("example.org"));
        let all: Mirror = "http://m.example.org:5000/a=b".parse().unwrap();
        assert!(all.covers("example.org") && all.covers("docker.io"));
        assert_eq!(all.url().port(), Some(5000));
        assert_eq!(Mirror::parse_list("a.org=http://x,\n http://y").unwrap().len(), 2);
    }

    #[test]
    fn wrong_mirrors_are_refused_without_showing_passwords() {
        for wrong in ["", "m.example.org", "a=b", "=http://x", "a/b=http://x", "ftp://x", "http://", "http://x?q=1"] {
            assert_eq!(wrong.parse::<Mirror>().unwrap_err().exit(), crate::error::Exit::Usage, "{wrong}");
        }
        let error = "https://me:secret@example.org".parse::<Mirror>().unwrap_err();
        assert!(!error.message().contains("secret"), "{error}");
    }
}
