//! What every input lends a Node: the time, the timers, the roster, two sources of randomness, and the buffers for
//! outputs.
//!
//! A Context has two kinds of owner, the shard (real sockets) and the simulator's World (virtual time).
//! Both serve one Node or many thousands with one Context. After each input the owner drains
//! [`Outputs`] in a fixed order: snapshot records, datagrams, stream operations, completions, events,
//! notices, keyrings, ended nodes. The crate's manual says why.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Range;

use crate::command::Ticket;
use crate::deferred::DeferredQueue;
use crate::drop_reason::DropReason;
use crate::event::{Completion, Event, MemberEventKind, MemberRef, Members, Notice, SnapshotRecord};
use crate::held::HeldMessages;
pub use crate::ids::{NodeId, StreamId};
use crate::random::{Nonces, Random};
use crate::roster::Roster;
use crate::time::Time;
use crate::timers::Timers;
use crate::wire::packet::{Assembler, Scratch};

/// What happened to a stream.
#[derive(Debug)]
pub enum StreamInput<'a> {
    /// A peer connected; the id is new. Carries the peer's address.
    Accepted(SocketAddr),
    /// The connection that the node asked for is there.
    Opened,
    /// Bytes arrived, cut anywhere. Given away they are not copied if they are the first ones.
    Bytes(Cow<'a, [u8]>),
    /// The other side will send no more.
    Finished,
    /// The connection failed or could not be made; carries the system's reason. The id is over.
    Failed(&'a str),
    /// The driver refused what a peer sent on it. The id is over.
    Refused(DropReason),
}

/// What a node does with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOperation {
    /// Connect. Answered by `Opened` or `Failed`.
    Open(SocketAddr),
    /// Send these bytes, after what was written before.
    Write(Vec<u8>),
    /// Send what was written, then close both directions. The id is over; later input for it is ignored.
    Close,
    /// Close at once, unsent bytes are lost. The id is over.
    Abort,
}

/// A datagram ready to send: a range of [`Outputs::send_buffer`].
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Which node sends it.
    pub node: NodeId,
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub range: Range<usize>,
}

/// What nodes put out. The driver drains it after each input, or after a batch of them. The buffers keep their
/// capacity, so a steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Outputs {
    /// The bytes of all datagrams, one after the other, already sealed.
    pub send_buffer: Vec<u8>,
    /// Datagrams in sending order.
    pub datagrams: Vec<Datagram>,
    /// Stream operations in order.
    pub streams: Vec<(NodeId, StreamId, StreamOperation)>,
    /// Lines for the snapshot files, in order.
    pub records: Vec<(NodeId, SnapshotRecord)>,
    /// Answers to commands that were pending.
    pub completions: Vec<(NodeId, Ticket, Completion)>,
    /// Events for the application, after coalescing.
    pub events: Vec<(NodeId, Event)>,
    /// Keys for keyring files, the primary first. The driver writes them and calls
    /// [`keyring_written`](crate::node::Node::keyring_written) with the outcome; until then the node has its old keys
    /// and puts no others out.
    pub keyrings: Vec<(NodeId, Vec<Vec<u8>>)>,
    /// Nodes that lost their name to another one: the driver ends them.
    pub ended: Vec<NodeId>,
    /// Notices for a log.
    pub notices: Vec<(NodeId, Notice)>,
}

impl Outputs {
    /// Forgets the datagrams once they are sent; keeps the buffers.
    pub fn clear_datagrams(&mut self) {
        self.datagrams.clear();
        self.send_buffer.clear();
    }

    /// Forgets everything, as an owner does that has dealt with it; keeps the buffers.
    pub fn clear(&mut self) {
        self.clear_datagrams();
        self.streams.clear();
        self.records.clear();
        self.completions.clear();
        self.events.clear();
        self.keyrings.clear();
        self.ended.clear();
        self.notices.clear();
    }

    /// Reports a member to the log, in one notice with those before it that the same happened to.
    pub(crate) fn note_member(
        &mut self,
        node: NodeId,
        (kind, forced): (MemberEventKind, bool),
        member: &MemberRef<'_>,
    ) {
        if let Some((same, Notice::Members { kind: last, members, forced: was })) = self.notices.last_mut()
            && (*same, *last, *was) == (node, kind, forced)
        {
            return members.push(member);
        }
        let members = Members::from_iter([*member]);
        self.notices.push((node, Notice::Members { kind, members, forced }));
    }

    /// Whether nothing waits to be drained.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
            && self.streams.is_empty()
            && self.records.is_empty()
            && self.completions.is_empty()
            && self.events.is_empty()
            && self.keyrings.is_empty()
            && self.ended.is_empty()
            && self.notices.is_empty()
    }
}

/// What every input lends a Node.
pub struct Context {
    /// The time of this input. The owner sets it before each input; it never falls.
    pub now: Time,
    /// The timers of all nodes.
    pub timers: Timers,
    /// The facts that all nodes' views refer to.
    pub roster: Roster,
    /// The generator of protocol choices.
    pub random: Random,
    /// Nonces for sealing.
    pub nonces: Nonces,
    /// Where outputs go.
    pub out: Outputs,
    /// Assembles packets; empty between inputs.
    pub assembler: Assembler,
    /// Buffers for decompression.
    pub scratch: Scratch,
    /// The bytes under way came from a peer and were not sealed. False for commands and timers.
    pub(crate) arrived_plain: bool,
    pub(crate) spare: Spare,
    pub(crate) deferred: DeferredQueue,
    pub(crate) held: HeldMessages,
}

/// Buffers of states that were merged, for states to be sent. States of big clusters have megabytes, and fresh
/// memory from the system costs more than filling it.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// How many are kept. 0 by default: an agent frees the memory instead.
    pub(crate) max: usize,
}

impl Spare {
    /// An empty buffer with room for so many bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve(bytes);
        buffer
    }

    /// Takes back a buffer that is not needed any more.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < self.max {
            self.buffers.push(buffer);
        }
    }
}

impl Context {
    /// A Context whose protocol choices all follow from `seed`.
    pub fn new(seed: u64, nonces: Nonces) -> Context {
        let mut random = Random::new(seed);
        Context {
            now: Time::ZERO,
            timers: Timers::default(),
            roster: Roster::new(&mut random),
            random,
            nonces,
            out: Outputs::default(),
            assembler: Assembler::default(),
            scratch: Scratch::default(),
            arrived_plain: false,
            spare: Spare::default(),
            deferred: DeferredQueue::new(),
            held: HeldMessages::default(),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context(at {}, {:?}, {} timers)", self.now, self.roster, self.timers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_come_back_empty_and_no_more_than_wanted() {
        let mut spare = Spare { max: 1, ..Spare::default() };
        spare.give(vec![7; 1000]);
        spare.give(vec![8; 2000]);
        let buffer = spare.take(10);
        assert_eq!((buffer.len(), buffer.capacity()), (0, 1000));
        assert!(spare.take(50).capacity() >= 50);
        let mut none = Spare::default();
        none.give(vec![7; 1000]);
        assert_eq!(none.take(0).capacity(), 0);
    }
}
