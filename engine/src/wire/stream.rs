//! Streams (PROTOCOL section 4): one request and at most one answer per connection. Outbound: compress,
//! encrypt, label. Inbound: label, decrypt, decompress, decode. Bytes may arrive cut anywhere.

use std::borrow::Cow;

use crate::wire::decode_error::DecodeError;
use crate::wire::envelope::Envelope;
use crate::wire::keyring::NONCE_BYTES;
use crate::wire::layer::{Layer, Step};
use crate::wire::limits::{
    RECONCILE_STREAM_BYTES_MAX, STREAM_DECOMPRESSED_BYTES_MAX, STREAM_PLAIN_BYTES_MAX, USER_STATE_BYTES_MAX,
};
use crate::wire::message::{
    ACK, COMPRESS, ENCRYPT, ERR, HAS_LABEL, Message, PING, PUSH_PULL, RECONCILE, SeqNo, USER,
};
use crate::wire::msgpack::Reader;
use crate::wire::packet::{decode_compress, encode_compress};
use crate::wire::push_pull::Progress;

pub use crate::wire::push_pull::{PushPullFrame, encode_push_pull_header};

/// Which side of the stream this node is. Only the dialler's bytes are labelled.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opened the stream.
    Dialler,
    /// It accepted the stream.
    Listener,
}

/// One message from a stream.
#[derive(Clone, Debug)]
pub enum StreamMessage {
    /// A ping; carries the node name it is for.
    Ping {
        /// Its sequence number.
        seq: SeqNo,
        /// The name of the node that it is for.
        node: String,
    },
    /// The answer to a ping.
    Ack {
        /// The ping's sequence number.
        seq: SeqNo,
    },
    /// Full state.
    PushPull(PushPullFrame),
    /// A serf message.
    User(Vec<u8>),
    /// The other side refused.
    Err(String),
    /// A step of a reconciliation, its type byte taken off. More may follow on the same stream.
    Reconcile(Vec<u8>),
}

/// Wraps one message (type byte first) for a stream and appends it. The nonce must be used once only.
pub fn encode_stream(
    raw: &[u8],
    envelope: &Envelope,
    role: Role,
    nonce: [u8; NONCE_BYTES],
    out: &mut Vec<u8>,
) {
    envelope.seal_stream(out, role == Role::Dialler, nonce, |out| {
        if envelope.compress { encode_compress(raw, out) } else { out.extend_from_slice(raw) }
    });
}

/// Whether [`encode_stream`] does anything but copy.
pub(crate) fn wraps(envelope: &Envelope, role: Role) -> bool {
    envelope.compress || envelope.seals() || role == Role::Dialler && !envelope.label.is_empty()
}

/// The error text that Serf 0.9.4 sends back for a stream it refuses so (PROTOCOL 4.4); None where it just
/// closes.
pub fn refusal_text(reason: DecodeError) -> Option<&'static str> {
    match reason {
        DecodeError::Encrypted => Some("Remote state is encrypted and encryption is not configured"),
        DecodeError::NotEncrypted => Some("Encryption is configured but remote state is not encrypted"),
        DecodeError::WrongKey | DecodeError::BadEnvelopeVersion | DecodeError::EnvelopeTooShort => {
            Some("No installed keys could decrypt the message")
        }
        DecodeError::StreamTooLarge => Some("Remote node state is larger than limit"),
        DecodeError::UnknownCompression => Some("Cannot decompress unknown algorithm"),
        _ => None,
    }
}

/// Collects the bytes of one side of a stream until the message is whole.
#[derive(Debug)]
pub struct StreamDecoder {
    role: Role,
    buffer: Vec<u8>,
    labelled: bool,
    /// The message was given out or refused; nothing may follow it.
    done: bool,
    /// Bytes to collect before the next attempt to parse: twice as many as the last attempt had.
    look_at: usize,
    progress: Progress,
}

impl StreamDecoder {
    /// Decodes what the other side sends to this node, which has that role.
    pub fn new(role: Role) -> StreamDecoder {
        StreamDecoder {
            role,
            buffer: Vec::new(),
            labelled: false,
            done: false,
            look_at: 0,
            progress: Progress::default(),
        }
    }

    /// Takes bytes, cut anywhere.
    ///
    /// # Errors
    /// `StreamTooLarge` if more is collected than any message may have.
    pub fn feed<'b>(&mut self, bytes: impl Into<Cow<'b, [u8]>>) -> Result<(), DecodeError> {
        let bytes = bytes.into();
        if self.buffer.len() + bytes.len() > STREAM_PLAIN_BYTES_MAX + FEED_SLACK_BYTES {
            return Err(DecodeError::StreamTooLarge);
        }
        match bytes {
            Cow::Owned(bytes) if self.buffer.is_empty() => self.buffer = bytes,
            bytes => self.buffer.extend_from_slice(&bytes),
        }
        Ok(())
    }

    /// Forgets the message that was given out, a step of a reconciliation: the next one may come.
    pub fn go_on(&mut self) {
        self.buffer = Vec::new();
        (self.done, self.look_at) = (false, 0);
    }

    /// Bytes collected.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The message once it is whole; None while bytes are missing, and after it was given out.
    ///
    /// # Errors
    /// Why the stream is refused.
    pub fn poll(&mut self, envelope: &Envelope) -> Result<Option<StreamMessage>, DecodeError> {
        self.poll_traced(envelope, |_| {})
    }

    /// Like [`poll`](Self::poll), and reports to `trace` what the message is wrapped in, each wrapping once; of
    /// pings, acks and errors also all their fields.
    ///
    /// # Errors
    /// Why the stream is refused.
    pub fn poll_traced(
        &mut self,
        envelope: &Envelope,
        mut trace: impl FnMut(Step<'_>),
    ) -> Result<Option<StreamMessage>, DecodeError> {
        if self.done {
            return Ok(None);
        }
        let result = self.look(envelope, &mut trace);
        self.done = !matches!(result, Ok(None));
        result
    }

    fn look(
        &mut self,
        envelope: &Envelope,
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<Option<StreamMessage>, DecodeError> {
        if !self.labelled {
            if !self.strip_label(envelope, trace)? {
                return Ok(None);
            }
            self.labelled = true;
        }
        let Some(&kind) = self.buffer.first() else {
            return Ok(None);
        };
        if kind == ENCRYPT {
            return self.poll_encrypted(envelope, trace);
        }
        if !envelope.keyring.is_empty() && envelope.verify_incoming {
            return Err(DecodeError::NotEncrypted);
        }
        if kind == PUSH_PULL {
            return self.poll_push_pull();
        }
        self.poll_plain(kind, trace)
    }

    /// Anything but a push/pull is parsed from its start at each attempt, so attempts are spaced: for small
    /// messages they are made at every byte, and only compressed and user messages may be big.
    fn poll_plain(
        &mut self,
        kind: u8,
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<Option<StreamMessage>, DecodeError> {
        let big = matches!(kind, COMPRESS | USER | RECONCILE);
        if big && self.buffer.len() > LOOK_EVERY_BYTE_MAX && self.buffer.len() < self.look_at {
            let tail = whole_raw_message(&self.buffer);
            if tail.is_none_or(|needed| self.buffer.len() < needed) {
                return Ok(None);
            }
        }
        match decode_plain(&self.buffer, trace) {
            Err(DecodeError::Truncated) if !big && self.buffer.len() > SMALL_MESSAGE_BYTES_MAX => {
                Err(DecodeError::StreamTooLarge)
            }
            Err(DecodeError::Truncated) => {
                self.look_at = self.buffer.len() * 2;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn strip_label(
        &mut self,
        envelope: &Envelope,
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<bool, DecodeError> {
        if self.role == Role::Dialler {
            // The listener's answer has no label (PROTOCOL 4.1).
            return Ok(true);
        }
        let whole = match self.buffer.as_slice() {
            [] => false,
            [HAS_LABEL] => false,
            [HAS_LABEL, len, rest @ ..] => rest.len() >= usize::from(*len),
            _ => true,
        };
        if whole {
            let rest = envelope.strip_label(&mut self.buffer, trace)?.len();
            self.buffer.drain(..self.buffer.len() - rest);
        }
        Ok(whole)
    }

    fn poll_encrypted(
        &mut self,
        envelope: &Envelope,
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<Option<StreamMessage>, DecodeError> {
        match envelope.open_frame(&mut self.buffer, trace)? {
            Some(plain) => decode_whole(plain, trace).map(Some),
            None => Ok(None),
        }
    }

    fn poll_push_pull(&mut self) -> Result<Option<StreamMessage>, DecodeError> {
        match self.progress.advance(&self.buffer) {
            Err(DecodeError::Truncated) if self.progress.stuck(&self.buffer) => {
                Err(DecodeError::StreamTooLarge)
            }
            Err(DecodeError::Truncated) => Ok(None),
            Err(reason) => Err(reason),
            Ok(()) => {
                let bytes = std::mem::take(&mut self.buffer);
                Ok(Some(StreamMessage::PushPull(self.progress.frame(bytes))))
            }
        }
    }
}

/// Pings, acks, errors, and a push/pull's header and single records are smaller than this: names of 1 KiB,
/// meta of 512 bytes, and room for fields of a newer version.
pub(super) const SMALL_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Below this an attempt to parse costs less than the decision whether to make it.
const LOOK_EVERY_BYTE_MAX: usize = 64 * 1024;

/// What one read may add beyond the cap before the limit is checked again.
const FEED_SLACK_BYTES: usize = 1024;

/// Decodes a message that is all there: nothing that is missing can still come.
fn decode_whole(bytes: Vec<u8>, trace: &mut impl FnMut(Step<'_>)) -> Result<StreamMessage, DecodeError> {
    match bytes.first() {
        None => Err(DecodeError::Empty),
        Some(&PUSH_PULL) => {
            let mut progress = Progress::default();
            progress.advance(&bytes)?;
            Ok(StreamMessage::PushPull(progress.frame(bytes)))
        }
        Some(&COMPRESS) => decode_compressed(&bytes[1..], trace),
        Some(&RECONCILE) => decode_reconcile(&bytes),
        Some(_) => decode_small(&bytes, trace),
    }
}

/// Decodes anything but a bare push/pull; `Truncated` if more bytes could make it whole.
fn decode_plain(bytes: &[u8], trace: &mut impl FnMut(Step<'_>)) -> Result<StreamMessage, DecodeError> {
    match bytes.first() {
        None => Err(DecodeError::Truncated),
        Some(&COMPRESS) => decode_compressed(&bytes[1..], trace),
        Some(&RECONCILE) => decode_reconcile(bytes),
        Some(_) => decode_small(bytes, trace),
    }
}

/// Decodes a framed step of a reconciliation; nothing may lie behind it before it is answered.
fn decode_reconcile(bytes: &[u8]) -> Result<StreamMessage, DecodeError> {
    let (header, body) = bytes.split_at_checked(RECONCILE_FRAME_BYTES).ok_or(DecodeError::Truncated)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > RECONCILE_STREAM_BYTES_MAX {
        return Err(DecodeError::StreamTooLarge);
    }
    match body.get(..length).ok_or(DecodeError::Truncated)? {
        [RECONCILE, message @ ..] if body.len() == length => Ok(StreamMessage::Reconcile(message.to_vec())),
        _ => Err(DecodeError::MisplacedType),
    }
}

/// Type byte and length before a step of a reconciliation on a stream.
pub const RECONCILE_FRAME_BYTES: usize = 5;

/// Writes the frame before a step of a reconciliation that begins behind [`RECONCILE_FRAME_BYTES`] of room.
pub fn frame_reconcile(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len() - RECONCILE_FRAME_BYTES).expect("a step is far below 4 GiB");
    bytes[0] = RECONCILE;
    bytes[1..RECONCILE_FRAME_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn decode_compressed(body: &[u8], trace: &mut impl FnMut(Step<'_>)) -> Result<StreamMessage, DecodeError> {
    let mut raw = Vec::new();
    let stream_bytes = decode_compress(body, STREAM_DECOMPRESSED_BYTES_MAX, &mut raw)?;
    trace(Step::Enter(Layer::Compressed { stream_bytes, plain_bytes: raw.len() }));
    if raw[0] == COMPRESS {
        return Err(DecodeError::NestedTooDeep);
    }
    decode_whole(raw, trace).map_err(|reason| match reason {
        DecodeError::Truncated => DecodeError::StreamCut,
        reason => reason,
    })
}

fn decode_small(bytes: &[u8], trace: &mut impl FnMut(Step<'_>)) -> Result<StreamMessage, DecodeError> {
    match bytes[0] {
        USER => return decode_user(&bytes[1..]),
        PING | ACK | ERR => {}
        _ => return Err(DecodeError::MisplacedType),
    }
    let message = Message::decode(bytes)?;
    let owned = match &message {
        Message::Ping(ping) => StreamMessage::Ping { seq: ping.seq, node: ping.node.to_owned() },
        Message::Ack(ack) => StreamMessage::Ack { seq: ack.seq },
        Message::Err(message) => StreamMessage::Err(message.error.to_owned()),
        _ => return Err(DecodeError::MisplacedType),
    };
    trace(Step::Message(bytes, Ok(message)));
    Ok(owned)
}

/// The length that the message's one big value announces, if its marker can be read: compress and user messages and
/// steps of a reconciliation hold it last, so that once it is there the message is.
fn whole_raw_message(bytes: &[u8]) -> Option<usize> {
    if bytes[0] == RECONCILE {
        let length = bytes.get(1..RECONCILE_FRAME_BYTES)?.try_into().ok()?;
        return Some(RECONCILE_FRAME_BYTES + u32::from_be_bytes(length) as usize);
    }
    let mut reader = Reader::new(bytes.get(1..)?);
    if bytes[0] == USER {
        let mut length = 0;
        reader
            .fields(&["UserMsgLen"], |r, _| {
                length = r.u64()?;
                Ok(())
            })
            .ok()?;
        return Some(1 + reader.position() + usize::try_from(length).ok()?);
    }
    let pairs = reader.map().ok()?;
    for _ in 0..pairs {
        if reader.raw().ok()? == b"Buf" {
            return Some(1 + reader.position() + reader.raw_announced()?);
        }
        reader.skip().ok()?;
    }
    None
}

fn decode_user(body: &[u8]) -> Result<StreamMessage, DecodeError> {
    let mut reader = Reader::new(body);
    let mut length = 0;
    reader.fields(&["UserMsgLen"], |r, _| {
        length = r.u64()?;
        Ok(())
    })?;
    if length > USER_STATE_BYTES_MAX {
        return Err(DecodeError::StreamTooLarge);
    }
    reader.take(length as usize).map(|message| StreamMessage::User(message.to_vec()))
}
