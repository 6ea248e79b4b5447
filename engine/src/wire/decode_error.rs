//! Why bytes were not understood.

use std::fmt;

macro_rules! decode_errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $words:literal,)*) => {
        /// Why bytes were not understood.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DecodeError { $($(#[$doc])* $name,)* }

        impl DecodeError {
            /// All errors, in the order of their numbers.
            pub const ALL: &[DecodeError] = &[$(DecodeError::$name,)*];
            /// How many there are.
            pub const COUNT: usize = DecodeError::ALL.len();

            /// The error in words, for a log.
            pub fn words(self) -> &'static str {
                match self { $(DecodeError::$name => $words,)* }
            }

            /// The error as metrics and `info` name it.
            pub fn as_str(self) -> &'static str {
                match self { $(DecodeError::$name => $text,)* }
            }
        }
    };
}

decode_errors! {
    /// No bytes.
    Empty = "empty": "no bytes",
    /// The datagram is longer than the receive buffer.
    DatagramTruncated = "datagram_truncated": "a datagram longer than any may be",
    /// An unknown type byte.
    UnknownType = "unknown_type": "a message of unknown type",
    /// A known type where it must not be: a push/pull in a datagram, a checksum inside a compound.
    MisplacedType = "misplaced_type": "a message where it must not be",
    /// A body ends early.
    Truncated = "truncated": "a message that ends early",
    /// A body is not the msgpack it should be.
    BadMsgpack = "bad_msgpack": "a message that is not the msgpack it should be",
    /// A number does not fit its field.
    FieldOverflow = "field_overflow": "a number that does not fit its field",
    /// A name is not UTF-8.
    BadUtf8 = "bad_utf8": "a name that is not UTF-8",
    /// A name is empty or too long.
    BadName = "bad_name": "a name that is empty or too long",
    /// Meta above 512 bytes.
    MetaTooLong = "meta_too_long": "tags of more than 512 bytes",
    /// An address of neither 4 nor 16 bytes.
    BadAddress = "bad_address": "an address of neither 4 nor 16 bytes",
    /// A range of protocol versions that is empty or begins at 0, or more than six versions.
    BadVersions = "bad_versions": "protocol versions that make no sense",
    /// An unknown member state.
    BadState = "bad_state": "an unknown member state",
    /// A label is expected and none came.
    LabelMissing = "label_missing": "no label, and one is configured",
    /// Another label than ours.
    LabelMismatch = "label_mismatch": "another label than the configured one",
    /// A label of length zero, or cut.
    LabelMalformed = "label_malformed": "a malformed label",
    /// A sealed stream is expected and this one is plain.
    NotEncrypted = "not_encrypted": "plain, and encryption is configured",
    /// The stream is sealed and this node has no key.
    Encrypted = "encrypted": "encrypted, and encryption is not configured",
    /// An encryption envelope of an unknown version.
    BadEnvelopeVersion = "bad_envelope_version": "an encryption of unknown version",
    /// Too short to be an envelope.
    EnvelopeTooShort = "envelope_too_short": "too short to be encrypted",
    /// No key opens it.
    WrongKey = "wrong_key": "no installed key decrypts it",
    /// The padding of a version 0 envelope is wrong.
    BadPadding = "bad_padding": "wrong padding after decryption",
    /// The checksum does not match.
    BadChecksum = "bad_checksum": "a wrong checksum",
    /// A compression algorithm other than LZW.
    UnknownCompression = "unknown_compression": "an unknown compression",
    /// Not an LZW stream, or one without an end.
    BadCompression = "bad_compression": "a compression that can not be undone",
    /// More than the cap after decompression.
    DecompressedTooLarge = "decompressed_too_large": "too large when decompressed",
    /// A compound part of length zero (it crashes Serf 0.9.4).
    EmptyPart = "empty_part": "an empty part of a compound",
    /// Compounds or compressions inside each other, too deep.
    NestedTooDeep = "nested_too_deep": "compounds nested too deeply",
    /// More messages in one datagram than any implementation sends.
    TooManyMessages = "too_many_messages": "too many messages in one datagram",
    /// An unknown serf type byte.
    UnknownSerfType = "unknown_serf_type": "a message of a type unknown to Serf",
    /// A query filter of length zero (it crashes every Serf).
    EmptyFilter = "empty_filter": "an empty query filter",
    /// More filters than fit a query honestly, or more names in one.
    TooManyFilters = "too_many_filters": "too many query filters",
    /// More user events of one Lamport time than could be sent at a moment.
    TooManyEvents = "too_many_events": "too many user events of one Lamport time",
    /// More keys than fit a response honestly.
    TooManyKeys = "too_many_keys": "too many keys",
    /// Tags that are not what meta should hold.
    BadTags = "bad_tags": "tags that can not be decoded",
    /// A coordinate of another version or dimension, or with a number that is none.
    BadCoordinate = "bad_coordinate": "a network coordinate that makes no sense",
    /// A frame above its cap.
    StreamTooLarge = "stream_too_large": "a state larger than any may be",
    /// A stream that ended in the middle of a message.
    StreamCut = "stream_cut": "EOF, the stream ended within a message",
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for DecodeError {}
