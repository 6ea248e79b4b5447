//! What agents send: the header, the bodies of replies and the records of streams, monitors and queries.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ipc::value::{Value, record};
use crate::wire::DecodeError;
use crate::wire::msgpack::Reader;
use crate::wire::serf::LamportTime;

/// Body of `stats`: sections `agent`, `runtime`, `serf`, `tags` and `event_handlers`, each name to text.
pub type Stats = BTreeMap<String, BTreeMap<String, String>>;

record! {
    /// Precedes every reply and every record. After an error the body still follows, half filled, except
    /// where the command itself was refused (handshake or token missing, unknown command).
    ResponseHeader {
        /// What went wrong; empty where nothing did.
        error: String = "Error",
        /// `Seq` of the request.
        seq: u64 = "Seq",
    }
}

record! {
    /// Body of `join`'s reply.
    JoinResponse {
        /// Nodes that were contacted.
        num: i32 = "Num",
    }
}

record! {
    /// Body of the replies to `members` and `members-filtered`.
    MembersResponse {
        /// In no order.
        members: Vec<Member> = "Members",
    }
}

record! {
    /// A member.
    Member {
        /// Its name.
        name: String = "Name",
        /// Its address.
        addr: Option<IpAddr> = "Addr",
        /// Its gossip port.
        port: u16 = "Port",
        /// Its tags.
        tags: BTreeMap<String, String> = "Tags",
        /// `none`, `alive`, `leaving`, `left` or `failed`.
        status: String = "Status",
        /// Lowest memberlist protocol that it understands.
        protocol_min: u8 = "ProtocolMin",
        /// Highest memberlist protocol that it understands.
        protocol_max: u8 = "ProtocolMax",
        /// The memberlist protocol that it speaks.
        protocol_cur: u8 = "ProtocolCur",
        /// Lowest Serf protocol that it understands.
        delegate_min: u8 = "DelegateMin",
        /// Highest Serf protocol that it understands.
        delegate_max: u8 = "DelegateMax",
        /// The Serf protocol that it speaks.
        delegate_cur: u8 = "DelegateCur",
    }
}

record! {
    /// Body of the replies to the four key commands.
    KeyResponse {
        /// What nodes had to say, by name: mostly why they failed.
        messages: BTreeMap<String, String> = "Messages",
        /// Keys and how many nodes have each; only of `list-keys`.
        keys: Option<BTreeMap<String, i32>> = "Keys",
        /// Nodes in the cluster.
        num_nodes: i32 = "NumNodes",
        /// Nodes that failed.
        num_err: i32 = "NumErr",
        /// Nodes that answered.
        num_resp: i32 = "NumResp",
    }
}

record! {
    /// Body of `get-coordinate`'s reply.
    CoordinateResponse {
        /// The coordinate, zero where it is not known.
        coord: Coordinate = "Coord",
        /// Whether it is known.
        ok: bool = "Ok",
    }
}

record! {
    /// A network coordinate; everything in seconds except the error, which is a ratio.
    Coordinate {
        /// Position.
        vec: Vec<f64> = "Vec",
        /// How far the position can be off.
        error: f64 = "Error",
        /// Correction from recent measurements.
        adjustment: f64 = "Adjustment",
        /// Distance to the core network.
        height: f64 = "Height",
    }
}

record! {
    /// Record of a stream: something happened to members.
    MemberRecord {
        /// `member-join`, `member-leave`, `member-failed`, `member-update` or `member-reap`.
        event: String = "Event",
        /// To whom.
        members: Vec<Member> = "Members",
    }
}

record! {
    /// Record of a stream: a user event.
    UserEventRecord {
        /// `user`.
        event: String = "Event",
        /// When, by the event clock.
        ltime: LamportTime = "LTime",
        /// Name of the event.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
        /// May be coalesced.
        coalesce: bool = "Coalesce",
    }
}

record! {
    /// Record of a stream: a query that can be answered with `respond`.
    QueryEventRecord {
        /// `query`.
        event: String = "Event",
        /// Number of the query on this connection.
        id: u64 = "ID",
        /// When, by the query clock.
        ltime: LamportTime = "LTime",
        /// Name of the query.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
    }
}

/// Record of a stream, any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamRecord {
    /// Something happened to members.
    Members(MemberRecord),
    /// A user event.
    User(UserEventRecord),
    /// A query.
    Query(QueryEventRecord),
}

impl Default for StreamRecord {
    fn default() -> StreamRecord {
        StreamRecord::Members(MemberRecord::default())
    }
}

impl Value for StreamRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            StreamRecord::Members(record) => record.encode(out),
            StreamRecord::User(record) => record.encode(out),
            StreamRecord::Query(record) => record.encode(out),
        }
    }

    fn decode_over(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut kind = RecordKind::default();
        kind.decode_over(&mut reader.clone())?;
        *self = match kind.event.as_str() {
            "user" => StreamRecord::User(read(reader)?),
            "query" => StreamRecord::Query(read(reader)?),
            _ => StreamRecord::Members(read(reader)?),
        };
        Ok(())
    }
}

fn read<V: Value>(reader: &mut Reader<'_>) -> Result<V, DecodeError> {
    let mut value = V::default();
    value.decode_over(reader)?;
    Ok(value)
}

record! {
    /// What kind of record one of a stream is.
    RecordKind {
        /// `user`, `query` or what happened to members.
        event: String = "Event",
    }
}

record! {
    /// Record of a monitor.
    LogRecord {
        /// One line, without its end.
        log: String = "Log",
    }
}

record! {
    /// Record of a query.
    QueryRecord {
        /// [`QueryRecord::ACK`], [`QueryRecord::RESPONSE`] or [`QueryRecord::DONE`].
        kind: String = "Type",
        /// Who answers; empty in the last record.
        from: String = "From",
        /// The answer.
        payload: Vec<u8> = "Payload",
    }
}

impl QueryRecord {
    /// The query arrived.
    pub const ACK: &str = "ack";
    /// An answer.
    pub const RESPONSE: &str = "response";
    /// The deadline is over, nothing comes any more.
    pub const DONE: &str = "done";
}
