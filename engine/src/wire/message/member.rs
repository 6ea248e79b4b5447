//! News about members: alive, suspect, dead, and the record of one in a push/pull (PROTOCOL 2.9, 4.3).

use std::borrow::Cow;

use super::{
    ALIVE, DEAD, Incarnation, SUSPECT, addr, meta, name, versions, write_str_field, write_uint_field,
};
use crate::wire::decode_error::DecodeError;
use crate::wire::msgpack::{Reader, raw_len, uint_len, write_map, write_raw, write_uint};

type Result<T> = std::result::Result<T, DecodeError>;

/// A member does not answer the sender.
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

/// A member is dead, or, if it says so itself, left.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Dead<'a> {
    /// The gone member's incarnation.
    pub incarnation: Incarnation,
    /// The member.
    pub node: &'a str,
    /// The sender's name; the member's own name if it left.
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

pub(super) fn decode_accusation<'a>(reader: &mut Reader<'a>) -> Result<(Incarnation, &'a str, &'a str)> {
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
        return Err(DecodeError::BadName);
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

/// A member is alive, at this address, with this meta.
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
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Alive<'a>> {
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
            return Err(DecodeError::BadName);
        }
        if alive.addr.is_empty() {
            return Err(DecodeError::BadAddress);
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
        let mut usual = reader.clone();
        if let Some(node) = NodeState::decode_usual(&mut usual) {
            *reader = usual;
            return Ok(node);
        }
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
                        _ => return Err(DecodeError::BadState),
                    }
                }
                _ => node.versions = versions(r)?,
            }
            Ok(())
        })?;
        if node.name.is_empty() {
            return Err(DecodeError::BadName);
        }
        if node.addr.is_empty() {
            return Err(DecodeError::BadAddress);
        }
        Ok(node)
    }

    /// Decodes the layout that Serf and [`encode`](Self::encode) write, without looking names up: a state has
    /// thousands of records and is gone through more than once. None for whatever else.
    fn decode_usual(reader: &mut Reader<'a>) -> Option<NodeState<'a>> {
        reader.literal(b"\x87\xa4Addr")?;
        let addr = addr(reader).ok()?;
        reader.literal(b"\xabIncarnation")?;
        let incarnation = Incarnation(reader.u32().ok()?);
        reader.literal(b"\xa4Meta")?;
        let meta = meta(reader).ok()?;
        reader.literal(b"\xa4Name")?;
        let name = name(reader).ok()?;
        reader.literal(b"\xa4Port")?;
        let port = reader.u16().ok()?;
        reader.literal(b"\xa5State")?;
        let state = match reader.u8().ok()? {
            0 => WireState::Alive,
            1 => WireState::Suspect,
            2 => WireState::Dead,
            3 => WireState::Left,
            _ => return None,
        };
        reader.literal(b"\xa3Vsn")?;
        let versions = versions(reader).ok()?;
        (!name.is_empty()).then_some(NodeState { name, addr, port, meta, incarnation, state, versions })
    }

    /// Appends the record: a map of seven, each key with its marker.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x87\xa4Addr");
        write_raw(out, &self.addr);
        out.extend_from_slice(b"\xabIncarnation");
        write_uint(out, u64::from(self.incarnation.0));
        out.extend_from_slice(b"\xa4Meta");
        write_raw(out, &self.meta);
        out.extend_from_slice(b"\xa4Name");
        write_raw(out, self.name.as_bytes());
        out.extend_from_slice(b"\xa4Port");
        write_uint(out, u64::from(self.port));
        out.extend_from_slice(b"\xa5State");
        out.push(self.state as u8);
        out.extend_from_slice(b"\xa3Vsn");
        write_raw(out, &self.versions);
    }
}
