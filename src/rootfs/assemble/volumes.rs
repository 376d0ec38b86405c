//! The volumes section: `lower` holds what a volume starts with, `merged` is where containers find it, `tmp` takes
//! what they write.

use super::Assembly;
use crate::blueprint::VolumeFormat;
use crate::error::{Error, Result};
use crate::rootfs::image_rules::Role;

impl Assembly<'_> {
    pub(super) fn volumes(&mut self) -> Result<()> {
        let locked = self.locked;
        for (number, volume) in locked.blueprint.volumes.iter().enumerate() {
            let source =
                volume.image.as_ref().map_or_else(|| "linuxkit.volumes".to_string(), |image| image.to_string());
            let origin = self.origin(source, format!("volumes[{number}]"));
            let base = format!("containers/volumes/{}", *volume.name);
            for folder in [base.clone(), format!("{base}/lower"), format!("{base}/tmp"), format!("{base}/merged")] {
                self.folder(&folder, origin)?;
            }
            let Some(reference) = &volume.image else { continue };
            if volume.format == VolumeFormat::Oci {
                return Err(Error::usage(format!(
                    "{}: volumes of the format oci cannot be built yet",
                    volume.name.place
                ))
                .hint("use format: filesystem"));
            }
            let tree = self.image_tree(reference, Role::Init)?;
            self.graft(&format!("{base}/lower"), &tree, origin, reference)?;
        }
        Ok(())
    }
}
