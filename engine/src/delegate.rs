//! Rules and hooks of the embedding program: it admits members, adds data to messages, and is called when something
//! happens.
//!
//! A [`Delegate`] belongs to one node and is called by it, synchronously, in the middle of handling an input.
//! So a delegate must not block: a millisecond in one of its methods is a millisecond in which no node of the
//! same shard answers. What takes longer goes to another thread. A panic in a delegate ends the shard and with
//! it every node on it. To act on a call, a delegate sends a message through a channel to a task of the
//! program; a delegate that holds a [`Handle`](crate::api::Handle) of its engine keeps that engine running for
//! ever.
//!
//! A simulation is deterministic only if a delegate's answers follow from the arguments of its calls, and not
//! from a clock or from random numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::event::Member;
use crate::wire::stream::PushPullFrame;
use crate::wire::{
    Alive, DecodeError, Incarnation, NodeState, Versions, WireState, decode_tags, ip_from_bytes,
};

/// Rules and hooks of the embedding program. Every method does nothing by default, and a node without a
/// delegate pays one comparison where one would be called.
///
/// The order of calls for one input: [`admit_merge`](Self::admit_merge) sees a joining push/pull whole,
/// before any of it counts; then each alive record of it goes to [`admit`](Self::admit) like one that came by
/// gossip; [`merge_state`](Self::merge_state) gets the other side's state after all members. Events about
/// members come after that input, through the event stream.
pub trait Delegate: Send {
    /// Decides whether this node believes that a member is alive. Called for every valid alive message, from
    /// gossip and from push/pulls, also for known members and for this node's name; not for what this node
    /// itself announces.
    ///
    /// # Errors
    /// A veto: the message is ignored and not passed on. It is counted as
    /// [`DropReason::AliveVetoed`](crate::drop_reason::DropReason::AliveVetoed), and the reason goes to the
    /// log. A known member stays as it was: one whose news is vetoed for long can't refute a suspicion and is
    /// declared failed.
    fn admit(&mut self, announced: &Announcement<'_>) -> Result<(), Veto> {
        let _ = announced;
        Ok(())
    }

    /// Decides whether two lists of members may become one, when a peer joins, or this node joins or
    /// reconnects. Not called for periodic push/pulls.
    ///
    /// # Errors
    /// A veto: nothing of the push/pull is merged; it is counted as
    /// [`DropReason::MergeVetoed`](crate::drop_reason::DropReason::MergeVetoed), with the reason in the log. A
    /// join of this node through that address fails with the reason. A joiner that is refused is told the reason instead
    /// of this node's state, and its join fails. A delegate that keeps a member out for good vetoes its alives too.
    fn admit_merge(&mut self, theirs: Announcements<'_>) -> Result<(), Veto> {
        let _ = theirs;
        Ok(())
    }

    /// A message announces a known name under another address. The node ignores it.
    fn on_conflict(&mut self, known: &Announcement<'_>, other: &Announcement<'_>) {
        let _ = (known, other);
    }

    /// What this node adds to its acks of direct pings, at most
    /// [`ACK_PAYLOAD_BYTES_MAX`](crate::wire::limits::ACK_PAYLOAD_BYTES_MAX) bytes; a longer one is left out.
    /// Not asked while the serf layer runs with [coordinates](crate::config::RawConfig::coordinates): then
    /// the coordinate is the payload.
    fn ack_payload(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// A member acked a direct ping within the probe timeout: how long that took, and what it added to the
    /// ack (nothing, the payload of its delegate, or a coordinate).
    fn on_ping(&mut self, member: &Announcement<'_>, round_trip: Duration, payload: &[u8]) {
        let _ = (member, round_trip, payload);
    }

    /// How long a failed or left member stays listed; asked about each of them every reap interval.
    /// `timeout` is what the settings say. Serf layer only.
    fn reconnect_timeout(&mut self, member: &Member, timeout: Duration) -> Duration {
        let _ = member;
        timeout
    }

    /// What this node announces as its meta, at most `bytes_max` bytes; a longer one is left out. `None`: the
    /// encoded tags. Asked when the node starts and by [`Node::update_meta`](crate::node::Node::update_meta).
    /// Plain SWIM only: with the serf layer the meta is the tags.
    fn node_meta(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let _ = bytes_max;
        None
    }

    /// What this node adds to a push/pull; `join` if it is one that joins. At most
    /// [`USER_STATE_BYTES_MAX`](crate::wire::limits::USER_STATE_BYTES_MAX) bytes; a longer one is left out.
    /// Plain SWIM only: with the serf layer this is its state.
    fn local_state(&mut self, join: bool) -> Vec<u8> {
        let _ = join;
        Vec::new()
    }

    /// What the other side of a push/pull added to it, if it added anything. Plain SWIM only.
    fn merge_state(&mut self, state: &[u8], join: bool) {
        let _ = (state, join);
    }

    /// A message of the program arrived, by gossip or sent straight to this node. Returns whether this node
    /// gossips it on; a delegate that returns [`Onward::Gossip`] must recognise messages that it has seen.
    /// Plain SWIM only.
    fn on_message(&mut self, message: &[u8]) -> Onward {
        let _ = message;
        Onward::Stop
    }

    /// The next message of the program for a packet that has room for one of up to `bytes_max` bytes; called
    /// again until it returns none. For programs with their own queue; others use
    /// [`Node::broadcast`](crate::node::Node::broadcast). Plain SWIM only.
    fn broadcast(&mut self, bytes_max: usize) -> Option<Bytes> {
        let _ = bytes_max;
        None
    }
}

/// Whether this node passes a message on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Onward {
    /// Gossip it, like every broadcast.
    Gossip,
    /// Do not pass it on.
    Stop,
}

/// Why a delegate refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Veto(pub Cow<'static, str>);

impl From<&'static str> for Veto {
    fn from(reason: &'static str) -> Veto {
        Veto(reason.into())
    }
}

impl From<String> for Veto {
    fn from(reason: String) -> Veto {
        Veto(reason.into())
    }
}

/// What a member announces about itself, or what another one says that it announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement<'a> {
    /// The member's name.
    pub name: &'a str,
    /// Its gossip address.
    pub addr: SocketAddr,
    /// Its meta: with the serf layer its encoded tags.
    pub meta: Cow<'a, [u8]>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// In what state it is said to be.
    pub state: WireState,
    /// Its protocol versions; zeros where it announced none.
    pub versions: Versions,
}

impl Announcement<'_> {
    /// The tags that the meta encodes.
    ///
    /// # Errors
    /// [`DecodeError::BadTags`] if it is no map of strings.
    pub fn tags(&self) -> Result<BTreeMap<String, String>, DecodeError> {
        decode_tags(&self.meta)
    }
}

impl<'a> From<&'a Alive<'a>> for Announcement<'a> {
    fn from(alive: &'a Alive<'a>) -> Announcement<'a> {
        Announcement {
            name: alive.node,
            addr: socket_addr(&alive.addr, alive.port),
            meta: Cow::Borrowed(&alive.meta),
            incarnation: alive.incarnation,
            state: WireState::Alive,
            versions: whole_versions(&alive.versions),
        }
    }
}

impl<'a> From<NodeState<'a>> for Announcement<'a> {
    fn from(record: NodeState<'a>) -> Announcement<'a> {
        Announcement {
            name: record.name,
            addr: socket_addr(&record.addr, record.port),
            meta: record.meta,
            incarnation: record.incarnation,
            state: record.state,
            versions: whole_versions(&record.versions),
        }
    }
}

/// The members that the other side of a push/pull lists, itself included. Decoded by the iterator: a delegate
/// that does not iterate costs nothing.
#[derive(Copy, Clone, Debug)]
pub struct Announcements<'a> {
    frame: &'a PushPullFrame,
}

impl<'a> Announcements<'a> {
    pub(crate) fn new(frame: &'a PushPullFrame) -> Announcements<'a> {
        Announcements { frame }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.frame.nodes_count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frame.nodes_count == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Announcement<'a>> + use<'a> {
        let (frame, mut offset) = (self.frame, 0);
        std::iter::from_fn(move || frame.next_node(&mut offset).map(Announcement::from))
    }
}

fn socket_addr(ip: &[u8], port: u16) -> SocketAddr {
    SocketAddr::new(ip_from_bytes(ip).unwrap_or(IpAddr::from([0, 0, 0, 0])), port)
}

fn whole_versions(announced: &[u8]) -> Versions {
    let mut versions = [0; 6];
    let len = announced.len().min(versions.len());
    versions[..len].copy_from_slice(&announced[..len]);
    Versions(versions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_announcement_shows_tags_and_fills_up_short_versions() {
        let mut meta = Vec::new();
        let tags = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
        crate::wire::encode_tags(&tags, &mut meta);
        let alive = Alive {
            node: "n1",
            addr: (&[127, 0, 0, 1][..]).into(),
            port: 7,
            meta: meta.into(),
            versions: (&[1, 5, 2][..]).into(),
            ..Alive::default()
        };
        let announced = Announcement::from(&alive);
        assert_eq!(announced.addr, "127.0.0.1:7".parse().unwrap());
        assert_eq!(announced.tags().unwrap(), tags);
        assert_eq!(announced.versions, Versions([1, 5, 2, 0, 0, 0]));
        assert_eq!(Veto::from("no").to_string(), "no");
    }
}
