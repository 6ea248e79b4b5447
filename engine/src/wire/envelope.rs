//! The envelope that a cluster's packets and streams travel in: label and seal, in both directions
//! (PROTOCOL 2, 4.1). A packet's checksum is inside the seal, so it is checked here too.

use zerocopy::byteorder::{BigEndian, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::decode_error::DecodeError;
use crate::wire::keyring::{Keyring, KeyringError, NONCE_BYTES, OVERHEAD_BYTES};
use crate::wire::layer::{Layer, Step};
use crate::wire::limits::{LABEL_BYTES_MAX, STREAM_FRAME_BYTES_MAX};
use crate::wire::message::{ENCRYPT, HAS_CRC, HAS_LABEL};

/// What a node's packets and streams are wrapped in.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Cluster label, at most 255 bytes; empty: none.
    pub label: Vec<u8>,
    /// Encryption keys; empty: no encryption.
    pub keyring: Keyring,
    /// Compress what gets smaller by it.
    pub compress: bool,
    /// Version of the seal: 1, or 0 towards memberlist protocol 1.
    pub version: u8,
    /// Refuse what no key opens.
    pub verify_incoming: bool,
    /// Seal what is sent.
    pub verify_outgoing: bool,
    /// Something before this node removes labels; a packet that still has one is refused.
    pub skip_inbound_label_check: bool,
}

impl Envelope {
    /// Seals with the first of `keys`, or not at all if there are none; opens with each of them. No label, no
    /// compression; both directions are verified.
    ///
    /// # Errors
    /// If a key has not 16, 24 or 32 bytes.
    pub fn new(keys: &[Vec<u8>]) -> Result<Envelope, KeyringError> {
        Ok(Envelope {
            label: Vec::new(),
            keyring: Keyring::new(keys)?,
            compress: false,
            version: 1,
            verify_incoming: true,
            verify_outgoing: true,
            skip_inbound_label_check: false,
        })
    }

    /// Whether outgoing packets and streams are sealed.
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

    /// Opens a received datagram in place: label, seal, checksum.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn open<'a>(&self, datagram: &'a mut [u8]) -> Result<&'a [u8], DecodeError> {
        self.open_traced(datagram, |_| {})
    }

    /// Like [`open`](Self::open), and passes each wrapping that it removes to `trace`.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn open_traced<'a>(
        &self,
        datagram: &'a mut [u8],
        mut trace: impl FnMut(Step<'_>),
    ) -> Result<&'a [u8], DecodeError> {
        if datagram.is_empty() {
            return Err(DecodeError::Empty);
        }
        let sealed = self.strip_label(datagram, &mut trace)?;
        let plain: &[u8] = if self.keyring.is_empty() {
            sealed
        } else if self.verify_incoming {
            self.unseal(&self.label, sealed, &mut trace)?
        } else {
            // While a cluster moves to encryption, what no key opens counts as plain.
            let range = self.unseal(&self.label, sealed, &mut trace).ok().map(|plain| plain.len());
            match range {
                Some(len) => &sealed[1 + NONCE_BYTES..][..len],
                None => sealed,
            }
        };
        match CrcHeader::ref_from_prefix(plain) {
            Ok((header, covered)) if header.kind == HAS_CRC => {
                if crc32fast::hash(covered) != header.crc.get() {
                    return Err(DecodeError::BadChecksum);
                }
                trace(Step::Enter(Layer::Checksum(header.crc.get())));
                Ok(covered)
            }
            _ => Ok(plain),
        }
    }

    /// Appends a packet to `out`: label, checksum if `crc`, what `write` appends, all sealed if the envelope
    /// seals. Only then the nonce is used; it must be used once only.
    pub(super) fn seal_packet(
        &self,
        out: &mut Vec<u8>,
        crc: bool,
        nonce: [u8; NONCE_BYTES],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.write_label(out);
        let start = out.len();
        if crc {
            out.extend_from_slice(CrcHeader { kind: HAS_CRC, crc: 0.into() }.as_bytes());
        }
        let covered = out.len();
        write(out);
        if crc {
            let crc = crc32fast::hash(&out[covered..]);
            out[covered - 4..covered].copy_from_slice(&crc.to_be_bytes());
        }
        if self.seals() {
            self.keyring.seal(self.version, nonce, &self.label, out, start);
        }
    }

    /// Appends one side of a stream to `out`: what `write` appends, in a sealed frame if the envelope
    /// seals, behind the label if `labelled`. The nonce must be used once only.
    pub(super) fn seal_stream(
        &self,
        out: &mut Vec<u8>,
        labelled: bool,
        nonce: [u8; NONCE_BYTES],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if labelled {
            self.write_label(out);
        }
        let start = out.len();
        if !self.seals() {
            return write(out);
        }
        out.extend_from_slice(FrameHeader { kind: ENCRYPT, length: 0.into() }.as_bytes());
        let body = out.len();
        write(out);
        let plain = out.len() - body;
        let padding = if self.version == 0 { 16 - plain % 16 } else { 0 };
        let length = u32::try_from(plain + padding + OVERHEAD_BYTES).expect("a state is far below 4 GiB");
        out[start + 1..body].copy_from_slice(&length.to_be_bytes());
        let aad = FrameAad::new(&out[start..body], &self.label);
        self.keyring.seal(self.version, nonce, aad.bytes(), out, body);
    }

    /// Opens the frame that a sealed stream begins with. None while bytes of it are missing; else what it holds,
    /// and `received` is empty.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn open_frame(
        &self,
        received: &mut Vec<u8>,
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        if self.keyring.is_empty() {
            return Err(DecodeError::Encrypted);
        }
        let Ok((header, _)) = FrameHeader::ref_from_prefix(received) else {
            return Ok(None);
        };
        let length = header.length.get() as usize;
        if length > STREAM_FRAME_BYTES_MAX {
            return Err(DecodeError::StreamTooLarge);
        }
        let end = FRAME_HEADER_BYTES + length;
        if received.len() < end {
            return Ok(None);
        }
        // The message is moved out, not copied: a state may have 20 MiB.
        let mut frame = std::mem::take(received);
        let aad = FrameAad::new(&frame[..FRAME_HEADER_BYTES], &self.label);
        let plain_bytes = self.unseal(aad.bytes(), &mut frame[FRAME_HEADER_BYTES..end], trace)?.len();
        let plain_start = FRAME_HEADER_BYTES + 1 + NONCE_BYTES;
        frame.truncate(plain_start + plain_bytes);
        frame.drain(..plain_start);
        Ok(Some(frame))
    }

    /// Removes the label and compares it.
    pub(super) fn strip_label<'a>(
        &self,
        bytes: &'a mut [u8],
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<&'a mut [u8], DecodeError> {
        let labelled = bytes.first() == Some(&HAS_LABEL);
        if self.skip_inbound_label_check {
            return if labelled { Err(DecodeError::LabelMismatch) } else { Ok(bytes) };
        }
        if !labelled {
            return if self.label.is_empty() { Ok(bytes) } else { Err(DecodeError::LabelMissing) };
        }
        let len = usize::from(*bytes.get(1).ok_or(DecodeError::LabelMalformed)?);
        if len == 0 || bytes.len() < 2 + len {
            return Err(DecodeError::LabelMalformed);
        }
        let (header, rest) = bytes.split_at_mut(2 + len);
        trace(Step::Enter(Layer::Label(&header[2..])));
        if header[2..] == self.label { Ok(rest) } else { Err(DecodeError::LabelMismatch) }
    }

    fn write_label(&self, out: &mut Vec<u8>) {
        if !self.label.is_empty() {
            out.push(HAS_LABEL);
            out.push(u8::try_from(self.label.len()).expect("the config's label was checked"));
            out.extend_from_slice(&self.label);
        }
    }

    fn unseal<'a>(
        &self,
        aad: &[u8],
        sealed: &'a mut [u8],
        trace: &mut impl FnMut(Step<'_>),
    ) -> Result<&'a mut [u8], DecodeError> {
        let sealed_bytes = sealed.len();
        let mut header = [0; 1 + NONCE_BYTES];
        let known = sealed_bytes.min(header.len());
        header[..known].copy_from_slice(&sealed[..known]);
        let (key, plain) = self.keyring.open_by(aad, sealed)?;
        trace(Step::Enter(Layer::Sealed {
            version: header[0],
            nonce: &header[1..],
            key,
            sealed_bytes,
            plain_bytes: plain.len(),
        }));
        Ok(plain)
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CrcHeader {
    kind: u8,
    crc: U32<BigEndian>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrameHeader {
    kind: u8,
    length: U32<BigEndian>,
}

const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();

/// What a frame's seal covers beside its inside: the frame's header and the label.
struct FrameAad {
    buffer: [u8; FRAME_HEADER_BYTES + LABEL_BYTES_MAX],
    len: usize,
}

impl FrameAad {
    fn new(header: &[u8], label: &[u8]) -> FrameAad {
        let mut buffer = [0; FRAME_HEADER_BYTES + LABEL_BYTES_MAX];
        let len = header.len() + label.len();
        buffer[..header.len()].copy_from_slice(header);
        buffer[header.len()..len].copy_from_slice(label);
        FrameAad { buffer, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}
