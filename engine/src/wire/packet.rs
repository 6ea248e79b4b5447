//! The content of a packet's envelope (PROTOCOL section 2). Inbound: decompress, split. Outbound: join, compress.

use std::ops::Range;

use zerocopy::byteorder::{BigEndian, U16};
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::decode_error::DecodeError;
use crate::wire::envelope::Envelope;
use crate::wire::keyring::NONCE_BYTES;
use crate::wire::layer::{Layer, Step};
use crate::wire::limits::{
    COMPOUND_PARTS_MAX, DATAGRAM_DECOMPRESSED_BYTES_MAX, DATAGRAM_MESSAGES_MAX, NESTING_MAX,
    UDP_PACKET_BYTES_MAX,
};
use crate::wire::lzw;
use crate::wire::message::{COMPOUND, COMPRESS, Message};
use crate::wire::msgpack::{Reader, write_map, write_raw, write_raw_header};

/// Compressing a full packet costs 10 µs, three times as much as all else in sending it, and a Go peer needs as
/// long to decompress it, while the cost of a packet hardly depends on its size. So only what would travel in
/// several pieces is compressed. Peers take both.
const COMPRESS_BYTES_MIN: usize = UDP_PACKET_BYTES_MAX + 1;

/// What a compound takes besides its messages, and what each of them takes.
const COMPOUND_BYTES: usize = 2;
const PART_BYTES: usize = 2;

/// Buffers for decompression, one per nesting level in use; kept for the next packet. All of them together
/// never hold more than [`NESTING_MAX`] times [`DATAGRAM_DECOMPRESSED_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Scratch {
    buffers: Vec<Vec<u8>>,
}

/// Calls `visit` with every message of an opened packet, or with why a part of it is refused. Whole parts
/// of a compound that is cut are visited.
pub fn for_each_message(
    plain: &[u8],
    scratch: &mut Scratch,
    visit: &mut dyn FnMut(Result<Message<'_>, DecodeError>),
) {
    for_each_step(plain, scratch, |step| {
        if let Step::Message(_, message) = step {
            visit(message);
        }
    });
}

/// Like [`for_each_message`], and reports what the messages are wrapped in.
pub fn for_each_step(plain: &[u8], scratch: &mut Scratch, visit: impl FnMut(Step<'_>)) {
    let mut walk = Walk {
        scratch,
        bytes_left: DATAGRAM_DECOMPRESSED_BYTES_MAX,
        messages_left: DATAGRAM_MESSAGES_MAX,
        visit,
    };
    walk.walk(plain, NESTING_MAX);
}

/// A walk through one opened packet, with what it may still cost.
struct Walk<'s, F> {
    scratch: &'s mut Scratch,
    bytes_left: usize,
    messages_left: usize,
    visit: F,
}

impl<F: FnMut(Step<'_>)> Walk<'_, F> {
    fn walk(&mut self, bytes: &[u8], depth: u32) {
        if !matches!(bytes.first(), Some(&COMPOUND | &COMPRESS)) {
            let message = match Message::decode(bytes) {
                Ok(Message::Err(_)) => Err(DecodeError::MisplacedType),
                message => message,
            };
            return self.visit(bytes, message);
        }
        match depth.checked_sub(1) {
            None => self.visit(bytes, Err(DecodeError::NestedTooDeep)),
            Some(depth) if bytes[0] == COMPRESS => self.walk_compressed(bytes, depth),
            Some(depth) => self.walk_compound(bytes, depth),
        }
    }

    fn walk_compressed(&mut self, bytes: &[u8], depth: u32) {
        let mut buffer = self.scratch.buffers.pop().unwrap_or_default();
        buffer.clear();
        let result = decode_compress(&bytes[1..], self.bytes_left, &mut buffer);
        // What came out of a refused stream was work too.
        self.bytes_left = self.bytes_left.saturating_sub(buffer.len());
        match result {
            Ok(stream_bytes) => {
                let plain_bytes = buffer.len();
                (self.visit)(Step::Enter(Layer::Compressed { stream_bytes, plain_bytes }));
                self.walk(&buffer, depth);
                (self.visit)(Step::Leave);
            }
            Err(reason) => self.visit(bytes, Err(reason)),
        }
        self.scratch.buffers.push(buffer);
    }

    fn walk_compound(&mut self, bytes: &[u8], depth: u32) {
        let Some((lengths, mut bodies)) = split_compound(bytes) else {
            return self.visit(bytes, Err(DecodeError::Truncated));
        };
        (self.visit)(Step::Enter(Layer::Compound(lengths)));
        for length in lengths {
            if self.messages_left == 0 {
                break;
            }
            let Some((body, rest)) = bodies.split_at_checked(usize::from(length.get())) else {
                self.visit(bodies, Err(DecodeError::Truncated));
                break;
            };
            bodies = rest;
            if body.is_empty() {
                self.visit(body, Err(DecodeError::EmptyPart));
            } else {
                self.walk(body, depth);
            }
        }
        (self.visit)(Step::Leave);
    }

    /// Reports a message; instead of the last one that is allowed, that there are too many.
    fn visit(&mut self, bytes: &[u8], message: Result<Message<'_>, DecodeError>) {
        self.messages_left = self.messages_left.saturating_sub(1);
        let message = if self.messages_left == 0 { Err(DecodeError::TooManyMessages) } else { message };
        (self.visit)(Step::Message(bytes, message));
    }
}

fn split_compound(bytes: &[u8]) -> Option<(&[U16<BigEndian>], &[u8])> {
    let count = usize::from(*bytes.get(1)?);
    <[U16<BigEndian>]>::ref_from_prefix_with_elems(&bytes[2..], count).ok()
}

/// Decodes the body of a compress message and appends what it holds. Returns the bytes of the LZW stream.
pub(super) fn decode_compress(
    body: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<usize, DecodeError> {
    let (mut algorithm, mut stream) = (0, None);
    Reader::new(body).fields(&["Algo", "Buf"], |r, field| {
        match field {
            0 => algorithm = r.int()?,
            _ => stream = Some(r.bytes()?),
        }
        Ok(())
    })?;
    if algorithm != 0 {
        return Err(DecodeError::UnknownCompression);
    }
    let stream = stream.ok_or(DecodeError::BadCompression)?;
    lzw::decompress(&stream, bytes_max, out)?;
    if out.is_empty() { Err(DecodeError::Empty) } else { Ok(stream.len()) }
}

/// Appends a compress message.
pub(crate) fn encode_compress(raw: &[u8], out: &mut Vec<u8>) {
    out.push(COMPRESS);
    write_map(out, 2);
    write_raw(out, b"Algo");
    out.push(0);
    write_raw(out, b"Buf");
    // The stream's length goes before it and is known only now: the header is rotated into its place.
    let start = out.len();
    lzw::compress(raw, out);
    let stream_bytes = out.len() - start;
    write_raw_header(out, stream_bytes);
    let header_bytes = out.len() - start - stream_bytes;
    out[start..].rotate_right(header_bytes);
}

/// Puts messages together to one packet. Keeps its buffers.
#[derive(Debug, Default)]
pub struct Assembler {
    parts: Vec<u8>,
    lengths: Vec<U16<BigEndian>>,
    budget: usize,
    packed: Vec<u8>,
}

impl Assembler {
    /// Starts a packet of at most `budget` bytes, label and seal not counted.
    pub fn begin(&mut self, budget: usize) {
        self.parts.clear();
        self.lengths.clear();
        self.budget = budget;
    }

    /// Appends one message, as `encode` writes it.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.parts.len();
        encode(&mut self.parts);
        let length = u16::try_from(self.parts.len() - start).expect("one message is far below 64 KiB");
        self.lengths.push(length.into());
    }

    /// Bytes the next message may have: each costs two more in the compound, which itself costs two.
    pub fn remaining(&self) -> usize {
        if self.lengths.len() >= COMPOUND_PARTS_MAX {
            return 0;
        }
        let used = COMPOUND_BYTES + self.parts.len() + PART_BYTES * (self.lengths.len() + 1);
        self.budget.min(UDP_PACKET_BYTES_MAX).saturating_sub(used)
    }

    /// The longest message that a packet of at most `budget` bytes carries.
    pub(crate) fn message_bytes_max(budget: usize) -> usize {
        budget.min(UDP_PACKET_BYTES_MAX).saturating_sub(COMPOUND_BYTES + PART_BYTES)
    }

    /// Whether no message was pushed.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Messages pushed.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Ends the packet and appends it to `out`; returns its place there. The nonce is used only if the
    /// envelope seals.
    pub fn finish(
        &mut self,
        out: &mut Vec<u8>,
        envelope: &Envelope,
        crc: bool,
        nonce: [u8; NONCE_BYTES],
    ) -> Range<usize> {
        assert!(!self.is_empty(), "an empty packet is not sent");
        let packet_start = out.len();
        envelope.seal_packet(out, crc, nonce, |out| self.write(out, envelope.compress));
        packet_start..out.len()
    }

    /// Appends the messages, as one compound if they are several.
    fn write(&mut self, out: &mut Vec<u8>, compress: bool) {
        let start = out.len();
        if self.lengths.len() > 1 {
            out.push(COMPOUND);
            out.push(u8::try_from(self.lengths.len()).expect("remaining() stops at 255 parts"));
            out.extend_from_slice(self.lengths.as_bytes());
        }
        out.extend_from_slice(&self.parts);
        if compress && out.len() - start >= COMPRESS_BYTES_MIN {
            self.packed.clear();
            encode_compress(&out[start..], &mut self.packed);
            if self.packed.len() < out.len() - start {
                out.truncate(start);
                out.extend_from_slice(&self.packed);
            }
        }
    }
}
