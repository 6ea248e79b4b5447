//! memberlist's messages (PROTOCOL 2.8, 2.9): a type byte and a msgpack body.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::drop::DropReason;
use crate::wire::limits::{META_BYTES_MAX, NODE_NAME_BYTES_MAX};
use crate::wire::msgpack::{
    Reader, raw_len, uint_len, write_bool, write_int, write_map, write_raw, write_raw_or_nil, write_uint,
};

/// Type bytes.
pub const PING: u8 = 0;
/// Ask somebody else to ping.
pub const INDIRECT_PING: u8 = 1;
/// Answer to a ping.
pub const ACK: u8 = 2;
/// A member is suspected.
pub const SUSPECT: u8 = 3;
/// A member is alive.
pub const ALIVE: u8 = 4;
/// A member is dead.
pub const DEAD: u8 = 5;
/// Full state, streams only.
pub const PUSH_PULL: u8 = 6;
/// Several messages in one.
pub const COMPOUND: u8 = 7;
/// A serf message.
pub const USER: u8 = 8;
/// LZW inside.
pub const COMPRESS: u8 = 9;
/// AES-GCM inside, streams only.
pub const ENCRYPT: u8 = 10;
/// The asked member did not answer the asker either.
pub const NACK: u8 = 11;
/// A checksum and what it covers.
pub const HAS_CRC: u8 = 12;
/// A refused stream.
pub const ERR: u8 = 13;
/// A label and what it labels.
pub const HAS_LABEL: u8 = 244;

type Result<T> = std::result::Result<T, DropReason>;

/// Sequence number of a ping; names it in acks and nacks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo(pub u32);

/// Incarnation of a member (SWIM 4.2): only the member itself raises it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// Protocol versions: memberlist min, max, current, serf min, max, current.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(pub [u8; 6]);

impl Versions {
    /// What a Serf agent announces.
    pub const SERF: Versions = Versions([1, 5, 2, 2, 5, 5]);

    /// Lowest memberlist protocol understood.
    pub fn protocol_min(self) -> u8 {
        self.0[0]
    }

    /// Highest memberlist protocol understood; features are keyed on it.
    pub fn protocol_max(self) -> u8 {
        self.0[1]
    }

    /// memberlist protocol spoken.
    pub fn protocol_cur(self) -> u8 {
        self.0[2]
    }

    /// Lowest serf protocol understood.
    pub fn delegate_min(self) -> u8 {
        self.0[3]
    }

    /// Highest serf protocol understood.
    pub fn delegate_max(self) -> u8 {
        self.0[4]
    }

    /// serf protocol spoken.
    pub fn delegate_cur(self) -> u8 {
        self.0[5]
    }
}

/// One memberlist message, borrowed from the receive buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Are you there?
    Ping(Ping<'a>),
    /// Please ping somebody for me.
    IndirectPing(IndirectPing<'a>),
    /// I am here.
    Ack(Ack<'a>),
    /// I got no answer either.
    Nack(Nack),
    /// I can't reach somebody.
    Suspect(Suspect<'a>),
    /// Somebody is here.
    Alive(Alive<'a>),
    /// Somebody is gone.
    Dead(Dead<'a>),
    /// A serf message, its type byte first.
    User(&'a [u8]),
    /// A refused stream.
    Err(ErrMessage<'a>),
}

impl<'a> Message<'a> {
    /// Decodes one message, type byte first. Bytes after the body are ignored, as Serf ignores them.
    ///
    /// # Errors
    /// Why it is refused. Containers (compound, compress, checksum, label, encryption, push/pull) are
    /// `MisplacedType` here.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>> {
        let (&kind, body) = bytes.split_first().ok_or(DropReason::Empty)?;
        let reader = &mut Reader::new(body);
        Ok(match kind {
            PING => Message::Ping(Ping::decode(reader)?),
            INDIRECT_PING => Message::IndirectPing(IndirectPing::decode(reader)?),
            ACK => Message::Ack(Ack::decode(reader)?),
            NACK => Message::Nack(Nack::decode(reader)?),
            SUSPECT => {
                let (incarnation, node, from) = decode_accusation(reader)?;
                Message::Suspect(Suspect { incarnation, node, from })
            }
            ALIVE => Message::Alive(Alive::decode(reader)?),
            DEAD => {
                let (incarnation, node, from) = decode_accusation(reader)?;
                Message::Dead(Dead { incarnation, node, from })
            }
            USER => Message::User(body),
            ERR => Message::Err(ErrMessage::decode(reader)?),
            PUSH_PULL | COMPOUND | COMPRESS | ENCRYPT | HAS_CRC | HAS_LABEL => {
                return Err(DropReason::MisplacedType);
            }
            _ => return Err(DropReason::UnknownType),
        })
    }
}

/// Are you there?
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ping<'a> {
    /// Names the ping in its ack.
    pub seq: SeqNo,
    /// Who should be there; empty: whoever is.
    pub node: &'a str,
    /// Where to answer; empty from old peers.
    pub source_addr: Cow<'a, [u8]>,
    /// Where to answer; 0 from old peers.
    pub source_port: u16,
    /// Who asks.
    pub source_node: &'a str,
}

impl<'a> Ping<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Ping<'a>> {
        let mut ping = Ping::default();
        reader.fields(&["SeqNo", "Node", "SourceAddr", "SourcePort", "SourceNode"], |r, field| {
            match field {
                0 => ping.seq = SeqNo(r.u32()?),
                1 => ping.node = name(r)?,
                2 => ping.source_addr = optional_addr(r)?,
                3 => ping.source_port = r.u16()?,
                _ => ping.source_node = name(r)?,
            }
            Ok(())
        })?;
        Ok(ping)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PING);
        let source = source_fields(&self.source_addr, self.source_port, self.source_node);
        write_map(out, 2 + source);
        write_str_field(out, "Node", self.node);
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
        write_source(out, &self.source_addr, self.source_port, self.source_node);
    }
}

/// Please ping somebody for me.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndirectPing<'a> {
    /// Names the request in its ack or nack.
    pub seq: SeqNo,
    /// Whom: IP address.
    pub target: Cow<'a, [u8]>,
    /// Whom: port; 0 is the receiver's own.
    pub port: u16,
    /// Whom: node name.
    pub node: &'a str,
    /// Answer with a nack if it does not answer.
    pub nack: bool,
    /// Where to answer; empty from old peers.
    pub source_addr: Cow<'a, [u8]>,
    /// Where to answer; 0 from old peers.
    pub source_port: u16,
    /// Who asks.
    pub source_node: &'a str,
}

impl<'a> IndirectPing<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<IndirectPing<'a>> {
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
}

impl<'a> Ack<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Ack<'a>> {
        let mut ack = Ack::default();
        reader.fields(&["SeqNo", "Payload"], |r, field| {
            match field {
                0 => ack.seq = SeqNo(r.u32()?),
                _ => ack.payload = r.bytes()?,
            }
            Ok(())
        })?;
        Ok(ack)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ACK);
        write_map(out, 2);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, &self.payload);
        write_uint_field(out, "SeqNo", u64::from(self.seq.0));
    }
}

/// I got no answer either.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Nack {
    /// The indirect ping it answers.
    pub seq: SeqNo,
}

impl Nack {
    fn decode(reader: &mut Reader<'_>) -> Result<Nack> {
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

/// I can't reach somebody.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Suspect<'a> {
    /// The accused's incarnation.
    pub incarnation: Incarnation,
    /// The accused.
    pub node: &'a str,
    /// The accuser.
    pub from: &'a str,
}

impl Suspect<'_> {
    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_accusation(SUSPECT, self.incarnation, self.node, self.from, out);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        accusation_len(self.incarnation, self.node, self.from)
    }
}

/// Somebody is gone; left on purpose if it says so itself.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Dead<'a> {
    /// The gone member's incarnation.
    pub incarnation: Incarnation,
    /// Who is gone.
    pub node: &'a str,
    /// Who says so.
    pub from: &'a str,
}

impl Dead<'_> {
    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_accusation(DEAD, self.incarnation, self.node, self.from, out);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        accusation_len(self.incarnation, self.node, self.from)
    }
}

fn decode_accusation<'a>(reader: &mut Reader<'a>) -> Result<(Incarnation, &'a str, &'a str)> {
    let (mut incarnation, mut node, mut from) = (Incarnation::default(), "", "");
    reader.fields(&["Incarnation", "Node", "From"], |r, field| {
        match field {
            0 => incarnation = Incarnation(r.u32()?),
            1 => node = name(r)?,
            _ => from = name(r)?,
        }
        Ok(())
    })?;
    if node.is_empty() {
        return Err(DropReason::BadName);
    }
    Ok((incarnation, node, from))
}

fn encode_accusation(kind: u8, incarnation: Incarnation, node: &str, from: &str, out: &mut Vec<u8>) {
    out.push(kind);
    write_map(out, 3);
    write_str_field(out, "From", from);
    write_uint_field(out, "Incarnation", u64::from(incarnation.0));
    write_str_field(out, "Node", node);
}

fn accusation_len(incarnation: Incarnation, node: &str, from: &str) -> usize {
    let keys = raw_len("From".len()) + raw_len("Incarnation".len()) + raw_len("Node".len());
    2 + keys + raw_len(from.len()) + uint_len(u64::from(incarnation.0)) + raw_len(node.len())
}

/// Somebody is here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alive<'a> {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its name.
    pub node: &'a str,
    /// Its address: 4 or 16 bytes.
    pub addr: Cow<'a, [u8]>,
    /// Its gossip port.
    pub port: u16,
    /// Its meta; for Serf the encoded tags.
    pub meta: Cow<'a, [u8]>,
    /// Its protocol versions: six bytes.
    pub versions: Cow<'a, [u8]>,
}

impl<'a> Alive<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Alive<'a>> {
        let mut alive = Alive::default();
        let names = ["Incarnation", "Node", "Addr", "Port", "Meta", "Vsn"];
        reader.fields(&names, |r, field| {
            match field {
                0 => alive.incarnation = Incarnation(r.u32()?),
                1 => alive.node = name(r)?,
                2 => alive.addr = addr(r)?,
                3 => alive.port = r.u16()?,
                4 => alive.meta = meta(r)?,
                _ => alive.versions = versions(r)?,
            }
            Ok(())
        })?;
        if alive.node.is_empty() {
            return Err(DropReason::BadName);
        }
        if alive.addr.is_empty() {
            return Err(DropReason::BadAddress);
        }
        Ok(alive)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ALIVE);
        write_map(out, 6);
        write_raw(out, b"Addr");
        write_raw(out, &self.addr);
        write_uint_field(out, "Incarnation", u64::from(self.incarnation.0));
        write_raw(out, b"Meta");
        write_raw(out, &self.meta);
        write_str_field(out, "Node", self.node);
        write_uint_field(out, "Port", u64::from(self.port));
        write_raw(out, b"Vsn");
        write_raw(out, &self.versions);
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self) -> usize {
        let keys: usize =
            ["Addr", "Incarnation", "Meta", "Node", "Port", "Vsn"].iter().map(|key| raw_len(key.len())).sum();
        2 + keys
            + raw_len(self.addr.len())
            + uint_len(u64::from(self.incarnation.0))
            + raw_len(self.meta.len())
            + raw_len(self.node.len())
            + uint_len(u64::from(self.port))
            + raw_len(self.versions.len())
    }
}

/// A refused stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrMessage<'a> {
    /// Why.
    pub error: &'a str,
}

impl<'a> ErrMessage<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<ErrMessage<'a>> {
        let mut error = ErrMessage::default();
        reader.fields(&["Error"], |r, _| {
            error.error = r.str()?;
            Ok(())
        })?;
        Ok(error)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ERR);
        write_map(out, 1);
        write_str_field(out, "Error", self.error);
    }
}

/// State of a member in a push/pull.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum WireState {
    /// Alive.
    #[default]
    Alive = 0,
    /// Suspect.
    Suspect = 1,
    /// Dead.
    Dead = 2,
    /// Left.
    Left = 3,
}

/// A member in a push/pull.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeState<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address: 4 or 16 bytes.
    pub addr: Cow<'a, [u8]>,
    /// Its gossip port.
    pub port: u16,
    /// Its meta.
    pub meta: Cow<'a, [u8]>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its state.
    pub state: WireState,
    /// Its protocol versions.
    pub versions: Cow<'a, [u8]>,
}

impl<'a> NodeState<'a> {
    /// Decodes one record (no type byte).
    ///
    /// # Errors
    /// Why it is refused; `Truncated` if more bytes could make it whole.
    pub fn decode(reader: &mut Reader<'a>) -> Result<NodeState<'a>> {
        let mut node = NodeState::default();
        let names = ["Name", "Addr", "Port", "Meta", "Incarnation", "State", "Vsn"];
        reader.fields(&names, |r, field| {
            match field {
                0 => node.name = name(r)?,
                1 => node.addr = addr(r)?,
                2 => node.port = r.u16()?,
                3 => node.meta = meta(r)?,
                4 => node.incarnation = Incarnation(r.u32()?),
                5 => {
                    node.state = match r.int()? {
                        0 => WireState::Alive,
                        1 => WireState::Suspect,
                        2 => WireState::Dead,
                        3 => WireState::Left,
                        _ => return Err(DropReason::BadState),
                    }
                }
                _ => node.versions = versions(r)?,
            }
            Ok(())
        })?;
        if node.name.is_empty() {
            return Err(DropReason::BadName);
        }
        if node.addr.is_empty() {
            return Err(DropReason::BadAddress);
        }
        Ok(node)
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_map(out, 7);
        write_raw(out, b"Addr");
        write_raw(out, &self.addr);
        write_uint_field(out, "Incarnation", u64::from(self.incarnation.0));
        write_raw(out, b"Meta");
        write_raw(out, &self.meta);
        write_str_field(out, "Name", self.name);
        write_uint_field(out, "Port", u64::from(self.port));
        write_raw(out, b"State");
        write_int(out, self.state as i64);
        write_raw(out, b"Vsn");
        write_raw(out, &self.versions);
    }
}

/// An IP address from 4 or 16 bytes; an IPv4 address in IPv6 form becomes IPv4.
pub fn ip_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).to_canonical())
}

/// The 4 or 16 bytes of an IP address.
pub fn ip_to_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(super) fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str> {
    let name = reader.str()?;
    if name.len() > NODE_NAME_BYTES_MAX {
        return Err(DropReason::BadName);
    }
    Ok(name)
}

pub(super) fn addr<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let addr = reader.bytes()?;
    if matches!(addr.len(), 4 | 16) { Ok(addr) } else { Err(DropReason::BadAddress) }
}

fn optional_addr<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let addr = reader.bytes()?;
    if matches!(addr.len(), 0 | 4 | 16) { Ok(addr) } else { Err(DropReason::BadAddress) }
}

fn meta<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let meta = reader.bytes()?;
    if meta.len() > META_BYTES_MAX { Err(DropReason::MetaTooLong) } else { Ok(meta) }
}

fn versions<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let versions = reader.bytes()?;
    if versions.len() > 6 { Err(DropReason::BadVersions) } else { Ok(versions) }
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

pub(super) fn write_str_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_raw(out, key.as_bytes());
    write_raw(out, value.as_bytes());
}

pub(super) fn write_uint_field(out: &mut Vec<u8>, key: &str, value: u64) {
    write_raw(out, key.as_bytes());
    write_uint(out, value);
}
