//! `dhcp`: a small DHCP client (RFC 2131) for IPv4.
//!
//! It does not probe the address by ARP before use, sends no DECLINE or RELEASE, and knows no IPv6; dhcpcd, which is
//! a component too, does all of that.

mod client;
mod datagram;
mod lease;
mod message;

use std::time::{Duration, Instant};

use rustix::system::uname;

use crate::dhcp::client::{Exchange, Stopped};
use crate::dhcp::message::Answer;
use crate::error::{Doing, Failure, Result};
use crate::netlink::{Interface, Network};
use crate::sys;

/// How long `-1` tries.
const ONE_SHOT: Duration = Duration::from_secs(60);

/// How long an interface may take to appear.
const INTERFACE: Duration = Duration::from_secs(30);

const USAGE: &str = "use: dhcp [-1] [INTERFACE]";

/// With `-1`: gets a lease, sets it, ends with status 0, or 1 after a minute without an answer. Without: stays and
/// renews. The interface is the first Ethernet one unless named.
pub fn run(arguments: &[String]) -> Result<i32> {
    let mut once = false;
    let mut name = None;
    for argument in arguments {
        match argument.as_str() {
            "-1" => once = true,
            flag if flag.starts_with('-') => return Err(Failure::new(format!("{flag}: not known; {USAGE}"))),
            _ if name.is_some() => return Err(Failure::new(USAGE)),
            interface => name = Some(interface.to_owned()),
        }
    }
    let signals = sys::signal_descriptor(&[libc::SIGTERM, libc::SIGINT]).doing("taking over the signals")?;
    let interface = wait_for_interface(name.as_deref())?;
    let network = Network::open()?;
    network.link_up(interface.index)?;
    let host_name = uname().nodename().to_string_lossy().into_owned();
    let host_name = if host_name == "(none)" { String::new() } else { host_name };
    let mut exchange = Exchange::open(interface, host_name, signals)?;
    loop {
        let end = once.then(|| Instant::now() + ONE_SHOT);
        let lease = match exchange.acquire(end)? {
            Err(Stopped) => return Ok(0),
            Ok(None) => {
                let seconds = ONE_SHOT.as_secs();
                return Err(Failure::new(format!("{}: no server answered in {seconds} s", exchange.interface().name)));
            }
            Ok(Some(lease)) => lease,
        };
        lease::apply(&network, exchange.interface(), &lease)?;
        tell(exchange.interface(), &lease);
        if once {
            return Ok(0);
        }
        if let Err(Stopped) = keep(&mut exchange, &network, lease)? {
            return Ok(0);
        }
    }
}

/// Renews until the lease is lost.
fn keep(exchange: &mut Exchange, network: &Network, mut lease: Answer) -> Result<Result<(), Stopped>> {
    let mut taken = Instant::now();
    loop {
        match exchange.renew(&lease, taken)? {
            Err(stopped) => return Ok(Err(stopped)),
            Ok(None) => {
                println!("{}: lost {}", exchange.interface().name, lease.address);
                lease::withdraw(network, exchange.interface(), &lease)?;
                return Ok(Ok(()));
            }
            Ok(Some(renewed)) => {
                taken = Instant::now();
                if (renewed.address, renewed.prefix) != (lease.address, lease.prefix) {
                    lease::withdraw(network, exchange.interface(), &lease)?;
                }
                lease::apply(network, exchange.interface(), &renewed)?;
                lease = renewed;
                tell(exchange.interface(), &lease);
            }
        }
    }
}

fn tell(interface: &Interface, lease: &Answer) {
    let gateway = lease.routes.iter().find(|route| route.prefix == 0).map(|route| format!(" via {}", route.gateway));
    let time = if lease.lease == u32::MAX { "for ever".to_owned() } else { format!("for {} s", lease.lease) };
    println!("{}: {}/{}{} {time}", interface.name, lease.address, lease.prefix, gateway.unwrap_or_default());
}

/// The named interface, or the first Ethernet one; drivers may still be at work.
fn wait_for_interface(name: Option<&str>) -> Result<Interface> {
    let end = Instant::now() + INTERFACE;
    loop {
        let found = match name {
            Some(name) => Interface::named(name),
            None => {
                let all = Interface::all();
                all.into_iter()
                    .find(|interface| interface.ethernet && interface.name != "lo")
                    .ok_or_else(|| Failure::new("no Ethernet interface"))
            }
        };
        match found {
            Ok(interface) => return Ok(interface),
            Err(failure) if Instant::now() >= end => {
                return Err(Failure::new(format!("{failure} (waited {} s)", INTERFACE.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
