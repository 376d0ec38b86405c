//! Which servers to ask for an image: mirrors in their order, then the registry itself.

use reqwest::StatusCode;

use super::{ImageName, Registry};
use crate::error::{Error, Result};
use crate::net::{Failure, Reason, Url, is_loopback};

/// The registry that references without a host name mean, and where it really is.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const HUB_HOST: &str = "registry-1.docker.io";
/// The name under which Docker files the password of that registry.
const HUB_CREDENTIALS: &str = "https://index.docker.io/v1/";

/// A server that speaks the distribution API.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Ends in `/v2/` or `/v2/PREFIX/`.
    base: Url,
    /// Host and port, for messages.
    pub(super) host: String,
    /// The registry that a mirror stands for; `None` if this is the registry itself.
    pub(super) mirrors: Option<String>,
}

impl Endpoint {
    /// The URL of something in a repository: `part` is `manifests/TAG`, `blobs/DIGEST`.
    pub(super) fn url(&self, repository: &str, part: &str) -> Result<Url> {
        let wrong = |_| Error::usage(format!("\"{repository}\" cannot be part of a URL"));
        let mut url = self.base.join(&format!("{repository}/{part}")).map_err(wrong)?;
        // A name like `..` or `//host` must not lead elsewhere.
        if url.host_str() != self.base.host_str() || !url.path().starts_with(self.base.path()) {
            return Err(Error::usage(format!("\"{repository}\" is not the name of a repository")));
        }
        if let Some(registry) = &self.mirrors {
            // What a mirror of several registries needs to know; others ignore it.
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }

    /// The URL that says whether credentials are wanted.
    pub(super) fn root(&self) -> Url {
        self.base.clone()
    }

    /// A key for what is remembered about this server.
    pub(super) fn key(&self) -> String {
        self.base.to_string()
    }

    /// Whether it is spoken to in plain http.
    pub(super) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// The name that `docker login` wants.
    pub(super) fn login_name(&self) -> &str {
        if HUB.contains(&self.host.as_str()) { HUB[0] } else { &self.host }
    }

    /// The name under which a password for this server is filed.
    pub(super) fn credentials_key(&self) -> &str {
        if HUB.contains(&self.host.as_str()) { HUB_CREDENTIALS } else { &self.host }
    }
}

impl Registry<'_> {
    /// The servers to ask for an image, in order. Mirrors that could not be reached before are left out.
    pub(super) fn endpoints(&self, name: &ImageName) -> Result<Vec<Endpoint>> {
        let mut endpoints = Vec::new();
        for mirror in self.net.options().mirrors.iter().filter(|mirror| mirror.covers(&name.registry)) {
            let endpoint = Endpoint {
                base: mirror_base(mirror.url()),
                host: host_and_port(mirror.url()),
                mirrors: Some(name.registry.clone()),
            };
            if !self.memory().dead.contains(&endpoint.key()) {
                endpoints.push(endpoint);
            }
        }
        match self.origin(&name.registry) {
            Ok(origin) => endpoints.push(origin),
            // A machine that reaches its mirrors only.
            Err(_) if !endpoints.is_empty() => {}
            Err(failure) => return Err(failure.into()),
        }
        Ok(endpoints)
    }

    /// The registry itself.
    pub(super) fn origin(&self, registry: &str) -> Result<Endpoint, Failure> {
        let host = if HUB.contains(&registry) { HUB_HOST } else { registry };
        let base = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/"))
                .ok()
                .filter(|url| url.path() == "/v2/" && url.username().is_empty() && url.password().is_none())
                .ok_or_else(|| {
                    Failure::new(Reason::Url, format!("\"{}\" is not the name of a registry", host.escape_debug()))
                        .hint("a registry is HOST or HOST:PORT")
                })
        };
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let insecure =
            self.net.options().insecure_hosts.iter().any(|one| [registry, host, name].contains(&one.as_str()));
        let plain = insecure || (is_loopback(host) && self.speaks_plain_http(host, &base("http")?)?);
        Ok(Endpoint { base: base(if plain { "http" } else { "https" })?, host: host.to_string(), mirrors: None })
    }

    /// Whether a registry on this machine speaks plain http, found out once by asking in plain http: a TLS server
    /// answers 400 or breaks off. The other order (https first) would hang on plain servers that wait for the end
    /// of a line. Nothing secret is in the question, and it does not leave the machine.
    fn speaks_plain_http(&self, host: &str, base: &Url) -> Result<bool, Failure> {
        if let Some(plain) = self.memory().plain.get(host) {
            return Ok(*plain);
        }
        let plain = match self.net.probe(base) {
            Ok((status, said)) => !(status == StatusCode::BAD_REQUEST && said.contains("HTTPS")),
            Err(failure) if matches!(failure.reason(), Reason::Unreachable | Reason::Offline) => return Err(failure),
            Err(_) => false,
        };
        self.memory().plain.insert(host.to_string(), plain);
        Ok(plain)
    }

    /// Asks the servers for an image in turn until one has an answer. The failure is the last one's; those of mirrors
    /// become notes. What was refused because this machine is at fault is not asked elsewhere.
    pub(super) fn try_each<T>(
        &self,
        name: &ImageName,
        mut ask: impl FnMut(&Endpoint) -> Result<T, Failure>,
    ) -> Result<T> {
        if self.net.options().offline {
            return Err(Failure::offline(&name.to_string()).into());
        }
        let endpoints = self.endpoints(name)?;
        let mut last = None;
        for (number, endpoint) in endpoints.iter().enumerate() {
            match ask(endpoint) {
                Ok(found) => return Ok(found),
                Err(failure) if failure.reason() == Reason::Local => return Err(failure.into()),
                Err(failure) => {
                    if endpoint.mirrors.is_some() {
                        self.note_mirror(endpoint, &failure, number + 1 < endpoints.len());
                    }
                    last = Some(failure);
                }
            }
        }
        Err(last.map_or_else(|| Error::network(format!("no server to ask for {name}")), Error::from))
    }

    fn note_mirror(&self, endpoint: &Endpoint, failure: &Failure, more: bool) {
        if matches!(failure.reason(), Reason::Unreachable | Reason::Tls) {
            self.memory().dead.insert(endpoint.key());
        }
        let next = if more { "; asking the next server" } else { "" };
        self.net.ui().note(format!("mirror {}: {failure}{next}", endpoint.host));
    }
}

/// The API's base below a mirror's URL: `http://HOST/prefix` means `/prefix/v2/`, while a path that holds `/v2` is
/// taken as it is (`http://HOST/v2/prefix`, as pull-through caches with several upstreams want).
fn mirror_base(url: &Url) -> Url {
    let mut base = url.clone();
    let path = url.path().trim_end_matches('/');
    let has_version = path.split('/').any(|part| part == "v2");
    base.set_path(&if has_version { format!("{path}/") } else { format!("{path}/v2/") });
    base
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_cannot_lead_elsewhere() {
        let base = Url::parse("https://registry.example.org/v2/").unwrap();
        let endpoint = Endpoint { base, host: "registry.example.org".into(), mirrors: None };
        let url = endpoint.url("a/b", "manifests/1").unwrap();
        assert_eq!(url.as_str(), "https://registry.example.org/v2/a/b/manifests/1");
        for wrong in ["../x", "a/../../x", "/x", "//evil.example.org/x", "http://evil.example.org/x"] {
            assert!(endpoint.url(wrong, "manifests/1").is_err(), "{wrong}");
        }
    }

    #[test]
    fn mirrors_with_and_without_a_path() {
        for (mirror, base) in [
            ("http://m:5000", "http://m:5000/v2/"),
            ("http://m/", "http://m/v2/"),
            ("https://m/cache/", "https://m/cache/v2/"),
            ("https://m/v2/hub", "https://m/v2/hub/"),
        ] {
            assert_eq!(mirror_base(&Url::parse(mirror).unwrap()).as_str(), base);
        }
    }
}
