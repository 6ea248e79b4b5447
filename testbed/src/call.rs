//! Single requests to an agent's RPC port, each with a time limit.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use thane_engine::ipc::{Client, ClientError, EventRequest, MembersResponse, Request, Stats};

use crate::failure::Failure;
use crate::watch::{Listed, listed};

/// How long an agent may take to answer what needs no other agent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects and does `work`; gives up waiting after `patience`.
///
/// # Errors
/// No connection, a refusal, or no answer in time: the agent may still do it.
pub(crate) fn call<T: Send + 'static>(
    addr: SocketAddr,
    patience: Duration,
    work: impl FnOnce(&mut Client) -> Result<T, ClientError> + Send + 'static,
) -> Result<T, Failure> {
    let (out, result) = channel();
    // A thread whose agent never answers ends with its connection, when the container is removed.
    std::thread::spawn(move || {
        let answer = Client::connect(&addr.to_string(), "").and_then(|mut client| work(&mut client));
        let _ = out.send(answer);
    });
    match result.recv_timeout(patience) {
        Ok(answer) => answer.map_err(|error| Failure::new(format!("RPC {addr}: {error}"))),
        Err(_) => Err(Failure::new(format!("RPC {addr}: no answer within {} s", patience.as_secs()))),
    }
}

/// Sends a user event that is not coalesced.
///
/// # Errors
/// See [`call`].
pub(crate) fn event(addr: SocketAddr, name: &str, bytes: usize) -> Result<(), Failure> {
    let request = EventRequest { name: name.to_owned(), payload: vec![b'x'; bytes], coalesce: false };
    call(addr, PATIENCE, move |client| client.call(&Request::Event(request)))
}

/// All members that it lists.
///
/// # Errors
/// See [`call`].
pub(crate) fn members(addr: SocketAddr) -> Result<Vec<Listed>, Failure> {
    call(addr, PATIENCE, |client| client.fetch::<MembersResponse>(&Request::Members)).map(listed)
}

/// An agent's numbers.
///
/// # Errors
/// See [`call`].
pub(crate) fn stats(addr: SocketAddr) -> Result<Stats, Failure> {
    call(addr, PATIENCE, |client| client.fetch::<Stats>(&Request::Stats))
}
