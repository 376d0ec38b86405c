//! DHCP messages (RFC 2131, RFC 2132) to bytes and back. What comes from the network is checked field by field;
//! nothing in it can make this panic, loop or allocate more than the packet's size.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Length of the fixed part, up to and with the magic cookie.
const FIXED: usize = 240;

/// RFC 1497: what follows are options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// RFC 1542 2.1: relays may drop shorter messages.
const SHORTEST: usize = 300;

/// What we ask for: mask, router, name servers, domain, MTU, broadcast, lease, server, T1, T2, classless routes.
const WANTED: [u8; 11] = [1, 3, 6, 15, 26, 28, 51, 54, 58, 59, 121];

/// DHCP message type (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1: who can give me an address?
    Discover,
    /// 2: a server's proposal.
    Offer,
    /// 3: I take this one, or want to keep it.
    Request,
    /// 5: it is yours.
    Acknowledge,
    /// 6: it is not.
    Refuse,
}

/// What identifies us in every message.
#[derive(Clone, Debug)]
pub struct Client {
    /// Ethernet address.
    pub hardware: [u8; 6],
    /// Host name; empty to send none.
    pub host_name: String,
}

/// A message of ours.
#[derive(Clone, Debug)]
pub struct Question {
    /// Discover or Request.
    pub kind: Kind,
    /// Transaction.
    pub transaction: u32,
    /// Seconds since we began.
    pub seconds: u16,
    /// The address that we use already (when renewing), else 0.0.0.0.
    pub own: Ipv4Addr,
    /// The address that was offered (option 50).
    pub requested: Option<Ipv4Addr>,
    /// The server that offered it (option 54).
    pub server: Option<Ipv4Addr>,
}

/// A route of option 121 (RFC 3442). A gateway of 0.0.0.0 means that the destination is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub to: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Next hop.
    pub gateway: Ipv4Addr,
}

/// A server's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Offer, Acknowledge or Refuse.
    pub kind: Kind,
    /// The address for us.
    pub address: Ipv4Addr,
    /// Its prefix length, 32 if the server gave no usable mask.
    pub prefix: u8,
    /// Who sent it (option 54).
    pub server: Option<Ipv4Addr>,
    /// Routes: those of option 121, else a default route through the first router.
    pub routes: Vec<Route>,
    /// Name servers, at most three: more are not used by anyone.
    pub name_servers: Vec<Ipv4Addr>,
    /// Domain, if it is a plain one.
    pub domain: Option<String>,
    /// Largest packet, in bytes.
    pub mtu: Option<u16>,
    /// Seconds that the address is ours; `u32::MAX` is for ever.
    pub lease: u32,
    /// Seconds until renewal with the same server.
    pub renew: u32,
    /// Seconds until any server is asked.
    pub rebind: u32,
}

impl Question {
    /// The message as bytes, without IP and UDP headers.
    pub fn encode(&self, client: &Client) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        // No broadcast flag: a packet socket sees what comes to our hardware address whatever the IP address is.
        bytes.extend([0; 2]);
        bytes.extend(self.own.octets());
        bytes.resize(28, 0);
        bytes.extend(client.hardware);
        bytes.resize(FIXED - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let mut option = |tag: u8, value: &[u8]| {
            let value = value.get(..255).unwrap_or(value);
            bytes.extend([tag, value.len() as u8]);
            bytes.extend(value);
        };
        option(53, &[if self.kind == Kind::Discover { 1 } else { 3 }]);
        let [a, b, c, d, e, f] = client.hardware;
        option(61, &[1, a, b, c, d, e, f]);
        if let Some(address) = self.requested {
            option(50, &address.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        option(57, &1500_u16.to_be_bytes());
        option(55, &WANTED);
        if !client.host_name.is_empty() {
            option(12, client.host_name.as_bytes());
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

impl Answer {
    /// Reads a server's message; `None` if it is none, is damaged, or is for someone else.
    pub fn decode(bytes: &[u8], transaction: u32, client: &Client) -> Option<Answer> {
        let reply = bytes.get(..3)? == [2, 1, 6];
        let ours = bytes.get(4..8)? == transaction.to_be_bytes() && bytes.get(28..34)? == client.hardware;
        if !reply || !ours || bytes.get(236..FIXED)? != COOKIE {
            return None;
        }
        let options = options(bytes.get(FIXED..)?);
        let value = |tag: u8| options.get(&tag).map(Vec::as_slice);
        let kind = match value(53)? {
            [2] => Kind::Offer,
            [5] => Kind::Acknowledge,
            [6] => Kind::Refuse,
            _ => return None,
        };
        let address = address_at(bytes, 16)?;
        let unusable = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        if kind != Kind::Refuse && (unusable || address.is_broadcast()) {
            return None;
        }
        let lease = value(51).and_then(number).unwrap_or(3600).max(10);
        let part = |numerator: u64| u32::try_from(u64::from(lease) * numerator / 8).unwrap_or(u32::MAX);
        let rebind = value(59).and_then(number).filter(|time| *time < lease).unwrap_or(part(7));
        let renew = value(58).and_then(number).filter(|time| *time <= rebind).unwrap_or(part(4).min(rebind));
        let routes = match value(121).map(classless_routes) {
            Some(routes) if !routes.is_empty() => routes,
            _ => value(3)
                .and_then(|routers| address_at(routers, 0))
                .map(|gateway| Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway })
                .into_iter()
                .collect(),
        };
        Some(Answer {
            kind,
            address,
            prefix: value(1).and_then(|mask| prefix_of(address_at(mask, 0)?)).unwrap_or(32),
            server: value(54).and_then(|server| address_at(server, 0)),
            routes,
            name_servers: value(6).map(|servers| addresses(servers).take(3).collect()).unwrap_or_default(),
            domain: value(15).and_then(domain),
            mtu: value(26).and_then(|mtu| Some(u16::from_be_bytes(mtu.try_into().ok()?))).filter(|mtu| *mtu >= 576),
            lease,
            renew,
            rebind,
        })
    }
}

/// Options by tag; the parts of one that comes several times are joined (RFC 3396). What is cut off is left out.
fn options(mut bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some((&tag, rest)) = bytes.split_first() {
        match (tag, rest) {
            (0, _) => bytes = rest,
            (255, _) => break,
            (_, [length, rest @ ..]) => match rest.split_at_checked(usize::from(*length)) {
                Some((value, rest)) => {
                    found.entry(tag).or_default().extend_from_slice(value);
                    bytes = rest;
                }
                None => break,
            },
            _ => break,
        }
    }
    found
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    bytes.chunks_exact(4).filter_map(|chunk| address_at(chunk, 0)).filter(|address| !address.is_unspecified())
}

/// The prefix length of a mask whose ones come first.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones() as u8)
}

/// RFC 3442: prefix length, as many octets of the destination as it needs, gateway. An unreadable list is empty.
fn classless_routes(mut bytes: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let needed = usize::from(prefix).div_ceil(8);
        let Some((network, rest)) = rest.split_at_checked(needed) else { return Vec::new() };
        let mut octets = [0_u8; 4];
        if prefix > 32 {
            return Vec::new();
        }
        for (to, from) in octets.iter_mut().zip(network) {
            *to = *from;
        }
        let Some(gateway) = address_at(rest, 0) else { return Vec::new() };
        // The kernel refuses a destination with bits beyond its prefix.
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        routes.push(Route { to: Ipv4Addr::from(u32::from_be_bytes(octets) & mask), prefix, gateway });
        bytes = rest.get(4..).unwrap_or_default();
    }
    routes
}

/// A domain goes into a file that programs parse: only letters, digits, dots and hyphens may.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' || byte == b'_';
    (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn client() -> Client {
        Client { hardware: [0x52, 0x54, 0, 1, 2, 3], host_name: "box".into() }
    }

    /// A message such as QEMU's server sends.
    pub fn answer(options: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0, 0, 0, 0, 7];
        bytes.resize(16, 0);
        bytes.extend([10, 0, 2, 15]);
        bytes.resize(28, 0);
        bytes.extend(client().hardware);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        options.iter().for_each(|option| bytes.extend_from_slice(option));
        bytes.push(255);
        bytes
    }

    const OFFER: &[u8] = &[53, 1, 2];
    const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
    const ROUTER: &[u8] = &[3, 4, 10, 0, 2, 2];

    #[test]
    fn an_offer() {
        let bytes =
            answer(&[OFFER, MASK, ROUTER, &[6, 4, 10, 0, 2, 3], &[51, 4, 0, 1, 0x51, 0x80], &[54, 4, 10, 0, 2, 2]]);
        let offer = Answer::decode(&bytes, 7, &client()).unwrap();
        assert_eq!((offer.kind, offer.address, offer.prefix), (Kind::Offer, Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!((offer.lease, offer.renew, offer.rebind), (86400, 43200, 75600));
        let gateway = Ipv4Addr::new(10, 0, 2, 2);
        assert_eq!(offer.routes, [Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway }]);
        assert_eq!(offer.name_servers, [Ipv4Addr::new(10, 0, 2, 3)]);
    }

    #[test]
    fn not_for_us() {
        let bytes = answer(&[OFFER]);
        assert!(Answer::decode(&bytes, 8, &client()).is_none());
        let other = Client { hardware: [1; 6], host_name: String::new() };
        assert!(Answer::decode(&bytes, 7, &other).is_none());
    }

    #[test]
    fn damaged_messages() {
        let whole = answer(&[OFFER, MASK, &[121, 6, 24, 10, 1, 2, 10, 0]]);
        for length in 0..whole.len() {
            let _ = Answer::decode(&whole[..length], 7, &client());
        }
        for at in 0..whole.len() {
            for value in [0, 1, 127, 254, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = Answer::decode(&bytes, 7, &client());
            }
        }
        assert!(Answer::decode(&answer(&[&[53, 1]]), 7, &client()).is_none());
        assert!(Answer::decode(&answer(&[&[53, 0]]), 7, &client()).is_none());
        assert!(Answer::decode(&answer(&[MASK]), 7, &client()).is_none());
    }

    #[test]
    fn strange_values() {
        let hole = answer(&[OFFER, &[1, 4, 255, 0, 255, 0], &[26, 2, 0, 1], &[15, 5, b'a', b'\n', b'b', b'c', b'd']]);
        let offer = Answer::decode(&hole, 7, &client()).unwrap();
        assert_eq!((offer.prefix, offer.mtu, offer.domain), (32, None, None));
        let times = answer(&[OFFER, &[51, 4, 0, 0, 0, 100], &[58, 4, 255, 255, 255, 255], &[59, 4, 0, 0, 0, 0]]);
        let offer = Answer::decode(&times, 7, &client()).unwrap();
        assert!(offer.renew <= offer.rebind && offer.rebind < offer.lease);
        let infinite = answer(&[OFFER, &[51, 4, 255, 255, 255, 255]]);
        assert_eq!(Answer::decode(&infinite, 7, &client()).unwrap().lease, u32::MAX);
    }

    #[test]
    fn routes_without_classes() {
        let bytes = [32, 169, 254, 169, 254, 10, 0, 0, 1, 0, 10, 0, 0, 1, 9, 10, 255, 0, 0, 0, 0];
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let expected = [
            Route { to: Ipv4Addr::new(169, 254, 169, 254), prefix: 32, gateway },
            Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway },
            Route { to: Ipv4Addr::new(10, 128, 0, 0), prefix: 9, gateway: Ipv4Addr::UNSPECIFIED },
        ];
        assert_eq!(classless_routes(&bytes), expected);
        for length in 1..bytes.len() {
            let _ = classless_routes(&bytes[..length]);
        }
        assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9]), []);
    }

    #[test]
    fn questions() {
        let question = Question {
            kind: Kind::Request,
            transaction: 7,
            seconds: 1,
            own: Ipv4Addr::UNSPECIFIED,
            requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: None,
        };
        let bytes = question.encode(&client());
        assert!(bytes.len() >= SHORTEST);
        let options = options(&bytes[FIXED..]);
        assert_eq!(options[&53], [3]);
        assert_eq!(options[&50], [10, 0, 2, 15]);
        assert_eq!(options[&12], b"box");
        assert!(!options.contains_key(&54));
    }

    #[test]
    fn split_options_are_joined() {
        assert_eq!(options(&[15, 1, b'a', 0, 15, 1, b'b', 255, 6, 9])[&15], b"ab");
    }
}
