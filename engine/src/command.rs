//! The commands of a Node.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

/// The caller's id of one command; returned with its [`Completion`](crate::event::Completion).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The node's id of a query that it received and may answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryToken(pub u64);

/// A query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryParams {
    /// Query name.
    pub name: String,
    /// Query payload.
    pub payload: Bytes,
    /// Only these nodes answer; empty: all.
    pub filter_nodes: Vec<String>,
    /// Only nodes whose tag matches the (unanchored) regular expression answer; all must match.
    pub filter_tags: BTreeMap<String, String>,
    /// Ask every node that passes the filters for an ack.
    pub request_ack: bool,
    /// Send answers also through this many random members.
    pub relay_factor: u8,
    /// For how long answers are taken; `None`: Serf's default formula (PROTOCOL 5.4).
    pub timeout: Option<Duration>,
}

/// What to do with the keys of all nodes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation {
    /// Add a key; it opens what others seal with it.
    Install,
    /// Seal with an installed key from now on.
    Use,
    /// Remove a key other than the primary one.
    Remove,
    /// List the keys.
    List,
}

/// Why a command was refused; it changed nothing then. The texts are Serf's, because scripts match them (PROTOCOL
/// 6.4).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Name and payload of a user event are too long.
    #[error("user event exceeds configured limit of {0} bytes before encoding")]
    EventTooLong(usize),
    /// The encoded user event is too long.
    #[error("encoded user event exceeds configured limit of {0} bytes after encoding")]
    EncodedEventTooLong(usize),
    /// The encoded query is too long.
    #[error("query exceeds limit of {0} bytes")]
    QueryTooLong(usize),
    /// The encoded query fits no gossip packet, and nothing else carries queries. The configured limit is higher.
    #[error("query of {bytes} bytes fits no gossip packet, which carries {bytes_max}")]
    QueryFitsNoPacket {
        /// Bytes of the encoded query.
        bytes: usize,
        /// The longest query that gossip carries with the node's keys and label.
        bytes_max: usize,
    },
    /// The encoded response is too long.
    #[error("response exceeds limit of {0} bytes")]
    ResponseTooLong(usize),
    /// The query was already answered.
    #[error("response already sent")]
    AlreadyResponded,
    /// The query's deadline has passed.
    #[error("response is past the deadline")]
    PastDeadline,
    /// No such query, or it is over.
    #[error("No pending queries matching ID")]
    UnknownQuery,
    /// A query's tag filter has an expression that no node would understand. Nothing was sent.
    #[error("filter of tag {tag:?}: {reason}")]
    BadFilter {
        /// The tag.
        tag: String,
        /// What is wrong with the expression.
        reason: String,
    },
    /// `_serf_` names are reserved.
    #[error("Queries cannot contain the '_serf_' prefix")]
    ReservedName,
    /// The configured protocol version is too old for this.
    #[error("Feature not supported")]
    NotSupported,
    /// The encoded tags don't fit into the meta.
    #[error("Encoded length of tags exceeds limit of {0} bytes")]
    TagsTooLong(usize),
    /// A message of the program is too long for a packet. Carries the limit.
    #[error("message exceeds limit of {0} bytes")]
    MessageTooLong(usize),
    /// The meta comes from the delegate, so tags can't be set; or it does not, so the delegate can't be asked
    /// again.
    #[error("the meta of this node is given by {0}")]
    MetaGivenBy(&'static str),
    /// No member of that name is alive.
    #[error("no member {0:?} is alive")]
    UnknownMember(String),
    /// This node has keys and sends unsealed (`encrypt_verify_outgoing` is false): no node does key operations that
    /// arrive unsealed. Nothing was sent.
    #[error(
        "keys can't be listed or changed while this node sends unsealed (encrypt_verify_outgoing is false)"
    )]
    KeysUnsealed,
    /// This node's Lamport clock of that kind is so high that other nodes would refuse the message: a message with
    /// a forged time was accepted in this node's join. Restart the node without its snapshot. Nothing was sent.
    #[error("the {0} clock of this node is beyond what other nodes accept; restart it without its snapshot")]
    ClockExhausted(&'static str),
    /// Join after leave.
    #[error("Serf can't Join after Leave or Shutdown")]
    JoinAfterLeave,
    /// A second leave while one is under way.
    #[error("Leave already in progress")]
    LeaveInProgress,
    /// A bound is reached; try again later.
    #[error("too many {0} under way, try again later")]
    Busy(&'static str),
}
