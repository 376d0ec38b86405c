//! `moby cache`: what is in the store, in and out of it.

mod list;
mod remove;
mod transfer;
mod units;

use clap::{Args, Subcommand};

use super::global::Global;
use super::image_in_file;
use crate::Arch;
use crate::blueprint::{ArchiveReference, Reference, nearest};
use crate::error::{Error, Result};
use crate::lock::image_name;
use crate::store::registry::ImageName;
use crate::store::{Descriptor, Store};
use crate::ui::Ui;

/// Looks after the store.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby cache ls                                       the images in the store
  moby cache pull --platform all redis:7              an image for every architecture
  moby cache pull --lock web.lock                     everything that a lock names, for building offline
  moby cache export --format docker redis:7 | docker load
  moby cache import images.tar                        from docker save, skopeo, buildx
  moby cache gc --older-than 30d --max-size 10G       what was not used, then what is too much")]
pub struct CacheArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// List the images (with --json for machines)
    #[command(visible_alias = "list")]
    Ls,
    /// Show what takes the room (with --json for machines)
    Du,
    /// Fetch images from registries
    Pull(transfer::PullArguments),
    /// Send images to registries
    Push(transfer::PushArguments),
    /// Write an image as an archive
    Export(transfer::ExportArguments),
    /// Read images from an archive: OCI layouts in a tar, docker save
    Import(transfer::ImportArguments),
    /// Remove images
    Rm(remove::RemoveArguments),
    /// Empty the store
    Clean(remove::CleanArguments),
    /// Remove what was not used for long, or is too much; never what a lock in use names
    Gc(remove::CollectArguments),
}

/// Runs the verb.
pub fn run(arguments: &CacheArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let store = global.store(ui)?;
    match &arguments.command {
        Command::Ls => list::images(&store, global.json()),
        Command::Du => list::usage(&store, global.json()),
        Command::Pull(pull) => transfer::pull(pull, &store, global, ui),
        Command::Push(push) => transfer::push(push, &store, global, ui),
        Command::Export(export) => transfer::export(export, &store),
        Command::Import(import) => transfer::import(import, &store),
        Command::Rm(remove) => remove::images(remove, &store, global, ui),
        Command::Clean(clean) => remove::everything(clean, &store, global, ui),
        Command::Gc(collect) => remove::old(collect, &store, ui),
    }?;
    Ok(0)
}

/// A reference of the command line.
fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text)
        .map_err(|error| Error::usage(format!("\"{}\" is not an image reference: {error}", text.escape_debug())))
}

/// An image in a file, if that is what the text names.
fn archive(text: &str) -> Result<Option<ArchiveReference>> {
    let wrong = |error| Error::usage(format!("\"{}\" names no image in a file: {error}", text.escape_debug()));
    ArchiveReference::parse(text).transpose().map_err(wrong)
}

/// The store's name of a reference.
fn canonical(text: &str) -> Result<ImageName> {
    image_name(&reference(text)?)
}

/// An image of the store, by the name it has there or by one that means the same.
fn find(store: &Store, text: &str) -> Result<(String, Descriptor)> {
    if let Some(descriptor) = store.named(text)? {
        return Ok((text.to_string(), descriptor));
    }
    if let Some(archive) = archive(text)? {
        return image_in_file(store, &archive);
    }
    let name = canonical(text)?.to_string();
    if let Some(descriptor) = store.named(&name)? {
        return Ok((name, descriptor));
    }
    let names: Vec<String> = store.names()?.into_iter().map(|(name, _)| name).collect();
    let hint = match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "moby cache ls shows what is there".to_string(),
    };
    Err(Error::usage(format!("{name} is not in the store")).hint(hint))
}

/// The architectures of `--platform` and `--arch`.
#[derive(Args, Clone, Debug)]
struct PlatformArguments {
    /// Platforms: linux/amd64, linux/arm64, all [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', value_parser = platform)]
    platform: Vec<Wanted>,
    /// The same by architecture: amd64, arm64
    #[arg(long, value_name = "ARCH", value_delimiter = ',', conflicts_with = "platform")]
    arch: Vec<Arch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    One(Arch),
}

impl PlatformArguments {
    /// `None` stands for all.
    fn arches(&self) -> Result<Option<Vec<Arch>>> {
        if self.platform.contains(&Wanted::All) {
            return Ok(None);
        }
        let named = self.platform.iter().filter_map(|wanted| match wanted {
            Wanted::One(arch) => Some(*arch),
            Wanted::All => None,
        });
        let mut arches: Vec<Arch> = named.chain(self.arch.iter().copied()).collect();
        if arches.is_empty() {
            arches.extend(Arch::host());
        }
        match arches.is_empty() {
            true => Err(Error::usage("this machine is of no architecture that images can have").hint("say --arch")),
            false => Ok(Some(arches)),
        }
    }

    fn is_given(&self) -> bool {
        !self.platform.is_empty() || !self.arch.is_empty()
    }
}

fn platform(text: &str) -> Result<Wanted, String> {
    if text == "all" {
        return Ok(Wanted::All);
    }
    let known = "linux/amd64, linux/arm64 and all";
    // LinuxKit writes linux/arm64/v8 too, which means the same.
    let architecture = text.strip_prefix("linux/").map(|rest| rest.strip_suffix("/v8").unwrap_or(rest));
    let arch = architecture.and_then(|name| name.parse().ok());
    arch.map(Wanted::One).ok_or_else(|| format!("unknown platform; platforms are {known}"))
}
