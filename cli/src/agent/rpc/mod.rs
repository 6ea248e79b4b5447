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

use std::cell::Cell;
use std::rc::Rc;

use thane_engine::tls::Current;

use super::backend::Backend;
use super::level::Level;
use crate::clients::{self, CONNECTIONS_MAX, Happened, Listener};

/// One more.
fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Accepts and serves clients. Dropping the future closes their connections. Needs a `LocalSet`.
pub(crate) async fn serve(listener: Listener, tls: Option<Current>, backend: Rc<Backend>) {
    let teller = backend.clone();
    let tell = move |happened| tell(&teller, happened);
    clients::serve(listener, tls, tell, move |stream, client| session::run(stream, client, backend.clone()))
        .await;
}

fn tell(backend: &Backend, happened: Happened) {
    let log = &backend.log;
    match happened {
        Happened::Accepted(peer) => {
            backend.counters.count("agent.ipc.accept");
            log.add(Level::Info, "agent.ipc", format_args!("Accepted client: {peer}"));
        }
        Happened::Refused { peer, open, first } => {
            count(&backend.rpc.refused);
            if first {
                let text = format!("Refusing client {peer}: {open} of {CONNECTIONS_MAX} are connected");
                log.add(Level::Warn, "agent.ipc", text);
            }
        }
        Happened::ClosedIdle(peer) => {
            count(&backend.rpc.closed_idle);
            let text = format!("Closing idle client {peer}, because others connect");
            log.add(Level::Debug, "agent.ipc", text);
        }
        Happened::NoTls { peer, why, first } => {
            count(&backend.rpc.no_tls);
            if first {
                let text = format!("No TLS with client {peer}: {why}");
                log.add(Level::Warn, "agent.ipc", text);
            }
        }
        Happened::Failed(error) => {
            log.add(Level::Err, "agent.ipc", format_args!("Failed to accept client: {error}"));
        }
    }
}
