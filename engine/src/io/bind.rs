//! Binding the two sockets of a node.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::api::StartError;
use crate::io::bind_udp_with_retry;

/// How long an address that is in use is tried again: what an ended ring needs to let go of its port.
const BIND_WITHIN: Duration = Duration::from_millis(100);
/// Attempts to find a port that is free for TCP and UDP, where the system picks it.
const PORT_TRIES: u32 = 10;

/// Binds TCP and UDP on the same port (TCP first, as Serf does), so that one port serves both.
pub(super) fn bind_both(addr: SocketAddr) -> Result<(TcpListener, UdpSocket, SocketAddr), StartError> {
    let tries = if addr.port() == 0 { PORT_TRIES } else { 1 };
    let mut last = None;
    for _ in 0..tries {
        let failed = |what| move |error| StartError::Bind { what, addr, error };
        let listener = bind_tcp(addr).map_err(failed("TCP"))?;
        let bound = listener.local_addr().map_err(failed("TCP"))?;
        match bind_udp_with_retry(bound, BIND_WITHIN) {
            Ok(socket) => return Ok((listener, socket, bound)),
            Err(error) => last = Some(StartError::Bind { what: "UDP", addr: bound, error }),
        }
    }
    Err(last.expect("there is at least one try"))
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // So that a restarted agent needs not wait for its old connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that wait to be accepted: a join storm comes in at once.
const BACKLOG: i32 = 1024;
