//! What an input defers: what one layer of a node has for another one. The node's `settle` applies it after
//! the input, in the order in which it was deferred.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ids::{BroadcastId, StreamId};
use crate::roster::MemberIndex;
use crate::view::MemberStatus;
use crate::wire::reconcile::ReconcileSet;
use crate::wire::{Extension, LamportTime, SeqNo};

/// The queue of one Context; empty between inputs.
pub(crate) type DeferredQueue = VecDeque<Deferred>;

/// One thing that is left to do after an input.
#[derive(Debug)]
pub(crate) enum Deferred {
    /// The layer above SWIM learns that a member changed.
    Change(Change),
    /// The layer above SWIM gets the payload of an ack.
    Acked(Acked),
    /// A member that did not ack in time is pinged over a stream.
    StreamPing(StreamPing),
    /// A push/pull with a failed member, which may be back.
    Reconnect(SocketAddr),
    /// A push/pull with a member that the snapshot names.
    Rejoin(SocketAddr),
    /// Whether the member of the snapshot that was tried last answered.
    Rejoined(bool),
    /// The members of a push/pull are merged: its user state is next. Carries the merge's slot.
    Merged(u32),
    /// A prune erased a member.
    Erased(MemberIndex),
    /// It is decided which address a member's name belongs to.
    Claimed(MemberIndex),
    /// A push/pull with the old address of a member, which says what it is.
    Confirm(MemberIndex, SocketAddr),
    /// A node asks which address has a member's name.
    VoteAsked(MemberIndex),
    /// The members voted for another node of this node's name: answers, and those for this node.
    VoteLost(u32, u32),
    /// This node came into a cluster.
    Joined,
    /// A broadcast that a command may wait for needs no more transmissions.
    Finished(Finished),
    /// A member was asked for its digest, by a probe or for the digest's sake.
    Compared(Compared),
    /// Records of a reconciliation were merged: what they say of the layer above is next.
    Told(Vec<Told>),
    /// A stream for a reconciliation that this node began is open.
    ReconcileOpened(StreamId, ReconcileSet),
    /// A step of a reconciliation came over a stream, type byte taken off.
    ReconcileStep(StreamId, Vec<u8>),
}

/// What SWIM reports about a member (memberlist's event delegate).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A member came, or came back from the dead.
    Joined(MemberIndex),
    /// A member is dead or left.
    Gone(MemberIndex),
    /// A member's meta changed.
    Updated(MemberIndex),
    /// This node's name is announced at another address.
    Conflict,
}

/// A direct ack with a payload of the layer above.
#[derive(Debug)]
pub(crate) struct Acked {
    /// The member that acked.
    pub(crate) member: MemberIndex,
    /// From ping to ack.
    pub(crate) round_trip: Duration,
    /// What the member added.
    pub(crate) payload: Vec<u8>,
}

/// Why a member was asked for its digest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was probed anyway.
    Probe,
    /// An exchange of states is due, periodic or soon after a join.
    Exchange,
    /// This node's view grows.
    Growth,
}

/// What a member answered to a ping.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) member: MemberIndex,
    pub(crate) asked: Asked,
    /// None: it does not speak the extensions, or did not answer.
    pub(crate) extension: Option<Extension>,
}

/// What a record says of a member's place in the layer above SWIM.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Told {
    pub(crate) member: MemberIndex,
    pub(crate) status: MemberStatus,
    pub(crate) ltime: LamportTime,
}

/// A ping over a stream.
#[derive(Copy, Clone, Debug)]
pub(crate) struct StreamPing {
    /// The member to ping.
    pub(crate) member: MemberIndex,
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// The probe that the ping belongs to.
    pub(crate) seq: SeqNo,
}

/// A broadcast that needs no more transmissions.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The state of a member.
    Member(MemberIndex),
    /// A serf message.
    User(BroadcastId),
}
