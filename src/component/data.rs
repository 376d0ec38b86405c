//! The component that makes and mounts the data partition: `disk.data` of a blueprint puts it in.

use std::path::Path;

use super::Components;
use crate::blueprint::{Bind, Blueprint, Image, Reference, Security, Settings, Spanned};
use crate::error::{Error, Result};

/// The component. A folder of that name where the build runs comes before the one in the program.
const COMPONENT: &str = "components/data";
/// Its name in `onboot`. A blueprint that has one of this name knows better.
const NAME: &str = "moby-data";
/// Where the component finds the mount point (its program has the same).
const TARGET: &str = "/data";

impl Components<'_> {
    /// Puts the component in front of everything else of `onboot`, if the blueprint asks for a data partition. One that it
    /// cannot make is refused.
    pub fn add_data(&self, blueprint: &mut Blueprint) -> Result<()> {
        let Some(data) = &blueprint.disk.data else { return Ok(()) };
        if data.encrypt() != "none" {
            return Err(Error::usage(format!(
                "{}: `encrypt: {}` is not made yet: the program that makes the data partition knows neither LUKS2 nor the \
                 TPM, and images have no cryptsetup with what it needs of the kernel (dm-crypt, the TPM's driver)",
                data.place,
                data.encrypt()
            ))
            .hint("set encrypt: none, and keep secrets elsewhere; docs/verified-boot.md says what is protected"));
        }
        if blueprint.onboot.iter().any(|image| *image.name == *NAME) {
            return Ok(());
        }
        let component = self.add(Path::new(COMPONENT))?;
        let reference = Reference::parse(&component.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", component.reference, error.message)))?;
        let place = &data.place;
        // What is mounted there in the container appears in the machine.
        let bind = Bind {
            source: data.value.mount().to_owned(),
            destination: TARGET.to_owned(),
            options: Some(vec!["rshared".to_owned(), "rbind".to_owned()]),
        };
        let settings = Settings {
            binds_add: Some(vec![Spanned::new(bind, place.clone())]),
            // It mounts, whatever the blueprint's other containers may not.
            security: Some(Spanned::new(Security::Linuxkit, place.clone())),
            ..Settings::default()
        };
        let image = Image {
            name: Spanned::new(NAME.to_owned(), place.clone()),
            image: Spanned::new(reference, place.clone()),
            settings,
        };
        blueprint.onboot.insert(0, image);
        Ok(())
    }
}
