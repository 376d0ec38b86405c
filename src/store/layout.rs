//! What an image layout of an image holds, for the platforms that are wanted (OCI image specification,
//! image-layout.md): the index as it is, and of each platform the manifest, the configuration and the layers.

use std::collections::BTreeMap;

use super::manifest::media_type;
use super::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Store};
use crate::error::{Error, Result};

/// Indexes within indexes are followed this deep.
pub(super) const INDEX_DEPTH: usize = 3;

/// The blobs of an image layout.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// What `index.json` of the layout names.
    pub top: Vec<Descriptor>,
    /// Every blob with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// The layers among them.
    pub layers: Vec<Descriptor>,
}

/// What a blob of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A manifest or index.
    Document,
    /// A configuration.
    Config,
}

impl Platform {
    /// Reads `os/arch` or `os/arch/variant`. Names that the kernel has for architectures are taken too.
    pub fn parse(text: &str) -> Option<Platform> {
        let mut parts = text.split('/').map(str::to_string);
        let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_string(),
            "aarch64" => "arm64".to_string(),
            _ => architecture,
        };
        let full = parts.next().is_none() && ![&os, &architecture].iter().any(|part| part.is_empty());
        full.then_some(Platform { architecture, os, variant })
    }

    /// Whether an image for `other` is one for this platform: without a variant, any will do. `v8` of arm64 and `v1` of
    /// amd64 are what there is anyway.
    pub fn takes(&self, other: &Platform) -> bool {
        let variant = |platform: &Platform| {
            let plain = match platform.architecture.as_str() {
                "arm64" => Some("v8"),
                "amd64" => Some("v1"),
                _ => None,
            };
            platform.variant.clone().filter(|variant| !variant.is_empty() && Some(variant.as_str()) != plain)
        };
        (self.os == other.os && self.architecture == other.architecture)
            && (self.variant.is_none() || variant(self) == variant(other))
    }
}

impl Store {
    /// What a layout of an image holds: for an index, those of its images that are for one of the platforms, or all if
    /// none is named; the index itself stays as it is and names the others too, as in LinuxKit.
    ///
    /// `get` brings a document or configuration into the store if it is not there. The layers are only listed.
    ///
    /// # Errors
    /// Exit status 4 if a platform is not among them, 3 for documents that are not what they should be.
    pub fn layout(
        &self,
        named: &Descriptor,
        wanted: &[Platform],
        get: &dyn Fn(&Descriptor, Part) -> Result<()>,
    ) -> Result<Layout> {
        let top = Descriptor { platform: None, annotations: BTreeMap::new(), ..named.clone() };
        let mut layout = Layout { top: vec![top.clone()], ..Layout::default() };
        let mut there: Vec<Platform> = Vec::new();
        let mut pending = vec![(top, 0)];
        while let Some((descriptor, depth)) = pending.pop() {
            get(&descriptor, Part::Document)?;
            // Once is enough, however often indexes name it.
            if layout.blobs.insert(descriptor.digest, descriptor.size).is_some() {
                continue;
            }
            if !media_type::is_index(&descriptor.media_type) {
                let config = self.layout_image(&descriptor, &mut layout, get)?;
                if depth == 0 {
                    there.push(Platform { architecture: config.architecture, os: config.os, variant: None });
                }
                continue;
            }
            if depth == INDEX_DEPTH {
                return Err(Error::refused(format!("indexes within indexes, more than {INDEX_DEPTH} deep")));
            }
            let index: Index = self.read_json(&descriptor.digest)?;
            for child in index.manifests.into_iter().rev() {
                let platform = child.platform.clone();
                let is_index = media_type::is_index(&child.media_type);
                let is_wanted = wanted.is_empty()
                    || is_index
                    || platform.as_ref().is_some_and(|there| wanted.iter().any(|wanted| wanted.takes(there)));
                there.extend(platform);
                // What is neither an index nor an image is passed over, as in LinuxKit: signatures and the like.
                if is_wanted && (is_index || media_type::is_manifest(&child.media_type)) {
                    pending.push((child, depth + 1));
                }
            }
        }
        for wanted in wanted {
            if !there.iter().any(|there| wanted.takes(there)) {
                let known = there.iter().filter(|known| known.os != "unknown");
                let known: Vec<_> = known.take(40).map(|known| known.to_string().escape_debug().to_string()).collect();
                let known = if known.is_empty() { "no platform at all".to_string() } else { known.join(", ") };
                return Err(Error::network(format!("it is not there for {wanted}; it is there for {known}"))
                    .hint("choose other platforms, or another image or tag"));
            }
        }
        Ok(layout)
    }

    /// Adds an image's blobs.
    fn layout_image(
        &self,
        manifest: &Descriptor,
        layout: &mut Layout,
        get: &dyn Fn(&Descriptor, Part) -> Result<()>,
    ) -> Result<ImageConfig> {
        let read: Manifest = self.read_json(&manifest.digest)?;
        get(&read.config, Part::Config)?;
        layout.blobs.insert(read.config.digest, read.config.size);
        for layer in read.layers {
            if layout.blobs.insert(layer.digest, layer.size).is_none() {
                layout.layers.push(layer);
            }
        }
        self.read_json(&read.config.digest)
    }

    /// The layout of an image that is in the store; nothing if a part of it is missing.
    pub fn whole_layout(&self, named: &Descriptor, wanted: &[Platform]) -> Result<Option<Layout>> {
        let missing = std::cell::Cell::new(false);
        let get = |descriptor: &Descriptor, _| match self.has_blob(descriptor) {
            true => Ok(()),
            false => {
                missing.set(true);
                Err(Error::failed(format!("{} is not in the store", descriptor.digest)))
            }
        };
        match self.layout(named, wanted, &get) {
            Ok(layout) => Ok(Some(layout).filter(|layout| layout.layers.iter().all(|layer| self.has_blob(layer)))),
            Err(_) if missing.get() => Ok(None),
            // A damaged document was removed by the attempt to read it.
            Err(_) if !self.has_blob(named) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_take_what_means_the_same() {
        for (wanted, there, takes) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/x86_64", "linux/amd64/v1", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64/v9", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            let [wanted_platform, other] = [wanted, there].map(|text| Platform::parse(text).unwrap());
            assert_eq!(wanted_platform.takes(&other), takes, "{wanted} {there}");
        }
        for odd in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"] {
            assert!(Platform::parse(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn an_index_of_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut inner = Descriptor::new(media_type::INDEX, Digest::of(b""), 0);
        for _ in 0..5 {
            let index = Index { manifests: vec![inner.clone(), inner], ..Index::default() };
            let bytes = serde_json::to_vec(&index).unwrap();
            inner = Descriptor::new(media_type::INDEX, store.put_bytes(&bytes).unwrap(), bytes.len() as u64);
        }
        let error = store.whole_layout(&inner, &[]).unwrap_err();
        assert!(error.message().contains("indexes within indexes"), "{error}");
    }
}
