//! What a name stands for on each architecture: documents only, no layers.

use std::collections::BTreeMap;

use super::documents::{Content, Document};
use super::{ImageName, Registry};
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::store::{Descriptor, Digest, Store};

/// An image on the architectures that it is there for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platforms {
    /// The digest of the index, if the name stands for one.
    pub index: Option<Digest>,
    /// The digests of manifest and configuration.
    pub images: BTreeMap<Arch, (Digest, Digest)>,
}

impl Registry<'_> {
    /// Asks what a name stands for. Manifests and configurations go into the store on the way, layers do not. An image
    /// that is there for some of the architectures only is no error; one that is there for none of them is.
    pub fn platforms(&self, store: &Store, name: &ImageName, arches: &[Arch]) -> Result<Platforms> {
        self.find_platforms(store, name, arches).map_err(|error| error.context(format_args!("resolving {name}")))
    }

    fn find_platforms(&self, store: &Store, name: &ImageName, arches: &[Arch]) -> Result<Platforms> {
        let top = self.document(store, name, &name.reference(), name.digest.as_ref())?;
        let mut found = Platforms::default();
        match &top.content {
            Content::Manifest(_) => {
                let (config, image) = self.configuration(store, name, &top)?;
                let said = image.architecture.as_str();
                for arch in
                    arches.iter().filter(|arch| said.is_empty() || [arch.name(), arch.kernel_name()].contains(&said))
                {
                    found.images.insert(*arch, (top.descriptor.digest, config));
                }
                if found.images.is_empty() {
                    return Err(Error::network(format!("the image is for {}", said.escape_debug()))
                        .hint("choose another image or tag"));
                }
            }
            Content::Index(index) => {
                found.index = Some(top.descriptor.digest);
                for arch in arches {
                    if super::choose_platform(index, *arch).is_none() {
                        continue;
                    }
                    let pinned = ImageName { digest: Some(top.descriptor.digest), ..name.clone() };
                    let chosen = self.choose(store, &pinned, *arch)?;
                    found.images.insert(*arch, (chosen.descriptor.digest, chosen.manifest.config.digest));
                }
                if found.images.is_empty() {
                    let wanted: Vec<_> = arches.iter().map(|arch| format!("linux/{arch}")).collect();
                    return Err(Error::network(format!("the index has no image for {}", wanted.join(" or ")))
                        .hint("choose another image or tag"));
                }
            }
        }
        Ok(found)
    }

    fn configuration(
        &self,
        store: &Store,
        name: &ImageName,
        document: &Document,
    ) -> Result<(Digest, crate::store::ImageConfig)> {
        let Content::Manifest(manifest) = &document.content else {
            return Err(Error::refused(format!("{} is an index", document.descriptor.digest)));
        };
        let config: &Descriptor = &manifest.config;
        Ok((config.digest, self.pull_config(store, name, config)?))
    }
}
