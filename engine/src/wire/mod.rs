//! Bytes to types and back: every memberlist and serf message, the packet and stream envelopes. Pure
//! functions; no state, no sockets, no clock, no chance.
//!
//! Decoding borrows from the receive buffer and checks every limit before it allocates. Refused bytes are
//! a [`DecodeError`], never a panic.

mod cipher;
pub mod coordinate;
pub mod decode_error;
pub mod envelope;
pub mod extension;
pub mod keyring;
pub mod layer;
pub mod limits;
pub mod lzw;
pub mod message;
pub mod msgpack;
pub mod packet;
pub(crate) mod push_pull;
pub mod reconcile;
pub mod record;
pub mod serf;
pub mod stream;

pub use coordinate::Coordinate;
pub use decode_error::DecodeError;
pub use envelope::Envelope;
pub use extension::Extension;
pub use layer::{Layer, Step};
pub use message::{
    Ack, Alive, Dead, ErrMessage, Incarnation, IndirectPing, Message, Nack, NodeState, Ping, SeqNo, Suspect,
    Versions, WireState, ip_from_bytes, ip_to_bytes,
};
pub use serf::{LamportTime, SerfMessage, decode_tags, encode_tags};
