//! The volumes section: `lower` holds what a volume starts with, `merged` is where containers find it, `tmp` takes
//! what they write.

use serde::Serialize;

use super::Assembly;
use crate::blueprint::{Security, Volume, VolumeFormat};
use crate::error::{Error, Result};
use crate::rootfs::image_rules::Role;
use crate::rootfs::{Content, Inode, Kind, Meta, OriginId};
use crate::store::manifest::{REF_NAME, media_type};
use crate::store::{Descriptor, Digest, Platform};

/// The version file of an image layout, with LinuxKit's white space.
const LAYOUT_FILE: &str = "{\n\t\t\"imageLayoutVersion\": \"1.0.0\"\n\t}";
/// The time of all entries of an image layout, as in LinuxKit.
const LAYOUT_TIME: i64 = 0;

impl Assembly<'_> {
    pub(super) fn volumes(&mut self) -> Result<()> {
        let locked = self.locked;
        for (number, volume) in locked.blueprint.volumes.iter().enumerate() {
            let source =
                volume.image.as_ref().map_or_else(|| "linuxkit.volumes".to_string(), |image| image.to_string());
            let origin = self.origin(source, format!("volumes[{number}]"));
            let base = format!("containers/volumes/{}", *volume.name);
            for folder in ["", "/lower", "/merged"] {
                self.folder(&format!("{base}{folder}"), origin)?;
            }
            // Without `tmp` the machine mounts the volume read-only. LinuxKit's builder always makes it, so that only
            // its containers keep to `readonly`.
            let strict = locked.blueprint.security() == Security::Strict;
            if !(volume.readonly && strict) {
                self.folder(&format!("{base}/tmp"), origin)?;
            }
            let Some(reference) = &volume.image else { continue };
            let lower = format!("{base}/lower");
            match volume.format {
                VolumeFormat::Filesystem => {
                    let tree = self.image_tree(reference, Role::Init)?;
                    self.graft(&lower, &tree, origin, reference)?;
                }
                VolumeFormat::Oci => self.layout(volume, &reference.to_string(), &lower, origin)?,
            }
        }
        Ok(())
    }

    /// An image as it is, in the form of an image layout: the same blobs, byte for byte, as in its registry.
    fn layout(&mut self, volume: &Volume, name: &str, lower: &str, origin: OriginId) -> Result<()> {
        let layout = self.locked.layout(&volume.name)?;
        let file = |content| (Meta::root(0o644, LAYOUT_TIME), Kind::File(content));
        let folder = || (Meta::root(0o755, LAYOUT_TIME), Kind::folder());
        let mut entries = vec![
            ("oci-layout".to_string(), file(Content::bytes(LAYOUT_FILE.as_bytes()))),
            ("index.json".to_string(), file(Content::bytes(index(&layout.top, name)?))),
            ("blobs".to_string(), folder()),
            ("blobs/sha256".to_string(), folder()),
        ];
        for (digest, size) in &layout.blobs {
            let content = Content::part(self.store.blob_path(digest).into(), 0, *size, *digest);
            entries.push((format!("blobs/sha256/{}", digest.hex()), file(content)));
        }
        let missing = self.missing();
        for (path, (meta, kind)) in entries {
            self.tree.insert(format!("{lower}/{path}").as_bytes(), Inode { meta, kind, origin }, &missing)?;
        }
        Ok(())
    }
}

/// `index.json` of a layout, in LinuxKit's order and indentation.
fn index(top: &[Descriptor], name: &str) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index<'a> {
        schema_version: u32,
        media_type: &'a str,
        manifests: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        media_type: &'a str,
        size: u64,
        digest: Digest,
        annotations: std::collections::BTreeMap<&'a str, &'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<&'a Platform>,
    }
    let manifests = top.iter().map(|top| Entry {
        // Docker's lists are called by the name that layouts know.
        media_type: if media_type::is_index(&top.media_type) { media_type::INDEX } else { &top.media_type },
        size: top.size,
        digest: top.digest,
        annotations: [(REF_NAME, name)].into(),
        platform: top.platform.as_ref(),
    });
    let index = Index { schema_version: 2, media_type: media_type::INDEX, manifests: manifests.collect() };
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    index
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, form))
        .map_err(|error| Error::failed(format!("writing index.json: {error}")))?;
    Ok(bytes)
}
