//! Serf's messages (PROTOCOL section 5): a serf type byte and a msgpack body, carried in memberlist's user
//! messages, push/pull user states and query payloads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::wire::drop::DropReason;
use crate::wire::limits::{
    EVENT_SLOTS, FILTER_NODES_MAX, KEYS_MAX, META_BYTES_MAX, QUERY_FILTERS_MAX, SLOT_EVENTS_MAX,
};
use crate::wire::message::{addr, name, write_str_field, write_uint_field};
use crate::wire::msgpack::{
    Reader, write_array, write_bool, write_int, write_map, write_raw, write_raw_or_nil,
};

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
/// A message to pass on to somebody.
pub const RELAY: u8 = 9;

/// Query flag: an ack is asked for; in a response: this is the ack.
pub const FLAG_ACK: u32 = 1;
/// Query flag: don't pass it on.
pub const FLAG_NO_BROADCAST: u32 = 2;

type Result<T> = std::result::Result<T, DropReason>;

/// A Lamport time.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LamportTime(pub u64);

/// One serf message, borrowed.
#[derive(Clone, Debug, PartialEq)]
pub enum SerfMessage<'a> {
    /// Somebody leaves.
    Leave(LeaveIntent<'a>),
    /// Somebody is in.
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
        let (&kind, body) = bytes.split_first().ok_or(DropReason::Empty)?;
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
            _ => return Err(DropReason::UnknownSerfType),
        })
    }
}

/// A member leaves, or somebody says so for it.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct LeaveIntent<'a> {
    /// Member clock.
    pub ltime: LamportTime,
    /// Who leaves.
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
    /// Who is in.
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
    /// Who asks; empty from old peers.
    pub source_node: &'a str,
    /// Who shall answer: encoded filters, each checked to be non-empty.
    pub filters: Vec<Cow<'a, [u8]>>,
    /// [`FLAG_ACK`], [`FLAG_NO_BROADCAST`].
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
    fn decode(reader: &mut Reader<'a>) -> Result<Query<'a>> {
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
            return Err(DropReason::BadAddress);
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
        return Err(DropReason::TooManyFilters);
    }
    let filter = |_| {
        let filter = reader.bytes()?;
        if filter.is_empty() { Err(DropReason::EmptyFilter) } else { Ok(filter) }
    };
    (0..count).map(filter).collect()
}

/// Who shall answer a query.
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
        let (&kind, body) = bytes.split_first().ok_or(DropReason::EmptyFilter)?;
        let mut reader = Reader::new(body);
        match kind {
            0 => {
                let count = reader.array()?;
                if count > FILTER_NODES_MAX {
                    return Err(DropReason::TooManyFilters);
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
            _ => Err(DropReason::UnknownType),
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
    /// Who answers.
    pub from: &'a str,
    /// [`FLAG_ACK`] for an ack.
    pub flags: u32,
    /// The answer.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> QueryResponse<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<QueryResponse<'a>> {
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

/// A message to pass on to somebody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relay<'a> {
    /// To whom: IP address.
    pub dest_addr: Cow<'a, [u8]>,
    /// To whom: port.
    pub dest_port: u16,
    /// To whom: node name.
    pub dest_name: &'a str,
    /// The serf message, its type byte first.
    pub inner: &'a [u8],
}

impl<'a> Relay<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Relay<'a>> {
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
            return Err(DropReason::BadAddress);
        }
        if relay.inner.is_empty() {
            return Err(DropReason::Empty);
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

/// A member as conflict votes carry it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberRecord<'a> {
    /// Name.
    pub name: &'a str,
    /// Address.
    pub addr: Cow<'a, [u8]>,
    /// Port.
    pub port: u16,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// 0 none, 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// memberlist min, max, current, serf min, max, current.
    pub versions: [u8; 6],
}

impl<'a> MemberRecord<'a> {
    const NAMES: [&'static str; 11] = [
        "Name",
        "Addr",
        "Port",
        "Tags",
        "Status",
        "ProtocolMin",
        "ProtocolMax",
        "ProtocolCur",
        "DelegateMin",
        "DelegateMax",
        "DelegateCur",
    ];

    fn decode(reader: &mut Reader<'a>) -> Result<MemberRecord<'a>> {
        let mut member = MemberRecord::default();
        reader.fields(&Self::NAMES, |r, field| {
            match field {
                0 => member.name = name(r)?,
                1 => member.addr = addr(r)?,
                2 => member.port = r.u16()?,
                3 => member.tags = decode_tag_map(r)?,
                4 => member.status = r.u8()?,
                _ => member.versions[field - 5] = r.u8()?,
            }
            Ok(())
        })?;
        Ok(member)
    }

    /// Appends type byte (conflict response) and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(CONFLICT_RESPONSE);
        write_map(out, 11);
        write_raw(out, b"Addr");
        write_raw(out, &self.addr);
        write_uint_field(out, "DelegateCur", u64::from(self.versions[5]));
        write_uint_field(out, "DelegateMax", u64::from(self.versions[4]));
        write_uint_field(out, "DelegateMin", u64::from(self.versions[3]));
        write_str_field(out, "Name", self.name);
        write_uint_field(out, "Port", u64::from(self.port));
        write_uint_field(out, "ProtocolCur", u64::from(self.versions[2]));
        write_uint_field(out, "ProtocolMax", u64::from(self.versions[1]));
        write_uint_field(out, "ProtocolMin", u64::from(self.versions[0]));
        write_uint_field(out, "Status", u64::from(self.status));
        write_raw(out, b"Tags");
        write_tag_map(&self.tags, out);
    }
}

/// A key, raw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyRequest<'a> {
    /// 16, 24 or 32 bytes; empty to list.
    pub key: Cow<'a, [u8]>,
}

impl<'a> KeyRequest<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<KeyRequest<'a>> {
        let mut request = KeyRequest::default();
        reader.fields(&["Key"], |r, _| {
            request.key = r.bytes()?;
            Ok(())
        })?;
        Ok(request)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KEY_REQUEST);
        write_map(out, 1);
        write_raw(out, b"Key");
        write_raw_or_nil(out, &self.key);
    }
}

/// The outcome of a key query on one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyResponse<'a> {
    /// It worked.
    pub result: bool,
    /// What went wrong, or a remark.
    pub message: &'a str,
    /// Keys in base64, from a list.
    pub keys: Vec<&'a str>,
    /// The primary key in base64, from a list.
    pub primary_key: &'a str,
}

impl<'a> KeyResponse<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<KeyResponse<'a>> {
        let mut response = KeyResponse::default();
        reader.fields(&["Result", "Message", "Keys", "PrimaryKey"], |r, field| {
            match field {
                0 => response.result = r.bool()?,
                1 => response.message = r.str()?,
                2 => {
                    let count = r.array()?;
                    if count > KEYS_MAX {
                        return Err(DropReason::TooManyKeys);
                    }
                    response.keys = (0..count).map(|_| r.str()).collect::<Result<Vec<&str>>>()?;
                }
                _ => response.primary_key = r.str()?,
            }
            Ok(())
        })?;
        Ok(response)
    }

    /// Appends type byte and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KEY_RESPONSE);
        write_map(out, 4);
        write_raw(out, b"Keys");
        if self.keys.is_empty() {
            out.push(0xc0);
        } else {
            write_array(out, self.keys.len() as u32);
            self.keys.iter().for_each(|key| write_raw(out, key.as_bytes()));
        }
        write_str_field(out, "Message", self.message);
        write_str_field(out, "PrimaryKey", self.primary_key);
        write_raw(out, b"Result");
        write_bool(out, self.result);
    }
}

/// Serf's part of a push/pull. The lists are validated when it is decoded and walked in place after that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushPullState<'a> {
    /// Member clock.
    pub ltime: LamportTime,
    /// Event clock.
    pub event_ltime: LamportTime,
    /// Query clock.
    pub query_ltime: LamportTime,
    status_ltimes: &'a [u8],
    left_members: &'a [u8],
    events: &'a [u8],
}

/// The events of one Lamport time in a push/pull.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSlot<'a> {
    /// Their Lamport time.
    pub ltime: LamportTime,
    /// Name and payload of each.
    pub events: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> PushPullState<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<PushPullState<'a>> {
        let mut state = PushPullState::default();
        let names = ["LTime", "StatusLTimes", "LeftMembers", "EventLTime", "Events", "QueryLTime"];
        reader.fields(&names, |r, field| {
            let start = r.rest();
            match field {
                0 => state.ltime = LamportTime(r.u64()?),
                1 => {
                    let pairs = r.map()?;
                    for _ in 0..pairs {
                        name(r)?;
                        r.u64()?;
                    }
                    state.status_ltimes = &start[..start.len() - r.rest().len()];
                }
                2 => {
                    let count = r.array()?;
                    for _ in 0..count {
                        name(r)?;
                    }
                    state.left_members = &start[..start.len() - r.rest().len()];
                }
                3 => state.event_ltime = LamportTime(r.u64()?),
                4 => {
                    let count = r.array()?;
                    for _ in 0..count {
                        decode_event_slot(r)?;
                    }
                    state.events = &start[..start.len() - r.rest().len()];
                }
                _ => state.query_ltime = LamportTime(r.u64()?),
            }
            Ok(())
        })?;
        Ok(state)
    }

    /// The newest intent's Lamport time of each member.
    pub fn status_ltimes(&self) -> impl Iterator<Item = (&'a str, LamportTime)> + use<'a> {
        let mut reader = Reader::new(self.status_ltimes);
        let pairs = reader.map().unwrap_or(0);
        (0..pairs).map_while(move |_| Some((reader.str().ok()?, LamportTime(reader.u64().ok()?))))
    }

    /// Members that left.
    pub fn left_members(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.left_members);
        let count = reader.array().unwrap_or(0);
        (0..count).map_while(move |_| reader.str().ok())
    }

    /// User events, by Lamport time.
    pub fn events(&self) -> impl Iterator<Item = EventSlot<'a>> + use<'a> {
        let mut reader = Reader::new(self.events);
        let count = reader.array().unwrap_or(0);
        (0..count).filter_map(move |_| decode_event_slot(&mut reader).ok().flatten())
    }
}

fn decode_event_slot<'a>(reader: &mut Reader<'a>) -> Result<Option<EventSlot<'a>>> {
    if reader.nil()? {
        return Ok(None);
    }
    let mut slot = EventSlot { ltime: LamportTime(0), events: Vec::new() };
    reader.fields(&["LTime", "Events"], |r, field| {
        if field == 0 {
            slot.ltime = LamportTime(r.u64()?);
            return Ok(());
        }
        let count = r.array()?;
        if count > SLOT_EVENTS_MAX {
            return Err(DropReason::TooManyEvents);
        }
        for _ in 0..count {
            let (mut name, mut payload) = ("", Cow::default());
            r.fields(&["Name", "Payload"], |r, field| {
                match field {
                    0 => name = r.str()?,
                    _ => payload = r.bytes()?,
                }
                Ok(())
            })?;
            slot.events.push((name, payload));
        }
        Ok(())
    })?;
    Ok(Some(slot))
}

/// What [`encode_push_pull`] writes.
#[derive(Debug)]
pub struct PushPullSource<'s, M, L, E> {
    /// Member clock.
    pub ltime: LamportTime,
    /// Event clock.
    pub event_ltime: LamportTime,
    /// Query clock.
    pub query_ltime: LamportTime,
    /// All members with the Lamport time of their newest intent, and how many.
    pub members: (u32, M),
    /// Members that left, and how many.
    pub left: (u32, L),
    /// The event in each of the [`EVENT_SLOTS`] slots.
    pub events: E,
    /// Ties the iterators' lifetime.
    pub marker: std::marker::PhantomData<&'s ()>,
}

/// One slot of the event buffer: a Lamport time and its events, or nothing.
pub type SlotRef<'s> = Option<(LamportTime, &'s [(String, bytes::Bytes)])>;

/// Appends Serf's part of a push/pull, type byte first.
pub fn encode_push_pull<'s, M, L, E>(source: PushPullSource<'s, M, L, E>, out: &mut Vec<u8>)
where
    M: Iterator<Item = (&'s str, LamportTime)>,
    L: Iterator<Item = &'s str>,
    E: Iterator<Item = SlotRef<'s>>,
{
    out.push(PUSH_PULL);
    write_map(out, 6);
    write_uint_field(out, "EventLTime", source.event_ltime.0);
    write_raw(out, b"Events");
    write_array(out, EVENT_SLOTS as u32);
    let mut slots = 0;
    for slot in source.events {
        slots += 1;
        match slot {
            None => out.push(0xc0),
            Some((ltime, events)) => encode_event_slot(ltime, events, out),
        }
    }
    assert!(slots <= EVENT_SLOTS, "the buffer has {EVENT_SLOTS} slots");
    out.resize(out.len() + EVENT_SLOTS - slots, 0xc0);
    write_uint_field(out, "LTime", source.ltime.0);
    write_raw(out, b"LeftMembers");
    write_array(out, source.left.0);
    source.left.1.for_each(|name| write_raw(out, name.as_bytes()));
    write_uint_field(out, "QueryLTime", source.query_ltime.0);
    write_raw(out, b"StatusLTimes");
    write_map(out, source.members.0);
    source.members.1.for_each(|(name, ltime)| write_uint_field(out, name, ltime.0));
}

fn encode_event_slot(ltime: LamportTime, events: &[(String, bytes::Bytes)], out: &mut Vec<u8>) {
    write_map(out, 2);
    write_raw(out, b"Events");
    write_array(out, events.len() as u32);
    for (name, payload) in events {
        write_map(out, 2);
        write_str_field(out, "Name", name);
        write_raw(out, b"Payload");
        write_raw_or_nil(out, payload);
    }
    write_uint_field(out, "LTime", ltime.0);
}

/// Marks meta that holds encoded tags (serf protocol 3 and newer).
pub const TAG_MAGIC: u8 = 0xff;

/// Appends tags as meta, sorted by name so that equal tags are equal bytes.
pub fn encode_tags(tags: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    out.push(TAG_MAGIC);
    write_tag_map(tags, out);
}

/// Tags from meta. Meta without the magic byte is the tag `role` (serf protocol 2).
///
/// # Errors
/// `BadTags` if it is no map of strings.
pub fn decode_tags(meta: &[u8]) -> Result<BTreeMap<String, String>> {
    match meta.split_first() {
        Some((&TAG_MAGIC, body)) => decode_tag_map(&mut Reader::new(body)).map_err(|_| DropReason::BadTags),
        _ => {
            let role = String::from_utf8_lossy(meta).into_owned();
            Ok(BTreeMap::from([("role".to_owned(), role)]))
        }
    }
}

fn decode_tag_map(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>> {
    let start = reader.position();
    let pairs = reader.map()?;
    let mut tags = BTreeMap::new();
    for _ in 0..pairs {
        let (tag, value) = (reader.str()?, reader.str()?);
        // An old peer's bare role of 512 bytes gets longer by the map around it.
        if reader.position() - start > 2 * META_BYTES_MAX {
            return Err(DropReason::BadTags);
        }
        tags.insert(tag.to_owned(), value.to_owned());
    }
    Ok(tags)
}

fn write_tag_map(tags: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    write_map(out, tags.len() as u32);
    for (tag, value) in tags {
        write_str_field(out, tag, value);
    }
}

fn named(name: &str) -> Result<()> {
    if name.is_empty() { Err(DropReason::BadName) } else { Ok(()) }
}
