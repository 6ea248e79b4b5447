//! Why a node refused input.

use std::fmt;

use crate::wire::DecodeError;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $words:literal,)*) => {
        /// Why a node refused input. Nodes count refused input by reason; a refused datagram is never answered.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            /// Its bytes were not understood.
            Undecodable(DecodeError),
            $($(#[$doc])* $name,)*
        }

        /// The reasons that lie with the node and not with the bytes, in the order of their numbers.
        const OF_STATE: &[DropReason] = &[$(DropReason::$name,)*];

        /// The numbers of those reasons.
        enum Place { $($name,)* }

        impl DropReason {
            /// The reason as metrics and `info` name it.
            pub fn as_str(self) -> &'static str {
                match self {
                    DropReason::Undecodable(error) => error.as_str(),
                    $(DropReason::$name => $text,)*
                }
            }

            /// The reason in words, for a log.
            pub fn words(self) -> &'static str {
                match self {
                    DropReason::Undecodable(error) => error.words(),
                    $(DropReason::$name => $words,)*
                }
            }

            /// The reason's number, below [`COUNT`](Self::COUNT).
            pub(crate) fn number(self) -> usize {
                match self {
                    DropReason::Undecodable(error) => error as usize,
                    $(DropReason::$name => DecodeError::COUNT + Place::$name as usize,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// A query filter whose regular expression is none, or too big.
    BadFilter = "bad_filter": "a query filter that is no regular expression",
    /// A step of a reconciliation from an address that is not its sender's.
    UnknownSender = "unknown_sender": "a sender's name from another address",
    /// Filters of queries whose expressions cost more than this node compiles in a second.
    FiltersTooCostly = "filters_too_costly": "query filters that cost too much to compile",
    /// A ping for another name: the sender's picture of this address is old.
    WrongNodeName = "wrong_node_name": "meant for a node of another name",
    /// A name that is announced at another address: its old address answers, or yet another one is being looked into.
    NameHeld = "name_held": "a name at another address, while the old one answers or is asked",
    /// An ack or nack that no probe waits for, mostly late ones.
    UnknownSeq = "unknown_seq": "an ack that no probe waits for",
    /// An incarnation above the ceiling, or too far above what this node knows.
    IncarnationRefused = "incarnation_refused": "an incarnation that is too high",
    /// A Lamport time above the ceiling, or too far above this node's clock.
    LamportTimeRefused = "lamport_time_refused": "a Lamport time that is too high",
    /// A query about keys that arrived unsealed at a node that has keys.
    UnsealedKeyQuery = "unsealed_key_query": "a query about keys that was not encrypted",
    /// A forged vote about a name, or a request to send to an address that is no member's.
    NotAMember = "not_a_member": "the address is no member's",
    /// A known name under another address.
    AddressConflict = "address_conflict": "a known name at another address",
    /// An address outside the networks that this node is configured to talk to.
    AddressNotAllowed = "address_not_allowed": "the address is not in cidrs_allowed",
    /// A node name that this node is configured to refuse.
    NameNotAllowed = "name_not_allowed": "a node name that is not allowed",
    /// A member that was heard of, beside very many that were heard of and never answered.
    TooManyUnanswered = "too_many_unanswered": "too many members that never answered",
    /// News about a member from before it left or was erased.
    Departed = "departed": "old news of a member that is gone",
    /// A push/pull with members this node can't talk to.
    IncompatibleVersions = "incompatible_versions": "members of incompatible protocol versions",
    /// The delegate does not let the member in.
    AliveVetoed = "alive_vetoed": "a member that the program does not admit",
    /// The delegate does not let two clusters become one.
    MergeVetoed = "merge_vetoed": "a cluster that the program does not admit",
    /// A message or state of the program, and no delegate to take it.
    Unhandled = "unhandled": "a message that nothing here handles",
    /// A bounded queue or table is full.
    QueueFull = "queue_full": "a queue is full",
    /// More streams at a time than allowed.
    TooManyStreams = "too_many_streams": "too many streams",
    /// All streams together hold more bytes than allowed: the one with the most.
    StreamsFull = "streams_full": "streams hold too much memory",
    /// More answers that peers do not read than allowed: the oldest one.
    StreamUnread = "stream_unread": "answers that the peer does not read",
    /// A stream that took too long.
    StreamTimeout = "stream_timeout": "the stream took too long",
    /// A stream on which the peer sent nothing, or hardly anything: closed after three seconds, or earlier to make room
    /// for another one.
    StreamIdle = "stream_idle": "nothing came on the stream",
    /// A plain stream at a node that requires TLS.
    TlsRequired = "tls_required": "a plain stream, where TLS is required",
    /// A peer that began TLS and has no certificate that this node takes.
    TlsRefused = "tls_refused": "a stream by TLS without a certificate of this node's CA that is valid now",
    /// The other side refused a stream with an error message.
    RemoteError = "remote_error": "the other side refused",
    /// A user event older than what is remembered.
    EventTooOld = "event_too_old": "a user event that is too old",
    /// A user event longer than any may be.
    EventTooLong = "event_too_long": "a user event of more than 9216 bytes",
    /// A query older than what is remembered.
    QueryTooOld = "query_too_old": "a query that is too old",
    /// A response for a query that is over or never was.
    QueryUnknown = "query_unknown": "a response to no running query",
    /// A second response from the same node.
    DuplicateResponse = "duplicate_response": "a second response of the same node",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = DecodeError::COUNT + OF_STATE.len();

    /// All reasons, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = DropReason> {
        let undecodable = DecodeError::ALL.iter().map(|&error| DropReason::Undecodable(error));
        undecodable.chain(OF_STATE.iter().copied())
    }
}

impl From<DecodeError> for DropReason {
    fn from(error: DecodeError) -> DropReason {
        DropReason::Undecodable(error)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_dense_and_names_are_used_once() {
        assert!(DropReason::all().enumerate().all(|(place, reason)| reason.number() == place));
        let names: BTreeSet<&str> = DropReason::all().map(DropReason::as_str).collect();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
