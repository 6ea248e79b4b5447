//! The agent's RPC port (PROTOCOL 6), which Serf's command line and client libraries use.
//!
//! A connection consists of a [`session`] that reads and executes requests one after the other, an [`outbox`] that its
//! own task writes to the socket, and a task for each of its [`streams`].

mod commands;
mod connections;
#[cfg(test)]
mod fixture;
mod guesses;
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

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::connections::{Admitted, CONNECTIONS_MAX, Connections, Source};
use self::guesses::Guesses;
use super::backend::Backend;
use super::level::Level;

/// A refused client is logged if none was in this time.
const REFUSALS_APART: Duration = Duration::from_secs(10);
/// First wait after the system refused to accept a connection (usually because no descriptor is left); doubled each
/// time, up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// One more.
fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Accepts and serves clients. Dropping the future closes their connections. Needs a `LocalSet`.
pub(crate) async fn serve(listener: TcpListener, backend: Rc<Backend>) {
    let mut sessions = JoinSet::new();
    let mut connections = Connections::default();
    let guesses = Guesses::new(backend.log.clone());
    let mut refusal_logged: Option<Instant> = None;
    let mut backoff = BACKOFF_FIRST;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        let (log, now) = (&backend.log, Instant::now());
        match accepted {
            Ok((stream, client)) => {
                // A socket of both families reports IPv4 clients by mapped addresses.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                backoff = BACKOFF_FIRST;
                // The connection has ended already.
                let Ok(server) = stream.local_addr() else { continue };
                let source = Source::of(client.ip(), server.ip());
                let Some(Admitted { standing, instead_of }) = connections.admit(client, source, now) else {
                    count(&backend.rpc.refused);
                    if refusal_logged.is_none_or(|logged| now.duration_since(logged) >= REFUSALS_APART) {
                        refusal_logged = Some(now);
                        let open = connections.len();
                        let text =
                            format!("Refusing client {client}: {open} of {CONNECTIONS_MAX} are connected");
                        log.add(Level::Warn, "agent.ipc", text);
                    }
                    continue;
                };
                if let Some(idle) = instead_of {
                    count(&backend.rpc.closed_idle);
                    let text = format!("Closing idle client {idle}, because others connect");
                    log.add(Level::Debug, "agent.ipc", text);
                }
                backend.counters.count("agent.ipc.accept");
                log.add(Level::Info, "agent.ipc", format_args!("Accepted client: {client}"));
                let from = session::Client { addr: client, source, standing, guesses: guesses.clone() };
                connections.started(sessions.spawn_local(session::run(stream, from, backend.clone())));
            }
            Err(error) => {
                log.add(Level::Err, "agent.ipc", format_args!("Failed to accept client: {error}"));
                tokio::time::sleep(backoff).await;
                backoff = BACKOFF_LAST.min(backoff * 2);
            }
        }
    }
}
