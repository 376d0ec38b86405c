//! The images of volumes with `format: oci`: as they are, for the platforms that the volume keeps.

use super::file::LockEntry;
use super::resolve::{Resolver, image_name, not_in_file};
use crate::Arch;
use crate::blueprint::{Reference, Volume};
use crate::component::Component;
use crate::error::{Context, Error, Result};
use crate::store::registry::{ImageName, Registry};
use crate::store::{Descriptor, Digest, Layout, Platform};

impl Resolver<'_> {
    /// What a volume's image layout holds, with everything of it in the store.
    pub(super) fn layout(&self, registry: &Registry<'_>, volume: &Volume, reference: &Reference) -> Result<Layout> {
        let wanted = volume.layout_platforms();
        let name = image_name(reference)?;
        let component = self.components.get(reference);
        let entry = self.locked_entry(reference, component.as_deref());
        if let Some(component) = component {
            return self.built_layout(&wanted, |arch| self.component_for(&component, entry, arch));
        }
        if let Some(digest) = entry.and_then(only_digest) {
            // What was built here is in no registry; what is locked is in the store, or in its registry.
            let pinned = ImageName { digest: Some(digest), ..name };
            return match self.store.describe(&digest) {
                Ok(named) => match self.whole_layout(&named, &wanted).context(reference)? {
                    Some(layout) => Ok(layout),
                    None => registry.pull_layout(self.store, &pinned, &wanted),
                },
                Err(_) => registry.pull_layout(self.store, &pinned, &wanted),
            };
        }
        if self.store.named(&format!("{name}-{}", self.arch))?.is_some() {
            return self.built_layout(&wanted, |arch| {
                let locked = entry.and_then(|entry| entry.platforms.get(&arch)).and_then(|platform| platform.manifest);
                if let Some(locked) = locked {
                    return self.store.describe(&locked);
                }
                self.store.named(&format!("{name}-{arch}"))?.ok_or_else(|| {
                    Error::failed(format!("{name} was built here, but not for {arch}"))
                        .hint(format!("build it for that too, or take linux/{arch} out of the volume's platforms"))
                })
            });
        }
        if (!self.pull || reference.is_in_file())
            && let Some(named) = self.store.named(&name.to_string())?
            && let Some(layout) = self.whole_layout(&named, &wanted).context(&name)?
        {
            return Ok(layout);
        }
        if reference.is_in_file() {
            return Err(not_in_file(reference, "all of the volume's platforms"));
        }
        registry.pull_layout(self.store, &name, &wanted)
    }

    /// The layout of an image that is in the store, or is once the blobs of an earlier output are taken.
    fn whole_layout(&self, named: &Descriptor, wanted: &[Platform]) -> Result<Option<Layout>> {
        if let Some(input) = self.input {
            let in_store = |descriptor: &Descriptor, _| match self.store.has_blob(descriptor) {
                true => Ok(()),
                false => Err(Error::failed(format!("{} is not in the store", descriptor.digest))),
            };
            // Without its documents nothing is known, and the registry is asked.
            let layers = self.store.layout(named, wanted, &in_store).map(|layout| layout.layers).unwrap_or_default();
            for layer in layers.iter().filter(|layer| !self.store.has_blob(layer)) {
                input.restore(self.store, layer)?;
            }
        }
        self.store.whole_layout(named, wanted)
    }

    /// A layout of images that have no index: one for each of the architectures that are wanted, by default that of the
    /// build.
    fn built_layout(&self, wanted: &[Platform], built: impl Fn(Arch) -> Result<Descriptor>) -> Result<Layout> {
        if let Some(foreign) = wanted.iter().find(|wanted| !Arch::ALL.iter().any(|arch| takes(wanted, *arch))) {
            return Err(Error::usage(format!("{foreign} is no platform that images are built for here"))
                .hint("platforms of images that are built here: linux/amd64, linux/arm64"));
        }
        let mut layout = Layout::default();
        for arch in Arch::ALL {
            let asked = wanted.iter().any(|wanted| takes(wanted, arch));
            if !asked && (arch != self.arch || !wanted.is_empty()) {
                continue;
            }
            let manifest = Descriptor { platform: None, ..built(arch)? };
            let part = self.store.whole_layout(&manifest, &[])?;
            let part = part.ok_or_else(|| Error::failed(format!("{} is not whole in the store", manifest.digest)))?;
            let platform = Some(Platform::linux(arch));
            layout.top.extend(part.top.into_iter().map(|top| Descriptor { platform: platform.clone(), ..top }));
            layout.blobs.extend(part.blobs);
            layout.layers.extend(part.layers);
        }
        Ok(layout)
    }

    fn component_for(&self, component: &Component, entry: Option<&LockEntry>, arch: Arch) -> Result<Descriptor> {
        let other = Resolver { arch, ..*self };
        other.component(component, entry).map(|image| image.manifest)
    }
}

fn takes(wanted: &Platform, arch: Arch) -> bool {
    wanted.takes(&Platform::linux(arch))
}

/// The digest that an entry stands for as a whole: that of its index or, if all its platforms have the same manifest or
/// there is one only, of that.
fn only_digest(entry: &LockEntry) -> Option<Digest> {
    let mut manifests = entry.platforms.values().map(|platform| platform.manifest);
    entry.index.or_else(|| {
        let first = manifests.next()??;
        manifests.all(|other| other == Some(first)).then_some(first)
    })
}
