//! Queries, their filters, the answers, and answers that are relayed (PROTOCOL 5.3 to 5.5).

use std::borrow::Cow;

use super::{LamportTime, QUERY, QUERY_RESPONSE, RELAY, named};
use crate::wire::decode_error::DecodeError;
use crate::wire::limits::{FILTER_NODES_MAX, QUERY_FILTERS_MAX};
use crate::wire::message::{addr, name, write_str_field, write_uint_field};
use crate::wire::msgpack::{Reader, write_array, write_int, write_map, write_raw, write_raw_or_nil};

type Result<T> = std::result::Result<T, DecodeError>;

/// A query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query<'a> {
    /// Query clock.
    pub ltime: LamportTime,
    /// Random; with the Lamport time it names the query.
    pub id: u32,
    /// Where answers go: IP address.
    pub addr: Cow<'a, [u8]>,
    /// Where answers go: port.
    pub port: u16,
    /// The sender's name; empty from old peers.
    pub source_node: &'a str,
    /// The encoded filters that a node must pass to answer, each checked to be non-empty.
    pub filters: Vec<Cow<'a, [u8]>>,
    /// [`FLAG_ACK`](super::FLAG_ACK), [`FLAG_NO_BROADCAST`](super::FLAG_NO_BROADCAST).
    pub flags: u32,
    /// Answers also travel through so many others.
    pub relay_factor: u8,
    /// How long answers are taken, nanoseconds.
    pub timeout: i64,
    /// Query name.
    pub name: &'a str,
    /// Payload.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> Query<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Query<'a>> {
        let mut query = Query::default();
        let names = [
            "LTime",
            "ID",
            "Addr",
            "Port",
            "SourceNode",
            "Filters",
            "Flags",
            "RelayFactor",
            "Timeout",
            "Name",
            "Payload",
        ];
        reader.fields(&names, |r, field| {
            match field {
                0 => query.ltime = LamportTime(r.u64()?),
                1 => query.id = r.u32()?,
                2 => query.addr = addr(r)?,
                3 => query.port = r.u16()?,
                4 => query.source_node = name(r)?,
                5 => query.filters = decode_filters(r)?,
                6 => query.flags = r.u32()?,
                7 => query.relay_factor = r.u8()?,
                8 => query.timeout = r.i64()?,
                9 => query.name = r.str()?,
                _ => query.payload = r.bytes()?,
            }
            Ok(())
        })?;
        if query.addr.is_empty() {
            return Err(DecodeError::BadAddress);
        }
        Ok(query)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(QUERY);
        write_map(out, 11);
        write_raw(out, b"Addr");
        write_raw(out, &self.addr);
        write_raw(out, b"Filters");
        if self.filters.is_empty() {
            out.push(0xc0);
        } else {
            write_array(out, self.filters.len() as u32);
            self.filters.iter().for_each(|filter| write_raw(out, filter));
        }
        write_uint_field(out, "Flags", u64::from(self.flags));
        write_uint_field(out, "ID", u64::from(self.id));
        write_uint_field(out, "LTime", self.ltime.0);
        write_str_field(out, "Name", self.name);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, &self.payload);
        write_uint_field(out, "Port", u64::from(self.port));
        write_uint_field(out, "RelayFactor", u64::from(self.relay_factor));
        write_str_field(out, "SourceNode", self.source_node);
        write_raw(out, b"Timeout");
        write_int(out, self.timeout);
    }
}

fn decode_filters<'a>(reader: &mut Reader<'a>) -> Result<Vec<Cow<'a, [u8]>>> {
    let count = reader.array()?;
    if u64::from(count) > QUERY_FILTERS_MAX {
        return Err(DecodeError::TooManyFilters);
    }
    let filter = |_| {
        let filter = reader.bytes()?;
        if filter.is_empty() { Err(DecodeError::EmptyFilter) } else { Ok(filter) }
    };
    (0..count).map(filter).collect()
}

/// Which nodes answer a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter<'a> {
    /// These nodes.
    Nodes(Vec<&'a str>),
    /// Nodes whose tag matches the expression somewhere; a missing tag is empty.
    Tag {
        /// Which tag.
        tag: &'a str,
        /// Regular expression, not anchored.
        expr: &'a str,
    },
}

impl<'a> Filter<'a> {
    /// Decodes one filter of a query.
    ///
    /// # Errors
    /// Why it can't be understood; such a query is passed on but not answered.
    pub fn decode(bytes: &'a [u8]) -> Result<Filter<'a>> {
        let (&kind, body) = bytes.split_first().ok_or(DecodeError::EmptyFilter)?;
        let mut reader = Reader::new(body);
        match kind {
            0 => {
                let count = reader.array()?;
                if count > FILTER_NODES_MAX {
                    return Err(DecodeError::TooManyFilters);
                }
                (0..count).map(|_| reader.str()).collect::<Result<Vec<&str>>>().map(Filter::Nodes)
            }
            1 => {
                let (mut tag, mut expr) = ("", "");
                reader.fields(&["Tag", "Expr"], |r, field| {
                    *(if field == 0 { &mut tag } else { &mut expr }) = r.str()?;
                    Ok(())
                })?;
                Ok(Filter::Tag { tag, expr })
            }
            _ => Err(DecodeError::UnknownType),
        }
    }

    /// The filter's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Filter::Nodes(nodes) => {
                out.push(0);
                write_array(&mut out, nodes.len() as u32);
                nodes.iter().for_each(|node| write_raw(&mut out, node.as_bytes()));
            }
            Filter::Tag { tag, expr } => {
                out.push(1);
                write_map(&mut out, 2);
                write_str_field(&mut out, "Expr", expr);
                write_str_field(&mut out, "Tag", tag);
            }
        }
        out
    }
}

/// An ack or an answer to a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryResponse<'a> {
    /// The query's Lamport time.
    pub ltime: LamportTime,
    /// The query's id.
    pub id: u32,
    /// The name of the node that answers.
    pub from: &'a str,
    /// [`FLAG_ACK`](super::FLAG_ACK) for an ack.
    pub flags: u32,
    /// The answer.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> QueryResponse<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<QueryResponse<'a>> {
        let mut response = QueryResponse::default();
        reader.fields(&["LTime", "ID", "From", "Flags", "Payload"], |r, field| {
            match field {
                0 => response.ltime = LamportTime(r.u64()?),
                1 => response.id = r.u32()?,
                2 => response.from = name(r)?,
                3 => response.flags = r.u32()?,
                _ => response.payload = r.bytes()?,
            }
            Ok(())
        })?;
        named(response.from)?;
        Ok(response)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(QUERY_RESPONSE);
        write_map(out, 5);
        write_uint_field(out, "Flags", u64::from(self.flags));
        write_str_field(out, "From", self.from);
        write_uint_field(out, "ID", u64::from(self.id));
        write_uint_field(out, "LTime", self.ltime.0);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, &self.payload);
    }
}

/// A message to pass on to a third node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relay<'a> {
    /// The third node's IP address.
    pub dest_addr: Cow<'a, [u8]>,
    /// The third node's port.
    pub dest_port: u16,
    /// The third node's name.
    pub dest_name: &'a str,
    /// The serf message, its type byte first.
    pub inner: &'a [u8],
}

impl<'a> Relay<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Relay<'a>> {
        let mut relay = Relay::default();
        reader.fields(&["DestAddr", "DestName"], |r, field| {
            if field == 1 {
                relay.dest_name = name(r)?;
                return Ok(());
            }
            r.fields(&["IP", "Port", "Zone"], |r, field| {
                match field {
                    0 => relay.dest_addr = addr(r)?,
                    1 => relay.dest_port = r.u16()?,
                    _ => r.skip()?,
                }
                Ok(())
            })
        })?;
        relay.inner = reader.rest();
        if relay.dest_addr.is_empty() {
            return Err(DecodeError::BadAddress);
        }
        if relay.inner.is_empty() {
            return Err(DecodeError::Empty);
        }
        Ok(relay)
    }

    /// Appends type byte, header and the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(RELAY);
        write_map(out, 2);
        write_raw(out, b"DestAddr");
        write_map(out, 3);
        write_raw(out, b"IP");
        write_raw(out, &self.dest_addr);
        write_uint_field(out, "Port", u64::from(self.dest_port));
        write_str_field(out, "Zone", "");
        write_str_field(out, "DestName", self.dest_name);
        out.extend_from_slice(self.inner);
    }
}
