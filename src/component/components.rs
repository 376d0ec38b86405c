//! The components that a build names with `@pkg:`, and what was built of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::image::{MATERIALS_LABEL, Materials};
use super::materials::Source;
use super::{Component, Overrides, embedded};
use crate::Arch;
use crate::blueprint::Reference;
use crate::error::{Context, Error, Result};
use crate::lock::LoaderPins;
use crate::net::Net;
use crate::store::shared::SharedCaches;
use crate::store::{Descriptor, Digest, ImageConfig, Manifest, Store};
use crate::ui::Ui;

/// The components of a build.
#[derive(Debug)]
pub struct Components<'a> {
    pub(super) store: &'a Store,
    pub(super) ui: &'a Ui,
    pub(super) materials: Source<'a>,
    overrides: Overrides,
    known: Mutex<BTreeMap<Reference, Arc<Component>>>,
    pub(super) loader_pins: OnceLock<LoaderPins>,
    shared: Option<&'a SharedCaches<'a>>,
}

/// A package that a component is to be built from, and no other of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of the .deb.
    pub sha256: Digest,
}

/// A component's image in the store.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name there: the reference with the architecture behind it, as LinuxKit's packages have.
    pub name: String,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Whether it was there already.
    pub reused: bool,
}

impl<'a> Components<'a> {
    /// None yet. Nothing is opened before it is needed.
    pub fn new(store: &'a Store, net: &'a Net, ui: &'a Ui) -> Components<'a> {
        Components {
            store,
            ui,
            materials: Source::new(store, net, ui),
            overrides: Overrides::default(),
            known: Mutex::default(),
            loader_pins: OnceLock::new(),
            shared: None,
        }
    }

    /// The same, for images of another organisation than the recipes say: `example`, `registry.example/group`.
    pub fn of_organisation(mut self, organisation: Option<&str>) -> Components<'a> {
        self.overrides.organisation = organisation.map(str::to_owned);
        self
    }

    /// The same, with what the command line says in place of recipes.
    pub fn with_overrides(mut self, overrides: Overrides) -> Components<'a> {
        self.overrides = overrides;
        self
    }

    /// The same, with caches that other machines have a part in.
    pub fn sharing(mut self, shared: &'a SharedCaches<'a>) -> Components<'a> {
        self.shared = Some(shared);
        self
    }

    /// The caches that other machines have a part in.
    pub fn shared(&self) -> Option<&'a SharedCaches<'a>> {
        self.shared
    }

    /// Reads a component's folder and remembers it under its reference, which is returned. A folder that is not there
    /// but has the name of one of this project's own (`../components/redis`) means that one.
    pub fn add(&self, folder: &Path) -> Result<Arc<Component>> {
        let embedded = if folder.exists() { None } else { embedded::named(folder) };
        let (mut component, warnings) = match embedded {
            Some(name) => Component::open(&embedded::folder(self.store, name)?, &self.overrides)?,
            None => Component::open(folder, &self.overrides)?,
        };
        component.embedded = embedded.is_some();
        for warning in warnings {
            self.ui.warn(warning.render(false));
        }
        let reference = Reference::parse(&component.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", component.reference, error.message)))?;
        let component = Arc::new(component);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference, component.clone());
        Ok(component)
    }

    /// The component that a reference stands for, if it was added.
    pub fn get(&self, reference: &Reference) -> Option<Arc<Component>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned()
    }

    /// The component's image for an architecture: from the store, else built now. With `again` it is built even if it
    /// is there, from what the archive has today.
    pub fn image(&self, component: &Component, arch: Arch, again: bool) -> Result<Built> {
        self.image_of(component, arch, again, None)
    }

    /// The component's image, built now from exactly these packages.
    ///
    /// # Errors
    /// Exit status 3 if the archive does not have one of them any more.
    pub fn pinned_image(&self, component: &Component, arch: Arch, pins: &[Pin]) -> Result<Built> {
        self.image_of(component, arch, true, Some(pins))
    }

    /// The manifest of the component's image, if the store has all of it.
    pub fn in_store(&self, component: &Component, arch: Arch) -> Result<Option<Descriptor>> {
        let named = self.store.named(&format!("{}-{arch}", component.canonical()?))?;
        Ok(named.filter(|manifest| self.store.has_image(manifest)))
    }

    fn image_of(&self, component: &Component, arch: Arch, again: bool, pins: Option<&[Pin]>) -> Result<Built> {
        component.check_arch(arch)?;
        let name = format!("{}-{arch}", component.canonical()?);
        if !again && let Some(manifest) = self.in_store(component, arch)? {
            self.ui.span("component", &component.reference).reused();
            self.used(component, arch, &manifest, false);
            return Ok(Built { name, manifest, reused: true });
        }
        if !again && let Some(manifest) = self.from_shared(component, arch, None)? {
            return Ok(Built { name, manifest, reused: true });
        }
        let _span = self.ui.span("component", &component.reference);
        let built = self.build(component, arch, pins).and_then(|manifest| {
            // A Dockerfile's builder had a copy, which was checked.
            let copied = component.recipe.dockerfile.is_some();
            if copied { Ok(manifest) } else { component.check_unchanged().map(|()| manifest) }
        });
        let manifest = built.context(format_args!("building {}", component.reference))?;
        self.store.set_name(&name, manifest.clone())?;
        // What a lock's packages gave is older than what a cache may have of the recipe.
        self.used(component, arch, &manifest, pins.is_none());
        Ok(Built { name, manifest, reused: false })
    }

    /// The component's image out of a shared cache: the one that a lock names by its manifest, else what a trusted cache
    /// has of the recipe. It has its name in the store then.
    pub fn from_shared(
        &self,
        component: &Component,
        arch: Arch,
        locked: Option<&Digest>,
    ) -> Result<Option<Descriptor>> {
        let Some(shared) = self.shared else { return Ok(None) };
        let name = &component.reference;
        let Some(manifest) = shared.component(name, &component.hash, arch, locked) else { return Ok(None) };
        if locked.is_none() && recipe_of(self.store, &manifest)?.is_none_or(|recipe| recipe != component.hash) {
            self.ui.warn(format!("a shared cache has an image for {name} that was made from something else"));
            return Ok(None);
        }
        self.ui.span("component", name).reused();
        self.store.set_name(&format!("{}-{arch}", component.canonical()?), manifest.clone())?;
        self.used(component, arch, &manifest, false);
        Ok(Some(manifest))
    }

    /// Notes what a build takes, for the caches that it fills.
    pub fn used(&self, component: &Component, arch: Arch, manifest: &Descriptor, built: bool) {
        if let Some(shared) = self.shared {
            shared.used_component(&component.hash, arch, manifest, built);
        }
    }
}

/// The hash of the recipe that an image says it was made from.
fn recipe_of(store: &Store, manifest: &Descriptor) -> Result<Option<String>> {
    let manifest: Manifest = store.read_json(&manifest.digest)?;
    let config: ImageConfig = store.read_json(&manifest.config.digest)?;
    let label = config.config.labels.get(MATERIALS_LABEL);
    Ok(label.and_then(|text| serde_json::from_str::<Materials>(text).ok()).map(|materials| materials.recipe))
}
