//! Caches that machines share: compressed pieces and component images, in a registry or in a folder.
//!
//! | file | what it does |
//! |---|---|
//! | `bundle.rs` | pieces that come and go together: their tag, their manifest |
//! | `place.rs` | where a cache is: a repository of a registry, an OCI layout on disk |
//! | `layout.rs` | reading such a layout |
//! | `fetch.rs` | what a build lacks, out of the caches that it reads |
//! | `send.rs` | what a build made or took, to the caches that it writes |
//!
//! Everything lies under a tag that follows from what it was made of, so that it is found without a list, by one request
//! for each component however many pieces it has:
//!
//! ```text
//! KIND-HEX                 a bundle: an OCI artefact, a blob for each piece; HEX is the digest of the pieces' keys
//! KIND-pack-1-HEX          the same of packs: many pieces in one blob (src/outputs/pack.rs), by the contents of a component
//! component-HASH-ARCH      the image that was built of the recipe with that hash
//! image-HEX                the image whose manifest has that digest: what locks name
//! ```
//!
//! A cache with a tag of its own (`ref=.../cache:main`) has `main-` in front. Nothing is ever merged: two builders that
//! send at once send the same under the same tag. A list of everything under one tag, as BuildKit has it, was the
//! alternative: registries know no "replace if unchanged", so that the slower of two builders takes away what the faster
//! one added, and the list grows for ever.
//!
//! A registry may lie. A piece is used when whoever asked for it has looked through all of it (see [`Verify`]); an image
//! when the lock names its digest, or when the person says that the cache is to be trusted ([`Source::trusted`]).
//!
//! Nothing of this is kept in the store but the pieces and the images themselves, which `gc` knows.

mod bundle;
mod fetch;
mod layout;
mod place;
mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use bundle::{Bundle, Piece};
use layout::Layout;
pub use place::Place;

use super::registry::Registry;
use super::{Descriptor, Digest, Store};
use crate::Arch;
use crate::error::{Error, Result};
use crate::net::Net;
use crate::ui::Ui;

/// Transfers at once. More gains nothing from one registry, and each that is looked through costs a decompressor.
const PARALLEL: usize = 4;

/// A cache to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub place: Place,
    /// Whether its component images are taken at their word.
    pub trusted: bool,
}

/// A cache to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub place: Place,
    /// Whether component images go there too, not only pieces.
    pub components: bool,
    /// Whether a failure is only warned of.
    pub optional: bool,
}

/// Looks through a piece that came from a cache, by the number of its bundle and its own in it. What it refuses (exit
/// status 3) is not used.
pub type Verify<'v> = dyn Fn(usize, usize, &File) -> Result<()> + Sync + 'v;

/// The caches of a build.
pub struct SharedCaches<'a> {
    store: &'a Store,
    ui: &'a Ui,
    registry: Registry<'a>,
    offline: bool,
    sources: Vec<(Source, Option<Layout>)>,
    targets: Vec<Target>,
    memory: Mutex<Memory>,
}

/// What was learnt during a build.
#[derive(Debug, Default)]
struct Memory {
    /// Sources that failed; they are not asked again.
    dead: BTreeSet<usize>,
    /// Bundles that some cache has wrong or in parts; they are sent again.
    refused: BTreeSet<String>,
    /// What the build used, by tag.
    bundles: BTreeMap<String, Bundle>,
    components: BTreeMap<(String, Arch), Component>,
    /// What packs hold, by kind and key.
    packs: BTreeMap<(&'static str, Digest), BTreeSet<Digest>>,
}

/// A component image that the build used.
#[derive(Clone, Debug)]
struct Component {
    manifest: Descriptor,
    /// Whether it was built just now, and so is newer than what a cache has of the same recipe.
    built: bool,
}

impl std::fmt::Debug for SharedCaches<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedCaches").field("sources", &self.sources).field("targets", &self.targets).finish()
    }
}

impl<'a> SharedCaches<'a> {
    /// The caches that a person named. Nothing is asked yet.
    ///
    /// # Errors
    /// Exit status 2 if a registry is to be written to without the network.
    pub fn new(
        store: &'a Store,
        net: &'a Net,
        ui: &'a Ui,
        sources: Vec<Source>,
        targets: Vec<Target>,
    ) -> Result<SharedCaches<'a>> {
        let offline = net.options().offline;
        if let Some(target) = targets.iter().find(|target| offline && target.place.is_remote()) {
            return Err(Error::usage(format!("{} cannot be written to with --offline", target.place))
                .hint("leave one of them away, or use --cache-to type=local,dest=DIR"));
        }
        let with_layout = |source: Source| {
            let layout = match &source.place {
                Place::Folder(folder) => Some(Layout::open(folder)?),
                Place::Registry(_) => None,
            };
            Ok((source, layout))
        };
        let sources = sources.into_iter().map(with_layout).collect::<Result<_>>()?;
        let (registry, memory) = (Registry::new(net), Mutex::default());
        Ok(SharedCaches { store, ui, registry, offline, sources, targets, memory })
    }

    /// Whether there is a cache to read.
    pub fn are_read(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the build is to send what it uses somewhere.
    pub fn are_written(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Notes that the build used a bundle; all of its pieces are in the store now.
    pub fn used_bundle(&self, bundle: Bundle) {
        if self.are_written() {
            self.memory().bundles.insert(bundle.tag(), bundle);
        }
    }

    /// Adds to what a pack is to hold, since several outputs of a build may have pieces of the same component. Gives all
    /// of it.
    pub fn pack(&self, kind: &'static str, pack: &Digest, keys: BTreeSet<Digest>) -> BTreeSet<Digest> {
        let mut memory = self.memory();
        let all = memory.packs.entry((kind, *pack)).or_default();
        all.extend(keys);
        all.clone()
    }

    /// Has a bundle replaced where the build sends it, whatever is there.
    pub fn replace(&self, bundle: &Bundle) {
        self.memory().refused.insert(bundle.tag());
    }

    /// Notes that the build used the image of the recipe with this hash.
    pub fn used_component(&self, recipe: &str, arch: Arch, manifest: &Descriptor, built: bool) {
        let component = Component { manifest: manifest.clone(), built };
        self.memory().components.insert((recipe.to_owned(), arch), component);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // The tables stay whole whatever a thread that held them did.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tag of a component's image.
fn component_tag(recipe: &str, arch: Arch) -> String {
    format!("component-{recipe}-{arch}")
}

/// The tag of an image by its manifest.
fn image_tag(manifest: &Digest) -> String {
    format!("image-{}", manifest.hex())
}

/// Does something a few times at once; the results are in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], act: impl Fn(usize, &T) -> R + Sync + Send) -> Result<Vec<R>> {
    use rayon::prelude::*;
    let threads = items.len().clamp(1, PARALLEL);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::failed(format!("starting {threads} threads: {error}")))?;
    Ok(pool.install(|| items.par_iter().enumerate().map(|(number, item)| act(number, item)).collect()))
}
