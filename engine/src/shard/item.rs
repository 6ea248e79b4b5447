//! Items that a shard delivers to the program: events, notices and the answers to queries.

use std::time::Instant;

use bytes::Bytes;

use crate::event::{Event, Notice};

/// An item of a node's outlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutletItem {
    /// An event, after coalescing.
    Event(Event),
    /// A line for the log.
    Notice(Notice),
}

/// An item on its way, with when it was put into the outlet.
pub type OutletEntry = (Instant, OutletItem);

/// An answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A node acknowledged that the query arrived.
    Ack {
        /// Its name.
        from: String,
    },
    /// A node answered.
    Response {
        /// Its name.
        from: String,
        /// The answer.
        payload: Bytes,
    },
}
