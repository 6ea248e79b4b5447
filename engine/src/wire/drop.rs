//! Why input was refused.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why input was refused. Counted by reason; a refused datagram is never answered.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[DropReason] = &[$(DropReason::$name,)*];
            /// How many there are.
            pub const COUNT: usize = DropReason::ALL.len();

            /// The reason as metrics and `info` name it.
            pub fn as_str(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// No bytes.
    Empty = "empty",
    /// The datagram is longer than the receive buffer.
    DatagramTruncated = "datagram_truncated",
    /// A type byte nobody knows.
    UnknownType = "unknown_type",
    /// A known type where it must not be: a push/pull in a datagram, a checksum inside a compound.
    MisplacedType = "misplaced_type",
    /// A body ends early.
    Truncated = "truncated",
    /// A body is not the msgpack it should be.
    BadMsgpack = "bad_msgpack",
    /// A number does not fit its field.
    FieldOverflow = "field_overflow",
    /// A name is not UTF-8.
    BadUtf8 = "bad_utf8",
    /// A name is empty or too long.
    BadName = "bad_name",
    /// Meta above 512 bytes.
    MetaTooLong = "meta_too_long",
    /// An address of neither 4 nor 16 bytes.
    BadAddress = "bad_address",
    /// Protocol versions that nobody can speak, or more than six.
    BadVersions = "bad_versions",
    /// A member state nobody knows.
    BadState = "bad_state",
    /// A label is expected and none came.
    LabelMissing = "label_missing",
    /// Another label than ours.
    LabelMismatch = "label_mismatch",
    /// A label of length zero, or cut.
    LabelMalformed = "label_malformed",
    /// Encryption is expected and the stream is plain.
    NotEncrypted = "not_encrypted",
    /// The stream is encrypted and this node has no key.
    Encrypted = "encrypted",
    /// An encryption envelope of an unknown version.
    BadEnvelopeVersion = "bad_envelope_version",
    /// Too short to be an envelope.
    EnvelopeTooShort = "envelope_too_short",
    /// No key opens it.
    WrongKey = "wrong_key",
    /// The padding of a version 0 envelope is wrong.
    BadPadding = "bad_padding",
    /// The checksum does not match.
    BadChecksum = "bad_checksum",
    /// A compression algorithm other than LZW.
    UnknownCompression = "unknown_compression",
    /// Not an LZW stream, or one without an end.
    BadCompression = "bad_compression",
    /// More than the cap after decompression.
    DecompressedTooLarge = "decompressed_too_large",
    /// A compound part of length zero (it crashes Serf 0.9.4).
    EmptyPart = "empty_part",
    /// Compounds or compressions inside each other, too deep.
    NestedTooDeep = "nested_too_deep",
    /// More messages in one datagram than anybody sends.
    TooManyMessages = "too_many_messages",
    /// A serf type byte nobody knows.
    UnknownSerfType = "unknown_serf_type",
    /// A query filter of length zero (it crashes every Serf).
    EmptyFilter = "empty_filter",
    /// More filters than fit a query honestly, or more names in one.
    TooManyFilters = "too_many_filters",
    /// A query filter whose regular expression is none, or too big.
    BadFilter = "bad_filter",
    /// Filters of queries whose expressions cost more than this node compiles in a second.
    FiltersTooCostly = "filters_too_costly",
    /// More user events of one Lamport time than could be sent at a moment.
    TooManyEvents = "too_many_events",
    /// More keys than fit a response honestly.
    TooManyKeys = "too_many_keys",
    /// Tags that are not what meta should hold.
    BadTags = "bad_tags",
    /// A coordinate of another version or dimension, or with a number that is none.
    BadCoordinate = "bad_coordinate",
    /// A ping for another name: the sender's picture of this address is old.
    WrongNodeName = "wrong_node_name",
    /// An ack or nack that nobody waits for, mostly late ones.
    UnknownSeq = "unknown_seq",
    /// An accusation with the last incarnation there is.
    IncarnationExhausted = "incarnation_exhausted",
    /// A Lamport time so high that the clock could not go on.
    LamportTimeExhausted = "lamport_time_exhausted",
    /// A known name under another address.
    AddressConflict = "address_conflict",
    /// An address outside the networks that this node is configured to talk to.
    AddressNotAllowed = "address_not_allowed",
    /// News about a member from before it left or was erased.
    Departed = "departed",
    /// A push/pull with members this node can't talk to.
    IncompatibleVersions = "incompatible_versions",
    /// The delegate does not let the member in.
    AliveVetoed = "alive_vetoed",
    /// The delegate does not let two clusters become one.
    MergeVetoed = "merge_vetoed",
    /// A message or state of the program's own, and no delegate to take it.
    Unhandled = "unhandled",
    /// A bounded queue or table is full.
    QueueFull = "queue_full",
    /// More streams at a time than allowed.
    TooManyStreams = "too_many_streams",
    /// All streams together hold more bytes than allowed: the one with the most.
    StreamsFull = "streams_full",
    /// More answers that nobody reads than allowed: the oldest.
    StreamUnread = "stream_unread",
    /// A frame above its cap.
    StreamTooLarge = "stream_too_large",
    /// A stream that ended in the middle of a message.
    StreamCut = "stream_cut",
    /// A stream that took too long.
    StreamTimeout = "stream_timeout",
    /// The other side refused a stream with an error message.
    RemoteError = "remote_error",
    /// A user event older than what is remembered.
    EventTooOld = "event_too_old",
    /// A query older than what is remembered.
    QueryTooOld = "query_too_old",
    /// A response for a query that is over or never was.
    QueryUnknown = "query_unknown",
    /// A second response from the same node.
    DuplicateResponse = "duplicate_response",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
