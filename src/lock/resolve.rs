//! Finding what references stand for: in the store first, then in registries.

use std::collections::BTreeMap;

use super::{Locked, LockedImage};
use crate::Arch;
use crate::blueprint::{Blueprint, Reference};
use crate::component::Components;
use crate::error::{Context, Error, Exit, Result};
use crate::net::Net;
use crate::store::registry::{ImageName, Registry};
use crate::store::{Descriptor, Digest, Manifest, Store};

/// What references are resolved with.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// Where images are and go to.
    pub store: &'a Store,
    /// How registries are reached.
    pub net: &'a Net,
    /// For which architecture.
    pub arch: Arch,
    /// Whether registries and package archives are asked even for what the store has under the same name.
    pub pull: bool,
    /// What references that came from `@pkg:` stand for.
    pub components: &'a Components<'a>,
}

impl Resolver<'_> {
    /// Resolves every reference of a blueprint.
    pub fn lock(&self, blueprint: Blueprint) -> Result<Locked> {
        let registry = Registry::new(self.net);
        let mut images = BTreeMap::new();
        for reference in blueprint.references() {
            let image = self.image(&registry, &reference).map_err(|error| match error.exit() {
                Exit::Room => error,
                _ => error.context(&reference.place),
            })?;
            images.insert(reference.value, image);
        }
        Ok(Locked { blueprint, images })
    }

    fn image(&self, registry: &Registry<'_>, reference: &Reference) -> Result<LockedImage> {
        if let Some(component) = self.components.get(reference) {
            let built = self.components.image(&component, self.arch, self.pull)?;
            return self.open(built.manifest).context(&built.name);
        }
        let name = image_name(reference)?;
        // What was built here has its architecture behind its name, as LinuxKit's packages have.
        if let Some(built) = self.store.named(&format!("{name}-{}", self.arch))? {
            return self.open(built).context(&name);
        }
        if !self.pull
            && let Some(named) = self.store.named(&name.to_string())?
            && let Some(image) = self.in_store(&named).context(&name)?
        {
            return Ok(image);
        }
        let manifest = registry.pull(self.store, &name, self.arch)?;
        self.open(manifest).context(&name)
    }

    /// The image that a name of the store stands for, if all of it is there for this architecture. What is missing, or
    /// damaged and removed by the attempt to read it, is no error: it is pulled again.
    fn in_store(&self, named: &Descriptor) -> Result<Option<LockedImage>> {
        let Ok(Some(manifest)) = self.store.platform_manifest(named, self.arch) else { return Ok(None) };
        let image = match self.open(manifest.clone()) {
            Ok(image) => image,
            // Every byte is there: pulling would bring the same ones.
            Err(error) if self.store.has_image(&manifest) => return Err(error),
            Err(error) if error.exit() == Exit::Room => return Err(error),
            Err(_) => return Ok(None),
        };
        let architecture = image.config.architecture.as_str();
        let fits = architecture.is_empty() || [self.arch.name(), self.arch.kernel_name()].contains(&architecture);
        Ok(fits.then_some(image))
    }

    /// Opens an image that is in the store.
    fn open(&self, descriptor: Descriptor) -> Result<LockedImage> {
        let manifest: Manifest = self.store.read_json(&descriptor.digest)?;
        let config: crate::store::ImageConfig = self.store.read_json(&manifest.config.digest)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::refused(format!(
                "the configuration names {} layers, the manifest has {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers = layers.map(|(layer, diff_id)| self.store.layer(layer, diff_id)).collect::<Result<_>>()?;
        Ok(LockedImage { manifest: descriptor, config, layers })
    }
}

/// A reference as registries and the store name it.
pub fn image_name(reference: &Reference) -> Result<ImageName> {
    Ok(ImageName {
        registry: reference.registry().to_string(),
        repository: reference.repository().to_string(),
        tag: reference.tag().map(str::to_string),
        digest: reference.digest().map(str::parse::<Digest>).transpose()?,
    })
}
