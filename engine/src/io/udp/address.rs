//! Socket addresses in the kernel's form (`sockaddr_in`, `sockaddr_in6` of Linux), read and written as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the longest address, `sockaddr_in6`.
pub(super) const NAME_BYTES: usize = 28;

/// Bytes of `sockaddr_in`.
const NAME_V4_BYTES: usize = 16;

/// Storage for one address in the kernel's form.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Name(pub(super) [u8; NAME_BYTES]);

impl Name {
    pub(super) const EMPTY: Name = Name([0; NAME_BYTES]);

    /// Writes `address` for a socket of the given family and returns the length; `None` if such a socket can't reach
    /// the address (IPv6 from an IPv4 socket).
    pub(super) fn encode(&mut self, address: SocketAddr, ipv6: bool) -> Option<usize> {
        self.0[2..4].copy_from_slice(&address.port().to_be_bytes());
        if !ipv6 {
            let IpAddr::V4(ip) = address.ip().to_canonical() else { return None };
            self.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            self.0[4..8].copy_from_slice(&ip.octets());
            self.0[8..NAME_V4_BYTES].fill(0);
            return Some(NAME_V4_BYTES);
        }
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        self.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        self.0[4..8].fill(0);
        self.0[8..24].copy_from_slice(&ip.octets());
        self.0[24..28].copy_from_slice(&scope.to_ne_bytes());
        Some(NAME_BYTES)
    }
}

/// Reads an address that the kernel wrote. A mapped IPv4 address is returned as IPv4, so that a peer has the same
/// address on sockets of both families.
pub(super) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            let ip = Ipv6Addr::from(octets);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, scope).into(),
            })
        }
        _ => None,
    }
}

/// Bytes of the control message with a datagram's local address (IP_PKTINFO), padded.
pub(super) const CONTROL_BYTES: usize = 32;

/// A control message's header in the kernel's form on 64 bits: its length, level and type.
const CONTROL_HEADER_BYTES: usize = 16;

/// Storage for a received IP_PKTINFO control message: header, interface, the address to send from, the address that
/// the datagram came to.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

impl Control {
    pub(super) const EMPTY: Control = Control([0; CONTROL_BYTES]);
}

/// Bytes of the control message with the length of a message's segments (UDP_SEGMENT), padded.
const SEGMENT_CONTROL_BYTES: usize = 24;

/// The control messages of a message to send: the address to send from, the length of its segments.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct SendControl {
    bytes: [u8; CONTROL_BYTES + SEGMENT_CONTROL_BYTES],
}

impl SendControl {
    pub(super) const EMPTY: SendControl = SendControl { bytes: [0; CONTROL_BYTES + SEGMENT_CONTROL_BYTES] };

    /// Resets the control messages to the address to send from, if one is given. Returns their length.
    pub(super) fn begin(&mut self, source: Option<Ipv4Addr>) -> usize {
        let Some(source) = source else { return 0 };
        self.bytes[..CONTROL_BYTES].fill(0);
        self.write_header(0, size_of::<libc::in_pktinfo>(), libc::IPPROTO_IP, libc::IP_PKTINFO);
        self.bytes[20..24].copy_from_slice(&source.octets());
        CONTROL_BYTES
    }

    /// Adds, after the first `length` bytes, the length of the segments that the kernel splits the message into.
    /// Returns the new length.
    pub(super) fn add_segments(&mut self, length: usize, segment_bytes: u16) -> usize {
        let value = length + CONTROL_HEADER_BYTES;
        self.bytes[length..length + SEGMENT_CONTROL_BYTES].fill(0);
        self.write_header(length, size_of::<u16>(), libc::SOL_UDP, libc::UDP_SEGMENT);
        self.bytes[value..value + 2].copy_from_slice(&segment_bytes.to_ne_bytes());
        length + SEGMENT_CONTROL_BYTES
    }

    /// The length of the control messages without the one about segments.
    pub(super) fn length_without_segments(length: usize) -> usize {
        length - SEGMENT_CONTROL_BYTES
    }

    fn write_header(&mut self, at: usize, value_bytes: usize, level: libc::c_int, kind: libc::c_int) {
        let header = &mut self.bytes[at..at + CONTROL_HEADER_BYTES];
        header[..8].copy_from_slice(&(CONTROL_HEADER_BYTES + value_bytes).to_ne_bytes());
        header[8..12].copy_from_slice(&level.to_ne_bytes());
        header[12..].copy_from_slice(&kind.to_ne_bytes());
    }

    /// The address from which the kernel reads them.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
}

/// The address that a datagram came to, if its control messages begin with it.
pub(super) fn destination(control: &[u8]) -> Option<Ipv4Addr> {
    let number = |at: usize| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
    if number(8)? != libc::IPPROTO_IP || number(12)? != libc::IP_PKTINFO {
        return None;
    }
    let octets: [u8; 4] = *control.get(24..)?.first_chunk()?;
    Some(Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn round_trip(address: &str, ipv6: bool) -> Option<SocketAddr> {
        let mut name = Name::EMPTY;
        let length = name.encode(address.parse().unwrap(), ipv6)?;
        decode(&name.0[..length])
    }

    #[test]
    fn addresses_survive_both_families() {
        for (address, ipv6) in [
            ("127.12.0.1:7946", false),
            ("127.12.0.1:7946", true),
            ("[::1]:1", true),
            ("[fe80::1%3]:65535", true),
        ] {
            assert_eq!(round_trip(address, ipv6), Some(address.parse().unwrap()), "{address} {ipv6}");
        }
        assert_eq!(round_trip("[::ffff:127.12.0.1]:5", false), Some("127.12.0.1:5".parse().unwrap()));
        assert_eq!(round_trip("[::1]:1", false), None, "IPv6 from an IPv4 socket");
    }

    #[test]
    fn the_bytes_are_the_kernels() {
        let mut name = Name::EMPTY;
        assert_eq!(name.encode("1.2.3.4:258".parse().unwrap(), false), Some(16));
        let mut expected = vec![0; 16];
        expected[..2].copy_from_slice(&2u16.to_ne_bytes());
        expected[2..8].copy_from_slice(&[1, 2, 1, 2, 3, 4]);
        assert_eq!(&name.0[..16], expected);
    }

    #[test]
    fn short_and_unknown_names_are_refused() {
        let mut name = Name::EMPTY;
        let length = name.encode("[::1]:1".parse().unwrap(), true).unwrap();
        for cut in 0..length {
            assert_eq!(decode(&name.0[..cut]), None, "{cut}");
        }
        assert_eq!(decode(&[9; 28]), None);
    }
}
