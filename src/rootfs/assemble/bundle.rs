//! The sections of containers: a bundle for each, the image's files once.

use std::collections::HashMap;

use super::Assembly;
use crate::blueprint::Image;
use crate::error::Result;
use crate::rootfs::image_rules::Role;
use crate::rootfs::runtime_spec::{BundleInputs, OciConfig, generate, readonly};
use crate::rootfs::{Content, Inode, Kind, Meta, OriginId};

impl Assembly<'_> {
    /// Lays out the bundles of all three sections. A second container of the same image points at the first one's
    /// files, whichever section that is in.
    pub(super) fn bundles(&mut self) -> Result<()> {
        let mut roots = HashMap::new();
        let blueprint = &self.locked.blueprint;
        let sections = [
            ("onboot", &blueprint.onboot, true),
            ("onshutdown", &blueprint.onshutdown, true),
            ("services", &blueprint.services, false),
        ];
        for (section, images, numbered) in sections {
            for (number, image) in images.iter().enumerate() {
                let prefix = if numbered { format!("{number:03}-") } else { String::new() };
                let path = format!("containers/{section}/{prefix}{}", *image.name);
                let origin = self.origin(image.image.to_string(), format!("{section}[{number}]"));
                self.bundle(image, &path, origin, &mut roots)?;
            }
        }
        Ok(())
    }

    fn bundle(
        &mut self,
        image: &Image,
        path: &str,
        origin: OriginId,
        roots: &mut HashMap<String, String>,
    ) -> Result<()> {
        let reference = &image.image;
        let label = self.label(reference)?;
        let readonly = readonly(image, label.as_ref());
        self.folder(path, origin)?;
        let root_of_image = match roots.get(&reference.to_string()) {
            Some(known) => known.clone(),
            None => {
                let root = format!("{path}/{}", if readonly { "rootfs" } else { "lower" });
                let tree = self.image_tree(reference, Role::Container)?;
                self.graft(&root, &tree, origin, reference)?;
                roots.insert(reference.to_string(), root.clone());
                root
            }
        };
        // The mount point of the container's root, unless the image's files are that already.
        self.folder_if_missing(&format!("{path}/rootfs"), origin)?;
        if !readonly {
            self.folder(&format!("{path}/tmp"), origin)?;
        }
        let config = &self.image(reference)?.config.config;
        let oci = OciConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone(),
            working_dir: config.working_dir.clone(),
        };
        let made = generate(&BundleInputs {
            image,
            label: label.as_ref(),
            oci: &oci,
            ids: &self.ids,
            security: self.locked.blueprint.security(),
            arch: self.arch,
            bundle_path: path,
            root_of_image: &root_of_image,
            data: self.locked.blueprint.disk.data.as_ref().map(|data| data.value.mount()),
        })?;
        if readonly {
            self.warn_of_mount_points(image, &root_of_image, &made.config_json);
        }
        for (name, text) in [("config.json", made.config_json), ("runtime.json", made.runtime_json)] {
            let inode = Inode {
                meta: Meta::root(0o644, self.time),
                kind: Kind::File(Content::bytes(text.into_bytes())),
                origin,
            };
            let missing = self.missing();
            self.tree.insert(format!("{path}/{name}").as_bytes(), inode, &missing)?;
        }
        Ok(())
    }

    pub(super) fn folder_if_missing(&mut self, path: &str, origin: OriginId) -> Result<()> {
        if self.tree.lookup(path.as_bytes()).is_some() { Ok(()) } else { self.folder(path, origin) }
    }
}
