//! The clients of the agent's ports (RPC and HTTP): how they are accepted, how many at one time, and the brake on those
//! that guess the token.

mod connections;
mod guesses;
mod listener;
mod stream;
mod tls;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use thane_engine::tls::Current;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::connections::{Admitted, Connections};
pub(crate) use self::connections::{CONNECTIONS_MAX, Caps, Source, Standing};
pub(crate) use self::guesses::{Guesses, equal_in_constant_time};
pub(crate) use self::listener::{Listener, Peer};
pub(crate) use self::stream::Stream;

/// A refused client is worth a line in the log if none was refused in this time.
const REFUSALS_APART: Duration = Duration::from_secs(10);
/// First wait after the system refused to accept a connection (usually because no descriptor is left); doubled each
/// time, up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// A connected client.
pub(crate) struct Client {
    /// Where it connected from.
    pub(crate) peer: Peer,
    /// The machine that it counts for.
    pub(crate) source: Source,
    /// What its connection is doing.
    pub(crate) standing: Rc<Standing>,
}

/// What happened at a port.
pub(crate) enum Happened {
    /// A client has connected.
    Accepted(Peer),
    /// A client was refused because so many are connected; worth a line in the log if no other was lately.
    Refused {
        /// Which client.
        peer: Peer,
        /// Open connections.
        open: usize,
        /// No other client was refused lately.
        first: bool,
    },
    /// An idle client was closed for another one.
    ClosedIdle(Peer),
    /// There was no TLS with a client, and why; worth a line in the log if there was no such client lately.
    NoTls {
        /// Which client.
        peer: Peer,
        /// What is wrong.
        why: String,
        /// No other such client was there lately.
        first: bool,
    },
    /// The system accepted no connection.
    Failed(io::Error),
}

/// Accepts clients and runs a session for each, after the handshake if they are to speak TLS. Dropping the future closes
/// their connections. Needs a `LocalSet`.
pub(crate) async fn serve<S: Future<Output = ()> + 'static>(
    listener: Listener,
    tls: Option<Current>,
    tell: impl Fn(Happened) + 'static,
    session: impl Fn(Stream, Client) -> S + 'static,
) {
    let (tell, session) = (Rc::new(tell), Rc::new(session));
    let no_tls = Rc::new(Cell::new(None));
    let mut sessions = JoinSet::new();
    let mut connections = Connections::default();
    let mut refused: Option<Instant> = None;
    let mut backoff = BACKOFF_FIRST;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = BACKOFF_FIRST;
                // The connection has ended already.
                let Ok(source) = stream.source(peer) else { continue };
                let now = Instant::now();
                let Some(Admitted { standing, instead_of }) = connections.admit(peer, source, now) else {
                    let first = refused.is_none_or(|last| now.duration_since(last) >= REFUSALS_APART);
                    if first {
                        refused = Some(now);
                    }
                    tell(Happened::Refused { peer, open: connections.len(), first });
                    continue;
                };
                if let Some(idle) = instead_of {
                    tell(Happened::ClosedIdle(idle));
                }
                tell(Happened::Accepted(peer));
                let client = Client { peer, source, standing };
                let (tls, tell, session, no_tls) =
                    (tls.clone(), tell.clone(), session.clone(), no_tls.clone());
                let run = async move {
                    let stream = match &tls {
                        None => Ok(stream),
                        Some(current) => self::tls::shake_hands(stream, current).await,
                    };
                    match stream {
                        Ok(stream) => session(stream, client).await,
                        Err(why) => {
                            let now = Instant::now();
                            let lately = |last| now.duration_since(last) < REFUSALS_APART;
                            let first = !no_tls.get().is_some_and(lately);
                            if first {
                                no_tls.set(Some(now));
                            }
                            tell(Happened::NoTls { peer, why, first });
                        }
                    }
                };
                connections.started(sessions.spawn_local(run));
            }
            Err(error) => {
                tell(Happened::Failed(error));
                tokio::time::sleep(backoff).await;
                backoff = BACKOFF_LAST.min(backoff * 2);
            }
        }
    }
}
