//! Why a request failed, for callers that do something about it.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::error::{Error, Exit};

/// The cause of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server does not have it (404, 410).
    NotFound,
    /// The server wants other or any credentials (401).
    Unauthorized,
    /// The server does not give it with these credentials (403).
    Forbidden,
    /// The server wants fewer requests (429).
    TooManyRequests,
    /// The server is in trouble (408, 500, 502, 503, 504).
    Unavailable,
    /// No connection, no name, or no byte in time.
    Unreachable,
    /// TLS failed, most often because of the certificate.
    Tls,
    /// The transfer ended early.
    Broken,
    /// The content is larger than the caller allows.
    TooLarge,
    /// The content does not have the size or digest that it should have.
    Corrupt,
    /// The server does not speak the protocol as it should.
    Protocol,
    /// Any other answer; holds the status.
    Status(u16),
    /// The URL cannot be asked for.
    Url,
    /// The failure is on this machine: the disk is full, the client cannot be set up.
    Local,
    /// The network may not be used (`--offline`).
    Offline,
}

/// A failed request. It says which server, what was expected and found, and never holds credentials.
#[derive(Debug)]
pub struct Failure {
    reason: Reason,
    message: String,
    hint: Option<String>,
    challenges: Vec<String>,
    retry_after: Option<Duration>,
    local: Option<Error>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Failure {
        Failure { reason, message: message.into(), hint: None, challenges: Vec::new(), retry_after: None, local: None }
    }

    pub(crate) fn offline(asked: &str) -> Failure {
        Failure::new(Reason::Offline, format!("{asked} is wanted, but --offline forbids the network"))
            .hint("do the same once without --offline; what comes stays in the store")
    }

    pub(crate) fn local(error: Error) -> Failure {
        let mut failure = Failure::new(Reason::Local, error.message());
        failure.local = Some(error);
        failure
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn with_challenges(mut self, challenges: Vec<String>) -> Failure {
        self.challenges = challenges;
        self
    }

    pub(super) fn with_retry_after(mut self, wait: Option<Duration>) -> Failure {
        self.retry_after = wait;
        self
    }

    /// The same failure with what was being done in front.
    pub(crate) fn context(mut self, doing: impl fmt::Display) -> Failure {
        self.message = format!("{doing}: {}", self.message);
        self.local = self.local.map(|error| error.context(doing));
        self
    }

    /// The cause.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The message without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The `WWW-Authenticate` headers of an answer 401.
    pub(crate) fn challenges(&self) -> &[String] {
        &self.challenges
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same request may work a little later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.reason, Reason::TooManyRequests | Reason::Unavailable | Reason::Unreachable | Reason::Broken)
    }

    /// What an HTTP client's error stands for. `asked` is the URL as it may be shown.
    pub(crate) fn of_client(asked: &str, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        if let Some(tls) = tls_error(&error) {
            return of_tls(asked, tls);
        }
        let cause = innermost(&error);
        if error.is_connect() {
            Failure::new(Reason::Unreachable, format!("{asked}: no connection: {cause}"))
                .hint("check the host name, the network and the proxy variables (http_proxy, https_proxy, no_proxy)")
        } else if error.is_timeout() {
            Failure::new(Reason::Unreachable, format!("{asked}: no answer in time"))
        } else if error.is_redirect() {
            Failure::new(Reason::Url, format!("{asked}: redirected in a way that is not followed: {cause}"))
        } else if error.is_builder() {
            Failure::new(Reason::Url, format!("{asked}: cannot be asked for: {cause}"))
        } else {
            Failure::new(Reason::Broken, format!("{asked}: the transfer broke: {cause}"))
        }
    }
}

fn of_tls(asked: &str, error: &rustls::Error) -> Failure {
    let failure = Failure::new(Reason::Tls, format!("{asked}: TLS failed: {error}"));
    match error {
        rustls::Error::InvalidCertificate(_) => failure.hint(
            "if the server is yours, name its authority's certificate with --cert-file; \
             if this machine has no certificates at all, install its ca-certificates package",
        ),
        rustls::Error::InvalidMessage(_) => {
            failure.hint("does the server speak plain http? for a registry, --insecure HOST allows it")
        }
        _ => failure,
    }
}

/// Finds the TLS library's error. `io::Error` hides what it wraps from `source`, so it is opened on the way.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let mut wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        while let Some(inner) = wrapped {
            if let Some(found) = inner.downcast_ref::<rustls::Error>() {
                return Some(found);
            }
            wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        }
        next = error.source();
    }
    None
}

fn innermost(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        if let Some(error) = failure.local {
            return error;
        }
        let exit = match failure.reason {
            Reason::Url => Exit::Usage,
            Reason::Local => Exit::Failed,
            Reason::TooLarge | Reason::Corrupt => Exit::Refused,
            _ => Exit::Network,
        };
        let error = Error::new(exit, failure.message);
        match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
