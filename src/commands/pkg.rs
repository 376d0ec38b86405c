//! `moby pkg`: components by themselves.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::global::Global;
use crate::Arch;
use crate::component::{Component, Components, embedded};
use crate::error::Result;
use crate::ui::Ui;

/// Builds and names components.
#[derive(Args, Clone, Debug)]
pub struct PkgArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Build components into the store
    Build(BuildArguments),
    /// Print the references of components
    ShowTag(Folders),
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
struct Folders {
    /// Folders with a build.yml, or names of this program's own (components/redis)
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: &PkgArguments, global: &Global, ui: &Ui) -> Result<i32> {
    match &arguments.verb {
        Verb::Build(build) => self::build(build, global, ui),
        Verb::ShowTag(folders) => {
            let store = global.store()?;
            for folder in &folders.folders {
                let folder = match embedded::named(folder) {
                    Some(name) if !folder.exists() => embedded::folder(&store, name)?,
                    _ => folder.clone(),
                };
                let (component, _) = Component::open(&folder)?;
                super::print_line(&component.reference)?;
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

fn build(arguments: &BuildArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let mut arches = arguments.arch.clone();
    for platform in &arguments.platforms {
        arches.push(platform.strip_prefix("linux/").unwrap_or(platform).parse()?);
    }
    if arches.is_empty() {
        arches.push(super::arch(None)?);
    }
    let (store, net) = (global.store()?, global.net(ui)?);
    let components = Components::new(&store, &net, ui);
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
