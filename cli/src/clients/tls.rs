//! The handshake of TLS with a client that has connected.

use std::time::Duration;

use thane_engine::tls::{self, Current};
use tokio_rustls::TlsAcceptor;

use super::stream::Stream;

/// Longest time for it.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Makes TLS of a TCP connection. A socket of the file system stays as it is.
///
/// # Errors
/// Why there is no TLS, for the log. The connection is closed.
pub(super) async fn shake_hands(stream: Stream, current: &Current) -> Result<Stream, String> {
    let Stream::Tcp(tcp) = stream else { return Ok(stream) };
    let accepting = TlsAcceptor::from(current.load_full()).accept(tcp);
    match tokio::time::timeout(HANDSHAKE_WITHIN, accepting).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(tls::reason(&error)),
        Err(_) => Err(format!("no handshake within {}s", HANDSHAKE_WITHIN.as_secs())),
    }
}
