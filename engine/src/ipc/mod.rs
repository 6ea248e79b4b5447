//! The agent's RPC protocol (PROTOCOL section 6): bare msgpack values over TCP, for the command line and for
//! programs. Serf's clients talk to a Thane agent with it, and Thane's command line to a Serf agent.
//!
//! A request is a [`RequestHeader`] and, for most commands, a body; [`Request`] is both. A reply is a
//! [`ResponseHeader`] and, for some commands, a body. Streams, monitors and queries answer with a header and
//! then with any number of records, each after a header with the `Seq` of the request that started it.
//!
//! A list of members is long, so it need not be held as one [`MembersResponse`]: [`write_members`] and
//! [`write_member`] make the same bytes piece by piece, [`Client::members`] reads them as they come.
//!
//! [`Frames`] cuts a byte stream into whole values, [`Value`] turns them into types and back.

pub mod client;
pub mod frame;
pub mod members;
pub mod request;
pub mod response;
pub mod value;

pub use client::{Client, ClientError, Record};
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

/// The version of this protocol that a handshake must name.
pub const IPC_VERSION: i32 = 1;
/// A request's header or body, bytes. Serf has no limit; its largest honest request is a join of many
/// addresses.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// A reply's header or body, bytes. 100,000 members with full tags are 70 MB.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
