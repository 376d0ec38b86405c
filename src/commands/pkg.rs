//! `moby pkg`: components by themselves.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::global::Global;
use crate::Arch;
use crate::component::{Components, embedded};
use crate::error::Result;
use crate::store::registry::{ImageName, Registry};
use crate::ui::Ui;

/// Builds and names components.
#[derive(Args, Clone, Debug)]
pub struct PkgArguments {
    #[command(subcommand)]
    verb: Verb,
    /// Organisation in place of the recipes' own, with a registry if it is not the default one
    #[arg(long, global = true, value_name = "ORG", env = "LINUXKIT_PKG_ORG")]
    org: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Build components into the store
    Build(BuildArguments),
    /// Build components, make their indexes and send both to their registry
    Push(PushArguments),
    /// Make the indexes over what was built
    #[command(alias = "index")]
    Manifest(Folders),
    /// Print the references of components
    ShowTag(TagArguments),
    /// List the components that are part of this program
    Ls,
}

#[derive(Args, Clone, Debug)]
struct BuildArguments {
    #[command(flatten)]
    folders: Folders,
    /// Architectures to build for, separated by commas [default: this machine's]
    #[arg(long, value_name = "ARCH", value_delimiter = ',', conflicts_with = "platforms")]
    arch: Vec<Arch>,
    /// The same as LinuxKit says it: linux/amd64,linux/arm64
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Build even what is there, from what the package archive has today
    #[arg(long, alias = "force")]
    pull: bool,
}

#[derive(Args, Clone, Debug)]
struct PushArguments {
    #[command(flatten)]
    build: BuildArguments,
    /// Send what was built before, and build nothing
    #[arg(long)]
    nobuild: bool,
}

#[derive(Args, Clone, Debug)]
struct TagArguments {
    #[command(flatten)]
    folders: Folders,
    /// With the registry's name in front
    #[arg(long)]
    canonical: bool,
}

#[derive(Args, Clone, Debug)]
struct Folders {
    /// Folders with a build.yml, or names of this program's own (components/redis)
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: &PkgArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let org = arguments.org.as_deref().filter(|org| !org.is_empty());
    match &arguments.verb {
        Verb::Build(build) => self::build(build, org, global, ui),
        Verb::Push(push) => self::push(push, org, global, ui),
        Verb::Manifest(folders) => {
            let (store, net) = (global.store()?, global.net(ui)?);
            let components = Components::new(&store, &net, ui).of_organisation(org);
            for folder in &folders.folders {
                let made = components.index(&*components.add(folder)?)?;
                super::print_line(&format!("{} {}", made.name, made.index.digest))?;
            }
            Ok(0)
        }
        Verb::ShowTag(tag) => {
            let (store, net) = (global.store()?, global.net(ui)?);
            let components = Components::new(&store, &net, ui).of_organisation(org);
            for folder in &tag.folders.folders {
                let component = components.add(folder)?;
                let shown =
                    if tag.canonical { component.canonical()?.to_string() } else { component.reference.clone() };
                super::print_line(&shown)?;
            }
            Ok(0)
        }
        Verb::Ls => {
            for name in embedded::names() {
                super::print_line(name)?;
            }
            Ok(0)
        }
    }
}

fn build(arguments: &BuildArguments, org: Option<&str>, global: &Global, ui: &Ui) -> Result<i32> {
    let mut arches = arguments.arch.clone();
    for platform in &arguments.platforms {
        arches.push(platform.strip_prefix("linux/").unwrap_or(platform).parse()?);
    }
    if arches.is_empty() {
        arches.push(super::arch(None)?);
    }
    let (store, net) = (global.store()?, global.net(ui)?);
    let components = Components::new(&store, &net, ui).of_organisation(org);
    for folder in &arguments.folders.folders {
        let component = components.add(Path::new(folder))?;
        for arch in &arches {
            let built = components.image(&component, *arch, arguments.pull)?;
            let how = if built.reused { "there already" } else { "built" };
            super::print_line(&format!("{} {} {how}", built.name, built.manifest.digest))?;
        }
    }
    Ok(0)
}

fn push(arguments: &PushArguments, org: Option<&str>, global: &Global, ui: &Ui) -> Result<i32> {
    if !arguments.nobuild {
        build(&arguments.build, org, global, ui)?;
    }
    let (store, net) = (global.store()?, global.net(ui)?);
    let components = Components::new(&store, &net, ui).of_organisation(org);
    let registry = Registry::new(&net);
    for folder in &arguments.build.folders.folders {
        let component = components.add(folder)?;
        let made = components.index(&component)?;
        let name = component.canonical()?;
        for (built, manifest) in &made.images {
            // The architecture stands behind the tag, as in the store.
            let tag = built.rsplit_once(':').map(|(_, tag)| tag.to_owned());
            registry.push(&store, &ImageName { tag, ..name.clone() }, manifest)?;
        }
        registry.push(&store, &name, &made.index)?;
        super::print_line(&format!("{} {} pushed", made.name, made.index.digest))?;
    }
    Ok(0)
}
