//! A component before it is built: its folder, its recipe, its name.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
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
    /// What was hashed of its folder.
    digest: Digest,
    /// Where sources from elsewhere are, and where in the folder they count as lying.
    extra: Vec<Extra>,
    /// Where its program is, if that is outside of the folder, and what was hashed of it.
    program: Option<(PathBuf, Digest)>,
}

/// A file or folder from elsewhere.
#[derive(Clone, Debug)]
struct Extra {
    from: PathBuf,
    /// Relative to the component's folder.
    to: String,
    /// What was hashed of it.
    digest: Digest,
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
        let digest = Sources::list(&folder)?.digest(&folder)?;
        hasher.update(digest.as_bytes());
        let mut outside = None;
        if let Some(cargo) = &recipe.cargo {
            let program = found(&recipe, &folder, &cargo.path, "`path` of `cargo`")?;
            if !program.starts_with(&folder) {
                let digest = Sources::of_program(&program)?.digest(&program)?;
                hasher.update(digest.as_bytes());
                outside = Some((program, digest));
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
            let digest = extra_digest(&from)?;
            hasher.update(digest.as_bytes());
            extra.push(Extra { from, to: source.to.clone(), digest });
        }
        // What the recipe itself says is part of its file.
        let dockerfile = (&overrides.dockerfile, &overrides.arguments, overrides.network, &overrides.file_name);
        if recipe.dockerfile.is_some() && dockerfile != (&None, &Vec::new(), None, &None) {
            hasher.field(format!("{dockerfile:?}").as_bytes());
        }
        let hash = hasher.finish().hex().chars().take(HASH_LENGTH).collect::<String>();
        let tag = recipe.tag.as_ref().map_or_else(|| hash.clone(), |tag| expand_tag(tag, &hash));
        let reference = format!("{}/{}:{tag}", recipe.organisation, recipe.image.as_str());
        let component = Component { folder, recipe, hash, reference, embedded: false, digest, extra, program: outside };
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
        let extra = self.extra.iter().find_map(|Extra { from, to, .. }| {
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
        self.extra.iter().map(|extra| &extra.from).chain(self.program.iter().map(|(program, _)| program))
    }

    /// Copies its folder, with what comes from elsewhere, into an empty one.
    ///
    /// # Errors
    /// Exit status 1 if any of it is not what was hashed.
    pub(super) fn copy_to(&self, to: &Path) -> Result<()> {
        same(Sources::list(&self.folder)?.copy(&self.folder, to)?, &self.digest, &self.folder)?;
        for Extra { from, to: place, digest } in &self.extra {
            let place = to.join(place);
            let copied = match from.is_dir() {
                true => Sources::list(from)?.copy(from, &place)?,
                false => {
                    if let Some(above) = place.parent() {
                        std::fs::create_dir_all(above).at("making", above)?;
                    }
                    std::fs::copy(from, &place).at("copying to", &place)?;
                    let mode = if is_executable(&place)? { 0o755 } else { 0o644 };
                    std::fs::set_permissions(&place, Permissions::from_mode(mode)).at("setting the mode of", &place)?;
                    extra_digest(&place)?
                }
            };
            same(copied, digest, from)?;
        }
        Ok(())
    }

    /// Refuses what was built if the files that it was built from are not what was hashed any more: it would be stored
    /// under a hash of other files.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        same(Sources::list(&self.folder)?.digest(&self.folder)?, &self.digest, &self.folder)?;
        for Extra { from, digest, .. } in &self.extra {
            same(extra_digest(from)?, digest, from)?;
        }
        if let Some((program, digest)) = &self.program {
            same(Sources::of_program(program)?.digest(program)?, digest, program)?;
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

fn same(found: Digest, hashed: &Digest, path: &Path) -> Result<()> {
    if found == *hashed {
        return Ok(());
    }
    Err(Error::failed(format!("{} changed while the component was built", path.display())).hint("build again"))
}

/// The digest of a source from elsewhere. Of a file by itself, content and whether it is executable count.
fn extra_digest(from: &Path) -> Result<Digest> {
    if from.is_dir() {
        return Sources::list(from)?.digest(from);
    }
    let content = Digest::of(&std::fs::read(from).at("reading", from)?);
    if !is_executable(from)? {
        return Ok(content);
    }
    let mut hasher = Hasher::new();
    hasher.field(b"executable");
    hasher.update(content.as_bytes());
    Ok(hasher.finish())
}

fn is_executable(path: &Path) -> Result<bool> {
    Ok(path.metadata().at("reading", path)?.permissions().mode() & 0o111 != 0)
}

/// A place that the recipe names from its folder on.
fn found(recipe: &Recipe, folder: &Path, path: &Spanned<String>, what: &str) -> Result<PathBuf> {
    let place = folder.join(path.as_str());
    place.canonicalize().map_err(|error| mistake(recipe, path, format!("{what}: {}: {error}", place.display())))
}

fn mistake(recipe: &Recipe, text: &Spanned<String>, message: String) -> Error {
    Error::mistakes(format!("1 mistake in {}", recipe.source.name()), vec![text.place.mistake(message)])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn recipe(folder: &Path) -> PathBuf {
        let component = folder.join("component");
        fs::create_dir(&component).unwrap();
        let text = "image: hello\norg: example\nextra-sources:\n  - ../script:script\n";
        fs::write(component.join("build.yml"), text).unwrap();
        fs::write(component.join("data"), "a").unwrap();
        fs::write(folder.join("script"), "#!/bin/sh\n").unwrap();
        component
    }

    #[test]
    fn what_changed_since_it_was_hashed_is_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let path = recipe(folder.path());
        let open = || Component::open(&path, &Overrides::default()).unwrap().0;
        let copy = |component: &Component| component.copy_to(&tempfile::tempdir().unwrap().path().join("to"));
        let component = open();
        component.check_unchanged().unwrap();
        copy(&component).unwrap();
        for changed in [path.join("data"), folder.path().join("script")] {
            let before = fs::read(&changed).unwrap();
            fs::write(&changed, "b").unwrap();
            for result in [copy(&component), component.check_unchanged()] {
                let error = result.unwrap_err();
                assert!(error.message().contains("changed while the component was built"), "{error}");
            }
            fs::write(&changed, before).unwrap();
        }
        copy(&component).unwrap();
    }

    #[test]
    fn a_single_source_is_hashed_with_its_executable_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = recipe(folder.path());
        let open = || Component::open(&path, &Overrides::default()).unwrap().0;
        let script = folder.path().join("script");
        let set = |mode| fs::set_permissions(&script, Permissions::from_mode(mode)).unwrap();
        set(0o600);
        let plain = open();
        set(0o664);
        assert_eq!(open().hash, plain.hash);
        set(0o700);
        assert_ne!(open().hash, plain.hash);
        assert!(plain.check_unchanged().is_err());
        let to = folder.path().join("to");
        open().copy_to(&to).unwrap();
        assert_eq!(to.join("script").metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }
}
