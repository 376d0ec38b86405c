//! `moby cache rm`, `clean` and `gc`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::units::{age, bytes, shown_bytes};
use super::{canonical, find};
use crate::commands::global::Global;
use crate::commands::print_line;
use crate::error::Result;
use crate::lock::digests_in_use;
use crate::store::registry::Registry;
use crate::store::{Collected, Limits, Store};
use crate::ui::Ui;

/// What was not used for so long goes if nothing else is said.
const USUAL_AGE: Duration = Duration::from_secs(30 * 86_400);

/// Arguments of `rm`.
#[derive(Args, Clone, Debug)]
pub(super) struct RemoveArguments {
    /// Images, as `moby cache ls` names them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Only those that their registry has just so
    #[arg(long)]
    published_only: bool,
}

/// Arguments of `clean`.
#[derive(Args, Clone, Debug)]
pub(super) struct CleanArguments {
    /// Only the images that their registry has just so
    #[arg(long)]
    published_only: bool,
    /// Only the bytes of layers: names, manifests and lists of files stay, which moby build --input-tar needs
    #[arg(long, conflicts_with = "published_only")]
    layers: bool,
}

/// Arguments of `gc`.
#[derive(Args, Clone, Debug)]
pub(super) struct CollectArguments {
    /// What was not used for so long [default: 30d, or any age with --max-size]
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// What was not used for longest, until no more than this is left
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Further locks whose images stay, beside those that were used with this store; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    keep_lock: Vec<PathBuf>,
    /// Say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Removes images by name.
pub(super) fn images(arguments: &RemoveArguments, store: &Store, global: &Global, ui: &Ui) -> Result<()> {
    let mut names = BTreeSet::new();
    for name in &arguments.names {
        names.insert(find(store, name)?.0);
    }
    if arguments.published_only {
        names = published(names, store, global, ui)?;
    }
    tell(&store.remove_images(&names, &digests_in_use(store, &[])?)?, false, ui)
}

/// Empties the store.
pub(super) fn everything(arguments: &CleanArguments, store: &Store, global: &Global, ui: &Ui) -> Result<()> {
    if arguments.layers {
        return tell(&store.clean_layers()?, false, ui);
    }
    if !arguments.published_only {
        return tell(&store.clean()?, false, ui);
    }
    let names = store.names()?.into_iter().map(|(name, _)| name).collect();
    let names = published(names, store, global, ui)?;
    tell(&store.remove_images(&names, &digests_in_use(store, &[])?)?, false, ui)
}

/// Removes what is old or too much.
pub(super) fn old(arguments: &CollectArguments, store: &Store, ui: &Ui) -> Result<()> {
    let keep = digests_in_use(store, &arguments.keep_lock)?;
    let usual = arguments.max_size.is_none().then_some(USUAL_AGE);
    let limits =
        Limits { older_than: arguments.older_than.or(usual), max_size: arguments.max_size, dry_run: arguments.dry_run };
    let collected = store.collect(&limits, &keep)?;
    tell(&collected, arguments.dry_run, ui)?;
    if let Some(most) = arguments.max_size.filter(|most| collected.left > *most) {
        ui.warn(format!(
            "{} are left, more than {}: the rest is named by locks in use, or in use by another process",
            shown_bytes(collected.left),
            shown_bytes(most)
        ));
    }
    Ok(())
}

/// Those of the names that their registry has with the same digest. One that cannot be asked about stays.
fn published(names: BTreeSet<String>, store: &Store, global: &Global, ui: &Ui) -> Result<BTreeSet<String>> {
    let net = global.net(ui)?;
    let registry = Registry::new(&net);
    let mut found = BTreeSet::new();
    for name in names {
        let Ok(image) = canonical(&name) else { continue };
        match (registry.resolve(&image), store.named(&name)?) {
            (Ok(there), Some(here)) if there.digest == here.digest => drop(found.insert(name)),
            (Ok(_), _) => ui.note(format!("{name} stays: its registry has another image under this name")),
            (Err(error), _) => ui.note(format!("{name} stays: {error}")),
        }
    }
    Ok(found)
}

fn tell(collected: &Collected, dry_run: bool, ui: &Ui) -> Result<()> {
    for name in &collected.names {
        print_line(&format!("{} {name}", if dry_run { "would remove" } else { "removed" }))?;
    }
    let (freed, left) = (shown_bytes(collected.bytes), shown_bytes(collected.left));
    ui.note(format!("{} files, {freed}{}; {left} left", collected.files, if dry_run { " would go" } else { " freed" }));
    if collected.spared > 0 {
        ui.note(format!(
            "{} more stay for now: another process has the store open and they were used today; moby cache gc takes them later",
            shown_bytes(collected.spared)
        ));
    }
    Ok(())
}
