//! Manifests and indexes: fetched, checked, understood; the choice of a platform.

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};

use super::authorization::Question;
use super::endpoint::Endpoint;
use super::{ImageName, Registry};
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::net::{Failure, Reason};
use crate::store::manifest::media_type;
use crate::store::{Descriptor, Digest, Index, Manifest, Store};

/// Registries take manifests of up to 4 MiB, and so does the store.
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Both kinds of manifest and both kinds of index.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Indexes within indexes are followed this deep. More than one level has not been met.
const INDEX_DEPTH: usize = 3;

/// A manifest or index with its descriptor.
#[derive(Debug)]
pub(in crate::store) struct Document {
    pub(in crate::store) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(in crate::store) enum Content {
    Index(Index),
    Manifest(Box<Manifest>),
}

/// The image for one platform.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What the name stands for: an index or the manifest itself.
    pub(super) named: Descriptor,
    pub(super) manifest: Manifest,
    pub(super) descriptor: Descriptor,
}

impl Registry<'_> {
    /// What a name stands for in its registry: the descriptor of a manifest or index. Asks for the headers only,
    /// if the registry sends all that is needed in them; their digest is checked when the image is pulled.
    pub fn resolve(&self, name: &ImageName) -> Result<Descriptor> {
        self.try_each(name, |endpoint| {
            let mut question = manifest_question(endpoint, name, "");
            let part = format!("manifests/{}", name.reference());
            (question.part, question.head) = (&part, true);
            match self.ask(question, &mut Vec::new(), None) {
                Ok(answer) => {
                    if let Some(found) = described_by(&answer.headers) {
                        return agree(endpoint, name.digest.as_ref(), found.digest).map(|()| found);
                    }
                }
                // Some servers know no HEAD.
                Err(failure) if matches!(failure.reason(), Reason::Status(_)) => {}
                Err(failure) => return Err(failure),
            }
            self.fetch_document(endpoint, name, &name.reference(), name.digest.as_ref()).map(|d| d.descriptor)
        })
        .map_err(|error| error.context(format_args!("resolving {name}")))
    }

    /// Whether its registry has anything under a name.
    pub fn has(&self, name: &ImageName) -> Result<bool> {
        let found = self.try_each(name, |endpoint| {
            match self.fetch_document(endpoint, name, &name.reference(), name.digest.as_ref()) {
                Ok(_) => Ok(true),
                Err(failure) if matches!(failure.reason(), Reason::NotFound) => Ok(false),
                Err(failure) => Err(failure),
            }
        });
        found.map_err(|error| error.context(format_args!("asking for {name}")))
    }

    /// Finds the manifest for an architecture. Every document on the way is put into the store.
    pub(super) fn choose(&self, store: &Store, name: &ImageName, arch: Arch) -> Result<Chosen> {
        let mut document = self.document(store, name, &name.reference(), name.digest.as_ref())?;
        let named = document.descriptor.clone();
        for _ in 0..INDEX_DEPTH {
            match document.content {
                Content::Manifest(manifest) => {
                    return Ok(Chosen { named, manifest: *manifest, descriptor: document.descriptor });
                }
                Content::Index(index) => {
                    let child = choose_platform(&index, arch).ok_or_else(|| no_platform(name, &index, arch))?;
                    document = self.document(store, name, &child.digest.to_string(), Some(&child.digest))?;
                    if child.size != document.descriptor.size {
                        return Err(Error::refused(format!(
                            "{}: its index says that it has {} bytes, but it has {}",
                            child.digest, child.size, document.descriptor.size
                        )));
                    }
                }
            }
        }
        Err(Error::refused(format!("indexes within indexes, more than {INDEX_DEPTH} deep")))
    }

    /// A document from the store, if it is named by digest and there, else from a registry.
    pub(super) fn document(
        &self,
        store: &Store,
        name: &ImageName,
        reference: &str,
        digest: Option<&Digest>,
    ) -> Result<Document> {
        if let Some(digest) = digest
            && store.blob_path(digest).is_file()
            && let Ok(bytes) = store.read_document(digest)
        {
            return read_document(bytes, None).map_err(Error::refused);
        }
        let document =
            self.try_each(name, |endpoint| match self.fetch_document(endpoint, name, reference, digest) {
                Err(failure) if failure.reason() == Reason::Corrupt => {
                    self.fetch_document(endpoint, name, reference, digest)
                }
                other => other,
            })?;
        store.put_bytes(&document.bytes)?;
        Ok(document)
    }

    fn fetch_document(
        &self,
        endpoint: &Endpoint,
        name: &ImageName,
        reference: &str,
        digest: Option<&Digest>,
    ) -> Result<Document, Failure> {
        let part = format!("manifests/{reference}");
        let mut bytes = Vec::new();
        let asked = self.ask(manifest_question(endpoint, name, &part), &mut bytes, None);
        let answer = asked.map_err(|failure| match failure.reason() {
            Reason::NotFound => failure.hint("check the image's name and tag: the registry has nothing under them"),
            _ => failure,
        })?;
        let found = Digest::of(&bytes);
        agree(endpoint, digest, found)?;
        if let Some(claimed) = header(&answer.headers, "docker-content-digest").and_then(|text| text.parse().ok()) {
            agree(endpoint, Some(&claimed), found)?;
        }
        let content_type = header(&answer.headers, CONTENT_TYPE.as_str());
        read_document(bytes, content_type)
            .map_err(|why| Failure::new(Reason::Corrupt, format!("{} served for {name}: {why}", endpoint.host)))
    }
}

fn manifest_question<'a>(endpoint: &'a Endpoint, name: &'a ImageName, part: &'a str) -> Question<'a> {
    let (repository, accept) = (name.repository.as_str(), ACCEPT);
    Question { endpoint, repository, part, accept, head: false, limit: DOCUMENT_LIMIT, size: None, fixed: false }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The descriptor that an answer's headers give, if they give all of it.
fn described_by(headers: &HeaderMap) -> Option<Descriptor> {
    let digest = header(headers, "docker-content-digest")?.parse().ok()?;
    let size = header(headers, CONTENT_LENGTH.as_str())?.parse().ok().filter(|size| *size > 0)?;
    let kind = header(headers, CONTENT_TYPE.as_str())?.split(';').next().unwrap_or_default().trim();
    is_known(kind).then(|| Descriptor::new(kind, digest, size))
}

fn agree(endpoint: &Endpoint, expected: Option<&Digest>, found: Digest) -> Result<(), Failure> {
    match expected {
        Some(expected) if *expected != found => Err(Failure::new(
            Reason::Corrupt,
            format!("{}: wrong manifest: expected {expected}, found {found}", endpoint.host),
        )
        .hint("the registry, or something on the way to it, is damaged or lies; nothing was kept")),
        _ => Ok(()),
    }
}

fn is_known(kind: &str) -> bool {
    media_type::is_index(kind) || kind == media_type::MANIFEST || kind == media_type::DOCKER_MANIFEST
}

/// Tells what a document is. Its own `mediaType` counts before the header, since the digest covers it; a document
/// that could be read both ways is refused (CVE-2021-41190).
pub(in crate::store) fn read_document(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Document, String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        schema_version: Option<u32>,
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        artifact_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        config: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
    }
    // The JSON reader would take a list for a structure too, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err("this is no manifest: it does not begin with {".to_string());
    }
    let shape: Shape = serde_json::from_slice(&bytes).map_err(|error| format!("this is no manifest: {error}"))?;
    if shape.schema_version == Some(1) {
        return Err("a manifest of Docker's old schema 1, which is not supported; push the image again".to_string());
    }
    let is_index = shape.manifests.is_some();
    if is_index && (shape.config.is_some() || shape.layers.is_some()) {
        return Err("a document that is both a manifest and an index; which one is meant cannot be told".to_string());
    }
    let header = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let kind = match (shape.media_type.as_deref().filter(|kind| !kind.is_empty()), header.filter(|h| is_known(h))) {
        (Some(own), _) => own,
        (None, Some(header)) => header,
        (None, None) if is_index => media_type::INDEX,
        (None, None) => media_type::MANIFEST,
    };
    if !is_known(kind) || media_type::is_index(kind) != is_index {
        return Err(format!("a document of type \"{}\", which is not an image", kind.escape_debug()));
    }
    let descriptor = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
    let not_read = |error| format!("a {kind} that is not what it should be: {error}");
    let content = if is_index {
        Content::Index(serde_json::from_slice(&bytes).map_err(not_read)?)
    } else {
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(not_read)?;
        let config = manifest.config.media_type.as_str();
        if !matches!(config, "" | media_type::CONFIG | "application/vnd.docker.container.image.v1+json") {
            let kind = shape.artifact_type.as_deref().unwrap_or(config);
            return Err(format!("an artifact of type \"{}\", not a container image", kind.escape_debug()));
        }
        Content::Manifest(Box::new(manifest))
    };
    Ok(Document { descriptor, bytes, content })
}

/// The best entry for an architecture: the plain one, else `v8` of arm64 and `v1` of amd64, which mean the same, else
/// none: `amd64/v3` would not run everywhere. An index with a single entry that says nothing is taken at its word.
pub(in crate::store) fn choose_platform(index: &Index, arch: Arch) -> Option<&Descriptor> {
    let base = match arch {
        Arch::Amd64 => "v1",
        Arch::Arm64 => "v8",
    };
    let variant_of = |descriptor: &Descriptor| {
        descriptor.platform.as_ref().filter(|p| p.is_linux(arch)).map(|p| p.variant.clone().unwrap_or_default())
    };
    let with = |wanted: &str| index.manifests.iter().find(|d| variant_of(d).is_some_and(|variant| variant == wanted));
    let alone = || index.manifests.first().filter(|only| index.manifests.len() == 1 && only.platform.is_none());
    with("").or_else(|| with(base)).or_else(alone)
}

fn no_platform(name: &ImageName, index: &Index, arch: Arch) -> Error {
    let known = |p: &&crate::store::Platform| p.os != "unknown" && p.architecture != "unknown";
    let there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(known)
        .take(40)
        .map(|p| p.to_string().escape_debug().to_string())
        .collect();
    let there = if there.is_empty() { "no platform at all".to_string() } else { there.join(", ") };
    Error::network(format!("{name} is not there for linux/{arch}; it is there for {there}"))
        .hint("choose another image or tag, or another --arch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Platform;

    fn entry(architecture: &str, variant: Option<&str>) -> Descriptor {
        let name = format!("{architecture}{variant:?}");
        let mut descriptor = Descriptor::new(media_type::MANIFEST, Digest::of(name.as_bytes()), 1);
        let variant = variant.map(str::to_string);
        descriptor.platform = Some(Platform { architecture: architecture.into(), os: "linux".into(), variant });
        descriptor
    }

    fn index(manifests: Vec<Descriptor>) -> Index {
        Index { manifests, ..Index::default() }
    }

    #[test]
    fn the_plain_variant_is_chosen() {
        let mixed = index(vec![
            entry("arm", Some("v7")),
            entry("amd64", Some("v3")),
            entry("amd64", None),
            entry("arm64", Some("v9")),
            entry("arm64", Some("v8")),
        ]);
        assert_eq!(choose_platform(&mixed, Arch::Amd64), Some(&mixed.manifests[2]));
        assert_eq!(choose_platform(&mixed, Arch::Arm64), Some(&mixed.manifests[4]));
        let kernel_name = index(vec![entry("aarch64", None)]);
        assert!(choose_platform(&kernel_name, Arch::Arm64).is_some());
        assert!(choose_platform(&kernel_name, Arch::Amd64).is_none());
        let silent = index(vec![Descriptor::new(media_type::MANIFEST, Digest::of(b""), 1)]);
        assert!(choose_platform(&silent, Arch::Arm64).is_some());
    }

    #[test]
    fn a_missing_platform_is_answered_with_those_that_are_there() {
        let name = ImageName { registry: "r".into(), repository: "i".into(), tag: None, digest: None };
        let error = no_platform(&name, &index(vec![entry("arm", Some("v7")), entry("amd64", None)]), Arch::Arm64);
        assert_eq!(error.message(), "r/i is not there for linux/arm64; it is there for linux/arm/v7, linux/amd64");
    }

    #[test]
    fn odd_documents_are_refused() {
        let digest = Digest::of(b"");
        let config = format!(r#""config":{{"mediaType":"application/x","digest":"{digest}","size":1}}"#);
        for (bytes, part) in [
            ("".to_string(), "no manifest"),
            ("[]".to_string(), "no manifest"),
            (r#"{"schemaVersion":1}"#.to_string(), "schema 1"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_string(), "both"),
            (format!(r#"{{"mediaType":"{}"}}"#, media_type::INDEX), "not an image"),
            (r#"{"mediaType":"text/html","manifests":[]}"#.to_string(), "not an image"),
            (format!("{{{config}}}"), "artifact"),
            (r#"{"config":{"digest":"sha512:00","size":1}}"#.to_string(), "not what it should be"),
        ] {
            let error = read_document(bytes.clone().into_bytes(), None).unwrap_err();
            assert!(error.contains(part), "{bytes}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_document_stops_the_reader(text in "\\PC{0,60}", value in r#"\{("(schemaVersion|mediaType|manifests|config|layers)":(2|null|\[\]|\{\}|"x"),?){0,4}\}"#) {
            let _ = read_document(text.into_bytes(), Some("x"));
            let _ = read_document(value.into_bytes(), None);
        }
    }
}
