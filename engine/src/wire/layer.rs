//! What a payload is wrapped in, reported while it is decoded. A node needs only the messages; `thane decode`,
//! which explains bytes to a person, uses the same decoder and prints the wrappings.

use zerocopy::byteorder::{BigEndian, U16};

use crate::wire::decode_error::DecodeError;
use crate::wire::message::Message;

/// What the decoder found, in the order of the bytes.
#[derive(Debug)]
pub enum Step<'a> {
    /// A wrapping. All up to its [`Leave`](Step::Leave) lay inside of it. What opening finds (label, seal,
    /// checksum) and the wrappings of streams hold all the rest and have none.
    Enter(Layer<'a>),
    /// The end of the innermost wrapping.
    Leave,
    /// The bytes of a message with what they say, or why they are refused.
    Message(&'a [u8], Result<Message<'a>, DecodeError>),
}

/// A wrapping. Reported once it is removed; a label is reported before it is compared.
#[derive(Debug)]
pub enum Layer<'a> {
    /// The cluster's label.
    Label(&'a [u8]),
    /// Encryption.
    Sealed {
        /// Version of the envelope.
        version: u8,
        /// What the sender drew for it.
        nonce: &'a [u8],
        /// The place of the key that opened it in the keyring; 0 is the primary one.
        key: usize,
        /// Bytes of the envelope: version, nonce, ciphertext, padding, tag.
        sealed_bytes: usize,
        /// Bytes inside.
        plain_bytes: usize,
    },
    /// A checksum, which matches.
    Checksum(u32),
    /// Compression.
    Compressed {
        /// Bytes of the LZW stream.
        stream_bytes: usize,
        /// Bytes inside.
        plain_bytes: usize,
    },
    /// Several messages, with the length of each. Every length has one message or wrapping, in order; where
    /// the bodies are cut, the first that is not whole is a refused message and the rest is not reported.
    Compound(&'a [U16<BigEndian>]),
}
