//! An image as it is, for several platforms: every document and every layer's blob, nothing inflated.

use super::pull::Wanted;
use super::{ImageName, Registry};
use crate::error::{Error, Result};
use crate::store::{Descriptor, Layout, Part, Platform, Store};

impl Registry<'_> {
    /// Brings an image for the platforms into the store, for all that it is there for if none is named. The store names
    /// what the reference names. What is there already is not fetched; with a digest in the name and everything there,
    /// nothing is asked.
    pub fn pull_layout(&self, store: &Store, name: &ImageName, platforms: &[Platform]) -> Result<Layout> {
        self.pull_whole(store, name, platforms).map_err(|error| error.context(format_args!("pulling {name}")))
    }

    /// What a name stands for: the descriptor of a manifest or index, which is in the store then.
    pub fn top(&self, store: &Store, name: &ImageName) -> Result<Descriptor> {
        self.document(store, name, &name.reference(), name.digest.as_ref())
            .map(|document| document.descriptor)
            .map_err(|error| error.context(format_args!("resolving {name}")))
    }

    fn pull_whole(&self, store: &Store, name: &ImageName, platforms: &[Platform]) -> Result<Layout> {
        let named = self.document(store, name, &name.reference(), name.digest.as_ref())?.descriptor;
        let get = |descriptor: &Descriptor, part: Part| match part {
            Part::Config => self.pull_config(store, name, descriptor).map(drop),
            Part::Document => {
                let digest = descriptor.digest;
                let found = self.document(store, name, &digest.to_string(), Some(&digest))?.descriptor.size;
                match found == descriptor.size {
                    true => Ok(()),
                    false => Err(Error::refused(format!(
                        "{digest}: its index says that it has {} bytes, but it has {found}",
                        descriptor.size
                    ))),
                }
            }
        };
        let layout = store.layout(&named, platforms, &get)?;
        let count = layout.layers.len();
        let wanted = layout.layers.iter().enumerate().map(|(number, descriptor)| {
            let place = format!("layer {} of {count} ({})", number + 1, descriptor.digest);
            Wanted { descriptor: descriptor.clone(), diff_id: None, place }
        });
        self.pull_layers(store, name, wanted.collect())?;
        store.set_pulled_name(&name.to_string(), named)?;
        Ok(layout)
    }
}
