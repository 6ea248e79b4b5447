//! Replies: the header, the bodies, and the records of streams, monitors and queries.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ipc::value::{Value, record};
use crate::wire::DecodeError;
use crate::wire::msgpack::Reader;
use crate::wire::serf::LamportTime;

/// Body of the reply to `stats`: sections `agent`, `runtime`, `serf`, `tags` and `event_handlers`, each a map from
/// name to text.
pub type Stats = BTreeMap<String, BTreeMap<String, String>>;

record! {
    /// Precedes every reply and every record. After an error the body still follows, partly filled, unless the command
    /// itself was refused (handshake or token missing, unknown command).
    ResponseHeader {
        /// The error; empty if there is none.
        error: String = "Error",
        /// `Seq` of the request.
        seq: u64 = "Seq",
    }
}

record! {
    /// Body of the reply to `join`.
    JoinResponse {
        /// Number of nodes that were contacted.
        num: i32 = "Num",
    }
}

record! {
    /// Body of the replies to `members` and `members-filtered`.
    MembersResponse {
        /// The members, in no order.
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
        /// Lowest memberlist protocol version that it understands.
        protocol_min: u8 = "ProtocolMin",
        /// Highest memberlist protocol version that it understands.
        protocol_max: u8 = "ProtocolMax",
        /// The memberlist protocol version that it speaks.
        protocol_cur: u8 = "ProtocolCur",
        /// Lowest Serf protocol version that it understands.
        delegate_min: u8 = "DelegateMin",
        /// Highest Serf protocol version that it understands.
        delegate_max: u8 = "DelegateMax",
        /// The Serf protocol version that it speaks.
        delegate_cur: u8 = "DelegateCur",
    }
}

record! {
    /// Body of the replies to the four key commands.
    KeyResponse {
        /// Messages of nodes, by name, usually errors.
        messages: BTreeMap<String, String> = "Messages",
        /// Number of nodes that have each key; of `list-keys` only.
        keys: Option<BTreeMap<String, i32>> = "Keys",
        /// Number of nodes in the cluster.
        num_nodes: i32 = "NumNodes",
        /// Number of nodes that answered with an error.
        num_err: i32 = "NumErr",
        /// Number of nodes that answered.
        num_resp: i32 = "NumResp",
    }
}

record! {
    /// Body of the reply to `get-coordinate`.
    CoordinateResponse {
        /// The coordinate, zero if it is not known.
        coord: Coordinate = "Coord",
        /// Whether the coordinate is known.
        ok: bool = "Ok",
    }
}

record! {
    /// A network coordinate, in seconds except for the error, which is a ratio.
    Coordinate {
        /// Position.
        vec: Vec<f64> = "Vec",
        /// Relative error of the position.
        error: f64 = "Error",
        /// Correction of distances, from recent measurements.
        adjustment: f64 = "Adjustment",
        /// Distance of the node from its network.
        height: f64 = "Height",
    }
}

record! {
    /// Record of a stream: a member event.
    MemberRecord {
        /// `member-join`, `member-leave`, `member-failed`, `member-update` or `member-reap`.
        event: String = "Event",
        /// The members that changed.
        members: Vec<Member> = "Members",
    }
}

record! {
    /// Record of a stream: a user event.
    UserEventRecord {
        /// `user`.
        event: String = "Event",
        /// Lamport time of the event.
        ltime: LamportTime = "LTime",
        /// Name of the event.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
        /// Whether it may be coalesced.
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
        /// Lamport time of the query.
        ltime: LamportTime = "LTime",
        /// Name of the query.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
    }
}

/// Record of a stream, of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamRecord {
    /// A member event.
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
    /// The part of a stream's record that says of which kind it is.
    RecordKind {
        /// `user`, `query` or the kind of member event.
        event: String = "Event",
    }
}

record! {
    /// Record of a monitor.
    LogRecord {
        /// One line, without the line feed.
        log: String = "Log",
    }
}

record! {
    /// Record of a query.
    QueryRecord {
        /// [`QueryRecord::ACK`], [`QueryRecord::RESPONSE`] or [`QueryRecord::DONE`].
        kind: String = "Type",
        /// Name of the node that answers; empty in the last record.
        from: String = "From",
        /// The answer.
        payload: Vec<u8> = "Payload",
    }
}

impl QueryRecord {
    /// A node acknowledges that the query arrived.
    pub const ACK: &str = "ack";
    /// An answer.
    pub const RESPONSE: &str = "response";
    /// The deadline has passed; no record follows.
    pub const DONE: &str = "done";
}
