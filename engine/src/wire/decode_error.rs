//! Why bytes were not understood.

use std::fmt;

macro_rules! decode_errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why bytes were not understood.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DecodeError { $($(#[$doc])* $name,)* }

        impl DecodeError {
            /// All errors, in the order of their numbers.
            pub const ALL: &[DecodeError] = &[$(DecodeError::$name,)*];
            /// How many there are.
            pub const COUNT: usize = DecodeError::ALL.len();

            /// The error as metrics and `info` name it.
            pub fn as_str(self) -> &'static str {
                match self { $(DecodeError::$name => $text,)* }
            }
        }
    };
}

decode_errors! {
    /// No bytes.
    Empty = "empty",
    /// The datagram is longer than the receive buffer.
    DatagramTruncated = "datagram_truncated",
    /// An unknown type byte.
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
    /// A range of protocol versions that is empty or begins at 0, or more than six versions.
    BadVersions = "bad_versions",
    /// An unknown member state.
    BadState = "bad_state",
    /// A label is expected and none came.
    LabelMissing = "label_missing",
    /// Another label than ours.
    LabelMismatch = "label_mismatch",
    /// A label of length zero, or cut.
    LabelMalformed = "label_malformed",
    /// A sealed stream is expected and this one is plain.
    NotEncrypted = "not_encrypted",
    /// The stream is sealed and this node has no key.
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
    /// More messages in one datagram than any implementation sends.
    TooManyMessages = "too_many_messages",
    /// An unknown serf type byte.
    UnknownSerfType = "unknown_serf_type",
    /// A query filter of length zero (it crashes every Serf).
    EmptyFilter = "empty_filter",
    /// More filters than fit a query honestly, or more names in one.
    TooManyFilters = "too_many_filters",
    /// More user events of one Lamport time than could be sent at a moment.
    TooManyEvents = "too_many_events",
    /// More keys than fit a response honestly.
    TooManyKeys = "too_many_keys",
    /// Tags that are not what meta should hold.
    BadTags = "bad_tags",
    /// A coordinate of another version or dimension, or with a number that is none.
    BadCoordinate = "bad_coordinate",
    /// A frame above its cap.
    StreamTooLarge = "stream_too_large",
    /// A stream that ended in the middle of a message.
    StreamCut = "stream_cut",
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for DecodeError {}
