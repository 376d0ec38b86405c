//! Components that formats need beside what the blueprint names: loaders, and the initramfs program of disk images.

use super::Options;
use crate::Arch;
use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, Kind, Tree, flatten};
use crate::store::{Digest, ImageConfig, Manifest};

impl Options<'_> {
    /// The tree of a component of this project by its folder's name (`components/systemd-stub`). A folder of that name
    /// where the build runs serves instead, so that each can be replaced. It is built if the store does not have it.
    pub(super) fn component(&self, name: &str, arch: Arch) -> Result<Tree> {
        self.open_component(name, arch).context(format_args!("the component {name}"))
    }

    fn open_component(&self, name: &str, arch: Arch) -> Result<Tree> {
        let built = self.components.loader(name, arch)?;
        self.loaders.took(name, built.manifest.digest);
        let manifest: Manifest = self.store.read_json(&built.manifest.digest)?;
        let config: ImageConfig = self.store.read_json(&manifest.config.digest)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::refused(format!(
                "{}: the configuration names {} layers, the manifest has {}",
                built.name,
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers: Vec<_> = layers.map(|(layer, diff_id)| self.store.layer(layer, diff_id)).collect::<Result<_>>()?;
        flatten(&layers, self.time)
    }

    /// The manifest of a loader component's image, if the store has it.
    pub(super) fn loader_in_store(&self, name: &str, arch: Arch) -> Result<Option<Digest>> {
        self.components.loader_in_store(name, arch)
    }

    /// A file of a component.
    pub(super) fn component_file(&self, name: &str, arch: Arch, path: &str) -> Result<Content> {
        let tree = self.component(name, arch)?;
        match tree.resolve(path.as_bytes()).map(|id| &tree.inode(id).kind) {
            Some(Kind::File(content)) => Ok(content.clone()),
            _ => Err(Error::refused(format!("the component {name} for {arch} has no file /{path}"))
                .hint("a recipe of your own in that folder must put the file there")),
        }
    }
}
