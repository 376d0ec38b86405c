//! Starts a built image in QEMU, shows its console, and reports how the guest ended.
//!
//! | file | what |
//! |---|---|
//! | `image` | what `NAME` stands for: kernel and initrd, a disk image, a CD image |
//! | `kernel_header` | architecture and release of a kernel, read from its header |
//! | `firmware` | where distributions keep UEFI firmware |
//! | `secure_boot` | a disk around a program, so that firmware judges it |
//! | `accelerator` | QEMU's version, KVM tried rather than assumed |
//! | `disk`, `publish` | the two flags with a grammar of their own |
//! | `config_disk` | the ISO 9660 image that carries `--data` |
//! | `arguments` | QEMU's command line from all of that |
//! | `console` | reads the guest's console for its verdict |
//! | `machine` | the running process: waiting, timeout, detaching, stopping |
//!
//! Limits: QEMU is the only backend. On ARM, QEMU does not keep the guest from the firmware's variables: Secure Boot there
//! shows that an image boots, and protects nothing from a guest that turns bad. A guest that ends by `reboot` ends the run.

pub mod accelerator;
pub mod arguments;
pub mod config_disk;
pub mod console;
pub mod disk;
pub mod firmware;
pub mod image;
pub mod kernel_header;
pub mod machine;
pub mod publish;
pub mod secure_boot;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{IoContext, Result};
use crate::formats::authenticode::Algorithm;
use crate::secure_boot::folder::{KeyFolder, Role};
use crate::ui::Ui;
use crate::{Arch, Error};

use accelerator::{Accelerator, Qemu};
use arguments::Network;
use disk::Disk;
use image::{Boot, Image};
use publish::Published;

/// The largest `--data`: what cloud platforms give is far below this.
pub const MAX_DATA: u64 = 16 << 20;

/// What `moby run` was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of an image in `dir`, or a path.
    pub image: String,
    /// Folder in which names are looked up.
    pub dir: PathBuf,
    /// Take the image for this, whatever its name says.
    pub forced: Option<image::Kind>,
    /// Architecture asked for; `None` takes the image's own.
    pub arch: Option<Arch>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// Ports of the host that lead into the guest.
    pub published: Vec<Published>,
    /// More disks, in order after the boot disk.
    pub disks: Vec<Disk>,
    /// What the guest finds as `/config` on the disk labelled `cidata`.
    pub data: Option<Vec<u8>>,
    /// `None`: KVM if it works, else TCG.
    pub accelerator: Option<Accelerator>,
    /// Firmware file instead of the found one; implies UEFI.
    pub firmware: Option<PathBuf>,
    /// Boot through UEFI.
    pub uefi: bool,
    /// A folder of keys that the firmware has enrolled: Secure Boot, and nothing boots that they have not signed.
    pub secure_boot: Option<PathBuf>,
    /// Show a window.
    pub gui: bool,
    /// Leave the machine running in the background.
    pub detached: bool,
    /// State folder; `None` is `IMAGE-state`.
    pub state: Option<PathBuf>,
    /// Network of the guest.
    pub network: Network,
    /// Added to the kernel's command line.
    pub append: Option<String>,
    /// Writes to the boot disk are thrown away at the end.
    pub snapshot: bool,
    /// Seconds after which the machine is stopped.
    pub timeout: Option<Duration>,
    /// QEMU program instead of `qemu-system-*` of the path.
    pub qemu: Option<PathBuf>,
    /// Arguments for QEMU, added at the end as they are.
    pub qemu_arguments: Vec<String>,
    /// Program that is put in front of QEMU's so that QEMU ends with us (see [`machine::become_qemu`]); called with
    /// `run --end-with PID -- PROGRAM ARGUMENTS`. `None` starts QEMU directly.
    pub launcher: Option<PathBuf>,
    /// Whether somebody types at the guest's console: QEMU's own keys (ctrl-a x) are then on.
    pub interactive: bool,
}

/// Runs the machine until it ends, or starts it in the background. The result is the exit status for the program:
/// the guest's own, 1 after a kernel panic or a timeout, 0 otherwise.
pub fn run(options: &Options, ui: &Ui) -> Result<i32> {
    let image = Image::find(&options.image, &options.dir, options.forced)?;
    let arch = architecture(&image, options)?;
    let qemu = Qemu::find(arch, options.qemu.as_deref())?;
    let state = options.state.clone().unwrap_or_else(|| image.default_state());
    fs::create_dir_all(&state).at("creating", &state)?;
    let state = fs::canonicalize(&state).at("resolving", &state)?;
    if options.detached {
        machine::refuse_second(&state)?;
    }

    let accelerator = qemu.choose(arch, options.accelerator)?;
    warn_unsteady(&image, arch, &qemu, accelerator, ui)?;
    if options.network != Network::User && !options.published.is_empty() {
        return Err(Error::usage("--publish needs --networking user")
            .hint("without QEMU's own network, reach the guest by its address"));
    }
    for published in &options.published {
        published.check_free()?;
    }
    let firmware = firmware::choose(&image, arch, options, &state)?;
    let image = match &options.secure_boot {
        Some(keys) => {
            let certificate = KeyFolder::open(keys)?.certificate(Role::Db)?;
            if certificate.algorithm() == Algorithm::EcdsaP256 {
                ui.warn("most firmware, Debian 12's too, checks signatures of RSA keys only, and these are on P-256");
            }
            secure_boot::on_disk(image, arch, &state)?
        }
        None => image,
    };
    for disk in &options.disks {
        disk.create_if_missing()?;
    }
    let config = match &options.data {
        Some(data) => {
            let path = state.join("data.iso");
            config_disk::write(&path, data)?;
            Some(path)
        }
        None => None,
    };

    let plan = arguments::Plan {
        image: &image,
        arch,
        accelerator,
        options,
        state: &state,
        firmware: firmware.as_ref(),
        config: config.as_deref(),
    };
    let arguments = plan.arguments()?;
    ui.note(format!(
        "{}: {} on QEMU {} with {}, {} processor{}, {} MiB",
        image.name,
        arch,
        qemu.version_text(),
        accelerator.name(),
        options.cpus,
        if options.cpus == 1 { "" } else { "s" },
        options.memory
    ));
    if options.detached {
        return machine::detach(&qemu, &arguments, &state, &image.name, ui);
    }
    if options.interactive {
        ui.note("ctrl-a x ends the machine, ctrl-a h lists the other keys");
    }
    machine::watch(&qemu, &arguments, options, ui)
}

/// Stops the machine that was started with `--detached`.
pub fn stop(options: &Options, ui: &Ui) -> Result<i32> {
    let state = match &options.state {
        Some(state) => state.clone(),
        None => match Image::find(&options.image, &options.dir, options.forced) {
            Ok(image) => image.default_state(),
            // The image may be gone or being rebuilt; its machine still has to be stoppable.
            Err(error) => [Path::new(""), &options.dir]
                .iter()
                .map(|dir| dir.join(format!("{}-state", options.image)))
                .find(|path| path.join(machine::PID_FILE).exists())
                .ok_or(error)?,
        },
    };
    machine::stop(&state, ui)
}

fn architecture(image: &Image, options: &Options) -> Result<Arch> {
    let found = match &image.boot {
        Boot::Kernel { kernel, .. } | Boot::Uki { path: kernel } => kernel_header::read(kernel)?.arch,
        Boot::Disk { .. } | Boot::Cd { .. } => None,
    };
    match (options.arch, found) {
        (Some(asked), Some(found)) if asked != found => {
            Err(Error::usage(format!("{} is a kernel for {found}, but --arch says {asked}", image.path().display()))
                .hint(format!("build it for {asked} (moby build --arch {asked} ...), or leave --arch away")))
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(found)) => Ok(found),
        (None, None) => Arch::host().ok_or_else(|| {
            Error::usage(format!("{} does not tell its architecture", image.path().display())).hint("give --arch")
        }),
    }
}

/// Debian's 6.12 kernel for amd64 crashed in 14 of 102 boots under QEMU 7.2 without KVM; under QEMU 10 in none of 40.
fn warn_unsteady(image: &Image, arch: Arch, qemu: &Qemu, accelerator: Accelerator, ui: &Ui) -> Result<()> {
    let Boot::Kernel { kernel, .. } = &image.boot else { return Ok(()) };
    if arch != Arch::Amd64 || accelerator != Accelerator::Tcg || qemu.version.is_none_or(|(major, _)| major > 7) {
        return Ok(());
    }
    let header = kernel_header::read(kernel)?;
    if header.release.as_deref().is_some_and(|release| release.starts_with("6.12")) {
        ui.warn(format!(
            "QEMU {} without KVM crashes Linux 6.12 on amd64 now and then (one boot in seven): use QEMU 10 \
             (Debian: bookworm-backports), a machine with KVM, or a 6.1 kernel",
            qemu.version_text()
        ));
    }
    Ok(())
}
