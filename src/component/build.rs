//! From a recipe to an image.

use std::path::Path;

use super::image::{Material, Materials};
use super::recipe::{Kernel, Recipe};
use super::toolchain::Order;
use super::{
    Component, Components, Pin, certificates, drop, image, install, keep, kernel, microcode, packages, skeleton, users,
};
use crate::Arch;
use crate::blueprint::Spanned;
use crate::deb::{Archive, Package, ResolveOptions};
use crate::error::{Context, Error, Exit, IoContext, Result};
use crate::rootfs::image_rules::GENERATED_TIME;
use crate::rootfs::{Content, Tree};
use crate::store::{Descriptor, Layer};

/// The time of what the recipe adds. An image does not depend on SOURCE_DATE_EPOCH: it is shared by builds that differ
/// in it.
const TIME: i64 = GENERATED_TIME;

impl Components<'_> {
    /// Builds a component's image and puts it in the store, without a name.
    pub(super) fn build(&self, component: &Component, arch: Arch, pins: Option<&[Pin]>) -> Result<Descriptor> {
        let mut materials = Materials { recipe: component.hash.clone(), ..Materials::default() };
        let recipe = &component.recipe;
        if let Some(dockerfile) = &recipe.dockerfile {
            return self.build_dockerfile(component, dockerfile, arch);
        }
        let mut tree = match &recipe.kernel {
            Some(kernel) => self.kernel(component, kernel, arch, pins, &mut materials)?,
            None if recipe.microcode => {
                let tree = self.packages(recipe, arch, pins, &mut materials)?;
                microcode::image(&tree, self.store, TIME)?
            }
            None if recipe.packages.is_empty() => Tree::new(TIME),
            None => self.userland(recipe, arch, pins, &mut materials)?,
        };
        users::apply(&mut tree, &recipe.users, &recipe.groups, TIME)?;
        if let Some(cargo) = &recipe.cargo {
            let source = component.folder.join(cargo.path.as_str());
            let order = Order { source: &source, package: &cargo.package, binary: &cargo.binary };
            let built = self.materials.toolchain(arch)?.build(self.store, order, self.ui)?;
            materials.toolchain = built.toolchain;
            let file = Path::new(&built.file).into();
            let content = Content::part(file, 0, built.size, built.digest);
            install::program(&mut tree, component, &cargo.install, content, TIME)?;
        }
        install::install(&mut tree, component, TIME)?;
        image::write(self.store, &tree, recipe, &materials, arch)
    }

    /// The files of the recipe's packages, as the recipe wants them.
    fn userland(&self, recipe: &Recipe, arch: Arch, pins: Option<&[Pin]>, materials: &mut Materials) -> Result<Tree> {
        let mut tree = self.packages(recipe, arch, pins, materials)?;
        drop::documentation(&mut tree);
        drop::paths(&mut tree, &texts(&recipe.drop)).map_err(|error| point(recipe, &recipe.drop, error))?;
        if recipe.certificates {
            certificates::bundle(&mut tree, TIME)?;
        }
        if !recipe.keep.is_empty() {
            let kept = keep::keep(&tree, &texts(&recipe.keep), &own(recipe), arch, TIME);
            tree = kept.map_err(|error| point(recipe, &recipe.keep, error))?.tree;
        }
        Ok(tree)
    }

    /// The recipe's packages and what they depend on, unpacked over each other.
    fn packages(&self, recipe: &Recipe, arch: Arch, pins: Option<&[Pin]>, materials: &mut Materials) -> Result<Tree> {
        let archive = self.materials.archive(recipe, arch)?;
        if let Some(pins) = pins {
            let packages = pinned(&archive, pins)?;
            materials.packages = packages.iter().map(material).collect();
            return merge(skeleton::skeleton(arch, TIME), &packages, &archive.fetch_all(&packages)?);
        }
        let wrong: Vec<_> =
            recipe.packages.iter().filter_map(|package| Some((package, archive.check(package).err()?))).collect();
        if !wrong.is_empty() {
            return Err(mistakes(recipe, wrong));
        }
        let options = ResolveOptions { recommends: recipe.recommends, without: recipe.without.clone() };
        let packages = archive.resolve(&texts(&recipe.packages), &options).context(recipe.source.name())?;
        materials.packages = packages.iter().map(material).collect();
        merge(skeleton::skeleton(arch, TIME), &packages, &archive.fetch_all(&packages)?)
    }

    fn kernel(
        &self,
        component: &Component,
        kernel: &Kernel,
        arch: Arch,
        pins: Option<&[Pin]>,
        materials: &mut Materials,
    ) -> Result<Tree> {
        let recipe = &component.recipe;
        let archive = self.materials.archive(recipe, arch)?;
        match kernel {
            Kernel::Package(name) => {
                let name = name.replace("$ARCH", arch.name());
                let packages = match pins {
                    Some(pins) => pinned(&archive, pins)?,
                    None => kernel::packages(&archive, &name).context(recipe.source.name())?,
                };
                materials.packages = packages.iter().map(material).collect();
                let tree = merge(Tree::new(TIME), &packages, &archive.fetch_all(&packages)?)?;
                kernel::image_of_packages(&tree, self.store, arch, self.ui, TIME)
            }
            Kernel::Source { package, config } => {
                let packages: Vec<Package> = match pins {
                    Some(pins) => pinned(&archive, pins)?,
                    None => archive.package(package)?.into_iter().collect(),
                };
                if packages.is_empty() {
                    return Err(Error::usage(format!("the archive has no package {}", package.as_str())))
                        .context(recipe.source.name());
                }
                materials.packages = packages.iter().map(material).collect();
                let source = merge(Tree::new(TIME), &packages, &archive.fetch_all(&packages)?)?;
                let options = config.iter().map(|name| options(component, name, arch)).collect::<Result<Vec<_>>>()?;
                let order = kernel::Order { source: &source, options: &options, arch, time: TIME };
                let tree = kernel::compile(&order, self.store, self.ui).context(recipe.source.name())?;
                kernel::image_of_packages(&tree, self.store, arch, self.ui, TIME)
            }
        }
    }
}

/// The packages that are named by version and digest; sorted by name, as those are that were resolved.
fn pinned(archive: &Archive<'_>, pins: &[Pin]) -> Result<Vec<Package>> {
    let mut packages = Vec::with_capacity(pins.len());
    let mut gone = Vec::new();
    for pin in pins {
        match archive.exact(&pin.name, &pin.version, &pin.sha256)? {
            Some(package) => packages.push(package),
            None => gone.push(format!("{} {}", pin.name, pin.version)),
        }
    }
    if !gone.is_empty() {
        let what = if gone.len() == 1 { "package" } else { "packages" };
        return Err(Error::refused(format!("the archive does not have the {what} {} any more", gone.join(", "))).hint(
            "import the image that was built from them, name an archive that has them with MOBY_DEB_MIRROR, or update the lock",
        ));
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// Shows an error at the entry of the recipe that it is about, if it names one.
fn point(recipe: &Recipe, entries: &[Spanned<String>], error: Error) -> Error {
    let names = |text: &str| error.message().split([' ', ',', '"']).any(|word| word == text);
    match entries.iter().find(|entry| error.exit() == Exit::Usage && names(entry)) {
        Some(entry) => mistakes(recipe, vec![(entry, error)]),
        None => error.context(recipe.source.name()),
    }
}

/// Errors that have places in the recipe. One that is no mistake of the recipe stands for all.
fn mistakes(recipe: &Recipe, found: Vec<(&Spanned<String>, Error)>) -> Error {
    let mut diagnostics = Vec::new();
    for (entry, error) in found {
        if error.exit() != Exit::Usage {
            return error;
        }
        diagnostics.push(entry.place.mistake(error.message()).help_if(error.hint_text().map(str::to_owned)));
    }
    let count = if diagnostics.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", diagnostics.len()) };
    Error::mistakes(format!("{count} in {}", recipe.source.name()), diagnostics)
}

/// A file of the kernel's options in the component's folder.
fn options(component: &Component, name: &str, arch: Arch) -> Result<kernel::OptionFile> {
    let name = name.replace("$ARCH", arch.name());
    let path = component.file(&name);
    let text = std::fs::read_to_string(&path).at("reading", &path)?;
    Ok(kernel::OptionFile { name, text })
}

/// The paths that the recipe itself puts into the image.
fn own(recipe: &Recipe) -> Vec<&str> {
    let program = recipe.cargo.iter().map(|cargo| cargo.install.as_str());
    let files = recipe.files.iter().map(|file| file.path.as_str());
    program.chain(files).chain(recipe.symlinks.iter().map(|link| link.path.as_str())).collect()
}

fn texts(spanned: &[Spanned<String>]) -> Vec<String> {
    spanned.iter().map(|text| text.value.clone()).collect()
}

fn merge(mut tree: Tree, packages: &[Package], layers: &[Layer]) -> Result<Tree> {
    for (package, layer) in packages.iter().zip(layers) {
        packages::merge_package(&mut tree, &package.name, layer, TIME)?;
    }
    Ok(tree)
}

fn material(package: &Package) -> Material {
    Material {
        name: package.name.to_string(),
        version: package.version.to_string(),
        architecture: package.architecture.to_string(),
        sha256: package.sha256,
    }
}
