//! A join through any number of addresses and names.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::resolve::{Entry, Found, Name, look_up};
use super::{Handle, JoinError};
use crate::event::Completion;

/// Addresses that one join tries at the same time. A node has room for 256 streams, and other joins need some of it.
const TRIED_AT_ONCE: usize = 32;

/// What the addresses tried so far answered.
#[derive(Default)]
struct Outcome {
    contacted: usize,
    errors: Vec<String>,
}

impl Handle {
    /// Joins through every address of every entry: `host`, `host:port`, `[v6]:port`, a bare IPv6 address, or
    /// `nodename/` before one of these. Without a port, the port that this node is bound to is used. Without
    /// `replay`, user events from before the join are not delivered. Returns the number of addresses that answered.
    ///
    /// Any number of entries is tried, some at a time. Names are looked up meanwhile and on threads of their own: one
    /// without an answer within 10 s counts as failed and delays no other.
    ///
    /// # Errors
    /// No address answered; the error has one line for each. The member list is then unchanged.
    pub async fn join(&self, entries: &[String], replay: bool) -> Result<usize, JoinError> {
        let mut errors = Vec::new();
        let (mut addresses, mut names) = (Vec::new(), Vec::<Name>::new());
        for entry in entries {
            match Entry::parse(entry, self.bound.port()) {
                Ok(Entry::Address(addr)) => addresses.push(addr),
                Ok(Entry::Name(name)) => names.push(name),
                Err(error) => errors.push(error),
            }
        }
        let (given, named) =
            tokio::join!(self.try_all(&addresses, replay), self.try_found(look_up(names), replay));
        errors.extend(given.errors.into_iter().chain(named.errors));
        match given.contacted + named.contacted {
            0 => Err(JoinError { errors }),
            contacted => Ok(contacted),
        }
    }

    async fn try_found(&self, mut lookups: mpsc::UnboundedReceiver<Found>, replay: bool) -> Outcome {
        let mut all = Outcome::default();
        while let Some(found) = lookups.recv().await {
            let outcome = match found {
                Ok(addresses) => self.try_all(&addresses, replay).await,
                Err(error) => Outcome { errors: vec![error], ..Outcome::default() },
            };
            all.contacted += outcome.contacted;
            all.errors.extend(outcome.errors);
        }
        all
    }

    async fn try_all(&self, addresses: &[SocketAddr], replay: bool) -> Outcome {
        let mut all = Outcome::default();
        for some in addresses.chunks(TRIED_AT_ONCE) {
            let targets = some.to_vec();
            let joined =
                self.pending(move |node, ctx, ticket| node.join(ctx, ticket, targets, !replay)).await;
            match joined {
                Ok(Completion::Joined { contacted, errors }) => {
                    all.contacted += contacted;
                    all.errors.extend(errors);
                }
                Ok(_) => unreachable!("a join completes with Joined"),
                Err(error) => {
                    // The node refuses to join: it has left, or stopped.
                    all.errors.push(error.to_string());
                    break;
                }
            }
        }
        all
    }
}
