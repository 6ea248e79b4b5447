//! A client's connection, over TCP, TLS or a socket of the file system.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;

use super::connections::Source;
use super::listener::Peer;

/// Idle time after which the system sends TCP keepalive probes.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Where its client counts.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn source(&self, peer: Peer) -> io::Result<Source> {
        match (self, peer) {
            (Stream::Tcp(stream), Peer::Tcp(client)) => {
                Ok(Source::of(client.ip(), stream.local_addr()?.ip()))
            }
            _ => Ok(Source::Here),
        }
    }

    /// Sends what is written at once, and finds a client that vanished without closing its connection (TCP keepalive,
    /// as Serf).
    ///
    /// # Errors
    /// The connection is broken, which the first read reports as well.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let tcp = match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.get_ref().0),
            #[cfg(unix)]
            Stream::Unix(_) => None,
        };
        if let Some(stream) = tcp {
            stream.set_nodelay(true)?;
            let probes = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
            socket2::SockRef::from(stream).set_tcp_keepalive(&probes)?;
        }
        Ok(())
    }
}

/// Calls a method of the stream in this variant.
macro_rules! of_each {
    ($this:expr, $stream:ident => $call:expr) => {
        match $this {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), stream => Pin::new(stream).poll_read(ctx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        of_each!(self.get_mut(), stream => Pin::new(stream).poll_write(ctx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(ctx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        of_each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), stream => Pin::new(stream).poll_flush(ctx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(ctx))
    }
}
