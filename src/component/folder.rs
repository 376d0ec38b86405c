//! A component before it is built: its folder, its recipe, its name.

use std::path::{Path, PathBuf};

use super::recipe::{FILE_NAME, Recipe, expand_tag};
use super::source::Sources;
use crate::Arch;
use crate::blueprint::{Diagnostic, Reference, Spanned};
use crate::error::{Error, IoContext, Result};
use crate::lock::image_name;
use crate::store::registry::ImageName;
use crate::store::{Digest, Hasher};

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
    /// Whether it is one of this program's own, which lie in the store.
    pub embedded: bool,
    /// Where sources from elsewhere are, and where in the folder they count as lying.
    extra: Vec<(PathBuf, String)>,
    /// Where its program is, if that is outside of the folder.
    program: Option<PathBuf>,
}

/// What the command line says in place of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The organisation.
    pub organisation: Option<String>,
    /// The name of the recipe's file.
    pub file_name: Option<String>,
    /// The Dockerfile.
    pub dockerfile: Option<String>,
    /// Further arguments of a Dockerfile's build; they win over the recipe's of the same name.
    pub arguments: Vec<String>,
    /// Whether a Dockerfile's commands may use the network.
    pub network: Option<bool>,
    /// Whether a builder's own cache may be used.
    pub cache: Option<bool>,
}

impl Component {
    /// Reads a component's folder. Gives warnings too.
    pub fn open(folder: &Path, overrides: &Overrides) -> Result<(Component, Vec<Diagnostic>)> {
        let file_name = overrides.file_name.as_deref().unwrap_or(FILE_NAME);
        let (mut recipe, warnings) = Recipe::of_file(folder, file_name)?;
        apply(&mut recipe, overrides, folder)?;
        let folder = folder.canonicalize().at("opening the component", folder)?;
        let mut hasher = Hasher::new();
        hasher.field(BUILDER.as_bytes());
        hasher.update(Sources::list(&folder)?.digest(&folder)?.as_bytes());
        let mut outside = None;
        if let Some(cargo) = &recipe.cargo {
            let program = found(&recipe, &folder, &cargo.path, "`path` of `cargo`")?;
            if !program.starts_with(&folder) {
                hasher.update(Sources::of_program(&program)?.digest(&program)?.as_bytes());
                outside = Some(program);
            }
        }
        let mut extra = Vec::new();
        for source in &recipe.extra_sources {
            let from = found(&recipe, &folder, &source.from, "an entry of `extra-sources`")?;
            if folder.join(&source.to).symlink_metadata().is_ok() {
                let message = format!("an entry of `extra-sources`: {} is there already", source.to);
                return Err(mistake(&recipe, &source.from, message));
            }
            hasher.field(source.to.as_bytes());
            let digest = match from.is_dir() {
                true => Sources::list(&from)?.digest(&from)?,
                false => Digest::of(&std::fs::read(&from).at("reading", &from)?),
            };
            hasher.update(digest.as_bytes());
            extra.push((from, source.to.clone()));
        }
        // What the recipe itself says is part of its file.
        let dockerfile = (&overrides.dockerfile, &overrides.arguments, overrides.network, &overrides.file_name);
        if recipe.dockerfile.is_some() && dockerfile != (&None, &Vec::new(), None, &None) {
            hasher.field(format!("{dockerfile:?}").as_bytes());
        }
        let hash = hasher.finish().hex().chars().take(HASH_LENGTH).collect::<String>();
        let tag = recipe.tag.as_ref().map_or_else(|| hash.clone(), |tag| expand_tag(tag, &hash));
        let reference = format!("{}/{}:{tag}", recipe.organisation, recipe.image.as_str());
        let component = Component { folder, recipe, hash, reference, embedded: false, extra, program: outside };
        Ok((component, warnings))
    }

    /// The reference in full, as registries and the store name it.
    pub fn canonical(&self) -> Result<ImageName> {
        let reference = Reference::parse(&self.reference)
            .map_err(|error| Error::usage(format!("\"{}\" is no reference: {}", self.reference, error.message)))?;
        image_name(&reference)
    }

    /// Where a file that the recipe names is: in the folder, or in a source from elsewhere.
    pub fn file(&self, path: &str) -> PathBuf {
        let extra = self.extra.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(to.as_str())?;
            match rest.strip_prefix('/') {
                Some(rest) => Some(from.join(rest)),
                None => rest.is_empty().then(|| from.clone()),
            }
        });
        extra.unwrap_or_else(|| self.folder.join(path))
    }

    /// What belongs to it and lies outside of its folder.
    pub(super) fn outside(&self) -> impl Iterator<Item = &PathBuf> {
        self.extra.iter().map(|(from, _)| from).chain(&self.program)
    }

    /// Copies its folder, with what comes from elsewhere, into an empty one.
    pub(super) fn copy_to(&self, to: &Path) -> Result<()> {
        Sources::list(&self.folder)?.copy(&self.folder, to)?;
        for (from, place) in &self.extra {
            let place = to.join(place);
            match from.is_dir() {
                true => {
                    Sources::list(from)?.copy(from, &place)?;
                }
                false => {
                    if let Some(above) = place.parent() {
                        std::fs::create_dir_all(above).at("making", above)?;
                    }
                    std::fs::copy(from, &place).at("copying to", &place)?;
                }
            }
        }
        Ok(())
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

/// Puts what the command line says in place of what the recipe says.
fn apply(recipe: &mut Recipe, overrides: &Overrides, folder: &Path) -> Result<()> {
    if let Some(organisation) = &overrides.organisation {
        recipe.organisation = organisation.clone();
    }
    if let Some(file) = &overrides.dockerfile {
        recipe.set_dockerfile(file)?;
    }
    if let Some(dockerfile) = &mut recipe.dockerfile {
        dockerfile.network = overrides.network.unwrap_or(dockerfile.network);
        dockerfile.cache = overrides.cache.unwrap_or(dockerfile.cache);
        let name = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
        for argument in &overrides.arguments {
            dockerfile.arguments.retain(|other| name(other) != name(argument));
            dockerfile.arguments.push(argument.clone());
        }
        let file = folder.join(&dockerfile.file);
        if !file.is_file() {
            return Err(Error::usage(format!("there is no Dockerfile {}", file.display()))
                .hint("`dockerfile` of the recipe or --dockerfile names it, from the recipe's folder on"));
        }
    }
    Ok(())
}

/// A place that the recipe names from its folder on.
fn found(recipe: &Recipe, folder: &Path, path: &Spanned<String>, what: &str) -> Result<PathBuf> {
    let place = folder.join(path.as_str());
    place.canonicalize().map_err(|error| mistake(recipe, path, format!("{what}: {}: {error}", place.display())))
}

fn mistake(recipe: &Recipe, text: &Spanned<String>, message: String) -> Error {
    Error::mistakes(format!("1 mistake in {}", recipe.source.name()), vec![text.place.mistake(message)])
}
