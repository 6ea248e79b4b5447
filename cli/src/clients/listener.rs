//! A listening socket, TCP or in the file system, and the names of those that connect to it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::stream::Stream;

/// Where a client connected from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    #[cfg_attr(not(unix), allow(dead_code))]
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(addr) => addr.fmt(f),
            Peer::Unix => f.write_str("unix socket"),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        socket: UnixListener,
        _file: SocketFile,
    },
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl Listener {
    /// Listens on a socket of the file system that only its owner may connect to. A socket file that nobody listens on
    /// any more is replaced; the file goes with the listener.
    ///
    /// # Errors
    /// Another process listens there, the path holds something else than a socket, or the system refuses it. Nothing
    /// has changed then.
    #[cfg(unix)]
    pub(crate) fn unix(path: &Path) -> io::Result<Listener> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is no socket"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            _ => {}
        }
        // Under its own name only once nobody else can connect to it.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let socket = UnixListener::bind(&beside)?;
        let placed = std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = placed {
            // Only a file that nobody connects to is left if this fails as well.
            let _ = std::fs::remove_file(&beside);
            return Err(error);
        }
        Ok(Listener::Unix { socket, _file: SocketFile(path.to_owned()) })
    }

    /// The next client.
    ///
    /// # Errors
    /// The system's, such as no descriptor being left.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                // A socket of both families reports IPv4 clients by mapped addresses.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                Ok((Stream::Tcp(stream), Peer::Tcp(client)))
            }
            #[cfg(unix)]
            Listener::Unix { socket, .. } => Ok((Stream::Unix(socket.accept().await?.0), Peer::Unix)),
        }
    }
}

/// Removed when dropped.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_file_is_private_replaces_a_dead_one_and_goes_with_its_listener() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists(), "a dead socket");
            let listener = Listener::unix(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let (connected, accepted) =
                tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
            connected.unwrap();
            assert_eq!(accepted.unwrap().1.to_string(), "unix socket");
            assert_eq!(Listener::unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(listener);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            std::fs::write(&path, "data").unwrap();
            assert!(Listener::unix(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"data");
        });
    }
}
