//! QEMU's command line.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use super::Options;
use super::accelerator::Accelerator;
use super::firmware::Firmware;
use super::image::{Boot, Image};
use crate::Arch;
use crate::error::{Error, Result};
use crate::store::Digest;

/// The guest's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own: outgoing connections, DHCP, published ports; needs no rights.
    #[default]
    User,
    /// No network device.
    None,
    /// A tap interface that exists.
    Tap(String),
    /// A bridge that QEMU's helper may attach to.
    Bridge(String),
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Network> {
        let name = |name: &str| {
            // An interface's name has at most 15 bytes (IFNAMSIZ); a comma would add options to QEMU's.
            let fits = !name.is_empty() && name.len() < 16 && !name.contains([',', '/', ' ']);
            fits.then(|| name.to_owned())
                .ok_or_else(|| Error::usage(format!("--networking {text}: \"{name}\" is not the name of an interface")))
        };
        match text.split_once(',') {
            None if text == "user" => Ok(Network::User),
            None if text == "none" => Ok(Network::None),
            Some(("tap", interface)) => name(interface).map(Network::Tap),
            Some(("bridge", bridge)) => name(bridge).map(Network::Bridge),
            _ => Err(Error::usage(format!("--networking {text}: not known"))
                .hint("one of user, none, tap,INTERFACE, bridge,BRIDGE")),
        }
    }
}

/// Everything that decides QEMU's command line.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What boots.
    pub image: &'a Image,
    /// The machine's architecture.
    pub arch: Arch,
    /// What executes it.
    pub accelerator: Accelerator,
    /// What was asked for.
    pub options: &'a Options,
    /// The state folder, absolute.
    pub state: &'a Path,
    /// UEFI, where it is needed.
    pub firmware: Option<&'a Firmware>,
    /// The image with `--data`.
    pub config: Option<&'a Path>,
}

impl Plan<'_> {
    /// The arguments, without those that say where the console goes.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut line = Line::default();
        let options = self.options;
        line.add(["-name", &comma(&self.image.name), "-nodefaults", "-no-reboot"]);
        if self.accelerator == Accelerator::Kvm {
            // Same device model either way; the fallback is decided before, where it can be said.
            line.add(["-accel", "kvm"]);
        } else {
            line.add(["-accel", "tcg"]);
        }
        line.add(["-machine", self.machine(), "-cpu", self.processor()]);
        line.add(["-smp", &options.cpus.to_string(), "-m", &options.memory.to_string()]);
        self.firmware(&mut line)?;
        self.boot(&mut line)?;
        for (index, disk) in options.disks.iter().enumerate() {
            line.disk(&format!("disk{index}"), &disk.path, &disk.format, "", "")?;
        }
        if let Some(config) = self.config {
            line.disk("config", config, "raw", ",readonly=on", "")?;
        }
        line.add(["-device", "virtio-rng-pci"]);
        self.network(&mut line);
        self.display(&mut line);
        line.0.extend(options.qemu_arguments.iter().map(OsString::from));
        Ok(line.0)
    }

    fn machine(&self) -> &'static str {
        match (self.arch, self.accelerator) {
            // Only code in system management mode may write variables then.
            (Arch::Amd64, _) if matches!(self.firmware, Some(Firmware::Secure { .. })) => "q35,smm=on",
            (Arch::Amd64, _) => "q35",
            // Linux's KVM gives the guest the interrupt controller that the host has.
            (Arch::Arm64, Accelerator::Kvm) => "virt,gic-version=host",
            (Arch::Arm64, Accelerator::Tcg) => "virt",
        }
    }

    /// Without KVM the model is plain on purpose. `max` makes C libraries choose AVX2 routines, which QEMU has to take
    /// apart again; Nehalem is x86-64-v2, which newer distributions need and `qemu64` lacks. On ARM, `max` adds
    /// pointer authentication, which costs a quarter of the boot (5.3 s against 4.0 s).
    fn processor(&self) -> &'static str {
        match (self.accelerator, self.arch) {
            (Accelerator::Kvm, _) => "host",
            (Accelerator::Tcg, Arch::Amd64) => "Nehalem",
            (Accelerator::Tcg, Arch::Arm64) => "cortex-a72",
        }
    }

    fn firmware(&self, line: &mut Line) -> Result<()> {
        match self.firmware {
            None => {}
            Some(Firmware::Bios(path)) => line.add(["-bios", &text(path)?]),
            Some(Firmware::Flash { code, variables } | Firmware::Secure { code, variables }) => {
                if matches!(self.firmware, Some(Firmware::Secure { .. })) && self.arch == Arch::Amd64 {
                    line.add(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                }
                let (code, variables) = (comma(&text(code)?), comma(&text(variables)?));
                line.add(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")]);
                line.add(["-drive", &format!("if=pflash,unit=1,format=raw,file={variables}")]);
            }
        }
        if self.firmware.is_some() {
            // ARM's firmware waits five seconds for a key otherwise.
            line.add(["-boot", "menu=on,splash-time=0"]);
        }
        Ok(())
    }

    fn boot(&self, line: &mut Line) -> Result<()> {
        let snapshot = if self.options.snapshot { ",snapshot=on" } else { "" };
        match &self.image.boot {
            Boot::Kernel { kernel, initrd, command_line, roots } => {
                line.add(["-kernel", &text(kernel)?]);
                if let Some(initrd) = initrd {
                    line.add(["-initrd", &text(initrd)?]);
                }
                let append = self.options.append.as_deref().unwrap_or_default();
                let whole = format!("{command_line} {append}");
                line.add(["-append", whole.trim()]);
                for (index, root) in roots.iter().enumerate() {
                    // In front of every other disk: a root without an identifier is the first one.
                    line.disk(&format!("root{index}"), root, "raw", ",readonly=on", "")?;
                }
            }
            // The firmware finds it in QEMU's own "fw_cfg" device and starts it as it would from a disk.
            Boot::Uki { path } => line.add(["-kernel", &text(path)?]),
            Boot::Disk { path, format } => line.disk("boot", path, format, snapshot, ",bootindex=0")?,
            Boot::Cd { path } => {
                // SCSI, since cloud kernels have virtio-scsi and often neither AHCI nor IDE.
                line.add(["-device", "virtio-scsi-pci"]);
                let file = comma(&text(path)?);
                line.add(["-drive", &format!("if=none,id=cd,format=raw,media=cdrom,readonly=on,file={file}")]);
                line.add(["-device", "scsi-cd,drive=cd,bootindex=0"]);
            }
        }
        if self.options.append.is_some() && !matches!(self.image.boot, Boot::Kernel { .. }) {
            return Err(Error::usage("--append works for a kernel and initrd only")
                .hint("in a disk image the boot loader holds the kernel's command line: set it in the blueprint"));
        }
        Ok(())
    }

    fn network(&self, line: &mut Line) {
        let backend = match &self.options.network {
            Network::None => return,
            Network::User => {
                let ports: String =
                    self.options.published.iter().map(|port| format!(",hostfwd={}", port.forward())).collect();
                format!("user,id=net{ports}")
            }
            Network::Tap(interface) => format!("tap,id=net,ifname={interface},script=no,downscript=no"),
            Network::Bridge(bridge) => format!("bridge,id=net,br={bridge}"),
        };
        let mac = mac_address(self.state);
        // Without `romfile=` QEMU wants the network boot ROM, a package of its own, and the BIOS spends time on it.
        line.add(["-netdev", &backend, "-device", &format!("virtio-net-pci,netdev=net,mac={mac},romfile=")]);
    }

    fn display(&self, line: &mut Line) {
        if self.options.gui && !self.options.detached {
            line.add(["-display", "gtk", "-device", "virtio-gpu-pci", "-device", "qemu-xhci"]);
            line.add(["-device", "usb-kbd", "-device", "usb-tablet"]);
        } else {
            line.add(["-display", "none"]);
        }
    }
}

/// The guest's hardware address, the same at every run: QEMU's prefix and three bytes of the state folder's digest.
pub fn mac_address(state: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Digest::of(state.as_os_str().as_bytes());
    let hex = digest.hex();
    format!("52:54:00:{}:{}:{}", &hex[0..2], &hex[2..4], &hex[4..6])
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn add<'t>(&mut self, words: impl IntoIterator<Item = &'t str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn disk(&mut self, id: &str, path: &Path, format: &str, drive: &str, device: &str) -> Result<()> {
        let file = comma(&text(path)?);
        self.add(["-drive", &format!("if=none,id={id},format={format},file={file}{drive}")]);
        self.add(["-device", &format!("virtio-blk-pci,drive={id},serial={id}{device}")]);
        Ok(())
    }
}

/// QEMU's options end at a comma; two stand for one.
fn comma(text: &str) -> String {
    text.replace(',', ",,")
}

fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::usage(format!("{}: the path is not UTF-8, which QEMU's options need", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn line(arch: Arch, boot: Boot, options: &Options) -> Result<String> {
        let image = Image { name: "t".into(), prefix: "t".into(), boot };
        let state = PathBuf::from("/state");
        let plan = Plan {
            image: &image,
            arch,
            accelerator: Accelerator::Tcg,
            options,
            state: &state,
            firmware: None,
            config: None,
        };
        Ok(plan.arguments()?.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    fn kernel() -> Boot {
        Boot::Kernel {
            kernel: "k".into(),
            initrd: Some("i".into()),
            command_line: "console=ttyS0".into(),
            roots: Vec::new(),
        }
    }

    fn options() -> Options {
        Options { cpus: 2, memory: 512, ..Options::default() }
    }

    #[test]
    fn kernel_and_initrd() {
        let options = Options {
            published: vec!["8080:80".parse().unwrap()],
            disks: vec!["a,size=1G".parse().unwrap()],
            append: Some("quiet".into()),
            qemu_arguments: vec!["-device".into(), "x".into()],
            ..options()
        };
        let text = line(Arch::Arm64, kernel(), &options).unwrap();
        assert!(text.contains("-machine virt -cpu cortex-a72 -smp 2 -m 512"), "{text}");
        assert!(text.contains("-kernel k -initrd i -append console=ttyS0 quiet"), "{text}");
        assert!(text.contains("hostfwd=tcp::8080-:80"), "{text}");
        assert!(text.contains("id=disk0,format=raw,file=a "), "{text}");
        assert!(text.ends_with("-device x"), "{text}");
    }

    #[test]
    fn commas_in_paths_add_no_options() {
        let boot = Boot::Disk { path: "a,readonly=on.img".into(), format: "raw" };
        assert!(line(Arch::Amd64, boot.clone(), &options()).unwrap().contains("file=a,,readonly=on.img"));
        let append = Options { append: Some("x".into()), ..options() };
        assert!(line(Arch::Amd64, boot, &append).is_err());
    }

    #[test]
    fn networks() {
        let none = Options { network: "none".parse().unwrap(), ..options() };
        assert!(!line(Arch::Amd64, kernel(), &none).unwrap().contains("netdev"));
        assert_eq!("tap,tap0".parse::<Network>().unwrap(), Network::Tap("tap0".into()));
        for wrong in ["", "vmnet", "tap", "tap,", "tap,a,script=/x", "bridge,0123456789abcdef"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_hardware_address_is_stable_and_local() {
        let address = mac_address(Path::new("/images-out/minimal-state"));
        assert_eq!(address, mac_address(Path::new("/images-out/minimal-state")));
        assert_ne!(address, mac_address(Path::new("/images-out/redis-state")));
        assert!(address.starts_with("52:54:00:") && address.len() == 17, "{address}");
    }
}
