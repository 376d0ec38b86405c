//! What is no image: manifests of any kind under a tag, and the blobs that they name. For caches that machines share.

use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::authorization::Question;
use super::documents::{ACCEPT, DOCUMENT_LIMIT};
use super::endpoint::Endpoint;
use super::{ImageName, Registry};
use crate::error::{Error, Exit, Result};
use crate::net::{Failure, Reason, Sink};
use crate::store::manifest::media_type;
use crate::store::{Descriptor, Digest};

impl Registry<'_> {
    /// The manifest under a tag, whatever it is a manifest of; nothing if the registry has none. Its digest is not
    /// checked: the tag may mean anything.
    pub(in crate::store) fn manifest_under(&self, name: &ImageName) -> Result<Option<Vec<u8>>> {
        self.unless_missing(name, |endpoint| {
            let mut bytes = Vec::new();
            self.ask(question(endpoint, name, &format!("manifests/{}", name.reference())), &mut bytes, None)?;
            Ok(bytes)
        })
    }

    /// What a tag stands for; nothing if the registry does not have it.
    pub(in crate::store) fn tagged(&self, name: &ImageName) -> Result<Option<Descriptor>> {
        self.unless_missing(name, |endpoint| self.tagged_at(endpoint, name))
    }

    /// The same in the registry itself, not in its mirrors.
    pub(in crate::store) fn tagged_in_origin(&self, name: &ImageName) -> Result<Option<Descriptor>> {
        if self.net.options().offline {
            return Err(Failure::offline(&name.to_string()).into());
        }
        match self.origin(&name.registry).and_then(|endpoint| self.tagged_at(&endpoint, name)) {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.reason() == Reason::NotFound => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn tagged_at(&self, endpoint: &Endpoint, name: &ImageName) -> Result<Descriptor, Failure> {
        let part = format!("manifests/{}", name.reference());
        let answer = self.ask(Question { head: true, ..question(endpoint, name, &part) }, &mut Vec::new(), None)?;
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let digest = text("docker-content-digest").and_then(|text| text.parse().ok());
        if let (Some(digest), Some(size)) = (digest, length(&answer.headers)) {
            let kind = text(CONTENT_TYPE.as_str()).unwrap_or(media_type::MANIFEST).split(';').next();
            return Ok(Descriptor::new(kind.unwrap_or_default().trim(), digest, size));
        }
        // Some servers say nothing in headers.
        let mut bytes = Vec::new();
        self.ask(question(endpoint, name, &part), &mut bytes, None)?;
        Ok(Descriptor::new(media_type::MANIFEST, Digest::of(&bytes), bytes.len() as u64))
    }

    /// Fetches a blob. `start` makes a sink, `finish` checks what it took; if it refuses, the server is asked once
    /// more. Nothing if the registry does not have the blob.
    pub(in crate::store) fn blob_of<S: Sink, T>(
        &self,
        name: &ImageName,
        descriptor: &Descriptor,
        mut start: impl FnMut() -> Result<S>,
        mut finish: impl FnMut(S) -> Result<T>,
    ) -> Result<Option<T>> {
        let part = format!("blobs/{}", descriptor.digest);
        let mut fetch = |endpoint: &Endpoint| {
            let mut sink = start().map_err(Failure::local)?;
            let (limit, size) = (descriptor.size, Some(descriptor.size));
            let question = Question { accept: "*/*", limit, size, fixed: true, ..question(endpoint, name, &part) };
            self.ask(question, &mut sink, None)?;
            finish(sink).map_err(|error| match error.exit() {
                Exit::Refused => {
                    Failure::new(Reason::Corrupt, format!("{} served: {}", endpoint.host, error.message()))
                }
                _ => Failure::local(error),
            })
        };
        self.unless_missing(name, |endpoint| match fetch(endpoint) {
            Err(failure) if failure.reason() == Reason::Corrupt => fetch(endpoint),
            other => other,
        })
    }

    /// Nothing if the last server that was asked says that it does not have it.
    fn unless_missing<T>(
        &self,
        name: &ImageName,
        mut ask: impl FnMut(&Endpoint) -> Result<T, Failure>,
    ) -> Result<Option<T>> {
        let mut missing = false;
        let asked = self.try_each(name, |endpoint| {
            let answer = ask(endpoint);
            missing = matches!(&answer, Err(failure) if failure.reason() == Reason::NotFound);
            answer
        });
        match asked {
            Ok(found) => Ok(Some(found)),
            Err(_) if missing => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn question<'a>(endpoint: &'a Endpoint, name: &'a ImageName, part: &'a str) -> Question<'a> {
    let (repository, accept) = (name.repository.as_str(), ACCEPT);
    Question { endpoint, repository, part, accept, head: false, limit: DOCUMENT_LIMIT, size: None, fixed: false }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(reqwest::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (1..=DOCUMENT_LIMIT).contains(&length).then_some(length)
}

/// An error that says that content is not what it should be.
pub(in crate::store) fn not_its_digest(expected: &Digest, found: &Digest) -> Error {
    Error::refused(format!("content does not match its digest: expected {expected}, found {found}"))
}
