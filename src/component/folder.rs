//! A component before it is built: its folder, its recipe, its name.

use std::path::{Path, PathBuf};

use super::recipe::{Recipe, expand_tag};
use super::source::Sources;
use crate::Arch;
use crate::blueprint::{Diagnostic, Reference};
use crate::error::{Error, IoContext, Result};
use crate::lock::image_name;
use crate::store::Hasher;
use crate::store::registry::ImageName;

/// Goes up when the same recipe gives another image.
const BUILDER: &str = "component-2";

/// As many digits as a git tree id has, which is what LinuxKit tags packages with.
const HASH_LENGTH: usize = 40;

/// A component: what is in its folder, and what its image will be called.
#[derive(Clone, Debug)]
pub struct Component {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
    /// Forty hexadecimal digits over every file of the folder and of its program's sources.
    pub hash: String,
    /// `ORG/IMAGE:TAG`.
    pub reference: String,
}

impl Component {
    /// Reads a component's folder. Gives warnings too.
    /// `organisation` takes the place of the recipe's own.
    pub fn open(folder: &Path, organisation: Option<&str>) -> Result<(Component, Vec<Diagnostic>)> {
        let (mut recipe, warnings) = Recipe::of_folder(folder)?;
        let folder = folder.canonicalize().at("opening the component", folder)?;
        let mut hasher = Hasher::new();
        hasher.field(BUILDER.as_bytes());
        hasher.update(Sources::list(&folder)?.digest(&folder)?.as_bytes());
        if let Some(cargo) = &recipe.cargo {
            let program = folder.join(cargo.path.as_str());
            let program = program.canonicalize().map_err(|error| {
                let mistake = cargo.path.place.mistake(format!("`path` of `cargo`: {}: {error}", program.display()));
                Error::mistakes(format!("1 mistake in {}", recipe.source.name()), vec![mistake])
            })?;
            if !program.starts_with(&folder) {
                hasher.update(Sources::of_program(&program)?.digest(&program)?.as_bytes());
            }
        }
        let hash = hasher.finish().hex().chars().take(HASH_LENGTH).collect::<String>();
        if let Some(organisation) = organisation {
            recipe.organisation = organisation.to_owned();
        }
        let tag = recipe.tag.as_ref().map_or_else(|| hash.clone(), |tag| expand_tag(tag, &hash));
        let reference = format!("{}/{}:{tag}", recipe.organisation, recipe.image.as_str());
        Ok((Component { folder, recipe, hash, reference }, warnings))
    }

    /// The reference in full, as registries and the store name it.
    pub fn canonical(&self) -> Result<ImageName> {
        let reference = Reference::parse(&self.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", self.reference, error.message)))?;
        image_name(&reference)
    }

    /// Refuses an architecture that the recipe does not name.
    pub fn check_arch(&self, arch: Arch) -> Result<()> {
        if self.recipe.arches.contains(&arch) {
            return Ok(());
        }
        let names: Vec<_> = self.recipe.arches.iter().map(ToString::to_string).collect();
        Err(Error::usage(format!("{} cannot be built for {arch}", self.folder.display()))
            .hint(format!("its recipe has `arches: [{}]`", names.join(", "))))
    }
}
