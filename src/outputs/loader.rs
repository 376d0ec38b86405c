//! Components that outputs take parts from: loaders and the initramfs of disk images.

use std::path::Path;

use super::{Options, System};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, Kind, Tree, flatten};
use crate::store::{ImageConfig, Manifest};

/// Largest loader that is read into memory; syslinux has 201 KB.
const LIMIT: u64 = 4 << 20;

/// The tree of one of this project's components, `components/NAME`, made now if it is not there.
pub fn component(name: &str, system: &System, options: &Options<'_>) -> Result<Tree> {
    let component = options.components.add(&Path::new("components").join(name))?;
    let built = options.components.image(&component, system.arch, false)?;
    let manifest: Manifest = options.store.read_json(&built.manifest.digest)?;
    let config: ImageConfig = options.store.read_json(&manifest.config.digest)?;
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let layers: Vec<_> = layers
        .map(|(layer, diff_id)| options.store.layer(layer, diff_id))
        .collect::<Result<_>>()
        .context(&built.name)?;
    flatten(&layers, options.time).context(&built.name)
}

/// A file of a component.
pub fn file(tree: &Tree, path: &str) -> Result<Content> {
    match tree.resolve(path.as_bytes()).map(|id| &tree.inode(id).kind) {
        Some(Kind::File(content)) => Ok(content.clone()),
        _ => Err(Error::refused(format!("the loader's component has no file /{path}"))
            .hint("it must be made by the recipe of this project, or have the same files")),
    }
}

/// The bytes of a component's file.
pub fn bytes(tree: &Tree, path: &str) -> Result<Vec<u8>> {
    file(tree, path)?.read(LIMIT).context(path)
}
