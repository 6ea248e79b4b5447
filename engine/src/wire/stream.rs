//! Streams (PROTOCOL section 4): one request and at most one answer per connection. Outbound: compress,
//! encrypt, label. Inbound: label, decrypt, decompress, decode. Bytes may arrive cut anywhere.

use zerocopy::byteorder::{BigEndian, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::drop::DropReason;
use crate::wire::keyring::NONCE_BYTES;
use crate::wire::limits::{
    PUSH_PULL_NODES_MAX, STREAM_DECOMPRESSED_BYTES_MAX, STREAM_FRAME_BYTES_MAX, STREAM_PLAIN_BYTES_MAX,
    USER_STATE_BYTES_MAX,
};
use crate::wire::message::{
    ACK, COMPRESS, ENCRYPT, ERR, HAS_LABEL, Message, NodeState, PING, PUSH_PULL, SeqNo, USER,
};
use crate::wire::msgpack::{Reader, write_bool, write_map, write_raw, write_uint};
use crate::wire::packet::{Envelope, decode_compress, encode_compress};

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
        /// For whom.
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
}

/// A whole, validated push/pull.
#[derive(Clone, Debug)]
pub struct PushPullFrame {
    bytes: Vec<u8>,
    /// Whether the stream was opened in order to join.
    pub join: bool,
    /// How many member records there are.
    pub nodes_count: u32,
    nodes_start: usize,
    user_start: usize,
}

impl PushPullFrame {
    /// The member record at `offset`, which it moves on; 0 is the first. None after the last.
    pub fn next_node(&self, offset: &mut usize) -> Option<NodeState<'_>> {
        let records = &self.bytes[self.nodes_start..self.user_start];
        let mut reader = Reader::new(records.get(*offset..).filter(|rest| !rest.is_empty())?);
        let node = NodeState::decode(&mut reader).expect("the frame was validated when it was decoded");
        *offset += reader.position();
        Some(node)
    }

    /// Serf's part, its type byte first; may be empty.
    pub fn user_state(&self) -> &[u8] {
        &self.bytes[self.user_start..]
    }

    /// Bytes the frame holds in memory.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing (it never does: there is a header at least).
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrameHeader {
    kind: u8,
    length: U32<BigEndian>,
}

/// Appends the header of a push/pull, type byte first. The records and the user state follow.
pub fn encode_push_pull_header(nodes: usize, user_bytes: usize, join: bool, out: &mut Vec<u8>) {
    out.push(PUSH_PULL);
    write_map(out, 3);
    write_raw(out, b"Join");
    write_bool(out, join);
    write_raw(out, b"Nodes");
    write_uint(out, nodes as u64);
    write_raw(out, b"UserStateLen");
    write_uint(out, user_bytes as u64);
}

/// Wraps one message (type byte first) for a stream and appends it.
pub fn encode_stream(
    raw: &[u8],
    envelope: &Envelope,
    role: Role,
    nonce: [u8; NONCE_BYTES],
    out: &mut Vec<u8>,
) {
    if role == Role::Dialler {
        envelope.write_label(out);
    }
    let start = out.len();
    if envelope.seals() {
        out.extend_from_slice(FrameHeader { kind: ENCRYPT, length: 0.into() }.as_bytes());
    }
    let body = out.len();
    if envelope.compress {
        encode_compress(raw, out)
    } else {
        out.extend_from_slice(raw)
    }
    if envelope.seals() {
        let plain = out.len() - body;
        let padding = if envelope.version == 0 { 16 - plain % 16 } else { 0 };
        let sealed = plain + padding + crate::wire::keyring::OVERHEAD_BYTES;
        let length = u32::try_from(sealed).expect("a state is far below 4 GiB");
        out[start + 1..body].copy_from_slice(&length.to_be_bytes());
        let mut aad = out[start..body].to_vec();
        aad.extend_from_slice(&envelope.label);
        envelope.keyring.seal(envelope.version, nonce, &aad, out, body);
    }
}

/// The error text that Serf 0.9.4 sends back for a stream it refuses so (PROTOCOL 4.4); None where it just
/// closes.
pub fn refusal_text(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::Encrypted => Some("Remote state is encrypted and encryption is not configured"),
        DropReason::NotEncrypted => Some("Encryption is configured but remote state is not encrypted"),
        DropReason::WrongKey | DropReason::BadEnvelopeVersion | DropReason::EnvelopeTooShort => {
            Some("No installed keys could decrypt the message")
        }
        DropReason::StreamTooLarge => Some("Remote node state is larger than limit"),
        DropReason::UnknownCompression => Some("Cannot decompress unknown algorithm"),
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
    /// Bytes to collect before the next look: twice what the last look was too short with.
    look_at: usize,
    progress: Progress,
}

/// How far a plain push/pull has been looked through, so that no byte is parsed twice for nothing.
#[derive(Copy, Clone, Debug, Default)]
struct Progress {
    /// Bytes known to be whole records, header included; 0: the header is not whole yet.
    checked: usize,
    nodes_start: usize,
    nodes_left: u64,
    nodes_count: u32,
    user_bytes: u64,
    join: bool,
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
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if self.buffer.len() + bytes.len() > STREAM_PLAIN_BYTES_MAX + FEED_SLACK_BYTES {
            return Err(DropReason::StreamTooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes collected.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The message once it is whole; None while bytes are missing, and after it was given out.
    ///
    /// # Errors
    /// Why the stream is refused.
    pub fn poll(&mut self, envelope: &Envelope) -> Result<Option<StreamMessage>, DropReason> {
        if self.done {
            return Ok(None);
        }
        let result = self.look(envelope);
        self.done = !matches!(result, Ok(None));
        result
    }

    fn look(&mut self, envelope: &Envelope) -> Result<Option<StreamMessage>, DropReason> {
        if !self.labelled {
            if !self.strip_label(envelope)? {
                return Ok(None);
            }
            self.labelled = true;
        }
        let Some(&kind) = self.buffer.first() else {
            return Ok(None);
        };
        if kind == ENCRYPT {
            return self.poll_encrypted(envelope);
        }
        if !envelope.keyring.is_empty() && envelope.verify_incoming {
            return Err(DropReason::NotEncrypted);
        }
        if kind == PUSH_PULL {
            return self.poll_push_pull();
        }
        self.poll_plain(kind)
    }

    /// Anything but a push/pull is parsed from its start at each look, so looks are spaced: small messages
    /// at every byte, and none but compressed and user messages may be big.
    fn poll_plain(&mut self, kind: u8) -> Result<Option<StreamMessage>, DropReason> {
        let big = matches!(kind, COMPRESS | USER);
        if big && self.buffer.len() > LOOK_EVERY_BYTE_MAX && self.buffer.len() < self.look_at {
            let tail = whole_raw_message(&self.buffer);
            if tail.is_none_or(|needed| self.buffer.len() < needed) {
                return Ok(None);
            }
        }
        match decode_plain(&self.buffer) {
            Err(DropReason::Truncated) if !big && self.buffer.len() > SMALL_MESSAGE_BYTES_MAX => {
                Err(DropReason::StreamTooLarge)
            }
            Err(DropReason::Truncated) => {
                self.look_at = self.buffer.len() * 2;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn strip_label(&mut self, envelope: &Envelope) -> Result<bool, DropReason> {
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
            let rest = envelope.strip_label(&mut self.buffer)?.len();
            self.buffer.drain(..self.buffer.len() - rest);
        }
        Ok(whole)
    }

    fn poll_encrypted(&mut self, envelope: &Envelope) -> Result<Option<StreamMessage>, DropReason> {
        if envelope.keyring.is_empty() {
            return Err(DropReason::Encrypted);
        }
        let Ok((header, _)) = FrameHeader::ref_from_prefix(&self.buffer) else {
            return Ok(None);
        };
        let length = header.length.get() as usize;
        if length > STREAM_FRAME_BYTES_MAX {
            return Err(DropReason::StreamTooLarge);
        }
        let header_bytes = size_of::<FrameHeader>();
        if self.buffer.len() < header_bytes + length {
            return Ok(None);
        }
        let mut aad = self.buffer[..header_bytes].to_vec();
        aad.extend_from_slice(&envelope.label);
        let sealed = &mut self.buffer[header_bytes..header_bytes + length];
        let plain = envelope.keyring.open(&aad, sealed)?;
        decode_whole(plain).map(Some)
    }

    fn poll_push_pull(&mut self) -> Result<Option<StreamMessage>, DropReason> {
        match self.progress.advance(&self.buffer) {
            Err(DropReason::Truncated) if self.progress.stuck(&self.buffer) => {
                Err(DropReason::StreamTooLarge)
            }
            Err(DropReason::Truncated) => Ok(None),
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
const SMALL_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Below this a look costs less than keeping account.
const LOOK_EVERY_BYTE_MAX: usize = 64 * 1024;

/// What one read may add beyond the cap before the next look at the limit.
const FEED_SLACK_BYTES: usize = 1024;

impl Progress {
    /// Looks on through the bytes of a push/pull, type byte first.
    fn advance(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        if self.checked == 0 {
            self.read_header(bytes)?;
        }
        while self.nodes_left > 0 {
            let mut reader = Reader::new(&bytes[self.checked..]);
            NodeState::decode(&mut reader)?;
            self.checked += reader.position();
            self.nodes_left -= 1;
        }
        if ((bytes.len() - self.checked) as u64) < self.user_bytes {
            return Err(DropReason::Truncated);
        }
        Ok(())
    }

    /// Whether the header or one record is longer than any may be.
    fn stuck(&self, bytes: &[u8]) -> bool {
        let parsing = self.checked == 0 || self.nodes_left > 0;
        parsing && bytes.len() - self.checked > SMALL_MESSAGE_BYTES_MAX
    }

    fn read_header(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        let mut reader = Reader::new(bytes.get(1..).ok_or(DropReason::Truncated)?);
        let (mut nodes, mut user, mut join) = (0, 0, false);
        reader.fields(&["Nodes", "UserStateLen", "Join"], |r, field| {
            match field {
                0 => nodes = r.u64()?,
                1 => user = r.u64()?,
                _ => join = r.bool()?,
            }
            Ok(())
        })?;
        if nodes > PUSH_PULL_NODES_MAX || user > USER_STATE_BYTES_MAX {
            return Err(DropReason::StreamTooLarge);
        }
        self.checked = 1 + reader.position();
        self.nodes_start = self.checked;
        self.nodes_left = nodes;
        self.nodes_count = nodes as u32;
        self.user_bytes = user;
        self.join = join;
        Ok(())
    }

    fn frame(&self, mut bytes: Vec<u8>) -> PushPullFrame {
        bytes.truncate(self.checked + self.user_bytes as usize);
        PushPullFrame {
            bytes,
            join: self.join,
            nodes_count: self.nodes_count,
            nodes_start: self.nodes_start,
            user_start: self.checked,
        }
    }
}

/// Decodes a message that is all there: nothing that is missing can still come.
fn decode_whole(bytes: &[u8]) -> Result<StreamMessage, DropReason> {
    match bytes.first() {
        None => Err(DropReason::Empty),
        Some(&PUSH_PULL) => {
            let mut progress = Progress::default();
            progress.advance(bytes)?;
            Ok(StreamMessage::PushPull(progress.frame(bytes.to_vec())))
        }
        Some(_) => decode_plain(bytes),
    }
}

/// Decodes anything but a bare push/pull; `Truncated` if more bytes could make it whole.
fn decode_plain(bytes: &[u8]) -> Result<StreamMessage, DropReason> {
    match bytes.first() {
        None => Err(DropReason::Truncated),
        Some(&COMPRESS) => {
            let mut raw = Vec::new();
            decode_compress(&bytes[1..], STREAM_DECOMPRESSED_BYTES_MAX, &mut raw)?;
            match raw[0] {
                COMPRESS => Err(DropReason::NestedTooDeep),
                _ => decode_whole(&raw).map_err(|reason| match reason {
                    DropReason::Truncated => DropReason::StreamCut,
                    reason => reason,
                }),
            }
        }
        Some(&USER) => decode_user(&bytes[1..]),
        Some(&(PING | ACK | ERR)) => Ok(match Message::decode(bytes)? {
            Message::Ping(ping) => StreamMessage::Ping { seq: ping.seq, node: ping.node.to_owned() },
            Message::Ack(ack) => StreamMessage::Ack { seq: ack.seq },
            Message::Err(message) => StreamMessage::Err(message.error.to_owned()),
            _ => return Err(DropReason::MisplacedType),
        }),
        Some(_) => Err(DropReason::MisplacedType),
    }
}

/// The length that the message's one big value announces, if its marker can be read: compress and user
/// messages hold it last, so that once it is there the message is.
fn whole_raw_message(bytes: &[u8]) -> Option<usize> {
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

fn decode_user(body: &[u8]) -> Result<StreamMessage, DropReason> {
    let mut reader = Reader::new(body);
    let mut length = 0;
    reader.fields(&["UserMsgLen"], |r, _| {
        length = r.u64()?;
        Ok(())
    })?;
    if length > USER_STATE_BYTES_MAX {
        return Err(DropReason::StreamTooLarge);
    }
    reader.take(length as usize).map(|message| StreamMessage::User(message.to_vec()))
}
