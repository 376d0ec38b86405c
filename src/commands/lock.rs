//! `moby lock`: every image of a blueprint pinned to digests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::global::Global;
use crate::Arch;
use crate::blueprint::{self, ArchiveReference, Blueprint, Input, Place, ReadOptions};
use crate::component::Components;
use crate::error::{Error, Result};
use crate::lock::{LockFile, LockPlace, Locker, Moving, moves};
use crate::store::LocalDocker;
use crate::ui::Ui;

/// Pins every image of blueprints to digests.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby lock web.yml                          writes web.lock: what is new is added, what is locked stays
  moby lock --update web.yml                 asks for everything anew and prints what moved
  moby lock --update nginx web.yml           moves one image only
  moby build --locked --offline web.yml      builds what the lock names, and nothing else")]
pub struct LockArguments {
    /// Blueprints, as for moby build; with --update, names of images to move may stand before them
    #[arg(value_name = "[NAME...] FILE", required = true)]
    files: Vec<OsString>,
    /// Ask registries anew: for the images named, or for all
    #[arg(long)]
    update: bool,
    /// Look for images in the local Docker or podman first, as moby build --docker does
    #[arg(long)]
    docker: bool,
    /// Lock what formats need beside what the blueprint names, too: loaders, and the initramfs of disks
    #[arg(long)]
    loaders: bool,
    /// The lock file [default: NAME.lock beside the last blueprint]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Architectures to lock: amd64, arm64 [default: both, as far as an image has them; this machine's for recipes]
    #[arg(long, value_name = "ARCH", value_delimiter = ',')]
    arch: Vec<Arch>,
}

/// Runs the verb.
pub fn run(arguments: &LockArguments, global: &Global, ui: &Ui) -> Result<i32> {
    let (names, inputs) = split(&arguments.files, arguments.update);
    let moving = match (arguments.update, names.is_empty()) {
        (false, _) => Moving::Nothing,
        (true, true) => Moving::All,
        (true, false) => Moving::Some(names),
    };
    let net = global.net(ui)?;
    let fetch = |url: &str| net.get_bytes(url, 16 << 20).map_err(Error::from);
    let store = global.store(ui)?;
    let components = Components::new(&store, &net, ui);
    let resolve = |folder: &Path, _: &Place| components.add(folder).map(|component| component.reference.clone());
    let archives = |archive: &ArchiveReference| super::image_in_file(&store, archive).map(|(reference, _)| reference);
    let options = ReadOptions { fetch: Some(&fetch), resolve: Some(&resolve), archives: Some(&archives) };
    let (blueprint, warnings) = blueprint::read(&inputs, options)?;
    super::show_warnings(&warnings, ui);
    let mut blueprint = blueprint;
    components.add_data(&mut blueprint)?;
    let place = LockPlace::of(&inputs, arguments.lock.as_deref());
    let old = match place.path() {
        Some(path) if path.exists() => LockFile::read(path)?,
        _ => LockFile::default(),
    };
    let arches = (!arguments.arch.is_empty()).then_some(arguments.arch.as_slice());
    let docker = arguments.docker.then(LocalDocker::find).transpose()?;
    let docker = docker.as_ref();
    let locker = Locker { store: &store, net: &net, arches, components: &components, docker };
    let new = store.mending(|| {
        let mut new = locker.lock(&blueprint, &old, &moving)?;
        new.loaders = locker.loaders(&old, &moving, arguments.loaders)?;
        Ok(new)
    })?;
    for one in moves(&old, &new) {
        super::print_line(&one.to_string())?;
    }
    let changed = place.write(&new, &store)?;
    if let Some(path) = place.path() {
        ui.note(format!("{} {}", path.display(), if changed { "written" } else { "is as it was" }));
    }
    Ok(0)
}

/// With `--update`, what is no file and does not look like one is the name of an image, as long as a blueprint follows.
fn split(arguments: &[OsString], update: bool) -> (Vec<String>, Vec<Input>) {
    let is_input = |argument: &OsString| match Input::from_argument(argument) {
        Input::File(path) => path.is_file() || path.extension().is_some_and(|e| e == "yml" || e == "yaml"),
        _ => true,
    };
    let last = arguments.len().saturating_sub(1);
    let names = arguments.iter().enumerate().take_while(|(number, one)| update && *number < last && !is_input(one));
    let names: Vec<String> = names.map(|(_, one)| one.to_string_lossy().into_owned()).collect();
    let inputs = arguments.iter().skip(names.len()).map(|one| Input::from_argument(one)).collect();
    (names, inputs)
}

/// What `moby build --locked` refuses: no lock, or one that does not fit the blueprint. Without `--locked`, what does
/// not fit is only said.
pub fn check(
    (place, lock): (&LockPlace, Option<&LockFile>),
    blueprint: &Blueprint,
    components: &Components<'_>,
    arch: Arch,
    locked: bool,
    ui: &Ui,
) -> Result<()> {
    if !locked {
        let drifts = lock.map(|lock| lock.drift(blueprint, components, arch)).unwrap_or_default();
        for drift in drifts.iter().filter(|drift| drift.place.is_some()) {
            ui.note(format!("{drift}: resolved as without a lock"));
        }
        return Ok(());
    }
    let (Some(lock), Some(path)) = (lock, place.path()) else {
        let wanted = place.path().map_or_else(String::new, |path| format!(": {} is not there", path.display()));
        return Err(Error::refused(format!("--locked needs a lock{wanted}")).hint("moby lock writes it"));
    };
    let drifts = lock.drift(blueprint, components, arch);
    if !drifts.is_empty() {
        return Err(LockFile::refuse(path, &drifts));
    }
    let own = env!("CARGO_PKG_VERSION");
    if lock.tool != own {
        ui.warn(format!("{} was written by moby {}, this is {own}: outputs may differ", path.display(), lock.tool));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_before_blueprints() {
        let split = |words: &[&str], update| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let (names, inputs) = split(&words, update);
            (names, inputs.len())
        };
        assert_eq!(split(&["a.yml", "b.yml"], true), (vec![], 2));
        assert_eq!(split(&["nginx", "a.yml"], true), (vec!["nginx".to_string()], 1));
        assert_eq!(split(&["nginx", "redis:7", "a.yaml", "-"], true).0, ["nginx", "redis:7"]);
        assert_eq!(split(&["nginx", "a.yml"], false), (vec![], 2));
        assert_eq!(split(&["nginx"], true), (vec![], 1));
    }
}
