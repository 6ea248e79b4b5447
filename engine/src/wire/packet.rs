//! The datagram's envelope (PROTOCOL section 2). Inbound: label, unseal, checksum, decompress, split.
//! Outbound: join, compress, checksum, seal, label.

use std::ops::Range;

use zerocopy::byteorder::{BigEndian, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::drop::DropReason;
use crate::wire::keyring::{Keyring, NONCE_BYTES, OVERHEAD_BYTES};
use crate::wire::limits::{
    COMPOUND_PARTS_MAX, DATAGRAM_DECOMPRESSED_BYTES_MAX, NESTING_MAX, UDP_PACKET_BYTES_MAX,
};
use crate::wire::lzw;
use crate::wire::message::{COMPOUND, COMPRESS, HAS_CRC, HAS_LABEL, Message};
use crate::wire::msgpack::{Reader, write_map, write_raw};

/// Compressing costs 5 to 8 µs for a full packet and a packet's price on the wire hardly depends on its
/// size, so only what is long enough to gain is compressed. Peers take both.
const COMPRESS_BYTES_MIN: usize = 600;

/// What a node's packets and streams are wrapped in.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Cluster label; empty for none.
    pub label: Vec<u8>,
    /// Encryption keys; empty for none.
    pub keyring: Keyring,
    /// Compress what gets smaller by it.
    pub compress: bool,
    /// Envelope version to seal with: 1, or 0 towards memberlist protocol 1.
    pub version: u8,
    /// Refuse what no key opens.
    pub verify_incoming: bool,
    /// Seal what is sent.
    pub verify_outgoing: bool,
    /// Labels are taken off before packets arrive here; one that arrives is refused.
    pub skip_inbound_label_check: bool,
}

impl Envelope {
    /// Whether outgoing packets are sealed.
    pub fn seals(&self) -> bool {
        !self.keyring.is_empty() && self.verify_outgoing
    }

    /// Bytes that label and seal take of the packet budget (PROTOCOL 3).
    pub fn overhead(&self) -> usize {
        let label = if self.label.is_empty() { 0 } else { 2 + self.label.len() };
        let seal = match (self.seals(), self.version) {
            (false, _) => 0,
            (true, 0) => OVERHEAD_BYTES + 16,
            (true, _) => OVERHEAD_BYTES,
        };
        label + seal
    }

    /// Takes the label off and compares it.
    pub(super) fn strip_label<'a>(&self, bytes: &'a mut [u8]) -> Result<&'a mut [u8], DropReason> {
        let labelled = bytes.first() == Some(&HAS_LABEL);
        if self.skip_inbound_label_check {
            return if labelled { Err(DropReason::LabelMismatch) } else { Ok(bytes) };
        }
        if !labelled {
            return if self.label.is_empty() { Ok(bytes) } else { Err(DropReason::LabelMissing) };
        }
        let len = usize::from(*bytes.get(1).ok_or(DropReason::LabelMalformed)?);
        if len == 0 || bytes.len() < 2 + len {
            return Err(DropReason::LabelMalformed);
        }
        let (header, rest) = bytes.split_at_mut(2 + len);
        if header[2..] == self.label { Ok(rest) } else { Err(DropReason::LabelMismatch) }
    }

    /// Appends the label header.
    pub(super) fn write_label(&self, out: &mut Vec<u8>) {
        if !self.label.is_empty() {
            out.push(HAS_LABEL);
            out.push(u8::try_from(self.label.len()).expect("the config's label was checked"));
            out.extend_from_slice(&self.label);
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CrcHeader {
    kind: u8,
    crc: U32<BigEndian>,
}

/// Opens a received datagram in place: label, unseal, checksum.
///
/// # Errors
/// Why it is refused.
pub fn open<'a>(envelope: &Envelope, datagram: &'a mut [u8]) -> Result<&'a [u8], DropReason> {
    if datagram.is_empty() {
        return Err(DropReason::Empty);
    }
    let sealed = envelope.strip_label(datagram)?;
    let plain: &[u8] = if envelope.keyring.is_empty() {
        sealed
    } else if envelope.verify_incoming {
        envelope.keyring.open(&envelope.label, sealed)?
    } else {
        // While a cluster moves to encryption, what no key opens is taken as plain.
        let range = envelope.keyring.open(&envelope.label, sealed).ok().map(|plain| plain.len());
        match range {
            Some(len) => &sealed[1 + NONCE_BYTES..][..len],
            None => sealed,
        }
    };
    match CrcHeader::ref_from_prefix(plain) {
        Ok((header, covered)) if header.kind == HAS_CRC => {
            if crc32fast::hash(covered) == header.crc.get() {
                Ok(covered)
            } else {
                Err(DropReason::BadChecksum)
            }
        }
        _ => Ok(plain),
    }
}

/// Buffers for decompression, one per nesting level in use; kept for the next packet.
#[derive(Debug, Default)]
pub struct Scratch {
    buffers: Vec<Vec<u8>>,
}

/// Calls `visit` with every message of an opened packet, or with why a part of it is refused. Whole parts
/// of a compound that is cut are visited.
pub fn for_each_message(
    plain: &[u8],
    scratch: &mut Scratch,
    visit: &mut dyn FnMut(Result<Message<'_>, DropReason>),
) {
    walk(plain, scratch, NESTING_MAX, visit);
}

fn walk(
    bytes: &[u8],
    scratch: &mut Scratch,
    depth: u32,
    visit: &mut dyn FnMut(Result<Message<'_>, DropReason>),
) {
    let nested = matches!(bytes.first(), Some(&COMPOUND | &COMPRESS));
    if !nested {
        return visit(match Message::decode(bytes) {
            Ok(Message::Err(_)) => Err(DropReason::MisplacedType),
            message => message,
        });
    }
    let Some(depth) = depth.checked_sub(1) else {
        return visit(Err(DropReason::NestedTooDeep));
    };
    if bytes[0] == COMPRESS {
        let mut buffer = scratch.buffers.pop().unwrap_or_default();
        buffer.clear();
        match decode_compress(&bytes[1..], DATAGRAM_DECOMPRESSED_BYTES_MAX, &mut buffer) {
            Ok(()) => walk(&buffer, scratch, depth, visit),
            Err(reason) => visit(Err(reason)),
        }
        scratch.buffers.push(buffer);
        return;
    }
    let Some((lengths, mut bodies)) = split_compound(bytes) else {
        return visit(Err(DropReason::Truncated));
    };
    for length in lengths {
        let length = usize::from(length.get());
        if length == 0 {
            visit(Err(DropReason::EmptyPart));
            continue;
        }
        let Some((body, rest)) = bodies.split_at_checked(length) else {
            return visit(Err(DropReason::Truncated));
        };
        bodies = rest;
        walk(body, scratch, depth, visit);
    }
}

fn split_compound(bytes: &[u8]) -> Option<(&[U16<BigEndian>], &[u8])> {
    let count = usize::from(*bytes.get(1)?);
    <[U16<BigEndian>]>::ref_from_prefix_with_elems(&bytes[2..], count).ok()
}

/// Decodes the body of a compress message and appends what it holds.
pub(super) fn decode_compress(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DropReason> {
    let (mut algorithm, mut stream) = (0, None);
    Reader::new(body).fields(&["Algo", "Buf"], |r, field| {
        match field {
            0 => algorithm = r.int()?,
            _ => stream = Some(r.bytes()?),
        }
        Ok(())
    })?;
    if algorithm != 0 {
        return Err(DropReason::UnknownCompression);
    }
    lzw::decompress(&stream.ok_or(DropReason::BadCompression)?, bytes_max, out)?;
    if out.is_empty() { Err(DropReason::Empty) } else { Ok(()) }
}

/// Appends a compress message.
pub(super) fn encode_compress(raw: &[u8], out: &mut Vec<u8>) {
    let mut stream = Vec::with_capacity(raw.len());
    lzw::compress(raw, &mut stream);
    out.push(COMPRESS);
    write_map(out, 2);
    write_raw(out, b"Algo");
    out.push(0);
    write_raw(out, b"Buf");
    write_raw(out, &stream);
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
        let used = 2 + self.parts.len() + 2 * self.lengths.len() + 2;
        self.budget.min(UDP_PACKET_BYTES_MAX).saturating_sub(used)
    }

    /// Whether no message was pushed.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Messages pushed.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Ends the packet and appends it to `out`; returns where it lies there. The nonce is used only if the
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
        envelope.write_label(out);
        let start = out.len();
        if crc {
            out.extend_from_slice(CrcHeader { kind: HAS_CRC, crc: 0.into() }.as_bytes());
        }
        let covered = out.len();
        if self.lengths.len() > 1 {
            out.push(COMPOUND);
            out.push(u8::try_from(self.lengths.len()).expect("remaining() stops at 255 parts"));
            out.extend_from_slice(self.lengths.as_bytes());
        }
        out.extend_from_slice(&self.parts);
        if envelope.compress && out.len() - covered >= COMPRESS_BYTES_MIN {
            self.packed.clear();
            encode_compress(&out[covered..], &mut self.packed);
            if self.packed.len() < out.len() - covered {
                out.truncate(covered);
                out.extend_from_slice(&self.packed);
            }
        }
        if crc {
            let crc = crc32fast::hash(&out[covered..]);
            out[covered - 4..covered].copy_from_slice(&crc.to_be_bytes());
        }
        if envelope.seals() {
            envelope.keyring.seal(envelope.version, nonce, &envelope.label, out, start);
        }
        packet_start..out.len()
    }
}
