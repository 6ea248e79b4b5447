//! What a shard hands to the program: events, notices and the answers to queries.

use bytes::Bytes;

use crate::event::{Event, Notice};

/// What a node reports to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutletItem {
    /// An event, after coalescing.
    Event(Event),
    /// A line for the log.
    Notice(Notice),
}

/// An answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A node acked.
    Ack {
        /// Which node.
        from: String,
    },
    /// A node answered.
    Response {
        /// Which node.
        from: String,
        /// What.
        payload: Bytes,
    },
}
