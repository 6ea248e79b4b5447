//! memberlist's messages (PROTOCOL 2.8, 2.9): a type byte and a msgpack body.

mod member;
mod probe;

use member::decode_accusation;
pub use member::{Alive, Dead, NodeState, Suspect, WireState};
pub use probe::{Ack, IndirectPing, Nack, Ping};

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::decode_error::DecodeError;
use crate::wire::limits::{META_BYTES_MAX, NODE_NAME_BYTES_MAX};
use crate::wire::msgpack::{Reader, write_map, write_raw, write_uint};
use crate::wire::reconcile::Reconcile;

/// Type bytes.
pub const PING: u8 = 0;
/// A request to ping a third node.
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
/// A step of a reconciliation between Thane peers.
pub const RECONCILE: u8 = 84;
/// A label and what it labels.
pub const HAS_LABEL: u8 = 244;

type Result<T> = std::result::Result<T, DecodeError>;

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
    /// A request to ping a third node.
    IndirectPing(IndirectPing<'a>),
    /// I am here.
    Ack(Ack<'a>),
    /// I got no answer either.
    Nack(Nack),
    /// A member does not answer the sender.
    Suspect(Suspect<'a>),
    /// A member is alive.
    Alive(Alive<'a>),
    /// A member is dead or left.
    Dead(Dead<'a>),
    /// A serf message, its type byte first.
    User(&'a [u8]),
    /// A refused stream.
    Err(ErrMessage<'a>),
    /// A step of a reconciliation, Thane peers only.
    Reconcile(Reconcile<'a>),
}

impl<'a> Message<'a> {
    /// Decodes one message, type byte first. Bytes after the body are ignored, as Serf ignores them.
    ///
    /// # Errors
    /// Why it is refused. Containers (compound, compress, checksum, label, encryption, push/pull) are
    /// `MisplacedType` here.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>> {
        let (&kind, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
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
            RECONCILE => Message::Reconcile(Reconcile::decode(body)?),
            PUSH_PULL | COMPOUND | COMPRESS | ENCRYPT | HAS_CRC | HAS_LABEL => {
                return Err(DecodeError::MisplacedType);
            }
            _ => return Err(DecodeError::UnknownType),
        })
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

#[inline]
pub(super) fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str> {
    let name = reader.str()?;
    if name.len() > NODE_NAME_BYTES_MAX {
        return Err(DecodeError::BadName);
    }
    Ok(name)
}

#[inline]
pub(super) fn addr<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let addr = reader.bytes()?;
    if matches!(addr.len(), 4 | 16) { Ok(addr) } else { Err(DecodeError::BadAddress) }
}

pub(super) fn optional_addr<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let addr = reader.bytes()?;
    if matches!(addr.len(), 0 | 4 | 16) { Ok(addr) } else { Err(DecodeError::BadAddress) }
}

#[inline]
fn meta<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let meta = reader.bytes()?;
    if meta.len() > META_BYTES_MAX { Err(DecodeError::MetaTooLong) } else { Ok(meta) }
}

#[inline]
fn versions<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>> {
    let versions = reader.bytes()?;
    if versions.len() > 6 { Err(DecodeError::BadVersions) } else { Ok(versions) }
}

pub(super) fn write_str_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_raw(out, key.as_bytes());
    write_raw(out, value.as_bytes());
}

pub(super) fn write_uint_field(out: &mut Vec<u8>, key: &str, value: u64) {
    write_raw(out, key.as_bytes());
    write_uint(out, value);
}
