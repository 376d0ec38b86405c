//! An image with its layers, from a registry into the store.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::authorization::Question;
use super::documents::{Chosen, DOCUMENT_LIMIT};
use super::endpoint::Endpoint;
use super::layer::LayerSink;
use super::{ImageName, Registry};
use crate::arch::Arch;
use crate::error::{Error, Exit, Result};
use crate::net::{BlobSink, Failure, Reason, Sink};
use crate::store::{Descriptor, Digest, ImageConfig, Store};
use crate::ui::Task;

/// Layers that are fetched at once. More gains nothing from one registry, and each costs an inflater's memory.
const PARALLEL_LAYERS: usize = 4;

/// A layer to get.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) descriptor: Descriptor,
    /// The digest of the inflated layer; without it the layer is only fetched.
    pub(super) diff_id: Option<Digest>,
    /// For messages: "layer 2 of 5".
    pub(super) place: String,
}

impl Registry<'_> {
    /// Brings an image for one architecture into the store: manifest, configuration and layers, the layers inflated
    /// and indexed. What is there already is not fetched; with a digest in the name and everything there, nothing is
    /// asked. The store names what the reference names, the whole index if there is one, under the canonical name;
    /// the result is the manifest for the architecture.
    ///
    /// Content whose digest or size is wrong is fetched a second time, then asked of the next server, then refused
    /// (exit status 3).
    pub fn pull(&self, store: &Store, name: &ImageName, arch: Arch) -> Result<Descriptor> {
        let (named, descriptor) = self.pull_unnamed(store, name, arch)?;
        store.set_pulled_name(&name.to_string(), named)?;
        Ok(descriptor)
    }

    /// The same without a name in the store. Gives what the reference names, and the manifest for the architecture.
    pub(in crate::store) fn pull_unnamed(
        &self,
        store: &Store,
        name: &ImageName,
        arch: Arch,
    ) -> Result<(Descriptor, Descriptor)> {
        self.pull_image(store, name, arch).map_err(|error| error.context(format_args!("pulling {name}")))
    }

    fn pull_image(&self, store: &Store, name: &ImageName, arch: Arch) -> Result<(Descriptor, Descriptor)> {
        let Chosen { named, manifest, descriptor } = self.choose(store, name, arch)?;
        let config = self.pull_config(store, name, &manifest.config)?;
        if !config.architecture.is_empty() && ![arch.name(), arch.kernel_name()].contains(&config.architecture.as_str())
        {
            let found = config.architecture.escape_debug();
            return Err(Error::network(format!("the image is for {found}, not for {arch}"))
                .hint("choose another image or tag, or another --arch"));
        }
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::refused(format!(
                "its configuration {} names {diff_ids} layers, its manifest {} has {layers}",
                manifest.config.digest, descriptor.digest
            )));
        }
        let mut seen = BTreeSet::new();
        let wanted: VecDeque<Wanted> = (manifest.layers.into_iter().zip(config.rootfs.diff_ids).enumerate())
            .filter(|(_, (descriptor, diff_id))| seen.insert((descriptor.digest, *diff_id)))
            .map(|(number, (descriptor, diff_id))| {
                let place = format!("layer {} of {layers} ({})", number + 1, descriptor.digest);
                Wanted { descriptor, diff_id: Some(diff_id), place }
            })
            .collect();
        self.pull_layers(store, name, wanted)?;
        Ok((named, descriptor))
    }

    pub(super) fn pull_config(&self, store: &Store, name: &ImageName, descriptor: &Descriptor) -> Result<ImageConfig> {
        if descriptor.size > DOCUMENT_LIMIT {
            return Err(Error::refused(format!("its configuration has {} bytes, too many", descriptor.size)));
        }
        // A damaged one is removed by the attempt to read it, and fetched.
        if store.has_blob(descriptor)
            && let Ok(config) = store.read_json(&descriptor.digest)
        {
            return Ok(config);
        }
        self.fetch_blob(
            name,
            descriptor,
            || Ok(Vec::new()),
            None,
            |bytes: Vec<u8>| {
                let found = Digest::of(&bytes);
                if found != descriptor.digest {
                    return Err(Error::refused(format!(
                        "content does not match its digest: expected {}, found {found}",
                        descriptor.digest
                    )));
                }
                store.put_bytes(&bytes).map(drop)
            },
        )
        .map_err(|error| error.context(format_args!("its configuration ({})", descriptor.digest)))?;
        store.read_json(&descriptor.digest)
    }

    pub(super) fn pull_layers(&self, store: &Store, name: &ImageName, wanted: VecDeque<Wanted>) -> Result<()> {
        let threads = wanted.len().min(PARALLEL_LAYERS);
        let stop = AtomicBool::new(false);
        let queue = Mutex::new((wanted, None::<Error>));
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).0.pop_front();
                let Some(layer) = next.filter(|_| !stop.load(Ordering::Relaxed)) else { break };
                if let Err(error) = self.pull_layer(store, name, &layer, &stop) {
                    // The first failure is the one that matters: those after it come from giving up.
                    stop.store(true, Ordering::Relaxed);
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.1.get_or_insert(error.context(&layer.place));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        queue.into_inner().unwrap_or_else(PoisonError::into_inner).1.map_or(Ok(()), Err)
    }

    fn pull_layer(&self, store: &Store, name: &ImageName, layer: &Wanted, stop: &AtomicBool) -> Result<()> {
        let Wanted { descriptor, diff_id, .. } = layer;
        if store.has_blob(descriptor) {
            let Some(diff_id) = diff_id else { return Ok(()) };
            match store.layer(descriptor, diff_id) {
                Ok(_) => return Ok(()),
                // The blob was damaged and is gone now: fetch it. If it is still there, it does not fit its image.
                Err(error) if store.has_blob(descriptor) => return Err(error),
                // That was said.
                Err(_) => {}
            }
        }
        let subject = format!("{} {}", name.repository, descriptor.digest.hex().get(..12).unwrap_or_default());
        let task = self.net.ui().task("pull", subject, Some(descriptor.size));
        let Some(diff_id) = diff_id.filter(|diff_id| store.inflated(diff_id).is_none()) else {
            // Only the blob is wanted, or missing: it is needed to push or export the image.
            let start = || BlobSink::new(store).map(|sink| Stoppable { sink, stop });
            return self.fetch_blob(name, descriptor, start, Some(&task), |sink| {
                sink.sink.writer.commit(Some(&descriptor.digest)).map(drop)
            });
        };
        let mut inflated = None;
        let start = || LayerSink::new(store).map(|sink| Stoppable { sink, stop });
        self.fetch_blob(name, descriptor, start, Some(&task), |sink| {
            let (writer, pending) = sink.sink.finish()?;
            writer.commit(Some(&descriptor.digest))?;
            inflated = Some(pending);
            Ok(())
        })?;
        match inflated {
            Some(pending) => pending?.commit(Some(&diff_id)).map(drop),
            None => Ok(()),
        }
    }

    /// Fetches a blob from the servers in turn. `start` makes a sink, `finish` checks what it took and keeps it;
    /// if it refuses, the server is asked once more.
    fn fetch_blob<S: Sink>(
        &self,
        name: &ImageName,
        descriptor: &Descriptor,
        mut start: impl FnMut() -> Result<S>,
        task: Option<&Task>,
        mut finish: impl FnMut(S) -> Result<()>,
    ) -> Result<()> {
        let part = format!("blobs/{}", descriptor.digest);
        let mut fetch = |endpoint: &Endpoint| {
            let mut sink = start().map_err(Failure::local)?;
            let question = Question {
                endpoint,
                repository: &name.repository,
                part: &part,
                accept: "*/*",
                head: false,
                limit: descriptor.size,
                size: Some(descriptor.size),
                fixed: true,
            };
            self.ask(question, &mut sink, task)?;
            finish(sink).map_err(|error| match error.exit() {
                Exit::Refused => {
                    Failure::new(Reason::Corrupt, format!("{} served: {}", endpoint.host, error.message()))
                        .hint("the registry, or something on the way to it, is damaged or lies; nothing was kept")
                }
                _ => Failure::local(error),
            })
        };
        self.try_each(name, |endpoint| match fetch(endpoint) {
            Err(failure) if failure.reason() == Reason::Corrupt => fetch(endpoint),
            other => other,
        })
    }
}

/// A sink that refuses more once another layer of the image has failed.
struct Stoppable<'a, S> {
    sink: S,
    stop: &'a AtomicBool,
}

impl<S: Sink> Sink for Stoppable<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::failed("given up, because another layer failed"));
        }
        self.sink.write(bytes)
    }

    fn restart(&mut self) -> Result<()> {
        self.sink.restart()
    }
}
