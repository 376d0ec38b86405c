//! `update stage IMAGE` and `update show`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data;
use crate::machine::{self, Disk};
use crate::slots::device::FileDevice;
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::layout::{ESP, Layout};
use crate::slots::show::show;
use crate::slots::spool::spool;
use crate::slots::stage::stage;

const USAGE: &str = "use: update stage IMAGE|- [--disk DEV] [--spool DIR] [--reboot] | update show [--disk DEV] |\n  update reset-data [--reboot]";

/// How long another program may go on with the slot or the EFI system partition: a boot is marked in a moment.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    disk: Option<PathBuf>,
    spool: Option<PathBuf>,
    reboot: bool,
}

/// Runs the program with these arguments.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments = parse(arguments)?;
    match arguments.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["show"] => {
            let running = machine::running().ok();
            let disk = open(&arguments, running.as_ref())?;
            print!("{}", show(&Layout::read(&disk.device)?, running.as_ref()));
            Ok(())
        }
        ["reset-data"] => {
            data::request_reset()?;
            reboot_if_asked(&arguments)
        }
        ["stage", image] => stage_image(image, &arguments),
        _ => Err(Failure::new(USAGE)),
    }
}

fn parse(arguments: &[String]) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().map(PathBuf::from).ok_or_else(|| Failure::new(format!("{word}: {USAGE}")));
        match word.as_str() {
            "--disk" => parsed.disk = Some(value()?),
            "--spool" => parsed.spool = Some(value()?),
            "--reboot" => parsed.reboot = true,
            option if option.starts_with("--") => return Err(Failure::new(format!("{option}: not known; {USAGE}"))),
            other => parsed.words.push(other.to_owned()),
        }
    }
    Ok(parsed)
}

fn open(arguments: &Arguments, running: Option<&[u8; 32]>) -> Result<Disk> {
    match (&arguments.disk, running) {
        (Some(path), _) => Disk::open(path),
        (None, Some(running)) => Disk::of_running(running),
        (None, None) => Disk::of_running(&machine::running()?),
    }
}

fn stage_image(image: &str, arguments: &Arguments) -> Result<()> {
    let running = machine::running().ok();
    let disk = open(arguments, running.as_ref())?;
    let slot = || Layout::read(&disk.device).map(|layout| layout.kept(running.as_ref()).other());
    let chosen = slot()?;
    let claims = disk.claim(&[ESP, chosen.root, chosen.tree], PATIENCE)?;
    // Whoever had them may have written an update meanwhile.
    if slot()? != chosen {
        return Err(Failure::refused("another program has just updated this disk: try again"));
    }
    let image = match image {
        "-" => spool(&mut io::stdin().lock(), arguments.spool.as_deref().unwrap_or(Path::new("/var/tmp")))?,
        path => {
            let file = File::open(path).doing(format_args!("opening {path}"))?;
            FileDevice::new(file).doing(format_args!("asking for the size of {path}"))?
        }
    };
    let staged = stage(&disk.device, &image, running.as_ref(), &mut |line| println!("{line}"))?;
    drop(claims);
    println!("slot {}: {}, root hash {}", staged.slot, staged.name, staged.root_hash);
    reboot_if_asked(arguments)
}

fn reboot_if_asked(arguments: &Arguments) -> Result<()> {
    if !arguments.reboot {
        return Ok(());
    }
    println!("rebooting");
    machine::reboot()
}
