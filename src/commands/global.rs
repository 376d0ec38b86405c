//! Flags that every verb understands, and what they open.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::net::{Mirror, Net, NetOptions};
use crate::store::Store;
use crate::ui::{Mode, Ui};

/// What these flags stand under in every verb's help.
const HEADING: &str = "Options of every command";

/// Flags that every verb understands.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Folder of the store [default: $MOBY_CACHE, else $XDG_CACHE_HOME/moby, else ~/.cache/moby]
    // Not clap's `env`: it takes a variable that is empty for a mistake, and shows it in the usage of every error.
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Mirror of a registry, of all registries without REG=; may be repeated; $MOBY_MIRROR has some too
    #[arg(long, global = true, help_heading = HEADING, value_name = "[REG=]URL")]
    mirror: Vec<Mirror>,
    /// Further certificate authorities to trust, PEM; may be repeated
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    cert_file: Vec<PathBuf>,
    /// Registry to speak plain http with; loopback is always allowed; may be repeated
    #[arg(long, global = true, help_heading = HEADING, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    /// Never use the network: what is not in the store is an error that says what it was
    #[arg(long, global = true, help_heading = HEADING)]
    offline: bool,
    /// Show warnings only
    #[arg(short, long, global = true, help_heading = HEADING)]
    quiet: bool,
    /// Show progress as JSON events, one a line, on standard error
    #[arg(long, global = true, help_heading = HEADING, conflicts_with = "quiet")]
    json: bool,
}

impl Global {
    /// How progress is shown.
    pub fn ui(&self) -> Ui {
        Ui::new(match (self.quiet, self.json) {
            (true, _) => Mode::Quiet,
            (_, true) => Mode::Json,
            _ => Mode::detect(),
        })
    }

    /// Whether results are to be JSON too (`--json`).
    pub fn json(&self) -> bool {
        self.json
    }

    /// The store, which tells `ui` what it finds damaged.
    pub fn store(&self, ui: &Ui) -> Result<Store> {
        let named = std::env::var_os("MOBY_CACHE").filter(|name| !name.is_empty()).map(PathBuf::from);
        let store = match self.cache.clone().or(named) {
            Some(path) => Store::open(&path),
            None => Store::open(&Store::default_root()?),
        };
        store.map(|store| store.telling(ui))
    }

    /// The network. Mirrors of `MOBY_MIRROR` are asked before those of the flags, as in LinuxKit.
    pub fn net(&self, ui: &Ui) -> Result<Net> {
        let mut mirrors = Mirror::parse_list(&std::env::var("MOBY_MIRROR").unwrap_or_default())?;
        mirrors.extend(self.mirror.iter().cloned());
        let (cert_files, insecure_hosts) = (self.cert_file.clone(), self.insecure.clone());
        let offline = self.offline;
        Net::new(NetOptions { mirrors, cert_files, insecure_hosts, offline, ..NetOptions::default() }, ui)
    }
}
