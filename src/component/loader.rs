//! The components that formats need: the locked image if there is one, else what the recipe gives now.

use std::path::Path;
use std::sync::Arc;

use super::{Built, Component, Components, Pin};
use crate::Arch;
use crate::blueprint::Reference;
use crate::error::{Error, Result};
use crate::lock::{LOADERS, LoaderPins, LockedPackage, LockedPlatform, lock_key};
use crate::store::Digest;

/// What a lock has of a loader: its entry, and the manifest in it.
type Locked = (LockedPlatform, Digest);

impl Components<'_> {
    /// Says what the lock of this build has of loaders. Only the first call counts.
    pub fn pin_loaders(&self, pins: LoaderPins) {
        let _ = self.loader_pins.set(pins);
    }

    /// The image of one of [`LOADERS`].
    ///
    /// # Errors
    /// Exit status 3 under `--locked` if the lock does not have it, or its recipe gives another image than the locked one.
    pub fn loader(&self, name: &str, arch: Arch) -> Result<Built> {
        let (component, key, pinned) = self.known_loader(name, arch)?;
        let Some((platform, locked)) = pinned else { return self.image(&component, arch, false) };
        if let Ok(manifest) = self.store.describe(&locked)
            && self.store.has_image(&manifest)
        {
            self.used(&component, arch, &manifest, false);
            return Ok(Built { name: format!("{key}@{locked}"), manifest, reused: true });
        }
        if let Some(manifest) = self.from_shared(&component, arch, Some(&locked))? {
            return Ok(Built { name: format!("{key}@{locked}"), manifest, reused: true });
        }
        let built = match platform.packages.is_empty() {
            true => self.image(&component, arch, false)?,
            false => {
                let pin = |package: &LockedPackage| Pin {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    sha256: package.digest,
                };
                let pins: Vec<Pin> = platform.packages.iter().map(pin).collect();
                self.pinned_image(&component, arch, &pins)?
            }
        };
        if built.manifest.digest != locked {
            let message = format!("{key}: its recipe gives {} here, not the locked {locked}", built.manifest.digest);
            if self.drift_is_refused() {
                return Err(Error::refused(message).hint(
                    "other packages or another compiler: import the locked image into the store, or moby lock --update",
                ));
            }
            self.ui.warn(message);
        }
        Ok(built)
    }

    /// The manifest of a loader's image, if the store has it: the locked one if there is one.
    ///
    /// # Errors
    /// As for [`Components::loader`].
    pub fn loader_in_store(&self, name: &str, arch: Arch) -> Result<Option<Digest>> {
        let (component, _, pinned) = self.known_loader(name, arch)?;
        let manifest = match pinned {
            Some((_, locked)) => self.store.describe(&locked).ok().filter(|manifest| self.store.has_image(manifest)),
            None => self.in_store(&component, arch)?,
        };
        Ok(manifest.map(|manifest| manifest.digest))
    }

    fn drift_is_refused(&self) -> bool {
        self.loader_pins.get().is_some_and(|pins| pins.locked)
    }

    /// A loader, its name in locks, and what is locked of it for an architecture.
    fn known_loader(&self, name: &str, arch: Arch) -> Result<(Arc<Component>, String, Option<Locked>)> {
        if !LOADERS.contains(&name) {
            return Err(Error::failed(format!("{name} is not in the list of loaders that locks know")));
        }
        let component = self.add(Path::new(name))?;
        component.check_arch(arch)?;
        let reference = Reference::parse(&component.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", component.reference, error.message)))?;
        let key = lock_key(&reference, true);
        let none = LoaderPins::default();
        let pins = self.loader_pins.get().unwrap_or(&none);
        let entry = pins.entry(&key, &component.hash, arch, |text| self.ui.note(text))?;
        let platform = entry.and_then(|entry| entry.platforms.get(&arch));
        let pinned = platform.and_then(|platform| Some((platform.clone(), platform.manifest?)));
        Ok((component, key, pinned))
    }
}
