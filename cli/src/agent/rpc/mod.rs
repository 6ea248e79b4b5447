//! The agent's RPC port (PROTOCOL 6), which Serf's command line and client libraries use.
//!
//! A connection consists of a [`session`] that reads and executes requests one after the other, an [`outbox`] that its
//! own task writes to the socket, and a task for each of its [`streams`].

mod commands;
#[cfg(test)]
mod fixture;
mod members;
#[cfg(test)]
mod oracle;
mod outbox;
#[cfg(test)]
#[path = "../../../tests/common/oracle.rs"]
mod real_serf;
mod session;
mod streams;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::backend::Backend;
use super::level::Level;

/// Simultaneous connections; a further one is closed at once, with a warning in the log. Each costs a few kilobytes,
/// and up to a megabyte while it sends a request of that size.
const CONNECTIONS_MAX: usize = 256;
/// First wait after the system refused to accept a connection (usually because no descriptor is left); doubled each
/// time, up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// Accepts and serves clients. Dropping the future closes their connections. Needs a `LocalSet`.
pub(crate) async fn serve(listener: TcpListener, backend: Rc<Backend>) {
    let mut sessions = JoinSet::new();
    let mut backoff = BACKOFF_FIRST;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        let log = &backend.log;
        match accepted {
            Ok((_, client)) if sessions.len() >= CONNECTIONS_MAX => {
                let text = format!("Refusing client {client}: {CONNECTIONS_MAX} are connected");
                log.add(Level::Warn, "agent.ipc", text);
            }
            Ok((stream, client)) => {
                // A socket of both families reports IPv4 clients by mapped addresses.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                backoff = BACKOFF_FIRST;
                backend.counters.count("agent.ipc.accept");
                log.add(Level::Info, "agent.ipc", format_args!("Accepted client: {client}"));
                sessions.spawn_local(session::run(stream, client, backend.clone()));
            }
            Err(error) => {
                log.add(Level::Err, "agent.ipc", format_args!("Failed to accept client: {error}"));
                tokio::time::sleep(backoff).await;
                backoff = BACKOFF_LAST.min(backoff * 2);
            }
        }
    }
}
