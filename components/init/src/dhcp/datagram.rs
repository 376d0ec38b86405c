//! IPv4 and UDP headers by hand, for the time before there is an address (RFC 791, RFC 768).

/// Ports of DHCP.
pub const SERVER_PORT: u16 = 67;
/// Ours.
pub const CLIENT_PORT: u16 = 68;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Wraps `payload` as a datagram from 0.0.0.0:68 to 255.255.255.255:67.
pub fn wrap(payload: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_HEADER + payload.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0; 2]);
    udp.extend(payload);
    // The checksum covers a pseudo header: addresses, protocol, length.
    let mut pseudo = vec![0, 0, 0, 0, 255, 255, 255, 255, 0, 17];
    pseudo.extend(udp_length.to_be_bytes());
    pseudo.extend(&udp);
    // Zero would mean that there is no checksum.
    let sum = match checksum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    if let Some(place) = udp.get_mut(6..8) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let total = udp_length + IP_HEADER as u16;
    let [high, low] = total.to_be_bytes();
    // Version 4, 5 words; no fragments; 64 hops; UDP.
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    let sum = checksum(&packet);
    if let Some(place) = packet.get_mut(10..12) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(udp);
    packet
}

/// The payload of a datagram from a DHCP server to a DHCP client; `None` for every other packet.
///
/// The UDP checksum is not looked at: a packet that never was on a wire (from a bridge on the same host) has only a
/// partial one, which the network card would have completed.
pub fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < IP_HEADER || *packet.get(9)? != 17 || checksum(packet.get(..header)?) != 0 {
        return None;
    }
    // A fragment: more to come, or not the first.
    if number(packet, 6)? & 0x3fff != 0 {
        return None;
    }
    let udp = packet.get(header..usize::from(number(packet, 2)?))?;
    let ports = (number(udp, 0)?, number(udp, 2)?) == (SERVER_PORT, CLIENT_PORT);
    let payload = udp.get(UDP_HEADER..usize::from(number(udp, 4)?))?;
    ports.then_some(payload)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The internet checksum (RFC 1071); over data that holds its own checksum it is 0.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_server(payload: &[u8]) -> Vec<u8> {
        let mut packet = wrap(payload);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn there_and_back() {
        for payload in [&b""[..], b"x", b"hello"] {
            assert_eq!(unwrap(&from_server(payload)), Some(payload));
        }
        assert_eq!(unwrap(&wrap(b"hello")), None, "to the server, not from it");
    }

    #[test]
    fn sums_are_right() {
        let packet = wrap(b"odd");
        assert_eq!(checksum(&packet[..20]), 0);
        let mut pseudo = vec![0, 0, 0, 0, 255, 255, 255, 255, 0, 17, 0, 11];
        pseudo.extend(&packet[20..]);
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn damaged_packets() {
        let packet = from_server(b"hello");
        for length in 0..packet.len() {
            assert_eq!(unwrap(&packet[..length]), None);
        }
        for at in 0..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= 0xff;
            let _ = unwrap(&damaged);
        }
        let mut long = packet.clone();
        long[24..26].copy_from_slice(&[255, 255]);
        assert_eq!(unwrap(&long), None);
    }
}
