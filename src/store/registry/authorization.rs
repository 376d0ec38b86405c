//! What a server wants to see before it answers: nothing, a password (RFC 7617), or a token from a token service
//! (distribution's "Token Authentication Specification").

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde::Deserialize;

use super::Registry;
use super::credentials::Password;
use super::endpoint::Endpoint;
use crate::net::{Answer, Failure, Progress, Reason, Request, Sink, Url, is_loopback, shown};
use crate::ui::Task;

/// Tokens are a few kilobytes; some carry long lists of rights.
const TOKEN_LIMIT: u64 = 1 << 20;

/// Credentials are fetched this often for one question: for the first time, and when a token runs out during a long
/// transfer, or several transfers use up one that is good for a few requests.
const RENEWALS: u32 = 3;

/// What to ask a server for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    /// `manifests/TAG` or `blobs/DIGEST`.
    pub(super) part: &'a str,
    pub(super) accept: &'static str,
    pub(super) head: bool,
    /// More bytes than this are refused.
    pub(super) limit: u64,
    /// The size that the content must have.
    pub(super) size: Option<u64>,
    /// `part` names content by digest.
    pub(super) fixed: bool,
}

/// What to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Pull,
    Push,
}

impl Right {
    fn scope(self, repository: &str) -> String {
        match self {
            Right::Pull => format!("repository:{repository}:pull"),
            Right::Push => format!("repository:{repository}:pull,push"),
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Registry<'_> {
    /// Asks a server, with the credentials that it wants.
    pub(super) fn ask(
        &self,
        question: Question<'_>,
        sink: &mut dyn Sink,
        task: Option<&Task>,
    ) -> Result<Answer, Failure> {
        let url = question.endpoint.url(question.repository, question.part).map_err(Failure::local)?;
        let mut request = Request::get(&url, question.limit);
        (request.head, request.size, request.fixed) = (question.head, question.size, question.fixed);
        request.headers.insert(ACCEPT, HeaderValue::from_static(question.accept));
        let mut progress = Progress::default();
        let mut renewals = 0;
        loop {
            let used = self.remembered(question.endpoint, question.repository, Right::Pull);
            if let Some(value) = &used {
                request.headers.insert(AUTHORIZATION, value.clone());
            }
            match self.net.transfer(&request, &mut progress, sink, task) {
                // The first question shows what the server wants; a later one that a token has run out.
                Err(failure) if failure.reason() == Reason::Unauthorized && renewals < RENEWALS => {
                    renewals += 1;
                    // Another thread may have renewed it meanwhile.
                    if self.remembered(question.endpoint, question.repository, Right::Pull) == used {
                        self.authorize(question.endpoint, question.repository, Right::Pull, failure)?;
                    }
                }
                Err(failure) if failure.reason() == Reason::Unauthorized => {
                    return Err(login_hint(question.endpoint, failure));
                }
                other => return other,
            }
        }
    }

    /// The header that was last accepted for this.
    pub(super) fn remembered(&self, endpoint: &Endpoint, repository: &str, right: Right) -> Option<HeaderValue> {
        self.memory().authorizations.get(&(endpoint.key(), right.scope(repository))).cloned()
    }

    /// Gets what an answer 401 asks for.
    pub(super) fn authorize(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        right: Right,
        refusal: Failure,
    ) -> Result<(), Failure> {
        let password = self.password(endpoint).map_err(Failure::local)?;
        let challenges: Vec<Challenge> =
            refusal.challenges().iter().flat_map(|text| Challenge::parse_all(text)).collect();
        let scope = right.scope(repository);
        let value = if let Some(challenge) = challenges.iter().find(|c| c.is("Bearer")) {
            self.token(endpoint, challenge, &scope, password.as_ref())?
        } else {
            match password {
                Some(password) if challenges.iter().any(|c| c.is("Basic")) => basic(&password),
                _ => return Err(login_hint(endpoint, refusal)),
            }
        };
        self.memory().authorizations.insert((endpoint.key(), scope), value);
        Ok(())
    }

    fn token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        scope: &str,
        password: Option<&Password>,
    ) -> Result<HeaderValue, Failure> {
        let host = &endpoint.host;
        let wrong = |why: String| Failure::new(Reason::Unauthorized, format!("{host}: {why}"));
        let realm = challenge.parameter("realm").unwrap_or_default();
        let mut url =
            Url::parse(realm).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
                wrong("the registry asks for a token but names no token service that could be asked".to_string())
            })?;
        let local = is_loopback(url.host_str().unwrap_or_default());
        if url.scheme() == "http" && !endpoint.is_plain() && !local {
            return Err(wrong(format!("its token service {} speaks plain http, which is not trusted", shown(&url))));
        }
        if let Some(service) = challenge.parameter("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", scope);
        let mut request = Request::get(&url, TOKEN_LIMIT);
        if let Some(password) = password {
            request.headers.insert(AUTHORIZATION, basic(password));
        }
        let mut body = Vec::new();
        self.net
            .transfer(&request, &mut Progress::default(), &mut body, None)
            .map_err(|failure| login_hint(endpoint, failure.context(format_args!("getting a token for {host}"))))?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let token = answer.map(|a| if a.token.is_empty() { a.access_token } else { a.token }).unwrap_or_default();
        sensitive(&format!("Bearer {token}"))
            .filter(|_| !token.is_empty())
            .ok_or_else(|| wrong(format!("its token service {} answered something else than a token", shown(&url))))
    }
}

pub(super) fn login_hint(endpoint: &Endpoint, failure: Failure) -> Failure {
    failure.hint(format!(
        "the image is private or does not exist; if it does, log in with: docker login {}",
        endpoint.login_name()
    ))
}

fn basic(password: &Password) -> HeaderValue {
    let pair = format!("{}:{}", password.user, password.password);
    // Base64 has only characters that a header may have.
    sensitive(&format!("Basic {}", base64(pair.as_bytes()))).unwrap_or_else(|| HeaderValue::from_static(""))
}

/// A header that `Debug` does not show and HTTP/2 does not put in its tables.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sixbit = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= group.len() { ALPHABET[sixbit] as char } else { '=' });
        }
    }
    text
}

/// A challenge of a `WWW-Authenticate` header (RFC 9110, section 11.3): a scheme and its parameters.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads the challenges of one header: `Bearer realm="...",service="...", Basic realm="..."`.
    fn parse_all(text: &str) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                return challenges;
            }
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            match (value, challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
                    challenge.parameters.push((word.to_string(), value));
                    rest = after;
                }
                (Some(_), None) => return challenges,
                (None, _) => {
                    challenges.push(Challenge { scheme: word.to_string(), parameters: Vec::new() });
                    rest = after;
                }
            }
        }
    }
}

/// A token or quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_string(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn challenges_are_read_in_every_form() {
        let text = r#"Bearer realm="https://t.example.org/a,b",service="r \"q\"",scope=x , basic realm=y"#;
        let challenges = Challenge::parse_all(text);
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert_eq!(challenges[0].parameter("REALM"), Some("https://t.example.org/a,b"));
        assert_eq!(challenges[0].parameter("service"), Some("r \"q\""));
        assert_eq!(challenges[0].parameter("scope"), Some("x"));
        assert!(challenges[1].is("Basic"));
        for odd in
            ["", "=", ",,,", "Bearer", "Bearer realm=", "Bearer realm=\"", "Bearer =x", "a=b", "Bearer realm=\"\\"]
        {
            Challenge::parse_all(odd);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_stops_the_parser(text in "[ -~]{0,80}", odd in "[\"\\\\=, aé]{0,40}") {
            Challenge::parse_all(&text);
            Challenge::parse_all(&odd);
        }
    }
}
