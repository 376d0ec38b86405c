//! One image for several architectures: the index over what was built for each.

use super::{Component, Components};
use crate::Arch;
use crate::error::{Error, Result};
use crate::store::manifest::media_type;
use crate::store::registry::ImageName;
use crate::store::{Descriptor, Index, Platform};

/// A component's images and the index over them.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// The index's name in the store: the component's reference.
    pub name: String,
    /// The index.
    pub index: Descriptor,
    /// The images in it, each with its name in the store.
    pub images: Vec<(String, Descriptor)>,
}

impl Components<'_> {
    /// Makes the index over every architecture that the component was built for, and names it in the store.
    ///
    /// # Errors
    /// Exit status 2 if it was built for none.
    pub fn index(&self, component: &Component) -> Result<Indexed> {
        self.index_as(component, &component.canonical()?)
    }

    /// The same under another name than the recipe's hash gives.
    pub fn index_as(&self, component: &Component, outside: &ImageName) -> Result<Indexed> {
        let name = component.canonical()?.to_string();
        let mut images = Vec::new();
        for arch in Arch::ALL {
            let built = format!("{name}-{arch}");
            if let Some(manifest) = self.store.named(&built)? {
                let named = format!("{outside}-{arch}");
                if named != built {
                    self.store.set_name(&named, manifest.clone())?;
                }
                images.push((named, arch, manifest));
            }
        }
        if images.is_empty() {
            return Err(Error::usage(format!("{name} was not built for any architecture"))
                .hint(format!("moby pkg build {}", component.folder.display())));
        }
        let entry = |arch: Arch, manifest: &Descriptor| Descriptor {
            platform: Some(Platform::linux(arch)),
            // The layout's own annotation is the name in this store, and nobody else's business.
            annotations: Default::default(),
            ..manifest.clone()
        };
        let index = Index {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: images.iter().map(|(_, arch, manifest)| entry(*arch, manifest)).collect(),
        };
        let bytes = serde_json::to_vec(&index).map_err(|error| Error::failed(format!("writing an index: {error}")))?;
        let index = Descriptor::new(media_type::INDEX, self.store.put_bytes(&bytes)?, bytes.len() as u64);
        self.store.set_name(&name, index.clone())?;
        let outside = outside.to_string();
        if outside != name {
            self.store.set_name(&outside, index.clone())?;
        }
        let images = images.into_iter().map(|(name, _, manifest)| (name, manifest)).collect();
        Ok(Indexed { name: outside, index, images })
    }
}
