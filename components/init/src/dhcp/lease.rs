//! A lease becomes settings of the machine: address, routes, name servers.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::dhcp::message::Answer;
use crate::error::{Doing, Result};
use crate::netlink::{Interface, Network};

/// Where the name servers are written. In the component's container /etc is the machine's /run/resolvconf.
const RESOLVER: &str = "/etc/resolv.conf";

/// Sets what the server gave.
pub fn apply(network: &Network, interface: &Interface, lease: &Answer) -> Result<()> {
    network.add_address(interface.index, lease.address, lease.prefix)?;
    if let Some(mtu) = lease.mtu {
        network.set_mtu(interface.index, mtu.into())?;
    }
    for route in &lease.routes {
        let gateway = Some(route.gateway).filter(|gateway| !gateway.is_unspecified());
        if let Some(gateway) = gateway.filter(|gateway| !reachable(lease, *gateway)) {
            // Some clouds give an address alone in its network: the way to the gateway must be told first.
            network.add_route(interface.index, gateway, 32, None)?;
        }
        network.add_route(interface.index, route.to, route.prefix, gateway)?;
    }
    if lease.name_servers.is_empty() {
        return Ok(());
    }
    // In place, not by renaming: containers have this very file bound.
    fs::write(RESOLVER, resolver_file(lease)).at("writing", Path::new(RESOLVER))
}

/// Takes the address away; routes over it go with it.
pub fn withdraw(network: &Network, interface: &Interface, lease: &Answer) -> Result<()> {
    network.remove_address(interface.index, lease.address, lease.prefix)
}

fn reachable(lease: &Answer, gateway: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix)).unwrap_or(0);
    u32::from(lease.address) & mask == u32::from(gateway) & mask
}

fn resolver_file(lease: &Answer) -> String {
    let mut text = String::new();
    if let Some(domain) = &lease.domain {
        let _ = writeln!(text, "search {domain}");
    }
    for server in &lease.name_servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::message::tests::{answer, client};

    #[test]
    fn resolver() {
        let bytes = answer(&[
            &[53, 1, 5],
            &[1, 4, 255, 255, 255, 0],
            &[6, 8, 1, 1, 1, 1, 8, 8, 8, 8],
            &[15, 3, b'l', b'a', b'n'],
        ]);
        let lease = Answer::decode(&bytes, 7, &client()).unwrap();
        assert_eq!(resolver_file(&lease), "search lan\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n");
        assert!(reachable(&lease, Ipv4Addr::new(10, 0, 2, 2)));
        assert!(!reachable(&lease, Ipv4Addr::new(10, 0, 3, 2)));
    }

    #[test]
    fn an_address_alone_in_its_network() {
        let lease = Answer::decode(&answer(&[&[53, 1, 5], &[3, 4, 10, 0, 2, 1]]), 7, &client()).unwrap();
        assert_eq!(lease.prefix, 32);
        assert!(!reachable(&lease, Ipv4Addr::new(10, 0, 2, 1)));
    }
}
