//! The devices that are there at start, and those that come later.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::{Doing, Failure, Result};
use crate::modules::Loader;

/// Failures that are kept for the report; more of them say nothing new.
const MOST_FAILURES: usize = 16;

/// Loads the modules of devices. A driver can bring new devices (a virtio bus its disks), so the search is repeated
/// until nothing new turns up.
#[derive(Debug)]
pub struct Coldplug {
    loader: Loader,
    seen: HashSet<String>,
    /// Why a module could not be loaded, for the report of a boot that fails.
    pub failures: Vec<Failure>,
}

impl Coldplug {
    /// With the tables of the running kernel.
    pub fn open() -> Result<Coldplug> {
        Ok(Coldplug { loader: Loader::open()?, seen: HashSet::new(), failures: Vec::new() })
    }

    /// Looks at every device of every bus.
    pub fn scan(&mut self) {
        // Buses nest a few levels deep; more rounds than this means that something invents devices.
        for _ in 0..16 {
            let found = modaliases(Path::new("/sys/bus"));
            let new: Vec<String> = found.into_iter().filter(|alias| self.seen.insert(alias.clone())).collect();
            if new.is_empty() {
                break;
            }
            self.load(&new);
        }
    }

    /// Loads the modules for devices that the kernel has announced (`MODALIAS=` of uevents).
    pub fn announced(&mut self, events: &[Vec<u8>]) {
        let aliases: Vec<String> = events.iter().filter_map(|event| modalias_of_event(event)).collect();
        let new: Vec<String> = aliases.into_iter().filter(|alias| self.seen.insert(alias.clone())).collect();
        if !new.is_empty() {
            self.load(&new);
        }
    }

    /// Loads a module by its name, if the initramfs has it.
    pub fn named(&mut self, name: &str) {
        self.load(&[name.to_owned()]);
    }

    /// Makes sure that a file system is known to the kernel. Returns whether it is.
    pub fn file_system(&mut self, kind: &str) -> bool {
        if !is_known(kind) {
            // Debian's aliases are `fs-KIND`; the name itself is for kernels without modules.alias. FAT and Joliet
            // read names with tables that are modules of their own, and the kernel would ask modprobe for them.
            let extra: &[&str] = match kind {
                "vfat" => &["nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8"],
                _ => &[],
            };
            let mut aliases = vec![format!("fs-{kind}"), kind.to_owned()];
            aliases.extend(extra.iter().map(|name| (*name).to_owned()));
            self.load(&aliases);
        }
        is_known(kind)
    }

    fn load(&mut self, aliases: &[String]) {
        let failures = self.loader.load_aliases(aliases);
        let room = MOST_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(failures.into_iter().take(room));
    }
}

fn is_known(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_ascii_whitespace().last() == Some(kind))
}

/// A socket on which the kernel announces devices; non-blocking.
pub fn event_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::KOBJECT_UEVENT);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)
        .doing("opening the socket of device events")?;
    // Group 1 is the kernel's own messages; 2 would be udev's.
    bind(&socket, &SocketAddrNetlink::new(0, 1)).doing("binding the socket of device events")?;
    Ok(socket)
}

/// The events that wait on the socket, at most 256 of them so that a storm cannot hold PID 1.
pub fn read_events(socket: &OwnedFd) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut buffer = [0_u8; 8192];
    while events.len() < 256 {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => events.push(buffer.get(..length).unwrap_or_default().to_vec()),
            Err(_) => break,
        }
    }
    events
}

/// Storage controllers on PCI (class 01) that no driver has taken: `0000:00:1f.2 (8086:2922)`.
pub fn controllers_without_driver() -> Vec<String> {
    let read = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    let lone = |folder: &PathBuf| read(folder, "class").starts_with("0x01") && !folder.join("driver").exists();
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<String> = devices
        .filter(lone)
        .map(|folder| {
            let number = |name| read(&folder, name).trim_start_matches("0x").to_owned();
            let place = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{place} ({}:{})", number("vendor"), number("device"))
        })
        .collect();
    found.sort();
    found
}

/// The `MODALIAS` of an `add` event. Fields are separated by zero bytes; the first is `ACTION@PATH`.
fn modalias_of_event(event: &[u8]) -> Option<String> {
    if !event.starts_with(b"add@") {
        return None;
    }
    let field = event.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"MODALIAS="))?;
    Some(String::from_utf8_lossy(field).into_owned()).filter(|alias| !alias.is_empty())
}

fn modaliases(buses: &Path) -> Vec<String> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    // What the processor can do is told once for all processors.
    let processor = PathBuf::from("/sys/devices/system/cpu");
    let mut found: Vec<String> = entries(buses)
        .flat_map(|bus| entries(&bus.join("devices")))
        .chain([processor])
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::modalias_of_event;

    #[test]
    fn device_events() {
        let event = b"add@/devices/pci0000:00/virtio0\0ACTION=add\0MODALIAS=virtio:d00000002v00001AF4\0SEQNUM=9\0";
        assert_eq!(modalias_of_event(event).as_deref(), Some("virtio:d00000002v00001AF4"));
        assert_eq!(modalias_of_event(b"remove@/x\0MODALIAS=a\0"), None);
        assert_eq!(modalias_of_event(b"add@/x\0MODALIAS=\0"), None);
        assert_eq!(modalias_of_event(b""), None);
    }
}
