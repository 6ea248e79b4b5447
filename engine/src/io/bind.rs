//! Binding the two sockets of a node.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::udp::bind_udp_with_retry;

/// How long binding an address in use is tried again. The kernel needs up to 12 ms to release the port of a ring
/// whose process has ended.
const BIND_WITHIN: Duration = Duration::from_millis(100);
/// Attempts to find a port that is free for TCP and UDP, where the system picks it.
const PORT_TRIES: u32 = 10;

/// Why an address can't be bound. Nothing stays bound.
#[derive(Debug)]
pub(crate) struct BindError {
    /// `TCP` or `UDP`.
    pub(crate) protocol: &'static str,
    /// The address, with the port that the system picked if it did.
    pub(crate) addr: SocketAddr,
    /// The system's reason.
    pub(crate) error: io::Error,
}

/// Binds TCP and UDP on the same port (TCP first, as Serf does), so that one port serves both. Returns the
/// address with the port that was bound.
pub(crate) fn bind_both(addr: SocketAddr) -> Result<(TcpListener, UdpSocket, SocketAddr), BindError> {
    let tries = if addr.port() == 0 { PORT_TRIES } else { 1 };
    let mut last = None;
    for _ in 0..tries {
        let failed = |protocol| move |error| BindError { protocol, addr, error };
        let listener = bind_tcp(addr).map_err(failed("TCP"))?;
        let bound = listener.local_addr().map_err(failed("TCP"))?;
        match bind_udp_with_retry(bound, BIND_WITHIN) {
            Ok(socket) => return Ok((listener, socket, bound)),
            Err(error) => last = Some(BindError { protocol: "UDP", addr: bound, error }),
        }
    }
    Err(last.expect("there is at least one try"))
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // Connections of an agent that ended just before must not keep its port taken.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted. Many nodes that start together connect at once.
const BACKLOG: i32 = 1024;
