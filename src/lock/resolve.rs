//! Finding what references stand for: in the lock, in the store, in registries.

use std::collections::BTreeMap;

use super::file::{LockEntry, LockFile, LockedPackage, LockedPlatform};
use super::{Locked, LockedImage};
use crate::Arch;
use crate::blueprint::{Blueprint, Reference, Spanned};
use crate::component::{Built, Component, Components, Pin};
use crate::error::{Context, Error, Exit, Result};
use crate::net::Net;
use crate::rootfs::input_tar::InputTar;
use crate::store::registry::{ImageName, Registry};
use crate::store::{Descriptor, Digest, LocalDocker, Manifest, Store};

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
    /// What is locked. References that it does not have are resolved as without it.
    pub lock: Option<&'a LockFile>,
    /// Whether a component that does not come out as it is locked is an error.
    pub locked: bool,
    /// Where images are looked for before their registries are asked.
    pub docker: Option<&'a LocalDocker>,
    /// An earlier output, for layers of which the store has the index only.
    pub input: Option<&'a InputTar>,
    /// What references that came from `@pkg:` stand for.
    pub components: &'a Components<'a>,
}

impl Resolver<'_> {
    /// Resolves every reference of a blueprint.
    pub fn lock(&self, blueprint: Blueprint) -> Result<Locked> {
        let registry = Registry::new(self.net);
        let place = |error: Error, reference: &Spanned<Reference>| match error.exit() {
            Exit::Room => error,
            _ => error.context(&reference.place),
        };
        let mut images = BTreeMap::new();
        for reference in blueprint.references() {
            if blueprint.is_only_layout(&reference) {
                continue;
            }
            let _span = self.net.ui().span("resolve", reference.to_string());
            let image = self.image(&registry, &reference).map_err(|error| place(error, &reference))?;
            images.insert(reference.value, image);
        }
        let mut layouts = BTreeMap::new();
        for (volume, reference) in blueprint.layouts() {
            let _span = self.net.ui().span("resolve", reference.to_string());
            let layout = self.layout(&registry, volume, reference).map_err(|error| place(error, reference))?;
            layouts.insert(volume.name.value.clone(), layout);
        }
        Ok(Locked { blueprint, images, layouts })
    }

    fn image(&self, registry: &Registry<'_>, reference: &Reference) -> Result<LockedImage> {
        let name = image_name(reference)?;
        let component = self.components.get(reference);
        let entry = self.locked_entry(reference, component.as_deref());
        if let Some(component) = component {
            return self.component(&component, entry);
        }
        if let Some(entry) = entry
            && let Some(image) = self.locked(registry, &name, entry)?
        {
            return Ok(image);
        }
        if let Some(docker) = self.docker.filter(|_| !reference.is_in_file())
            && let Some(manifest) = docker.image(self.store, &name, self.arch, self.net.ui())?
        {
            return self.open(manifest).context(&name);
        }
        if let Some(built) = self.built_here(&name)? {
            return self.open(built).context(&name);
        }
        if (!self.pull || reference.is_in_file())
            && let Some(named) = self.store.named(&name.to_string())?
            && let Some(image) = self.in_store(&named).context(&name)?
        {
            return Ok(image);
        }
        if reference.is_in_file() {
            return Err(not_in_file(reference, format_args!("linux/{}", self.arch)));
        }
        let manifest = registry.pull(self.store, &name, self.arch)?;
        self.open(manifest).context(&name)
    }

    /// What was built here, and is no part of a registry: it has its architecture behind its name, as LinuxKit's packages
    /// have. An image that a registry has under such a name is another one.
    fn built_here(&self, name: &ImageName) -> Result<Option<Descriptor>> {
        let built = format!("{name}-{}", self.arch);
        let Some(manifest) = self.store.named(&built)?.filter(|manifest| !manifest.is_pulled()) else {
            return Ok(None);
        };
        if self.pull || self.store.named(&name.to_string())?.is_some_and(|named| named.is_pulled()) {
            self.net.ui().note(format!(
                "{name}: {built} is taken, which was built here, and not what a registry has (moby cache rm {built} forgets it)"
            ));
        }
        Ok(Some(manifest))
    }

    /// What the lock has for a reference. A drifted recipe is as good as none: `--locked` refused it before.
    pub(super) fn locked_entry(&self, reference: &Reference, component: Option<&Component>) -> Option<&LockEntry> {
        let recipe = component.map(|component| component.hash.as_str());
        let entry = self.lock.and_then(|lock| lock.entry(reference, component.is_some()));
        entry.filter(|entry| entry.recipe.as_deref() == recipe)
    }

    /// A component's image: the locked one if it is in the store, else what its recipe gives now.
    pub(super) fn component(&self, component: &Component, entry: Option<&LockEntry>) -> Result<LockedImage> {
        let platform = entry.and_then(|entry| entry.platforms.get(&self.arch));
        let locked = platform.and_then(|platform| platform.manifest);
        if let Some(manifest) = locked {
            if let Some(image) = self.by_digest(&manifest)? {
                self.components.used(component, self.arch, &image.manifest, false);
                return Ok(image);
            }
            if let Some(manifest) = self.components.from_shared(component, self.arch, Some(&manifest))? {
                return self.open(manifest).context(&component.reference);
            }
        }
        let built = match platform.filter(|platform| locked.is_some() && !platform.packages.is_empty()) {
            Some(platform) => self.pinned(component, platform)?,
            None => self.components.image(component, self.arch, self.pull)?,
        };
        if let Some(manifest) = locked.filter(|manifest| *manifest != built.manifest.digest) {
            let name = &component.reference;
            let message = format!("{name}: its recipe gives {} here, not the locked {manifest}", built.manifest.digest);
            if self.locked {
                return Err(Error::refused(message).hint(
                    "other packages or another compiler: import the locked image into the store, or moby lock --update",
                ));
            }
            self.net.ui().warn(message);
        }
        self.open(built.manifest).context(&built.name)
    }

    /// A component built from the packages that the lock names; from today's if the archive has those no more and that
    /// is allowed.
    fn pinned(&self, component: &Component, platform: &LockedPlatform) -> Result<Built> {
        let pin = |package: &LockedPackage| Pin {
            name: package.name.clone(),
            version: package.version.clone(),
            sha256: package.digest,
        };
        let pins: Vec<Pin> = platform.packages.iter().map(pin).collect();
        match self.components.pinned_image(component, self.arch, &pins) {
            Err(error) if error.exit() == Exit::Refused && !self.locked => {
                self.net.ui().warn(format!("{}; what it has today is taken", error.message()));
                self.components.image(component, self.arch, self.pull)
            }
            built => built,
        }
    }

    /// The image that the lock names; nothing if it does not say which.
    fn locked(&self, registry: &Registry<'_>, name: &ImageName, entry: &LockEntry) -> Result<Option<LockedImage>> {
        let platform = entry.platforms.get(&self.arch);
        let Some(digest) = platform.and_then(|platform| platform.manifest).or(entry.index) else { return Ok(None) };
        let here = match self.by_digest(&digest)? {
            Some(image) => Some(image),
            None => self.in_docker(name, &digest)?,
        };
        let image = match here {
            Some(image) => image,
            None => {
                let pinned = ImageName { digest: entry.index.or(Some(digest)), ..name.clone() };
                self.open(registry.pull(self.store, &pinned, self.arch)?).context(name)?
            }
        };
        self.check(name, platform, &image)?;
        Ok(Some(image))
    }

    /// A locked image that Docker still has.
    fn in_docker(&self, name: &ImageName, locked: &Digest) -> Result<Option<LockedImage>> {
        let Some(docker) = self.docker else { return Ok(None) };
        let by_tag = ImageName { digest: None, ..name.clone() };
        let found = docker.image(self.store, &by_tag, self.arch, self.net.ui())?;
        found.filter(|found| found.digest == *locked).map(|found| self.open(found)).transpose()
    }

    fn check(&self, name: &ImageName, platform: Option<&LockedPlatform>, image: &LockedImage) -> Result<()> {
        let Some(platform) = platform else { return Ok(()) };
        let manifest: Manifest = self.store.read_json(&image.manifest.digest)?;
        let differs = |locked: Option<Digest>, found| locked.is_some_and(|locked| locked != found);
        if differs(platform.manifest, image.manifest.digest) || differs(platform.config, manifest.config.digest) {
            return Err(Error::refused(format!(
                "{name}: the lock contradicts itself: it leads to the manifest {} with the configuration {}, but names others",
                image.manifest.digest, manifest.config.digest
            ))
            .hint("it was changed by hand; moby lock --update writes it anew"));
        }
        Ok(())
    }

    /// The image of a manifest or index, if all of it is in the store.
    fn by_digest(&self, digest: &Digest) -> Result<Option<LockedImage>> {
        match self.store.describe(digest) {
            Ok(named) => self.in_store(&named),
            Err(_) => Ok(None),
        }
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
        let found = |(layer, diff_id): (&Descriptor, &Digest)| {
            let absent = self.input.and_then(|input| input.layer(self.store, layer, diff_id));
            absent.map_or_else(|| self.store.layer(layer, diff_id), Ok)
        };
        let layers = layers.map(found).collect::<Result<_>>()?;
        Ok(LockedImage { manifest: descriptor, config, layers })
    }
}

/// The error of an image in a file that is there, but not for what is built.
pub(super) fn not_in_file(reference: &Reference, platform: impl std::fmt::Display) -> Error {
    Error::usage(format!("{} is there, but not for {platform}", reference.as_typed()))
        .hint("write it to the file for that platform too, or choose another --arch")
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
