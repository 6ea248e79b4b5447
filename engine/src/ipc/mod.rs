//! The agent's RPC protocol (PROTOCOL section 6): msgpack values over TCP without framing, for the command line and
//! for programs. Serf's clients work with a Thane agent, and Thane's command line with a Serf agent.
//!
//! A request is a [`RequestHeader`] and, for most commands, a body; [`Request`] is both. A reply is a
//! [`ResponseHeader`] and, for some commands, a body. The reply to a stream, monitor or query is a header; any number
//! of records follow, each after a header with the `Seq` of the request.
//!
//! A long list of members need not be held as one [`MembersResponse`]: [`write_members`] and [`write_member`] encode
//! the same bytes in pieces, and [`Client::members`] decodes them as they arrive.
//!
//! [`Frames`] splits a byte stream into whole values, [`Value`] decodes and encodes them.

pub mod client;
mod dial;
pub mod frame;
pub mod members;
pub mod request;
pub mod response;
pub mod value;

pub use client::{Client, ClientError, Record};
pub use dial::ClientTls;
pub use frame::{Container, FrameError, Frames};
pub use members::{ReceivedMember, ReceivedTags, write_member, write_members};
pub use request::{
    AuthRequest, Command, CoordinateRequest, EventRequest, ForceLeaveRequest, HandshakeRequest, JoinRequest,
    KeyRequest, MembersRequest, MonitorRequest, QueryRequest, Request, RequestHeader, RespondRequest,
    StopRequest, StreamRequest, TagsRequest,
};
pub use response::{
    Coordinate, CoordinateResponse, JoinResponse, KeyResponse, LogRecord, Member, MemberRecord,
    MembersResponse, QueryEventRecord, QueryRecord, ResponseHeader, Stats, StreamRecord, UserEventRecord,
};
pub use value::Value;

/// The protocol version that a handshake must have.
pub const IPC_VERSION: i32 = 1;
/// The longest header or body of a request, bytes. Serf has no limit; the largest honest request is a join with many
/// addresses.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// The longest header or body of a reply, bytes. 100,000 members with full tags have 70 MB.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
