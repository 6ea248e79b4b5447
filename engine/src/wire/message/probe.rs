//! Pings, direct and through others, and what answers them (PROTOCOL 2.9).

use std::borrow::Cow;

use super::{
    ACK, INDIRECT_PING, NACK, PING, SeqNo, addr, name, optional_addr, write_str_field, write_uint_field,
};
use crate::wire::decode_error::DecodeError;
use crate::wire::extension::{EXTENSION_KEY, Extension};
use crate::wire::msgpack::{Reader, write_bool, write_map, write_raw, write_raw_or_nil};

type Result<T> = std::result::Result<T, DecodeError>;

/// Are you there?
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ping<'a> {
    /// Names the ping in its ack.
    pub seq: SeqNo,
    /// The name of the node that is pinged; empty: any.
    pub node: &'a str,
    /// Where to answer; empty from old peers.
    pub source_addr: Cow<'a, [u8]>,
    /// Where to answer; 0 from old peers.
    pub source_port: u16,
    /// The sender's name.
    pub source_node: &'a str,
    /// Of a Thane peer.
    pub extension: Option<Extension>,
}

impl<'a> Ping<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Ping<'a>> {
        let mut ping = Ping::default();
        let names = ["SeqNo", "Node", "SourceAddr", "SourcePort", "SourceNode", EXTENSION_KEY];
        reader.fields(&names, |r, field| {
            match field {
                0 => ping.seq = SeqNo(r.u32()?),
                1 => ping.node = name(r)?,
                2 => ping.source_addr = optional_addr(r)?,
                3 => ping.source_port = r.u16()?,
                4 => ping.source_node = name(r)?,
                _ => ping.extension = Extension::decode(&r.bytes()?),
            }
            Ok(())
        })?;
        Ok(ping)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PING);
        let source = source_fields(&self.source_addr, self.source_port, self.source_node);
        write_map(out, 2 + source + u32::from(self.extension.is_some()));
        write_str_field(out, "Node", self.node);
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
        write_source(out, &self.source_addr, self.source_port, self.source_node);
        if let Some(extension) = &self.extension {
            write_extension(out, extension);
        }
    }
}

/// A request to ping a third node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndirectPing<'a> {
    /// Names the request in its ack or nack.
    pub seq: SeqNo,
    /// The target's IP address.
    pub target: Cow<'a, [u8]>,
    /// The target's port; 0: the receiver's.
    pub port: u16,
    /// The target's name.
    pub node: &'a str,
    /// Answer with a nack if it does not answer.
    pub nack: bool,
    /// Where to answer; empty from old peers.
    pub source_addr: Cow<'a, [u8]>,
    /// Where to answer; 0 from old peers.
    pub source_port: u16,
    /// The sender's name.
    pub source_node: &'a str,
}

impl<'a> IndirectPing<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<IndirectPing<'a>> {
        let mut ping = IndirectPing::default();
        let names = ["SeqNo", "Target", "Port", "Node", "Nack", "SourceAddr", "SourcePort", "SourceNode"];
        reader.fields(&names, |r, field| {
            match field {
                0 => ping.seq = SeqNo(r.u32()?),
                1 => ping.target = addr(r)?,
                2 => ping.port = r.u16()?,
                3 => ping.node = name(r)?,
                4 => ping.nack = r.bool()?,
                5 => ping.source_addr = optional_addr(r)?,
                6 => ping.source_port = r.u16()?,
                _ => ping.source_node = name(r)?,
            }
            Ok(())
        })?;
        Ok(ping)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(INDIRECT_PING);
        write_map(out, 5 + source_fields(&self.source_addr, self.source_port, self.source_node));
        write_raw(out, b"Nack");
        write_bool(out, self.nack);
        write_str_field(out, "Node", self.node);
        write_uint_field(out, "Port", u64::from(self.port));
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
        write_source(out, &self.source_addr, self.source_port, self.source_node);
        write_raw(out, b"Target");
        write_raw(out, &self.target);
    }
}

/// I am here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack<'a> {
    /// The ping it answers.
    pub seq: SeqNo,
    /// Serf's coordinate; empty on forwarded acks and from nodes without coordinates.
    pub payload: Cow<'a, [u8]>,
    /// Of a Thane peer that was pinged by one.
    pub extension: Option<Extension>,
}

impl<'a> Ack<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Ack<'a>> {
        let mut ack = Ack::default();
        reader.fields(&["SeqNo", "Payload", EXTENSION_KEY], |r, field| {
            match field {
                0 => ack.seq = SeqNo(r.u32()?),
                1 => ack.payload = r.bytes()?,
                _ => ack.extension = Extension::decode(&r.bytes()?),
            }
            Ok(())
        })?;
        Ok(ack)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ACK);
        write_map(out, 2 + u32::from(self.extension.is_some()));
        write_raw(out, b"Payload");
        write_raw_or_nil(out, &self.payload);
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
        if let Some(extension) = &self.extension {
            write_extension(out, extension);
        }
    }
}

fn write_extension(out: &mut Vec<u8>, extension: &Extension) {
    write_raw(out, EXTENSION_KEY.as_bytes());
    write_raw(out, extension.encode(&mut [0; Extension::BYTES_MAX]));
}

/// I got no answer either.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Nack {
    /// The indirect ping it answers.
    pub seq: SeqNo,
}

impl Nack {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Nack> {
        let mut nack = Nack::default();
        reader.fields(&["SeqNo"], |r, _| {
            nack.seq = SeqNo(r.u32()?);
            Ok(())
        })?;
        Ok(nack)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(NACK);
        write_map(out, 1);
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
    }
}

fn source_fields(addr: &[u8], port: u16, node: &str) -> u32 {
    u32::from(!addr.is_empty()) + u32::from(port != 0) + u32::from(!node.is_empty())
}

fn write_source(out: &mut Vec<u8>, addr: &[u8], port: u16, node: &str) {
    if !addr.is_empty() {
        write_raw(out, b"SourceAddr");
        write_raw(out, addr);
    }
    if !node.is_empty() {
        write_str_field(out, "SourceNode", node);
    }
    if port != 0 {
        write_uint_field(out, "SourcePort", u64::from(port));
    }
}
