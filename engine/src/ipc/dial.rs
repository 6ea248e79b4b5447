//! How the client reaches an agent: over TCP, or over a socket of the file system.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::tls::{self, ClientConfig, ClientConnection, StreamOwned};

/// The longest time to open a connection, for the handshake, and for each write.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How a client speaks TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Of [`tls::client`](crate::tls::client).
    pub config: Arc<ClientConfig>,
    /// The name that the agent's certificate must have; without it the host of the address.
    pub server_name: Option<String>,
}

/// Why there is no connection: the address and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DialError {
    /// In the words of Serf's client.
    Dial(String),
    /// The handshake of TLS failed.
    Tls(String),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(timeout),
            Socket::Tls(stream) => stream.sock.set_read_timeout(timeout),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Tls(stream) => stream.read(into),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.flush(),
            Socket::Tls(stream) => stream.flush(),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.flush(),
        }
    }
}

/// Connects to `host:port` or `unix:PATH`; a socket of the file system speaks no TLS.
///
/// # Errors
/// There is no connection, or no TLS on it.
pub(super) fn dial(addr: &str, within: Duration, tls: Option<&ClientTls>) -> Result<Socket, DialError> {
    #[cfg(unix)]
    if let Some(path) = addr.strip_prefix("unix:") {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(Socket::Unix(stream))
        });
        return connected
            .map_err(|error| DialError::Dial(format!("unix {path}: connect: {}", reason(&error))));
    }
    let stream = dial_tcp(addr, within).map_err(|why| DialError::Dial(format!("tcp{why}")))?;
    match tls {
        None => Ok(Socket::Tcp(stream)),
        Some(tls) => shake_hands(addr, stream, within, tls)
            .map_err(|why| DialError::Tls(format!("TLS with {addr}: {why}"))),
    }
}

/// Makes TLS of a connection, of whose address host and port are known to be well-formed.
fn shake_hands(
    addr: &str,
    mut stream: TcpStream,
    within: Duration,
    tls: &ClientTls,
) -> Result<Socket, String> {
    let host = split(addr).map_or("", |(host, _)| host);
    let name = tls.server_name.as_deref().unwrap_or(if host.is_empty() { "localhost" } else { host });
    let of_name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("'{name}' is no host name or IP address: give one with -tls-server-name"))?;
    let mut connection =
        ClientConnection::new(tls.config.clone(), of_name).map_err(|error| error.to_string())?;
    // The system refuses no timeout but zero.
    let _ = stream.set_read_timeout(Some(within));
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer within {within:?}: does its port speak TLS?")
            }
            _ => tls::reason(&error),
        })?;
    }
    Ok(Socket::Tls(Box::new(StreamOwned::new(connection, stream))))
}

fn dial_tcp(addr: &str, within: Duration) -> Result<TcpStream, String> {
    let (host, port) = split(addr).map_err(|why| format!(": {why}"))?;
    let mut error = None;
    for target in resolve(host, port)? {
        match TcpStream::connect_timeout(&target, within) {
            Ok(stream) => {
                let ready = stream.set_write_timeout(Some(TIMEOUT)).and_then(|()| stream.set_nodelay(true));
                return ready.map(|()| stream).map_err(|error| format!(": {}", reason(&error)));
            }
            Err(refusal) => {
                let shown = if host.is_empty() { addr.to_owned() } else { target.to_string() };
                let step = if refusal.kind() == io::ErrorKind::TimedOut { "" } else { "connect: " };
                error.get_or_insert(format!(" {shown}: {step}{}", reason(&refusal)));
            }
        }
    }
    Err(error.unwrap_or_else(|| format!(": lookup {host}: no such host")))
}

/// Splits host and port. A host may be in brackets; one with colons must be.
fn split(addr: &str) -> Result<(&str, u16), String> {
    if addr.is_empty() {
        return Err("missing address".to_owned());
    }
    let (host, port) =
        addr.rsplit_once(':').ok_or_else(|| format!("address {addr}: missing port in address"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').ok_or_else(|| format!("address {addr}: missing port in address"))?
        }
        None if host.contains(':') => return Err(format!("address {addr}: too many colons in address")),
        None => host,
    };
    match port.parse::<i64>() {
        Ok(number) => u16::try_from(number)
            .map(|port| (host, port))
            .map_err(|_| format!("address {port}: invalid port")),
        Err(_) => Err(format!("address tcp/{port}: unknown port")),
    }
}

/// The addresses to try, in order. An empty host means this machine.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if host.is_empty() {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(here.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = (host, port).to_socket_addrs().map_err(|_| format!(": lookup {host}: no such host"))?;
    Ok(found.collect())
}

/// The system's error text in lower case, without the error number.
fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return "i/o timeout".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;
    use crate::ipc::Client;

    #[test]
    fn addresses_that_are_none_are_named() {
        for (addr, why) in [
            ("", ": missing address"),
            ("host", ": address host: missing port in address"),
            ("a:b:c", ": address a:b:c: too many colons in address"),
            ("a:99999", ": address 99999: invalid port"),
            ("a:-1", ": address -1: invalid port"),
            ("a:ssh2", ": address tcp/ssh2: unknown port"),
        ] {
            let error = Client::connect(addr, "").unwrap_err();
            assert_eq!(error.to_string(), format!("dial tcp{why}"));
        }
        assert_eq!(split("[::1]:7373"), Ok(("::1", 7373)));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::connect(&free.to_string(), "").unwrap_err().to_string();
        assert_eq!(error, format!("dial tcp {free}: connect: connection refused"));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_of_the_file_system_is_named_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let addr = format!("unix:{}", path.display());
        assert_eq!(
            dial(&addr, TIMEOUT, None).unwrap_err(),
            DialError::Dial(format!("unix {}: connect: no such file or directory", path.display()))
        );
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut client = dial(&addr, TIMEOUT, None).unwrap();
        client.write_all(b"x").unwrap();
        let mut received = [0];
        listener.accept().unwrap().0.read_exact(&mut received).unwrap();
        assert_eq!(received, *b"x");
    }
}
