//! The QEMU program, its version, and whether KVM works.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::Arch;
use crate::error::{Error, Result};

/// How long KVM may take until the firmware's first byte; it takes 50 ms where it works.
const KVM_PATIENCE: Duration = Duration::from_secs(3);

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself, through Linux.
    Kvm,
    /// QEMU's translation: anywhere, any architecture, slower.
    Tcg,
}

impl Accelerator {
    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// `--accel`: `auto` and LinuxKit's `kvm:tcg` mean `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceleratorChoice(pub Option<Accelerator>);

impl FromStr for AcceleratorChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<AcceleratorChoice> {
        match text {
            "auto" | "kvm:tcg" => Ok(AcceleratorChoice(None)),
            "kvm" => Ok(AcceleratorChoice(Some(Accelerator::Kvm))),
            "tcg" => Ok(AcceleratorChoice(Some(Accelerator::Tcg))),
            _ => Err(Error::usage(format!("unknown accelerator \"{text}\"")).hint("one of auto, kvm, tcg")),
        }
    }
}

/// A QEMU system emulator.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Major and minor version, if the program told.
    pub version: Option<(u32, u32)>,
}

impl Qemu {
    /// Finds the emulator for `arch` and asks for its version.
    pub fn find(arch: Arch, given: Option<&Path>) -> Result<Qemu> {
        let name = format!("qemu-system-{}", arch.kernel_name());
        let program = match given {
            Some(program) => program.to_owned(),
            None => search(&name).ok_or_else(|| missing(&name, arch))?,
        };
        let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
        let output = output
            .map_err(|error| Error::failed(format!("starting {}: {error}", program.display())).hint(install(arch)))?;
        Ok(Qemu { version: parse_version(&String::from_utf8_lossy(&output.stdout)), program })
    }

    /// The version for messages.
    pub fn version_text(&self) -> String {
        self.version.map_or_else(|| "of unknown version".into(), |(major, minor)| format!("{major}.{minor}"))
    }

    /// KVM if asked for or, when nothing is asked for, if it works.
    pub fn choose(&self, arch: Arch, asked: Option<Accelerator>) -> Result<Accelerator> {
        if asked == Some(Accelerator::Tcg) {
            return Ok(Accelerator::Tcg);
        }
        match self.kvm_fault(arch) {
            None => Ok(Accelerator::Kvm),
            Some(_) if asked.is_none() => Ok(Accelerator::Tcg),
            Some(fault) => Err(Error::failed(format!("KVM does not work here: {fault}"))
                .hint("leave --accel away: the guest then runs without KVM where it must, only slower")),
        }
    }

    /// Why KVM cannot be used. That /dev/kvm opens says little: machines were seen on which a virtual processor
    /// cannot be made, and others on which it never executes an instruction. So a machine without a disk is started,
    /// and the BIOS has to say its first word.
    fn kvm_fault(&self, arch: Arch) -> Option<String> {
        if Arch::host() != Some(arch) {
            return Some(format!("this host does not execute {arch}"));
        }
        if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Some(format!("/dev/kvm: {error}"));
        }
        let mut command = Command::new(&self.program);
        command.args(["-accel", "kvm", "-cpu", "host", "-m", "64", "-nodefaults", "-display", "none"]);
        match arch {
            // SeaBIOS writes what it does to I/O port 0x402.
            Arch::Amd64 => command
                .args(["-M", "q35", "-chardev", "stdio,id=c", "-device"])
                .arg("isa-debugcon,iobase=0x402,chardev=c"),
            // No firmware comes with this machine; the monitor's prompt shows that its processor could be made.
            Arch::Arm64 => command.args(["-M", "virt,gic-version=host", "-S", "-monitor", "stdio"]),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return Some(format!("starting {}: {error}", self.program.display())),
        };
        let (sender, receiver) = mpsc::channel();
        if let Some(mut output) = child.stdout.take() {
            thread::spawn(move || {
                let read = output.read(&mut [0; 64]);
                let _ = sender.send(matches!(read, Ok(1..)));
            });
        }
        let spoke = receiver.recv_timeout(KVM_PATIENCE);
        let _ = child.kill();
        let _ = child.wait();
        match spoke {
            Ok(true) => None,
            Ok(false) => Some("QEMU ended when it made the virtual processor".into()),
            Err(_) => Some("the virtual processor does not execute anything".into()),
        }
    }
}

fn search(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

fn missing(name: &str, arch: Arch) -> Error {
    Error::failed(format!("{name} is not installed")).hint(install(arch))
}

fn install(arch: Arch) -> String {
    let package = match arch {
        Arch::Amd64 => "qemu-system-x86",
        Arch::Arm64 => "qemu-system-arm",
    };
    format!("install Debian's package {package} (apt-get install --no-install-recommends {package})")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split("version ").nth(1)?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)\n"), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.2\n"), Some((10, 0)));
        assert_eq!(parse_version("nonsense"), None);
        assert_eq!(parse_version("version x"), None);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Qemu::find(Arch::Arm64, Some(Path::new("/nonexistent/qemu"))).unwrap_err();
        assert!(error.hint_text().unwrap().contains("qemu-system-arm"));
    }

    #[test]
    fn foreign_architectures_never_use_kvm() {
        let foreign = Arch::ALL.into_iter().find(|arch| Some(*arch) != Arch::host()).unwrap();
        let qemu = Qemu { program: "/nonexistent/qemu".into(), version: None };
        assert_eq!(qemu.choose(foreign, None).unwrap(), Accelerator::Tcg);
        assert!(qemu.choose(foreign, Some(Accelerator::Kvm)).is_err());
    }
}
