//! `--publish [ADDRESS:]HOST:GUEST[/tcp|/udp]`: a port of the host that leads into the guest.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::str::FromStr;

use crate::error::{Error, Result};

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Address of the host that listens; all of them unless one is given, as with LinuxKit and Docker.
    pub address: IpAddr,
    /// Port of the host.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

impl FromStr for Published {
    type Err = Error;

    fn from_str(text: &str) -> Result<Published> {
        let wrong = |why: &str| {
            Error::usage(format!("--publish {text}: {why}"))
                .hint("the form is [ADDRESS:]HOST:GUEST[/tcp|/udp], for example 8080:80 or 127.0.0.1:5353:53/udp")
        };
        let (ports, udp) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), false),
            Some((ports, "udp")) => (ports, true),
            Some((_, other)) => return Err(wrong(&format!("protocol \"{other}\" is neither tcp nor udp"))),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(|| wrong("one port, but two are needed"))?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), rest),
            Some((address, host)) => {
                let address: Ipv4Addr =
                    address.parse().map_err(|_| wrong(&format!("\"{address}\" is not an IPv4 address")))?;
                (IpAddr::V4(address), host)
            }
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(wrong(&format!("\"{text}\" is not a port (1 to 65535)"))),
            Ok(port) => Ok(port),
        };
        Ok(Published { address, host: port(host)?, guest: port(guest)?, udp })
    }
}

impl Published {
    /// The value of QEMU's `hostfwd`.
    pub fn forward(&self) -> String {
        let address = if self.address.is_unspecified() { String::new() } else { self.address.to_string() };
        format!("{}:{address}:{}-:{}", if self.udp { "udp" } else { "tcp" }, self.host, self.guest)
    }

    /// Tries the port before QEMU does: QEMU's own message does not tell which one is taken, or why.
    pub fn check_free(&self) -> Result<()> {
        let place = (self.address, self.host);
        let tried = if self.udp { UdpSocket::bind(place).map(drop) } else { TcpListener::bind(place).map(drop) };
        tried.map_err(|error| {
            Error::failed(format!("--publish: port {} of {} cannot be used: {error}", self.host, self.address))
                .hint("stop what listens there, or publish to another port")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let forward = |text: &str| text.parse::<Published>().unwrap().forward();
        assert_eq!(forward("8080:80"), "tcp::8080-:80");
        assert_eq!(forward("8080:80/tcp"), "tcp::8080-:80");
        assert_eq!(forward("127.0.0.1:5353:53/udp"), "udp:127.0.0.1:5353-:53");
    }

    #[test]
    fn mistakes() {
        for text in
            ["", "80", "0:80", "80:0", "65536:80", "a:80", "80:80/sctp", "80:80/tcp/udp", "x:1:2", ":80", "1:2,id=x"]
        {
            let error = text.parse::<Published>().unwrap_err();
            assert!(error.message().starts_with("--publish "), "{text}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let published: Published = format!("127.0.0.1:{port}:80").parse().unwrap();
        assert!(published.check_free().unwrap_err().message().contains(&port.to_string()));
    }
}
