//! The events and queries of one datagram, until the whole datagram is read.
//!
//! A packet is filled with the newest broadcasts first, and with the longest ones first among equals. Go's memberlist
//! handles the user messages of a packet from the last to the first. Here the order of packing does not count: events
//! and queries are handled by their Lamport times.

use std::ops::Range;

use crate::wire::serf::{QUERY, USER_EVENT};
use crate::wire::{LamportTime, SerfMessage};

/// Copies of the messages. One for all nodes of a Context; empty between inputs.
#[derive(Debug, Default)]
pub(crate) struct HeldMessages {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl HeldMessages {
    /// Whether a serf message is held: events and queries are.
    pub(crate) fn takes(message: &[u8]) -> bool {
        matches!(message.first(), Some(&(USER_EVENT | QUERY)))
    }

    /// Holds a message that came after those held before.
    pub(crate) fn hold(&mut self, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.ranges.push(start..self.bytes.len());
    }

    /// Whether none is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The messages in the order in which they are to be handled: events before queries, because the two have clocks
    /// of their own and Serf's packets list queries first, and each kind by Lamport time, equal times as they came.
    pub(crate) fn in_order(&mut self) -> impl Iterator<Item = &[u8]> {
        let bytes = &self.bytes;
        if self.ranges.len() > 1 {
            self.ranges.sort_by_cached_key(|range| order(&bytes[range.clone()]));
        }
        self.ranges.iter().map(|range| &bytes[range.clone()])
    }

    /// Forgets them; keeps the buffers.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ranges.clear();
    }
}

/// What a message is sorted by. One that can't be decoded is refused later, at any place.
fn order(message: &[u8]) -> (u8, LamportTime) {
    match SerfMessage::decode(message) {
        Ok(SerfMessage::UserEvent(event)) => (0, event.ltime),
        Ok(SerfMessage::Query(query)) => (1, query.ltime),
        _ => (0, LamportTime(0)),
    }
}
