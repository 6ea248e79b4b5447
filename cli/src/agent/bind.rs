//! Binding at start: the listeners for clients, and the patience for a port that an ended process still holds.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::address;
use crate::clients::Listener;

/// How long an address in use is tried again. A killed process takes some milliseconds to release its sockets, longer
/// on a busy machine; its successor may start before.
const BIND_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const BIND_PAUSE: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Calls `bind` until it succeeds, or fails for another reason than an address in use, or [`BIND_WITHIN`] is over.
///
/// # Errors
/// The last error of `bind`.
pub(super) async fn while_in_use<T, E>(
    mut bind: impl AsyncFnMut() -> Result<T, E>,
    kind: impl Fn(&E) -> Option<ErrorKind>,
) -> Result<T, E> {
    let deadline = Instant::now() + BIND_WITHIN;
    loop {
        match bind().await {
            Err(error) if kind(&error) == Some(ErrorKind::AddrInUse) && Instant::now() < deadline => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// A port for clients: its name in messages, and its flag.
pub(super) type Port = (&'static str, &'static str);
pub(super) const RPC: Port = ("RPC", "-rpc-addr");
pub(super) const HTTP: Port = ("HTTP", "-http-addr");

/// Binds a listener for clients, TCP or `unix:PATH`. As in Serf, an address without host and the unspecified addresses
/// mean IPv4 and IPv6.
///
/// # Errors
/// Serf's line with the reason and what to try. Nothing is bound.
pub(super) async fn listen(text: &str, (name, flag): Port) -> Result<Listener, String> {
    let kind = |error: &io::Error| Some(error.kind());
    #[cfg(unix)]
    if let Some(path) = text.strip_prefix("unix:") {
        let bound = while_in_use(async || Listener::unix(path.as_ref()), kind).await;
        return bound.map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => ": another process listens there",
                _ => "",
            };
            format!("Error starting {name} listener: listen unix {path}: {error}{advice}")
        });
    }
    let failed = |error: &str| format!("Error starting {name} listener: listen tcp {text}: {error}");
    let addr = address::resolve(text, None).map_err(|error| failed(&error))?;
    let bound = while_in_use(async || bind_tcp(addr), kind).await;
    bound.map(Listener::Tcp).map_err(|error| failed(&format!("{error}{}", advice(error.kind(), flag))))
}

/// What to try if an address can't be bound.
pub(super) fn advice(kind: ErrorKind, flag: &str) -> String {
    match kind {
        ErrorKind::AddrInUse => {
            format!(": another process uses this address and port; stop it or choose another with {flag}")
        }
        ErrorKind::AddrNotAvailable => {
            format!(": no interface of this machine has this address; choose another with {flag}")
        }
        ErrorKind::PermissionDenied => format!(": choose a port from 1024 on with {flag}"),
        _ => String::new(),
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    if !addr.ip().is_unspecified() {
        return bind_one(addr);
    }
    match bind_one(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), addr.port())) {
        // A kernel without IPv6 refuses the socket or the address.
        Err(error) if error.kind() != ErrorKind::AddrInUse && error.kind() != ErrorKind::PermissionDenied => {
            bind_one(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port()))
        }
        result => result,
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    // Connections of an earlier process in TIME_WAIT must not prevent a restart.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn listen_tcp(text: &str) -> Result<TcpListener, String> {
        match listen(text, RPC).await? {
            Listener::Tcp(listener) => Ok(listener),
            other => panic!("{other:?}"),
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn unspecified_addresses_take_both_families() {
        run(async {
            for text in [":0", "0.0.0.0:0", "[::]:0"] {
                let listener = listen_tcp(text).await.unwrap();
                let port = listener.local_addr().unwrap().port();
                for host in ["127.0.0.1", "::1"] {
                    let client = std::net::TcpStream::connect((host, port));
                    assert!(client.is_ok(), "{text} from {host}: {client:?}");
                    let (_, from) = listener.accept().await.unwrap();
                    assert_eq!(from.ip().to_canonical().to_string(), host);
                }
            }
        });
    }

    #[test]
    fn a_port_in_use_is_tried_again_until_it_is_free_or_the_time_is_over() {
        run(async {
            let held = std::net::TcpListener::bind("127.83.0.9:0").unwrap();
            let addr = held.local_addr().unwrap().to_string();
            let error = listen_tcp(&addr).await.unwrap_err();
            assert!(error.contains("stop it or choose another with -rpc-addr"), "{error}");
            let free = tokio::time::sleep(BIND_WITHIN / 2);
            let (bound, ()) = tokio::join!(listen_tcp(&addr), async {
                free.await;
                drop(held);
            });
            assert_eq!(bound.unwrap().local_addr().unwrap().to_string(), addr);
        });
    }

    #[test]
    fn other_errors_are_returned_at_once() {
        run(async {
            let started = Instant::now();
            let error = listen_tcp("203.0.113.1:7373").await.unwrap_err();
            assert!(error.contains("no interface of this machine has this address"), "{error}");
            assert_eq!(started.elapsed(), Duration::ZERO);
        });
    }
}
