//! The addresses of this machine's interfaces, and the one to announce where none is configured.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// One address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceAddress {
    /// Name of the interface.
    pub(super) interface: String,
    /// The address.
    pub(super) ip: IpAddr,
    /// Length of the network's prefix, bits.
    pub(super) prefix_bits: u8,
    /// Whether the interface is up (IFF_UP). It needs no carrier: right after an interface came up the kernel reports
    /// none yet.
    pub(super) up: bool,
}

/// The addresses of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interfaces {
    /// All addresses, in the system's order of interfaces.
    pub(super) addresses: Vec<InterfaceAddress>,
    /// The interface of the default route, if there is one (Linux only; elsewhere always `None`).
    pub(super) default_route: Option<String>,
}

impl Interfaces {
    /// Lists the interfaces of this machine.
    ///
    /// # Errors
    /// The system can't list them.
    pub(crate) fn list() -> io::Result<Interfaces> {
        Ok(Interfaces { addresses: system_addresses()?, default_route: default_route() })
    }

    /// Name and MTU in bytes of the interface that has an address (Linux only; elsewhere always `None`).
    pub(crate) fn mtu_of(&self, ip: IpAddr) -> Option<(&str, u32)> {
        let holds =
            |address: &&InterfaceAddress| address.ip == ip || (ip.is_loopback() && address.ip.is_loopback());
        let name = self.addresses.iter().find(holds)?.interface.as_str();
        let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?;
        Some((name, mtu.trim().parse().ok()?))
    }

    /// The system's number of an interface.
    #[cfg(unix)]
    pub(super) fn index_of(name: &str) -> Option<u32> {
        nix::net::if_::if_nametoindex(name).ok()
    }

    /// The system's number of an interface.
    #[cfg(windows)]
    pub(super) fn index_of(name: &str) -> Option<u32> {
        let found = if_addrs::get_if_addrs().ok()?.into_iter().find(|interface| interface.name == name);
        found.and_then(|interface| interface.index)
    }

    /// The first IPv4 address of an interface.
    pub(super) fn v4_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.addresses.iter().filter(|address| address.interface == name).find_map(|address| {
            match address.ip {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            }
        })
    }

    /// The address that a node bound to all addresses announces, by Serf's rules: private addresses of interfaces that
    /// are up; of these one of the default route's interface, then IPv4, then the larger network, then the order of
    /// interfaces.
    ///
    /// Unlike Serf, a node bound to 0.0.0.0 announces IPv4 only: its sockets take no IPv6.
    pub(super) fn private_address(&self, bind: IpAddr) -> Option<IpAddr> {
        let usable = |address: &&InterfaceAddress| {
            let private = match address.ip {
                IpAddr::V4(v4) => is_private_v4(v4),
                IpAddr::V6(v6) => bind.is_ipv6() && v6.is_unique_local(),
            };
            private && address.up
        };
        let rank = |address: &&InterfaceAddress| {
            let off_route = self.default_route.as_ref() != Some(&address.interface);
            (off_route, address.ip.is_ipv6(), address.prefix_bits)
        };
        // The first of equals: the order of interfaces decides.
        self.addresses.iter().filter(usable).min_by_key(rank).map(|address| address.ip)
    }
}

/// RFC 6890's forwardable ranges that are not global, and 192.88.99.0/24, which Serf counts among them: private, shared,
/// benchmarking, 6to4 relays.
pub(super) fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || [a, b, c] == [192, 88, 99]
}

#[cfg(unix)]
fn system_addresses() -> io::Result<Vec<InterfaceAddress>> {
    use nix::net::if_::InterfaceFlags;
    use nix::sys::socket::SockaddrStorage;
    let ip_of = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let prefix_of = |mask: IpAddr| match mask {
        IpAddr::V4(mask) => u32::from(mask).leading_ones() as u8,
        IpAddr::V6(mask) => u128::from(mask).leading_ones() as u8,
    };
    let listed = nix::ifaddrs::getifaddrs()?.filter_map(|listed| {
        let ip = ip_of(listed.address.as_ref()?)?;
        // Without a mask the address is a network of its own.
        let prefix_bits = match listed.netmask.as_ref().and_then(ip_of) {
            Some(mask) => prefix_of(mask),
            None => {
                if ip.is_ipv4() {
                    32
                } else {
                    128
                }
            }
        };
        let up = listed.flags.contains(InterfaceFlags::IFF_UP);
        Some(InterfaceAddress { interface: listed.interface_name, ip, prefix_bits, up })
    });
    Ok(listed.collect())
}

#[cfg(windows)]
fn system_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let addresses = if_addrs::get_if_addrs()?.into_iter().map(|interface| {
        let (ip, prefix_bits) = match &interface.addr {
            if_addrs::IfAddr::V4(addr) => (IpAddr::V4(addr.ip), addr.prefixlen),
            if_addrs::IfAddr::V6(addr) => (IpAddr::V6(addr.ip), addr.prefixlen),
        };
        InterfaceAddress { up: interface.is_oper_up(), interface: interface.name, ip, prefix_bits }
    });
    Ok(addresses.collect())
}

#[cfg(target_os = "linux")]
fn default_route() -> Option<String> {
    // /proc/net is a link to this process's own network namespace. Without /proc there is no preference.
    default_of(&std::fs::read_to_string("/proc/net/route").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn default_route() -> Option<String> {
    None
}

/// The interface of the default route with the lowest metric in the format of /proc/net/route. As Serf, only routes
/// through a gateway count.
#[cfg(target_os = "linux")]
fn default_of(table: &str) -> Option<String> {
    /// RTF_UP and RTF_GATEWAY.
    const THROUGH_GATEWAY: u32 = 0x3;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_default = destination == "00000000" && mask == "00000000";
        let counts = is_default && flags & THROUGH_GATEWAY == THROUGH_GATEWAY;
        counts.then_some((metric.parse::<u32>().ok()?, interface))
    });
    routes.min_by_key(|&(metric, _)| metric).map(|(_, interface)| interface.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(interface: &str, ip: &str, prefix_bits: u8) -> InterfaceAddress {
        InterfaceAddress { interface: interface.to_owned(), ip: ip.parse().unwrap(), prefix_bits, up: true }
    }

    fn chosen(default_route: Option<&str>, bind: &str, addresses: &[InterfaceAddress]) -> Option<String> {
        let default_route = default_route.map(str::to_owned);
        let interfaces = Interfaces { addresses: addresses.to_vec(), default_route };
        interfaces.private_address(bind.parse().unwrap()).map(|ip| ip.to_string())
    }

    #[test]
    fn default_route_then_larger_network_then_order_decide() {
        let addresses = [
            at("lo", "127.0.0.1", 8),
            at("docker0", "172.18.0.1", 24),
            at("eth0", "10.0.5.5", 20),
            at("eth0", "10.9.3.3", 16),
            at("eth1", "10.8.0.6", 16),
        ];
        let v4 = |route| chosen(route, "0.0.0.0", &addresses).unwrap();
        assert_eq!(v4(Some("docker0")), "172.18.0.1");
        assert_eq!(v4(Some("eth0")), "10.9.3.3", "the larger network of the route's interface");
        assert_eq!(v4(Some("gone0")), "10.9.3.3", "equal networks: the first interface");
        assert_eq!(v4(None), "10.9.3.3");
    }

    #[test]
    fn only_private_addresses_of_interfaces_that_are_up_are_announced() {
        let down = InterfaceAddress { up: false, ..at("eth1", "192.168.7.7", 16) };
        let others =
            [at("lo", "127.0.0.1", 8), at("eth0", "203.0.113.9", 24), at("eth0", "169.254.3.3", 16), down];
        assert_eq!(chosen(Some("eth0"), "0.0.0.0", &others), None);
        for private in ["10.0.0.1", "172.31.0.1", "192.168.0.1", "100.64.0.1", "198.19.0.1", "192.88.99.1"] {
            let addresses = [&others[..], &[at("eth2", private, 32)]].concat();
            assert_eq!(chosen(Some("eth0"), "0.0.0.0", &addresses).as_deref(), Some(private));
        }
    }

    #[test]
    fn ipv6_is_announced_only_where_it_is_bound() {
        let addresses = [at("eth0", "fd00::2", 64), at("eth1", "10.2.2.2", 24)];
        assert_eq!(chosen(Some("eth0"), "0.0.0.0", &addresses).unwrap(), "10.2.2.2");
        assert_eq!(chosen(Some("eth0"), "::", &addresses).unwrap(), "fd00::2");
        assert_eq!(chosen(None, "::", &addresses).unwrap(), "10.2.2.2");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_default_route_is_the_one_through_a_gateway_with_the_lowest_metric() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let table = |rows: &[&str]| head.to_owned() + &rows.join("\n") + "\n";
        let dsl = "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0";
        let wlan = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0";
        let eth = "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        let half = "tun0\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0";
        assert_eq!(default_of(&table(&[half, dsl, wlan, eth])).as_deref(), Some("eth0"));
        assert_eq!(default_of(&table(&[half, dsl])), None);
        assert_eq!(default_of(""), None);
        assert_eq!(default_of(&table(&["cut off", "eth0\t00000000"])), None);
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        let interfaces = Interfaces::list().unwrap();
        let loopback = interfaces.addresses.iter().find(|address| address.ip == Ipv4Addr::LOCALHOST);
        assert_eq!(loopback.map(|address| (address.prefix_bits, address.up)), Some((8, true)));
    }
}
