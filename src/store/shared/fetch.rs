//! What a build lacks, out of the caches that it reads.
//!
//! Nothing here fails a build: what a cache does not have, or has wrong, is made as without it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use tempfile::NamedTempFile;

use super::place::in_repository;
use super::{Bundle, Layout, Piece, Place, SharedCaches, Source, Verify, component_tag, image_tag, in_parallel};
use crate::Arch;
use crate::error::{Error, Exit, IoContext, Result};
use crate::net::Sink;
use crate::store::registry::{ImageName, not_its_digest};
use crate::store::{Checked, Descriptor, Digest, Hasher, Store};
use crate::ui::Task;

impl SharedCaches<'_> {
    /// Brings pieces into the store, those of `bundles` that `wanted` names by the numbers of bundle and piece. Gives
    /// which came. Each is fetched on its own, and no more than that; several at once.
    pub fn bring(
        &self,
        bundles: &[Bundle],
        wanted: &(dyn Fn(usize, usize) -> bool + Sync),
        verify: &Verify<'_>,
    ) -> Result<Vec<(usize, usize, Checked)>> {
        let (mut came, mut known) = (Vec::new(), BTreeSet::new());
        for (number, (source, layout)) in self.sources.iter().enumerate() {
            let here = |bundle: usize, piece: usize| wanted(bundle, piece) && !known.contains(&(bundle, piece));
            let lacking: Vec<usize> =
                (0..bundles.len()).filter(|b| (0..bundles[*b].pieces.len()).any(|p| here(*b, p))).collect();
            if lacking.is_empty() || !self.is_alive(number, source, layout.as_ref()) {
                continue;
            }
            let cache = Cache { caches: self, number, source, layout: layout.as_ref() };
            // First which there are, one question for each bundle.
            let manifests = in_parallel(&lacking, |_, b| cache.manifest(&bundles[*b]))?;
            let mut orders = Vec::new();
            for (b, described) in lacking.iter().zip(&manifests) {
                let Some(described) = described else { continue };
                for (p, piece) in bundles[*b].pieces.iter().enumerate().filter(|(p, _)| here(*b, *p)) {
                    match described.get(&piece.key) {
                        Some(descriptor) => orders.push((*b, p, descriptor)),
                        None => drop(cache.refuse(&bundles[*b])),
                    }
                }
            }
            if orders.is_empty() {
                continue;
            }
            let total = orders.iter().map(|(.., descriptor)| descriptor.size).fold(0, u64::saturating_add);
            let task = self.ui.task("fetch", format!("{} pieces from {}", orders.len(), source.place), Some(total));
            let fetched = in_parallel(&orders, |_, (b, p, descriptor)| {
                let found = cache.piece(&bundles[*b], *p, descriptor, &|file| verify(*b, *p, file), &task);
                found.map(|checked| (*b, *p, checked))
            })?;
            known.extend(fetched.iter().flatten().map(|(b, p, _)| (*b, *p)));
            came.extend(fetched.into_iter().flatten());
        }
        Ok(came)
    }

    /// A component's image, brought into the store without a name. With `locked`, only the image whose manifest has that
    /// digest; without, what a trusted cache has of the recipe. `subject` is for people.
    pub fn component(&self, subject: &str, recipe: &str, arch: Arch, locked: Option<&Digest>) -> Option<Descriptor> {
        let tag = locked.map_or_else(|| component_tag(recipe, arch), image_tag);
        for (number, (source, layout)) in self.sources.iter().enumerate() {
            if !self.is_alive(number, source, layout.as_ref()) {
                continue;
            }
            let cache = Cache { caches: self, number, source, layout: layout.as_ref() };
            match cache.image(&tag, arch, locked) {
                Ok(Found::Image(manifest)) => return Some(manifest),
                Ok(Found::Nothing) => {}
                Ok(Found::Untrusted) => self.ui.note(format!(
                    "{} has an image of {subject} which nothing vouches for; it is built here \
                     (a lock that names it would vouch, or trust=components at --cache-from)",
                    source.place
                )),
                Err(error) => self.failed(number, &error),
            }
        }
        None
    }

    fn is_alive(&self, number: usize, source: &Source, layout: Option<&Layout>) -> bool {
        if self.memory().dead.contains(&number) {
            return false;
        }
        let why = match layout {
            Some(layout) if !layout.exists => "there is nothing yet",
            None if self.offline => "it is not asked, because of --offline",
            _ => return true,
        };
        self.memory().dead.insert(number);
        self.ui.note(format!("{}: {why}", source.place));
        false
    }

    /// A source that fails once is not asked again: a build must not wait for it at every step.
    fn failed(&self, number: usize, error: &Error) {
        // What it serves wrong says nothing about whether it answers.
        if error.exit() != Exit::Refused && !self.memory().dead.insert(number) {
            return;
        }
        let Some((source, _)) = self.sources.get(number) else { return };
        self.ui.warn(format!("{} is of no help: {}", source.place, error.message()));
    }
}

/// What a cache has under an image's tag.
enum Found {
    Image(Descriptor),
    Untrusted,
    Nothing,
}

/// One of the sources.
struct Cache<'c, 'a> {
    caches: &'c SharedCaches<'a>,
    number: usize,
    source: &'c Source,
    layout: Option<&'c Layout>,
}

impl Cache<'_, '_> {
    /// What the cache says that a bundle consists of.
    fn manifest(&self, bundle: &Bundle) -> Option<BTreeMap<Digest, Descriptor>> {
        let tag = bundle.tag();
        let bytes = match (self.layout, &self.source.place) {
            (Some(layout), _) => layout.find(&tag).map_or(Ok(None), |named| layout.document(&named.digest)),
            (None, Place::Registry(repository)) => {
                self.caches.registry.manifest_under(&in_repository(repository, &tag))
            }
            (None, Place::Folder(_)) => Ok(None),
        };
        match bytes.and_then(|bytes| bytes.map(|bytes| bundle.read(&bytes)).transpose()) {
            Ok(found) => found,
            Err(error) => {
                self.refuse(bundle);
                self.caches.failed(self.number, &error.context(&bundle.name));
                None
            }
        }
    }

    /// The next build that sends shall replace it. Whether that is new.
    fn refuse(&self, bundle: &Bundle) -> bool {
        self.caches.memory().refused.insert(bundle.tag())
    }

    /// Fetches one piece, has it looked through, and puts it into the store.
    fn piece(
        &self,
        bundle: &Bundle,
        number: usize,
        descriptor: &Descriptor,
        verify: &dyn Fn(&std::fs::File) -> Result<()>,
        task: &Task,
    ) -> Option<Checked> {
        let fetched = self.fetch_piece(bundle, number, descriptor, verify, task);
        match fetched {
            Ok(Some(checked)) => return Some(checked),
            // The registry was cleaned up meanwhile.
            Ok(None) => drop(self.refuse(bundle)),
            // One warning for each bundle is enough.
            Err(error) if error.exit() == Exit::Refused && !self.refuse(bundle) => {}
            Err(error) if error.exit() == Exit::Refused => {
                self.caches.ui.warn(format!(
                    "{} has wrong data for {}, which is not used but made here: {}",
                    self.source.place,
                    bundle.name,
                    error.message()
                ));
            }
            Err(error) => self.caches.failed(self.number, &error.context(&bundle.name)),
        }
        None
    }

    fn fetch_piece(
        &self,
        bundle: &Bundle,
        number: usize,
        descriptor: &Descriptor,
        verify: &dyn Fn(&std::fs::File) -> Result<()>,
        task: &Task,
    ) -> Result<Option<Checked>> {
        let Some(Piece { key, limit }) = bundle.pieces.get(number) else { return Ok(None) };
        if self.caches.memory().dead.contains(&self.number) {
            return Ok(None);
        }
        if descriptor.size > *limit {
            return Err(Error::refused(format!("{} bytes where at most {limit} can be right", descriptor.size)));
        }
        let span = self.caches.ui.span("fetch", &bundle.name);
        let file = match (self.layout, &self.source.place) {
            (Some(layout), _) => {
                let mut sink = PieceSink::new(self.caches.store, task)?;
                let copied = layout.copy_blob(&descriptor.digest, descriptor.size.saturating_add(1), &mut sink)?;
                copied.map(|_| sink.finish(&descriptor.digest)).transpose()?
            }
            (None, Place::Registry(repository)) => self.caches.registry.blob_of(
                repository,
                descriptor,
                || PieceSink::new(self.caches.store, task),
                |sink| sink.finish(&descriptor.digest),
            )?,
            (None, Place::Folder(_)) => None,
        };
        let Some(file) = file else { return Ok(None) };
        drop(span);
        let span = self.caches.ui.span("verify", &bundle.name);
        let opened = std::fs::File::open(file.path()).at("opening", file.path())?;
        verify(&opened)?;
        span.advance(descriptor.size);
        self.caches.store.put_checked(bundle.kind, key, file).map(Some)
    }

    fn image(&self, tag: &str, arch: Arch, locked: Option<&Digest>) -> Result<Found> {
        let store = self.caches.store;
        let vouched = |named: &Descriptor| match locked {
            Some(locked) => named.digest == *locked,
            None => self.source.trusted,
        };
        let found = match (self.layout, &self.source.place) {
            (Some(layout), _) => match layout.find(tag) {
                Some(named) if !vouched(&named) => return Ok(Found::Untrusted),
                Some(named) => layout.bring_image(store, &named, arch)?,
                None => None,
            },
            (None, Place::Registry(repository)) => {
                let name = in_repository(repository, tag);
                match self.caches.registry.tagged(&name)? {
                    Some(named) if !vouched(&named) => return Ok(Found::Untrusted),
                    Some(named) => {
                        let name = ImageName { digest: Some(named.digest), ..name };
                        Some(self.caches.registry.pull_unnamed(store, &name, arch)?.1)
                    }
                    None => None,
                }
            }
            (None, Place::Folder(_)) => None,
        };
        Ok(found.map_or(Found::Nothing, Found::Image))
    }
}

/// Takes a piece into a temporary file of the store, hashed on the way.
struct PieceSink<'s> {
    store: &'s Store,
    task: &'s Task,
    file: NamedTempFile,
    hasher: Hasher,
}

impl<'s> PieceSink<'s> {
    fn new(store: &'s Store, task: &'s Task) -> Result<PieceSink<'s>> {
        Ok(PieceSink { store, task, file: store.temporary_file()?, hasher: Hasher::new() })
    }

    fn finish(self, expected: &Digest) -> Result<NamedTempFile> {
        let found = self.hasher.finish();
        if found == *expected { Ok(self.file) } else { Err(not_its_digest(expected, &found)) }
    }
}

impl Write for PieceSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.task.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Sink for PieceSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).at("writing a piece in", self.store.root())
    }

    fn restart(&mut self) -> Result<()> {
        (self.file, self.hasher) = (self.store.temporary_file()?, Hasher::new());
        Ok(())
    }
}
