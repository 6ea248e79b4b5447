//! The address that the node binds and the one that it announces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::interfaces::{InterfaceAddress, Interfaces, is_private_v4};

/// Default gossip port. An advertise address without a port has it too, whatever port is bound.
pub(crate) const GOSSIP_PORT_DEFAULT: u16 = 7946;

/// The addresses of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The bound address; port 0 lets the system pick a port.
    pub(crate) bind: SocketAddr,
    /// The configured address to announce, if there is one.
    pub(crate) advertise: Option<SocketAddr>,
    /// The announced address.
    pub(crate) announced: SocketAddr,
    /// Whether the announced address was picked from the interfaces, because a node bound to all addresses was given
    /// none. Serf announces such an address in 16 bytes, a configured one in 4, and compares the bytes.
    pub(crate) picked: bool,
    /// A line for the user about an address chosen from an interface.
    pub(crate) note: Option<String>,
}

impl Addresses {
    /// Finds the addresses for the settings `bind`, `advertise` and `interface`; the last two may be empty.
    ///
    /// # Errors
    /// One line about the setting that can't be used.
    pub(crate) fn find(
        bind: &str,
        advertise: &str,
        interface: &str,
        interfaces: &Interfaces,
    ) -> Result<Addresses, String> {
        let mut bind = resolve(bind, Some(GOSSIP_PORT_DEFAULT))
            .map_err(|error| format!("Invalid bind address: {error}"))?;
        let mut note = None;
        if !interface.is_empty() {
            let ip = address_of(interface, bind.ip(), &interfaces.addresses)?;
            if ip != bind.ip() {
                note = Some(format!("Using interface '{interface}' address '{ip}'"));
            }
            bind.set_ip(ip);
        }
        let advertise = match advertise {
            "" => None,
            text => Some(
                resolve(text, Some(GOSSIP_PORT_DEFAULT))
                    .map_err(|error| format!("Invalid advertise address: {error}"))?,
            ),
        };
        let picked = advertise.is_none() && bind.ip().is_unspecified();
        let announced = match advertise {
            Some(advertise) => advertise,
            None if picked => {
                let ip = interfaces.private_address(bind.ip()).ok_or_else(|| {
                    format!(
                        "No private address to announce for bind address {}: give one with -advertise or bind one with -bind",
                        bind.ip()
                    )
                })?;
                SocketAddr::new(ip, bind.port())
            }
            None => bind,
        };
        Ok(Addresses { bind, advertise, announced, picked, note })
    }
}

/// Resolves `host`, `host:port`, `[v6]:port` or a bare IPv6 address; an empty host means all addresses. Prefers the
/// first IPv4 address of a name.
///
/// # Errors
/// The reason why the text gives no address.
pub(crate) fn resolve(text: &str, default_port: Option<u16>) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    let missing_port = || format!("address {text}: missing port in address");
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port.ok_or_else(missing_port)?));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let number = if port.is_empty() { Ok(0) } else { port.parse::<u16>() };
            (host, number.map_err(|_| format!("address {port}: invalid port"))?)
        }
        None => (text, default_port.ok_or_else(missing_port)?),
    };
    if host.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    }
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| lookup_error(host, &error))?.collect();
    let best = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
    best.copied().ok_or_else(|| format!("lookup {host}: no such host"))
}

/// Why a host name has no address.
fn lookup_error(host: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ").unwrap_or(&text) {
        "Name or service not known" | "No address associated with hostname" => {
            format!("lookup {host}: no such host")
        }
        reason => format!("lookup {host}: {reason}"),
    }
}

/// Whether the address is reachable from the internet: neither private nor for special use.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_documentation() || is_private_v4(v4)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    !special && !ip.is_unspecified()
}

/// The address to bind on an interface: the requested one if the interface has it, otherwise the first one.
fn address_of(name: &str, bind: IpAddr, local: &[InterfaceAddress]) -> Result<IpAddr, String> {
    let mut there = local.iter().filter(|address| address.interface == name).map(|address| address.ip);
    if !local.iter().any(|address| address.interface == name) {
        let mut names: Vec<&str> = local.iter().map(|address| address.interface.as_str()).collect();
        names.dedup();
        return Err(format!(
            "Invalid network interface: no interface '{name}' with an address; there are: {}",
            names.join(" ")
        ));
    }
    if !bind.is_unspecified() {
        return there
            .any(|ip| ip == bind)
            .then_some(bind)
            .ok_or_else(|| format!("Interface '{name}' has no '{bind}' address"));
    }
    there
        .find(|ip| !is_link_local(*ip))
        .ok_or_else(|| format!("Failed to find usable address for interface '{name}'"))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(interface: &str, ip: &str, prefix_bits: u8) -> InterfaceAddress {
        InterfaceAddress { interface: interface.to_owned(), ip: ip.parse().unwrap(), prefix_bits, up: true }
    }

    fn machine() -> Interfaces {
        let addresses = vec![
            at("lo", "127.0.0.1", 8),
            at("eth0", "203.0.113.9", 24),
            at("eth0", "fe80::1", 64),
            at("eth1", "169.254.3.3", 16),
            at("eth1", "10.1.2.3", 8),
            at("eth2", "172.16.5.5", 24),
            at("eth2", "fd00::2", 64),
            InterfaceAddress { up: false, ..at("eth3", "192.168.7.7", 30) },
        ];
        Interfaces { addresses, default_route: None }
    }

    fn find(bind: &str, advertise: &str, interface: &str) -> Result<Addresses, String> {
        Addresses::find(bind, advertise, interface, &machine())
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_resolved() {
        let cases = [
            ("127.0.0.5", "127.0.0.5:7946"),
            ("127.0.0.5:0", "127.0.0.5:0"),
            ("::1", "[::1]:7946"),
            ("[::1]", "[::1]:7946"),
            ("[::1]:80", "[::1]:80"),
            (":80", "0.0.0.0:80"),
            ("127.0.0.5:", "127.0.0.5:0"),
            ("localhost:7373", "127.0.0.1:7373"),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text, Some(7946)), Ok(addr(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert_eq!(resolve("1.2.3.4:99999", None), Err("address 99999: invalid port".to_owned()));
        assert_eq!(resolve("1.2.3.4", None), Err("address 1.2.3.4: missing port in address".to_owned()));
        assert_eq!(resolve("zz", None), Err("address zz: missing port in address".to_owned()));
        let error = find("256.1.1.1", "", "").unwrap_err();
        assert_eq!(error, "Invalid bind address: lookup 256.1.1.1: no such host");
        let error = find("127.0.0.1", "1.1.1.1:x", "").unwrap_err();
        assert_eq!(error, "Invalid advertise address: address x: invalid port");
    }

    #[test]
    fn bound_address_is_announced_unless_another_is_given() {
        assert_eq!(find("127.15.0.1", "", "").unwrap().announced, addr("127.15.0.1:7946"));
        let found = find("127.15.0.1:8000", "10.9.9.9", "").unwrap();
        assert_eq!(found.announced, addr("10.9.9.9:7946"));
        assert_eq!(found.advertise, Some(found.announced));
    }

    #[test]
    fn a_node_bound_to_all_addresses_announces_a_picked_one() {
        let found = find("0.0.0.0", "", "").unwrap();
        assert_eq!((found.announced, found.picked), (addr("10.1.2.3:7946"), true));
        assert!(!find("0.0.0.0", "10.9.9.9", "").unwrap().picked);
        assert!(!find("127.15.0.1", "", "").unwrap().picked);
        let only_v6 = Interfaces {
            addresses: vec![at("eth0", "192.0.2.2", 24), at("eth0", "fd00::2", 64)],
            default_route: None,
        };
        let found = Addresses::find("[::]:1", "", "", &only_v6).unwrap();
        assert_eq!(found.announced, addr("[fd00::2]:1"));
        let error = Addresses::find("0.0.0.0", "", "", &only_v6).unwrap_err();
        assert_eq!(
            error,
            "No private address to announce for bind address 0.0.0.0: give one with -advertise or bind one with -bind"
        );
    }

    #[test]
    fn interface_gives_or_confirms_the_address() {
        let found = find("0.0.0.0:8000", "", "eth1").unwrap();
        assert_eq!(found.bind, addr("10.1.2.3:8000"));
        assert_eq!(found.note.as_deref(), Some("Using interface 'eth1' address '10.1.2.3'"));
        assert_eq!(find("127.0.0.1", "", "lo").unwrap().note, None);
        assert_eq!(
            find("127.15.0.88", "", "lo"),
            Err("Interface 'lo' has no '127.15.0.88' address".to_owned())
        );
        assert_eq!(
            find("0.0.0.0", "", "eth9"),
            Err("Invalid network interface: no interface 'eth9' with an address; there are: lo eth0 eth1 eth2 eth3"
                .to_owned())
        );
    }

    #[test]
    fn public_addresses_are_neither_private_nor_special() {
        for ip in ["127.0.0.1", "10.0.0.1", "100.64.0.1", "198.19.0.1", "169.254.1.1", "fd00::1", "::1"] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "100.128.0.1", "198.20.0.1", "2600::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
