//! What a build made or took, to the caches that it writes: only what is not there.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::NamedTempFile;

use super::bundle::{self, EMPTY};
use super::place::in_repository;
use super::{Bundle, Component, Place, SharedCaches, Target, component_tag, image_tag, in_parallel};
use crate::Arch;
use crate::error::{Context, IoContext, Result};
use crate::store::manifest::media_type;
use crate::store::registry::ImageName;
use crate::store::{Checked, Descriptor, Digest, Manifest, Store};

/// What goes under one tag.
#[derive(Debug)]
enum Parcel {
    Bundle(Bundle),
    /// The image of a recipe, under both of its tags.
    Image {
        recipe: String,
        arch: Arch,
        component: Component,
    },
}

impl SharedCaches<'_> {
    /// Sends what the build used to every cache that is to be written.
    ///
    /// # Errors
    /// What the network or the disk say, unless the cache may fail; then it is a warning.
    pub fn send(&self) -> Result<()> {
        for target in &self.targets {
            match self.send_to(target).context(format_args!("sending to {}", target.place)) {
                Err(error) if target.optional => self.ui.warn(error.message()),
                other => other?,
            }
        }
        for bundle in self.memory().bundles.values().filter(|bundle| !bundle.is_kept) {
            bundle.pieces.iter().try_for_each(|piece| self.store.remove_checked(bundle.kind, &piece.key))?;
        }
        Ok(())
    }

    fn send_to(&self, target: &Target) -> Result<()> {
        let parcels = self.parcels(target.components);
        let _span = self.ui.span("share", target.place.to_string());
        let sent = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let send = |parcel: &Parcel| {
            // What failed once fails again, after as long a wait.
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let new = match &target.place {
                Place::Registry(repository) => self.to_registry(repository, parcel),
                Place::Folder(folder) => Store::open(folder).and_then(|cache| self.to_folder(&cache, parcel)),
            };
            let new = new.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            sent.fetch_add(usize::from(new), Ordering::Relaxed);
            Ok(())
        };
        in_parallel(&parcels, |_, parcel| send(parcel))?.into_iter().collect::<Result<Vec<()>>>()?;
        let (sent, all) = (sent.into_inner(), parcels.len());
        self.ui.note(format!("{:>9} {sent} of {all} entries are new in {}", "share", target.place));
        Ok(())
    }

    fn parcels(&self, components: bool) -> Vec<Parcel> {
        let memory = self.memory();
        let mut parcels: Vec<Parcel> = memory.bundles.values().cloned().map(Parcel::Bundle).collect();
        if components {
            parcels.extend(memory.components.iter().map(|((recipe, arch), component)| Parcel::Image {
                recipe: recipe.clone(),
                arch: *arch,
                component: component.clone(),
            }));
        }
        parcels
    }

    /// The pieces of a bundle; nothing if one of them went out of the store meanwhile.
    fn pieces(&self, bundle: &Bundle) -> Result<Option<Vec<Checked>>> {
        let pieces = bundle.pieces.iter().map(|piece| self.store.checked(bundle.kind, &piece.key, |_| ()));
        pieces.collect()
    }

    /// Whether a tag has to be sent, by what a cache has under it.
    fn is_lacking(&self, tag: &str, there: Option<&Digest>, wanted: Option<&Component>) -> bool {
        match (there, wanted) {
            (None, _) => true,
            (Some(_), None) => self.memory().refused.contains(tag),
            // What was built now is newer than what somebody else built of the same recipe.
            (Some(there), Some(component)) => component.built && *there != component.manifest.digest,
        }
    }

    fn to_registry(&self, repository: &ImageName, parcel: &Parcel) -> Result<bool> {
        let there = |tag: &str| -> Result<Option<Digest>> {
            let found = self.registry.tagged_in_origin(&in_repository(repository, tag))?;
            Ok(found.map(|descriptor| descriptor.digest))
        };
        let tag_of = |tag: &str| in_repository(repository, tag).tag.unwrap_or_default();
        match parcel {
            Parcel::Bundle(bundle) => {
                let tag = bundle.tag();
                // A repository that is not there yet may be answered by a refusal; sending tells.
                if !self.is_lacking(&tag, there(&tag).unwrap_or(None).as_ref(), None) {
                    return Ok(false);
                }
                let Some(pieces) = self.pieces(bundle)? else { return Ok(false) };
                let mut pusher = self.registry.pusher(repository)?;
                for piece in &pieces {
                    pusher.file(&piece.path, &Descriptor::new("", piece.digest, piece.size))?;
                }
                pusher.file(empty_file(self.store)?.path(), &bundle::empty())?;
                let (bytes, descriptor) = described(bundle, &pieces)?;
                pusher.manifest(bytes, &descriptor, &tag_of(&tag))?;
                Ok(true)
            }
            Parcel::Image { recipe, arch, component } => {
                let mut new = false;
                let Component { manifest, .. } = component;
                for (tag, wanted) in
                    [(image_tag(&manifest.digest), None), (component_tag(recipe, *arch), Some(component))]
                {
                    if self.is_lacking(&tag, there(&tag).unwrap_or(None).as_ref(), wanted) {
                        self.registry.pusher(repository)?.image(self.store, manifest, &tag_of(&tag))?;
                        new = true;
                    }
                }
                Ok(new)
            }
        }
    }

    fn to_folder(&self, cache: &Store, parcel: &Parcel) -> Result<bool> {
        let there = |tag: &str| -> Result<Option<Digest>> {
            let named = cache.named(tag)?.filter(|named| cache.has_blob(named));
            Ok(named.map(|descriptor| descriptor.digest))
        };
        match parcel {
            Parcel::Bundle(bundle) => {
                let tag = bundle.tag();
                if !self.is_lacking(&tag, there(&tag)?.as_ref(), None) {
                    return Ok(false);
                }
                let Some(pieces) = self.pieces(bundle)? else { return Ok(false) };
                for piece in &pieces {
                    let file = std::fs::File::open(&piece.path).at("opening", &piece.path)?;
                    copy(cache, file, &Descriptor::new("", piece.digest, piece.size))?;
                }
                cache.put_bytes(EMPTY)?;
                let (bytes, descriptor) = described(bundle, &pieces)?;
                cache.put_bytes(&bytes)?;
                cache.set_name(&tag, descriptor)?;
                Ok(true)
            }
            Parcel::Image { recipe, arch, component } => {
                let mut new = false;
                let Component { manifest, .. } = component;
                for (tag, wanted) in
                    [(image_tag(&manifest.digest), None), (component_tag(recipe, *arch), Some(component))]
                {
                    if self.is_lacking(&tag, there(&tag)?.as_ref(), wanted) {
                        copy_image(self.store, cache, manifest)?;
                        let descriptor = Descriptor { annotations: Default::default(), ..manifest.clone() };
                        cache.set_name(&tag, descriptor)?;
                        new = true;
                    }
                }
                Ok(new)
            }
        }
    }
}

fn described(bundle: &Bundle, pieces: &[Checked]) -> Result<(Vec<u8>, Descriptor)> {
    let bytes = bundle.manifest(pieces)?;
    let descriptor = Descriptor::new(media_type::MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    Ok((bytes, descriptor))
}

fn empty_file(store: &Store) -> Result<NamedTempFile> {
    let mut file = store.temporary_file()?;
    file.write_all(EMPTY).at("writing", store.root())?;
    Ok(file)
}

/// Copies a blob, checked on the way. One that is there with another size is replaced.
fn copy(cache: &Store, mut from: impl std::io::Read, blob: &Descriptor) -> Result<()> {
    if cache.has_blob(blob) {
        return Ok(());
    }
    let mut writer = cache.blob_writer()?;
    std::io::copy(&mut from, &mut writer).at("copying to", cache.root())?;
    writer.commit(Some(&blob.digest)).map(drop)
}

fn copy_image(store: &Store, cache: &Store, descriptor: &Descriptor) -> Result<()> {
    let manifest: Manifest = store.read_json(&descriptor.digest)?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        copy(cache, store.open_blob(&blob.digest)?, blob)?;
    }
    cache.put_bytes(&store.read_document(&descriptor.digest)?).map(drop)
}
