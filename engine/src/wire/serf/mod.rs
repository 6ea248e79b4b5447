//! Serf's messages (PROTOCOL section 5): a serf type byte and a msgpack body, carried in memberlist's user
//! messages, push/pull user states and query payloads.

mod internal;
mod query;
mod state;
mod tags;

pub use internal::{KeyRequest, KeyResponse, MemberRecord};
pub use query::{Filter, Query, QueryResponse, Relay};
pub use state::{EventSlot, PushPullSource, PushPullState, SlotRef, encode_push_pull};
pub use tags::{FewTags, TAG_MAGIC, decode_tags, encode_tags};

use std::borrow::Cow;

use crate::wire::decode_error::DecodeError;
use crate::wire::message::{name, write_str_field, write_uint_field};
use crate::wire::msgpack::{Reader, write_bool, write_map, write_raw, write_raw_or_nil};

/// Type bytes.
pub const LEAVE: u8 = 0;
/// A member says that it is in.
pub const JOIN: u8 = 1;
/// Serf's part of a push/pull.
pub const PUSH_PULL: u8 = 2;
/// A user event.
pub const USER_EVENT: u8 = 3;
/// A query.
pub const QUERY: u8 = 4;
/// An ack or an answer to a query.
pub const QUERY_RESPONSE: u8 = 5;
/// A vote about a name conflict, inside a query response.
pub const CONFLICT_RESPONSE: u8 = 6;
/// A key, inside a key query.
pub const KEY_REQUEST: u8 = 7;
/// The outcome of a key query, inside a query response.
pub const KEY_RESPONSE: u8 = 8;
/// A message to pass on to a third node.
pub const RELAY: u8 = 9;

/// Query flag: an ack is asked for; in a response: this is the ack.
pub const FLAG_ACK: u32 = 1;
/// Query flag: don't pass it on.
pub const FLAG_NO_BROADCAST: u32 = 2;

type Result<T> = std::result::Result<T, DecodeError>;

/// A Lamport time.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LamportTime(pub u64);

/// One serf message, borrowed.
#[derive(Clone, Debug, PartialEq)]
pub enum SerfMessage<'a> {
    /// A member leaves.
    Leave(LeaveIntent<'a>),
    /// A member joined.
    Join(JoinIntent<'a>),
    /// Serf's part of a push/pull.
    PushPull(PushPullState<'a>),
    /// A user event.
    UserEvent(UserEvent<'a>),
    /// A query.
    Query(Query<'a>),
    /// An ack or answer.
    QueryResponse(QueryResponse<'a>),
    /// A vote about a name conflict.
    ConflictResponse(Option<MemberRecord<'a>>),
    /// A key.
    KeyRequest(KeyRequest<'a>),
    /// The outcome of a key query.
    KeyResponse(KeyResponse<'a>),
    /// A message to pass on.
    Relay(Relay<'a>),
}

impl<'a> SerfMessage<'a> {
    /// Decodes one message, serf type byte first.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn decode(bytes: &'a [u8]) -> Result<SerfMessage<'a>> {
        let (&kind, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        let reader = &mut Reader::new(body);
        Ok(match kind {
            LEAVE => SerfMessage::Leave(LeaveIntent::decode(reader)?),
            JOIN => SerfMessage::Join(JoinIntent::decode(reader)?),
            PUSH_PULL => SerfMessage::PushPull(PushPullState::decode(reader)?),
            USER_EVENT => SerfMessage::UserEvent(UserEvent::decode(reader)?),
            QUERY => SerfMessage::Query(Query::decode(reader)?),
            QUERY_RESPONSE => SerfMessage::QueryResponse(QueryResponse::decode(reader)?),
            CONFLICT_RESPONSE => {
                let nobody = reader.nil()?;
                SerfMessage::ConflictResponse(if nobody { None } else { Some(MemberRecord::decode(reader)?) })
            }
            KEY_REQUEST => SerfMessage::KeyRequest(KeyRequest::decode(reader)?),
            KEY_RESPONSE => SerfMessage::KeyResponse(KeyResponse::decode(reader)?),
            RELAY => SerfMessage::Relay(Relay::decode(reader)?),
            _ => return Err(DecodeError::UnknownSerfType),
        })
    }
}

/// A member leaves, or another node says so on its behalf.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct LeaveIntent<'a> {
    /// Member clock.
    pub ltime: LamportTime,
    /// The member's name.
    pub node: &'a str,
    /// Erase it at once.
    pub prune: bool,
}

impl<'a> LeaveIntent<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<LeaveIntent<'a>> {
        let mut leave = LeaveIntent::default();
        reader.fields(&["LTime", "Node", "Prune"], |r, field| {
            match field {
                0 => leave.ltime = LamportTime(r.u64()?),
                1 => leave.node = name(r)?,
                _ => leave.prune = r.bool()?,
            }
            Ok(())
        })?;
        named(leave.node)?;
        Ok(leave)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEAVE);
        write_map(out, 3);
        write_uint_field(out, "LTime", self.ltime.0);
        write_str_field(out, "Node", self.node);
        write_raw(out, b"Prune");
        write_bool(out, self.prune);
    }
}

/// A member is in.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct JoinIntent<'a> {
    /// Member clock.
    pub ltime: LamportTime,
    /// The member's name.
    pub node: &'a str,
}

impl<'a> JoinIntent<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<JoinIntent<'a>> {
        let mut join = JoinIntent::default();
        reader.fields(&["LTime", "Node"], |r, field| {
            match field {
                0 => join.ltime = LamportTime(r.u64()?),
                _ => join.node = name(r)?,
            }
            Ok(())
        })?;
        named(join.node)?;
        Ok(join)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(JOIN);
        write_map(out, 2);
        write_uint_field(out, "LTime", self.ltime.0);
        write_str_field(out, "Node", self.node);
    }
}

/// A user event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserEvent<'a> {
    /// Event clock.
    pub ltime: LamportTime,
    /// Event name.
    pub name: &'a str,
    /// Payload.
    pub payload: Cow<'a, [u8]>,
    /// May be coalesced.
    pub coalesce: bool,
}

impl<'a> UserEvent<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<UserEvent<'a>> {
        let mut event = UserEvent::default();
        reader.fields(&["LTime", "Name", "Payload", "CC"], |r, field| {
            match field {
                0 => event.ltime = LamportTime(r.u64()?),
                1 => event.name = r.str()?,
                2 => event.payload = r.bytes()?,
                _ => event.coalesce = r.bool()?,
            }
            Ok(())
        })?;
        Ok(event)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(USER_EVENT);
        write_map(out, 4);
        write_raw(out, b"CC");
        write_bool(out, self.coalesce);
        write_uint_field(out, "LTime", self.ltime.0);
        write_str_field(out, "Name", self.name);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, &self.payload);
    }
}

fn named(name: &str) -> Result<()> {
    if name.is_empty() { Err(DecodeError::BadName) } else { Ok(()) }
}
