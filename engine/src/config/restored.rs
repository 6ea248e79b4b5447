//! What a node starts from.

use std::net::SocketAddr;

/// What a snapshot file held (PROTOCOL 10.1). Defaults to a node that never ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The member clock, a Lamport time; 0: none.
    pub clock: u64,
    /// The Lamport time of the newest user event seen; 0: none. Older ones are not delivered again.
    pub event_clock: u64,
    /// The Lamport time of the newest query seen; 0: none. Older ones are not answered again.
    pub query_clock: u64,
    /// The clocks lag: newer user events and queries may have been delivered, as by Serf, which writes its clocks up to
    /// half a second later. What is older than the first peer's clocks is then not delivered. Default false.
    pub lags: bool,
    /// Members that were alive, which the node tries to rejoin: name and gossip address.
    pub alive: Vec<(String, SocketAddr)>,
    /// Members that had failed: name and gossip address. Serf forgets them; a node that finds no other member alive tries
    /// them too, so that a cluster that failed as a whole finds itself again.
    pub failed: Vec<(String, SocketAddr)>,
}
