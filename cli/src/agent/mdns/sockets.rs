//! The multicast sockets: one of each address family where the system offers it.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// The port and the groups of multicast DNS (RFC 6762, section 3).
const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Longest packet that is read, bytes (RFC 6762, section 17); longer ones are cut.
const PACKET_BYTES_MAX: usize = 9000;

/// The interface whose network is asked and answered.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// The system's number of it; 0 lets the system choose.
    pub(super) index: u32,
    /// Its IPv4 address, if it has one.
    pub(super) v4: Option<Ipv4Addr>,
}

/// Sockets of both families, or of one, and the buffer that they share.
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    buffer: Vec<u8>,
}

impl Sockets {
    /// Sockets that get what is sent to the groups. Other programs of this machine may have such sockets as well.
    ///
    /// # Errors
    /// There is none of either family: why.
    pub(super) fn listening(interface: Interface) -> io::Result<Sockets> {
        Sockets::of(
            || {
                let socket = shared(Domain::IPV4)?;
                // Bound to the group, the socket gets nothing that was sent to this machine alone, perhaps from afar.
                let bound_to = if cfg!(unix) { GROUP_V4 } else { Ipv4Addr::UNSPECIFIED };
                socket.bind(&SocketAddr::from((bound_to, PORT)).into())?;
                let on = InterfaceIndexOrAddress::Index(interface.index);
                socket.join_multicast_v4_n(&GROUP_V4, &on)?;
                tokio_socket(socket)
            },
            || {
                let socket = shared(Domain::IPV6)?;
                socket.set_only_v6(true)?;
                socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
                socket.join_multicast_v6(&GROUP_V6, interface.index)?;
                tokio_socket(socket)
            },
        )
    }

    /// Sockets that ask, with a port of their own, to which the answers come.
    ///
    /// # Errors
    /// There is none of either family: why.
    pub(super) fn asking(interface: Interface, v4: bool, v6: bool) -> io::Result<Sockets> {
        let refused = || Err(io::Error::new(ErrorKind::Unsupported, "IPv4 and IPv6 are both disabled"));
        Sockets::of(
            || {
                if !v4 {
                    return refused();
                }
                let socket = udp(Domain::IPV4)?;
                match interface {
                    Interface { v4: Some(ip), .. } => socket.set_multicast_if_v4(&ip)?,
                    Interface { index: 0, .. } => {}
                    _ => {
                        return Err(io::Error::new(ErrorKind::AddrNotAvailable, "no IPv4 address"));
                    }
                }
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
                tokio_socket(socket)
            },
            || {
                if !v6 {
                    return refused();
                }
                let socket = udp(Domain::IPV6)?;
                socket.set_only_v6(true)?;
                socket.set_multicast_if_v6(interface.index)?;
                socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
                tokio_socket(socket)
            },
        )
    }

    /// What can be had of both families.
    fn of(
        v4: impl FnOnce() -> io::Result<UdpSocket>,
        v6: impl FnOnce() -> io::Result<UdpSocket>,
    ) -> io::Result<Sockets> {
        let (v4, v6) = match (v4(), v6()) {
            (Err(v4), Err(v6)) => {
                return Err(io::Error::new(v4.kind(), format!("{v4} (IPv4), {v6} (IPv6)")));
            }
            (v4, v6) => (v4.ok(), v6.ok()),
        };
        Ok(Sockets { v4, v6, buffer: vec![0; PACKET_BYTES_MAX] })
    }

    /// Sends to the groups.
    ///
    /// # Errors
    /// It could be sent to neither.
    pub(super) async fn multicast(&self, packet: &[u8]) -> io::Result<()> {
        let v4 = self.v4.as_ref().map(|socket| (socket, SocketAddr::from((GROUP_V4, PORT))));
        let v6 = self.v6.as_ref().map(|socket| (socket, SocketAddr::from((GROUP_V6, PORT))));
        let (mut is_sent, mut first_error) = (false, None);
        for (socket, group) in [v4, v6].into_iter().flatten() {
            match socket.send_to(packet, group).await {
                Ok(_) => is_sent = true,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if !is_sent => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends to one address.
    ///
    /// # Errors
    /// It could not be sent, or there is no socket of that family.
    pub(super) async fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().ok_or(ErrorKind::AddrNotAvailable)?;
        socket.send_to(packet, to).await.map(drop)
    }

    /// The next packet and who sent it.
    ///
    /// # Errors
    /// A socket can't be read.
    pub(super) async fn receive(&mut self) -> io::Result<(&[u8], SocketAddr)> {
        loop {
            for socket in [&self.v4, &self.v6].into_iter().flatten() {
                match socket.try_recv_from(&mut self.buffer) {
                    Ok((len, from)) => return Ok((&self.buffer[..len], from)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            tokio::select! {
                ready = readable(self.v4.as_ref()) => ready?,
                ready = readable(self.v6.as_ref()) => ready?,
            }
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await,
        None => pending().await,
    }
}

fn udp(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket for a port that other programs have too.
fn shared(domain: Domain) -> io::Result<Socket> {
    let socket = udp(domain)?;
    socket.set_reuse_address(true)?;
    // Linux shares a multicast port without it, and where it is set only between programs of one user.
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    Ok(socket)
}

fn tokio_socket(socket: Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}
