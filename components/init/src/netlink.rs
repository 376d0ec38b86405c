//! Network interfaces, addresses and routes over rtnetlink(7). All numbers are in host order but for addresses.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::error::{Doing, Failure, Result};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 0x1 | 0x4;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

/// Routing table `main`, routes that DHCP made, unicast (linux/rtnetlink.h).
const TABLE_MAIN: u8 = 254;
const PROTOCOL_DHCP: u8 = 16;
const UNICAST: u8 = 1;
const SCOPE_LINK: u8 = 253;
const FAMILY_IPV4: u8 = 2;
const IFF_UP: u32 = 1;

/// A connection to the kernel's network configuration, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Network {
    socket: OwnedFd,
}

impl Network {
    /// Opens the connection.
    pub fn open() -> Result<Network> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .doing("opening the network configuration")?;
        Ok(Network { socket })
    }

    /// Brings an interface up.
    pub fn link_up(&self, index: u32) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST);
        message.link(index, IFF_UP, IFF_UP);
        self.send(message, "bringing an interface up")
    }

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST);
        message.link(index, 0, 0).attribute(4, &mtu.to_ne_bytes());
        self.send(message, "setting the MTU")
    }

    /// Creates an interface; with `peer`, a pair of virtual Ethernet ones.
    pub fn create_link(&self, name: &str, kind: &str, peer: Option<&str>) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST | CREATE | EXCLUSIVE);
        message.link(0, 0, 0).attribute(3, &zero_ended(name));
        message.nested(18, |information| {
            information.attribute(1, kind.as_bytes());
            if let Some(peer) = peer {
                information.nested(2, |data| {
                    data.nested(1, |other| {
                        other.link(0, 0, 0).attribute(3, &zero_ended(peer));
                    });
                });
            }
        });
        self.send(message, &format!("creating the {kind} interface {name}"))
    }

    /// Moves an interface to the network namespace of a process.
    pub fn move_link(&self, index: u32, pid: i32) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST);
        message.link(index, 0, 0).attribute(19, &pid.to_ne_bytes());
        self.send(message, "moving an interface into a container")
    }

    /// Adds an address, or sets its properties again.
    pub fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut message = Message::new(NEW_ADDRESS, REQUEST | CREATE | REPLACE);
        message.address(index, address, prefix);
        if prefix < 31 {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
            message.attribute(4, &broadcast.octets());
        }
        self.send(message, &format!("setting the address {address}/{prefix}"))
    }

    /// Removes an address.
    pub fn remove_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut message = Message::new(DELETE_ADDRESS, REQUEST);
        message.address(index, address, prefix);
        self.send(message, &format!("removing the address {address}/{prefix}"))
    }

    /// Adds or replaces a route; without a gateway the destination is on the link itself.
    pub fn add_route(&self, index: u32, to: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> Result<()> {
        let mut message = Message::new(NEW_ROUTE, REQUEST | CREATE | REPLACE);
        let scope = if gateway.is_some() { 0 } else { SCOPE_LINK };
        message.bytes(&[FAMILY_IPV4, prefix, 0, 0, TABLE_MAIN, PROTOCOL_DHCP, scope, UNICAST, 0, 0, 0, 0]);
        if prefix > 0 {
            message.attribute(1, &to.octets());
        }
        if let Some(gateway) = gateway {
            message.attribute(5, &gateway.octets());
        }
        message.attribute(4, &index.to_ne_bytes());
        self.send(message, &format!("adding the route to {to}/{prefix}"))
    }

    fn send(&self, message: Message, doing: &str) -> Result<()> {
        let bytes = message.finish();
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).doing(doing)?;
        let mut answer = [0_u8; 4096];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty()).doing(doing)?;
        match acknowledged(answer.get(..length).unwrap_or_default()) {
            Some(0) => Ok(()),
            Some(error) => Err(Errno::from_raw_os_error(-error)).doing(doing),
            None => Err(Failure::new(format!("{doing}: the kernel's answer cannot be read"))),
        }
    }
}

/// The error of an acknowledgement: NLMSG_ERROR (2), then a negative errno or zero after the 16-byte header.
fn acknowledged(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == 2 && (-4095..=0).contains(&error)).then_some(error)
}

fn zero_ended(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A netlink message under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut message = Message(vec![0; 4]);
        message.bytes(&kind.to_ne_bytes()).bytes(&flags.to_ne_bytes()).bytes(&1_u32.to_ne_bytes()).bytes(&[0; 4]);
        message
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Message {
        self.0.extend_from_slice(bytes);
        self
    }

    /// struct ifinfomsg.
    fn link(&mut self, index: u32, flags: u32, change: u32) -> &mut Message {
        self.bytes(&[0; 4]).bytes(&index.to_ne_bytes()).bytes(&flags.to_ne_bytes()).bytes(&change.to_ne_bytes())
    }

    /// struct ifaddrmsg, and the address as local and as that of the interface.
    fn address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> &mut Message {
        self.bytes(&[FAMILY_IPV4, prefix, 0, 0]).bytes(&index.to_ne_bytes());
        self.attribute(2, &address.octets()).attribute(1, &address.octets())
    }

    /// A route attribute: length (with its 4-byte head), type, value, padded to 4 bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Message {
        let length = value.len() as u16 + 4;
        self.bytes(&length.to_ne_bytes()).bytes(&kind.to_ne_bytes()).bytes(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let mut inner = Message(Vec::new());
        fill(&mut inner);
        self.attribute(kind, &inner.0)
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        for (to, from) in self.0.iter_mut().zip(length.to_ne_bytes()) {
            *to = from;
        }
        self.0
    }
}

/// A network interface as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name: `eth0`.
    pub name: String,
    /// Its number in this network namespace.
    pub index: u32,
    /// Its hardware address; empty if it has none.
    pub hardware: Vec<u8>,
    /// It is Ethernet (ARPHRD_ETHER) and no loopback.
    pub ethernet: bool,
}

impl Interface {
    /// The interface of this name.
    pub fn named(name: &str) -> Result<Interface> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Failure::new(format!("{name:?} is no name of a network interface")));
        }
        let folder = PathBuf::from("/sys/class/net").join(name);
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).map(|text| text.trim().to_owned()).at("reading", &path)
        };
        let index = read("ifindex")?;
        let index = index.parse().map_err(|_| Failure::new(format!("{name}: {index:?} is no interface index")))?;
        let hardware = read("address").unwrap_or_default();
        let hardware: Vec<u8> = hardware.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let ethernet = read("type").is_ok_and(|kind| kind == "1");
        Ok(Interface { name: name.to_owned(), index, hardware, ethernet })
    }

    /// Every interface, by name.
    pub fn all() -> Vec<Interface> {
        let names = fs::read_dir(Path::new("/sys/class/net")).into_iter().flatten().flatten();
        let mut all: Vec<Interface> =
            names.filter_map(|entry| Interface::named(&entry.file_name().to_string_lossy()).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded() {
        let mut message = Message::new(NEW_LINK, REQUEST);
        message.link(7, 1, 1).attribute(3, &zero_ended("eth0"));
        let bytes = message.finish();
        assert_eq!(bytes.len(), 16 + 16 + 12);
        assert_eq!(bytes.first_chunk::<4>().unwrap(), &44_u32.to_ne_bytes());
        assert_eq!(bytes.last_chunk::<12>().unwrap(), &[9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
    }

    #[test]
    fn answers() {
        assert_eq!(acknowledged(&[]), None);
        assert_eq!(acknowledged(&[0; 20]), None);
        let mut answer = [0_u8; 36];
        answer[4] = 2;
        assert_eq!(acknowledged(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer), Some(-17));
        answer[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        assert_eq!(acknowledged(&answer), None);
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "../x", "."] {
            assert!(Interface::named(name).is_err());
        }
    }
}
