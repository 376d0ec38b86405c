//! `moby pkg`: components by themselves.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::global::Global;
use super::shared_cache::SharedCacheArguments;
use crate::Arch;
use crate::component::{Component, Components, ContentTag, Overrides, Tagging, embedded};
use crate::error::{Error, IoContext, Result};
use crate::store::Store;
use crate::store::registry::{ImageName, Registry};
use crate::ui::Ui;

/// Builds and names components.
#[derive(Args, Clone, Debug)]
pub struct PkgArguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    rules: Rules,
}

/// What [`Rules`] stand under in the help.
const HEADING: &str = "What components are called, and how Dockerfiles are built";

/// What is said in place of recipes, by LinuxKit's names.
#[derive(Args, Clone, Debug)]
struct Rules {
    /// Organisation in place of the recipes' own, with a registry if it is not the default one
    #[arg(long, global = true, help_heading = HEADING, value_name = "ORG", env = "LINUXKIT_PKG_ORG")]
    org: Option<String>,
    /// Name of the recipe's file [default: build.yml]
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME")]
    build_yml: Option<String>,
    /// Tag in place of the recipe's; %h and {{.Hash}} in it stand for the content's hash
    #[arg(long, global = true, help_heading = HEADING, value_name = "TAG")]
    tag: Option<String>,
    /// Hash in place of that of the content
    #[arg(long, global = true, help_heading = HEADING, value_name = "HASH")]
    hash: Option<String>,
    /// Commit whose git tree gives the hash [default: HEAD]
    #[arg(long, global = true, help_heading = HEADING, value_name = "COMMIT")]
    hash_commit: Option<String>,
    /// Folder whose git tree gives the hash [default: the component's]
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    hash_path: Option<PathBuf>,
    /// Take what git says is committed as changed
    #[arg(long, global = true, help_heading = HEADING)]
    force_dirty: bool,
    /// For trying out: the organisation is $USER and the hash is dev
    #[arg(long, global = true, help_heading = HEADING, conflicts_with_all = ["org", "hash"])]
    dev: bool,
    /// Let the commands of Dockerfiles use the network
    #[arg(long, global = true, help_heading = HEADING, conflicts_with = "nonetwork")]
    network: bool,
    /// Keep the commands of Dockerfiles from the network
    #[arg(long, global = true, help_heading = HEADING)]
    nonetwork: bool,
    /// Let builders of Dockerfiles use what they have of earlier builds
    #[arg(long, global = true, help_heading = HEADING, conflicts_with = "disable_cache")]
    enable_cache: bool,
    /// Have Dockerfiles built from nothing
    #[arg(long, global = true, help_heading = HEADING)]
    disable_cache: bool,
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
    /// The same as LinuxKit says it: linux/amd64,linux/arm64; others are passed over
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    /// All platforms of the recipe but these
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', conflicts_with_all = ["platforms", "arch"])]
    skip_platforms: Vec<String>,
    /// Build even what is there, from what the package archive has today
    #[arg(long, alias = "force", conflicts_with = "nobuild")]
    pull: bool,
    /// Build nothing
    #[arg(long)]
    nobuild: bool,
    /// Send the result to its registry
    #[arg(long)]
    push: bool,
    /// With --push, give the index this tag too; one that is there already is refused
    #[arg(long, value_name = "TAG")]
    release: Option<String>,
    /// Dockerfile in place of the recipe's
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<String>,
    /// File of arguments for Dockerfiles, a line NAME=value each; may be repeated
    #[arg(long, value_name = "FILE")]
    build_arg_file: Vec<PathBuf>,
    /// Print what would be built and sent, and stop
    #[arg(long)]
    dry_run: bool,
    /// Taken for LinuxKit's sake: no list of materials is written
    #[arg(long, hide = true)]
    sbom_scanner: Option<String>,
    #[command(flatten)]
    shared: SharedCacheArguments,
}

#[derive(Args, Clone, Debug)]
struct PushArguments {
    #[command(flatten)]
    build: BuildArguments,
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

impl Rules {
    /// What takes the place of recipes' keys.
    fn overrides(&self, build: Option<&BuildArguments>) -> Result<Overrides> {
        let mut arguments = Vec::new();
        for path in build.iter().flat_map(|build| &build.build_arg_file) {
            arguments.extend(build_arguments(path)?);
        }
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        let organisation = match self.dev {
            true => Some(user().ok_or_else(|| Error::usage("--dev needs the environment's USER"))?),
            false => self.org.clone().filter(|org| !org.is_empty()),
        };
        let choice = |yes: bool, no: bool| yes.then_some(true).or(no.then_some(false));
        Ok(Overrides {
            organisation,
            file_name: self.build_yml.clone(),
            dockerfile: build.and_then(|build| build.dockerfile.clone()),
            arguments,
            network: choice(self.network, self.nonetwork),
            cache: choice(self.enable_cache, self.disable_cache),
        })
    }

    fn tagging(&self) -> Tagging {
        Tagging {
            hash: if self.dev { Some("dev".to_owned()) } else { self.hash.clone() },
            commit: self.hash_commit.clone(),
            path: self.hash_path.clone(),
            tag: self.tag.clone(),
            dirty: self.force_dirty,
        }
    }

    /// What the component is called outside. What git could not say is shown.
    fn name(&self, component: &Component, ui: &Ui) -> Result<ContentTag> {
        let named = component.content_tag(&self.tagging())?;
        if let Some(note) = &named.note {
            ui.warn(format!("{}: git says \"{note}\"; the recipe's hash is taken", component.folder.display()));
        }
        Ok(named)
    }
}

/// The lines of a file of arguments; empty ones and those that begin with `#` are passed over.
fn build_arguments(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).at("reading", path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.starts_with("@lkt:") => Ok(line.to_owned()),
            _ => Err(Error::usage(format!("{}: \"{}\" is not NAME=value", path.display(), line.escape_debug()))
                .hint("values that begin with @lkt: are LinuxKit's own: write what moby pkg show-tag prints")),
        })
        .collect()
}

/// Runs the verb.
pub fn run(arguments: &PkgArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let rules = &arguments.rules;
    let overrides = |build| rules.overrides(build);
    match &arguments.verb {
        Verb::Build(build) => self::build(build, build.push, rules, global, ui),
        Verb::Push(push) => self::build(&push.build, true, rules, global, ui),
        Verb::Manifest(folders) => {
            let (store, net) = (global.store(ui)?, global.net(ui)?);
            let components = Components::new(&store, &net, ui).with_overrides(overrides(None)?);
            for folder in &folders.folders {
                let component = components.add(folder)?;
                let made = components.index_as(&component, &rules.name(&component, ui)?.name()?)?;
                super::print_line(&format!("{} {}", made.name, made.index.digest))?;
            }
            Ok(0)
        }
        Verb::ShowTag(tag) => {
            let (store, net) = (global.store(ui)?, global.net(ui)?);
            let components = Components::new(&store, &net, ui).with_overrides(overrides(None)?);
            for folder in &tag.folders.folders {
                let named = rules.name(&*components.add(folder)?, ui)?;
                let shown = if tag.canonical { named.name()?.to_string() } else { named.reference };
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

fn build(arguments: &BuildArguments, push: bool, rules: &Rules, global: &Global, ui: &Ui) -> Result<i32> {
    if arguments.release.is_some() && !push {
        return Err(Error::usage("--release is about what is sent to a registry").hint("add --push"));
    }
    let (store, net) = (global.store(ui)?, global.net(ui)?);
    let shared = arguments.shared.open(&store, &net, ui)?;
    let overrides = rules.overrides(Some(arguments))?;
    let components = Components::new(&store, &net, ui).with_overrides(overrides).sharing(&shared);
    let registry = Registry::new(&net);
    for folder in &arguments.folders.folders {
        let component = components.add(folder)?;
        let named = rules.name(&component, ui)?;
        if push && named.dirty {
            return Err(Error::refused(format!(
                "{} is not pushed: it differs from what is committed",
                named.reference
            ))
            .hint("commit it, or build it without sending it"));
        }
        let outside = named.name()?;
        let arches = arches(arguments, &component)?;
        if arguments.dry_run {
            for arch in arches.iter().filter(|_| !arguments.nobuild) {
                let there = !arguments.pull && components.in_store(&component, *arch)?.is_some();
                super::print_line(&format!(
                    "{outside}-{arch} {}",
                    if there { "there already" } else { "to be built" }
                ))?;
            }
            if push {
                super::print_line(&format!("{outside} to be pushed"))?;
            }
            continue;
        }
        for arch in arches.iter().filter(|_| !arguments.nobuild) {
            let built = store.mending(|| components.image(&component, *arch, arguments.pull))?;
            let name = format!("{outside}-{arch}");
            if name != built.name {
                store.set_name(&name, built.manifest.clone())?;
            }
            let how = if built.reused { "there already" } else { "built" };
            super::print_line(&format!("{name} {} {how}", built.manifest.digest))?;
        }
        if push {
            self::push(&components, &component, &outside, arguments.release.as_deref(), &store, &registry)?;
        }
    }
    shared.send()?;
    Ok(0)
}

/// The architectures that are asked for; none if LinuxKit's others are.
fn arches(arguments: &BuildArguments, component: &Component) -> Result<Vec<Arch>> {
    if !arguments.arch.is_empty() {
        return Ok(arguments.arch.clone());
    }
    let known = |platforms: &[String]| -> Result<Vec<Arch>> {
        let mut arches = Vec::new();
        for platform in platforms {
            match platform.strip_prefix("linux/").unwrap_or(platform) {
                "riscv64" | "s390x" | "ppc64le" => {}
                name => arches.push(name.parse()?),
            }
        }
        Ok(arches)
    };
    if !arguments.platforms.is_empty() {
        return known(&arguments.platforms);
    }
    if !arguments.skip_platforms.is_empty() {
        let skipped = known(&arguments.skip_platforms)?;
        return Ok(component.recipe.arches.iter().copied().filter(|arch| !skipped.contains(arch)).collect());
    }
    Ok(vec![super::arch(None)?])
}

fn push(
    components: &Components<'_>,
    component: &Component,
    outside: &ImageName,
    release: Option<&str>,
    store: &Store,
    registry: &Registry<'_>,
) -> Result<()> {
    let released = release.map(|tag| ImageName { tag: Some(tag.to_owned()), ..outside.clone() });
    if let Some(released) = &released
        && registry.has(released)?
    {
        return Err(Error::refused(format!("{released} is there already, and a release is not written over"))
            .hint("take another tag"));
    }
    let made = components.index_as(component, outside)?;
    for (built, manifest) in &made.images {
        // The architecture stands behind the tag, as in the store.
        let tag = built.rsplit_once(':').map(|(_, tag)| tag.to_owned());
        registry.push(store, &ImageName { tag, ..outside.clone() }, manifest)?;
    }
    for name in std::iter::once(outside).chain(&released) {
        registry.push(store, name, &made.index)?;
        super::print_line(&format!("{name} {} pushed", made.index.digest))?;
    }
    Ok(())
}
