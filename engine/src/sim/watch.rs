//! Watching a run: a World reports what happens, without keeping it.

use crate::command::Ticket;
use crate::context::NodeId;
use crate::event::{Completion, Event, Notice};
use crate::time::Time;

/// Something that happened.
#[derive(Debug)]
pub enum Seen<'a> {
    /// An application got an event.
    Event(&'a Event),
    /// A log got a notice.
    Notice(&'a Notice),
    /// A command was answered.
    Completion(Ticket, &'a Completion),
    /// The node sent a datagram; it may get lost.
    Sent(&'a [u8]),
    /// A datagram arrives at the node.
    Arrived(&'a [u8]),
    /// The node wrote to a stream.
    Streamed(&'a [u8]),
}

/// Is called for everything that happens.
pub trait Watcher {
    /// At that time, this happened to that node.
    fn saw(&mut self, at: Time, node: NodeId, what: Seen<'_>);
}
