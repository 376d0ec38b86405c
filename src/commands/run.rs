//! `moby run`: boots an image in QEMU.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::error::{Error, IoContext, Result};
use crate::run::accelerator::AcceleratorChoice;
use crate::run::arguments::Network;
use crate::run::disk::{Disk, parse_size};
use crate::run::image::Kind;
use crate::run::publish::Published;
use crate::run::{MAX_DATA, Options, machine};
use crate::ui::Ui;
use crate::{Arch, run as machines};

/// Boots an image in QEMU; the guest's exit status is the exit status of this command.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  moby run minimal                          boots images-out/minimal-kernel with its initrd
  moby run --publish 8080:80 nginx          port 8080 of this machine leads to port 80 of the guest
  moby run --disk data.img,size=2G redis    adds a disk, made if it is missing
  moby run --uefi disk-efi.img              boots a disk image through UEFI
  moby run --detached redis; moby run --stop redis")]
pub struct RunArguments {
    /// The image: a name in --dir, a path, or the prefix of -kernel and -initrd.img; `qemu` may stand before it
    #[arg(value_name = "[qemu] IMAGE", num_args = 1..=2, required_unless_present = "end_with")]
    image: Vec<String>,
    /// Folder in which image names are looked up
    #[arg(long, value_name = "DIR", default_value = "images-out")]
    dir: PathBuf,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: u32,
    /// Memory in MiB, or with M, G or T
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = memory)]
    mem: u64,
    /// Port of this machine that leads into the guest: [ADDRESS:]HOST:GUEST[/udp]; may be repeated
    #[arg(long, value_name = "H:G[/udp]", value_parser = parsed::<Published>)]
    publish: Vec<Published>,
    /// Another disk: [file=]PATH[,size=N[M|G|T]][,format=F]; made if missing; may be repeated
    #[arg(long, value_name = "DISK", value_parser = parsed::<Disk>)]
    disk: Vec<Disk>,
    /// Architecture: amd64 or arm64; default: what the kernel is for
    #[arg(long, value_parser = parsed::<Arch>)]
    arch: Option<Arch>,
    /// Text that the guest finds as /config on a disk labelled cidata
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// Like --data, from a file
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// What executes the guest: auto (KVM if it works), kvm, tcg
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = parsed::<AcceleratorChoice>)]
    accel: AcceleratorChoice,
    /// UEFI firmware instead of the installed one; implies --uefi
    #[arg(long, value_name = "FILE")]
    fw: Option<PathBuf>,
    /// Boot through UEFI; implied by names that end in -efi.* and by arm64 disks
    #[arg(long)]
    uefi: bool,
    /// Boot through UEFI with Secure Boot, these keys enrolled (PK, KEK and db as moby keys generate makes them)
    #[arg(long, value_name = "DIR")]
    secure_boot: Option<PathBuf>,
    /// Take the image for a CD image, whatever its name
    #[arg(long, conflicts_with = "kernel")]
    iso: bool,
    /// Take the image for the prefix of -kernel, -initrd.img and -cmdline
    #[arg(long)]
    kernel: bool,
    /// Show the guest's screen in a window
    #[arg(long, conflicts_with = "detached")]
    gui: bool,
    /// Leave the machine running in the background, its console in STATE/console.log
    #[arg(long)]
    detached: bool,
    /// Stop the machine that was started with --detached
    #[arg(long, conflicts_with = "detached")]
    stop: bool,
    /// Folder for what belongs to this machine; default: IMAGE-state beside the image
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Network: user, none, tap,INTERFACE or bridge,BRIDGE
    #[arg(long, value_name = "MODE", default_value = "user", value_parser = parsed::<Network>)]
    networking: Network,
    /// Added to the kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Throw away what the guest writes to the boot disk
    #[arg(long)]
    snapshot: bool,
    /// Stop the machine after so many seconds, with exit status 1
    #[arg(long, value_name = "SECONDS", conflicts_with = "detached")]
    timeout: Option<u64>,
    /// QEMU program instead of qemu-system-ARCH
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Used by moby itself: become the program after --, and end when this process ends
    #[arg(long, hide = true, value_name = "PID")]
    end_with: Option<u32>,
    /// More arguments for QEMU, after --
    #[arg(last = true, value_name = "QEMU-ARGUMENTS", allow_hyphen_values = true)]
    qemu_arguments: Vec<String>,
}

/// Runs the command. The result is the exit status of the program.
pub fn run(arguments: RunArguments, ui: &Ui) -> Result<i32> {
    if let Some(parent) = arguments.end_with {
        return Err(machine::become_qemu(parent, &arguments.qemu_arguments));
    }
    let image = match arguments.image.as_slice() {
        [image] => image.clone(),
        [backend, image] if backend == "qemu" => image.clone(),
        [backend, ..] => {
            return Err(Error::usage(format!("unknown backend \"{backend}\""))
                .hint("qemu is the only one, and may be left away: moby run [qemu] IMAGE"));
        }
        [] => return Err(Error::usage("which image?").hint("moby run NAME, after moby build NAME.yml")),
    };
    let data = match (arguments.data, &arguments.data_file) {
        (Some(text), _) => Some(text.into_bytes()),
        (None, Some(path)) => Some(read_data(path)?),
        (None, None) => None,
    };
    let forced = match (arguments.iso, arguments.kernel) {
        (true, _) => Some(Kind::Iso),
        (_, true) => Some(Kind::Kernel),
        _ => None,
    };
    let options = Options {
        image,
        dir: arguments.dir,
        forced,
        arch: arguments.arch,
        cpus: arguments.cpus,
        memory: arguments.mem,
        published: arguments.publish,
        disks: arguments.disk,
        data,
        accelerator: arguments.accel.0,
        firmware: arguments.fw,
        uefi: arguments.uefi,
        secure_boot: arguments.secure_boot,
        gui: arguments.gui,
        detached: arguments.detached,
        state: arguments.state,
        network: arguments.networking,
        append: arguments.append,
        snapshot: arguments.snapshot,
        timeout: arguments.timeout.map(Duration::from_secs),
        qemu: arguments.qemu,
        qemu_arguments: arguments.qemu_arguments,
        launcher: std::env::current_exe().ok(),
        interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
    };
    if arguments.stop { machines::stop(&options, ui) } else { machines::run(&options, ui) }
}

fn read_data(path: &Path) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    // One byte more than is allowed: the writer of the config disk then refuses it with the reason.
    std::fs::File::open(path).at("opening", path)?.take(MAX_DATA + 1).read_to_end(&mut data).at("reading", path)?;
    Ok(data)
}

/// clap shows one text; the hint becomes part of it.
fn parsed<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint_text() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    })
}

fn memory(text: &str) -> Result<u64, String> {
    Ok(parse_size(text)? >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        run: RunArguments,
    }

    fn parse(words: &[&str]) -> Result<RunArguments, String> {
        let all = std::iter::once("run").chain(words.iter().copied());
        Program::try_parse_from(all).map(|program| program.run).map_err(|error| error.to_string())
    }

    #[test]
    fn flags() {
        let run = parse(&["qemu", "redis", "--publish", "6379:6379", "--mem", "2G", "--", "-device", "x"]).unwrap();
        assert_eq!((run.image.len(), run.mem, run.publish.len()), (2, 2048, 1));
        assert_eq!(run.qemu_arguments, ["-device", "x"]);
        let inner = parse(&["--end-with", "12", "--", "qemu-system-x86_64", "-nodefaults"]).unwrap();
        assert_eq!(inner.end_with, Some(12));
    }

    #[test]
    fn mistakes_say_what_is_right() {
        for (words, part) in [
            (&["x", "--publish", "80"][..], "HOST:GUEST"),
            (&["x", "--cpus", "0"], "1..=255"),
            (&["x", "--mem", "lots"], "MiB"),
            (&["x", "--accel", "hvf"], "auto, kvm, tcg"),
            (&["x", "--arch", "riscv64"], "amd64 and arm64"),
            (&["x", "--data", "a", "--data-file", "b"], "cannot be used with"),
            (&[], "required"),
        ] {
            let text = parse(words).unwrap_err();
            assert!(text.contains(part), "{words:?}: {text}");
        }
        let wrong = parse(&["hyperkit", "minimal"]).unwrap();
        assert!(run(wrong, &Ui::new(crate::ui::Mode::Quiet)).unwrap_err().message().contains("hyperkit"));
    }
}
