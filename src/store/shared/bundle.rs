//! Pieces that come and go together, such as the compressed archives of a component: an OCI artefact (OCI image
//! specification 1.1, manifest.md, "Guidelines for Artifact Usage") with a layer for each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::manifest::media_type;
use crate::store::{Checked, Descriptor, Digest, Hasher};

/// What kind of artefact it is.
const ARTEFACT_TYPE: &str = "application/vnd.mobyproject.cache.v1";
/// In front of the kind of a piece.
const PIECE_TYPE: &str = "application/vnd.mobyproject.cache.";
/// The configuration of an artefact that has none: `{}`.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub(super) const EMPTY: &[u8] = b"{}";
/// The annotation that holds a piece's key.
const KEY: &str = "org.mobyproject.cache.key";

/// A derived thing that a build wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it lies under.
    pub key: Digest,
    /// More bytes than this are not taken from anybody.
    pub limit: u64,
}

/// Derived things of one kind that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The kind, with its version. It is part of a tag: letters, digits, `-`.
    pub kind: &'static str,
    /// For people.
    pub name: String,
    /// The pieces in their order.
    pub pieces: Vec<Piece>,
    /// Whether the pieces stay in the store when they were sent.
    pub is_kept: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artefact {
    schema_version: u32,
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Bundle {
    /// The tag under which caches have it: whoever has the same pieces finds it.
    pub fn tag(&self) -> String {
        let mut hasher = Hasher::new();
        self.pieces.iter().for_each(|piece| hasher.update(piece.key.as_bytes()));
        format!("{}-{}", self.kind, hasher.finish().hex())
    }

    /// The manifest for pieces that are all there.
    pub(super) fn manifest(&self, pieces: &[Checked]) -> Result<Vec<u8>> {
        let layer = |(piece, there): (&Piece, &Checked)| {
            let mut layer = Descriptor::new(&format!("{PIECE_TYPE}{}", self.kind), there.digest, there.size);
            layer.annotations.insert(KEY.to_owned(), piece.key.to_string());
            layer
        };
        let artefact = Artefact {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            artifact_type: ARTEFACT_TYPE.to_owned(),
            config: empty(),
            layers: self.pieces.iter().zip(pieces).map(layer).collect(),
        };
        serde_json::to_vec(&artefact).map_err(|error| Error::failed(format!("writing a manifest: {error}")))
    }

    /// The pieces that a manifest from a cache names, by key. Those of another kind are left out.
    pub(super) fn read(&self, manifest: &[u8]) -> Result<BTreeMap<Digest, Descriptor>> {
        let artefact: Artefact = serde_json::from_slice(manifest)
            .map_err(|error| Error::refused(format!("this is no manifest of a cache: {error}")))?;
        if artefact.artifact_type != ARTEFACT_TYPE {
            let found = artefact.artifact_type.escape_debug().to_string();
            return Err(Error::refused(format!("this is no manifest of a cache, but of type \"{found}\"")));
        }
        let kind = format!("{PIECE_TYPE}{}", self.kind);
        let keyed = |layer: Descriptor| Some((layer.annotations.get(KEY)?.parse().ok()?, layer));
        Ok(artefact.layers.into_iter().filter(|layer| layer.media_type == kind).filter_map(keyed).collect())
    }
}

/// The descriptor of the empty configuration.
pub(super) fn empty() -> Descriptor {
    Descriptor::new(EMPTY_TYPE, Digest::of(EMPTY), EMPTY.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(keys: &[&[u8]]) -> Bundle {
        let pieces = keys.iter().map(|key| Piece { key: Digest::of(key), limit: 100 }).collect();
        Bundle { kind: "cpio-3", name: "x".into(), pieces, is_kept: true }
    }

    #[test]
    fn a_manifest_is_read_back() {
        let bundle = bundle(&[b"a", b"b"]);
        let there = |bytes: &[u8]| Checked { path: "x".into(), size: bytes.len() as u64, digest: Digest::of(bytes) };
        let manifest = bundle.manifest(&[there(b"one"), there(b"three")]).unwrap();
        let read = bundle.read(&manifest).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[&Digest::of(b"b")].digest, Digest::of(b"three"));
        let text = String::from_utf8(manifest).unwrap();
        for (from, to) in [("cache.cpio-3", "cache.cpio-2"), ("cache.key", "cache.kez")] {
            assert!(bundle.read(text.replace(from, to).as_bytes()).unwrap().is_empty(), "{from}");
        }
        for wrong in ["", "{}", "[]", &text.replace(ARTEFACT_TYPE, "x")] {
            assert_eq!(bundle.read(wrong.as_bytes()).unwrap_err().exit(), crate::error::Exit::Refused);
        }
    }

    #[test]
    fn a_tag_follows_from_the_pieces() {
        let tag = bundle(&[b"a", b"b"]).tag();
        assert_eq!(tag.len(), "cpio-3-".len() + 64);
        assert_ne!(tag, bundle(&[b"b", b"a"]).tag());
        assert_ne!(tag, bundle(&[b"a"]).tag());
    }

    proptest::proptest! {
        #[test]
        fn no_manifest_stops_the_reader(text in r#"\{("(schemaVersion|mediaType|artifactType|config|layers)":(2|null|\[\]|\{\}|"x"),?){0,5}\}"#) {
            let _ = bundle(&[b"a"]).read(text.as_bytes());
        }
    }
}
