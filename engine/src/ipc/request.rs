//! Requests: the header, the commands and their bodies.

use std::collections::BTreeMap;

use crate::ipc::value::{Value, record};
use crate::wire::DecodeError;

/// A command with its body.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The first request of every connection.
    Handshake(HandshakeRequest),
    /// Authenticates with the agent's token.
    Auth(AuthRequest),
    /// Sends a user event.
    Event(EventRequest),
    /// Declares a failed member left.
    ForceLeave(ForceLeaveRequest),
    /// Joins a cluster.
    Join(JoinRequest),
    /// Lists all members.
    Members,
    /// Lists some members.
    MembersFiltered(MembersRequest),
    /// Starts a stream of events.
    Stream(StreamRequest),
    /// Starts a stream of log lines.
    Monitor(MonitorRequest),
    /// Ends a stream or monitor.
    Stop(StopRequest),
    /// Leaves the cluster and ends the agent.
    Leave,
    /// Changes the agent's tags.
    Tags(TagsRequest),
    /// Sends a query.
    Query(QueryRequest),
    /// Answers a query that arrived in a stream.
    Respond(RespondRequest),
    /// Adds a key to every keyring.
    InstallKey(KeyRequest),
    /// Makes a key the primary key of every keyring.
    UseKey(KeyRequest),
    /// Removes a key from every keyring.
    RemoveKey(KeyRequest),
    /// Lists the keys of all keyrings.
    ListKeys,
    /// Returns the agent's statistics.
    Stats,
    /// Returns a member's network coordinate.
    GetCoordinate(CoordinateRequest),
}

impl Request {
    /// The command of this request.
    pub fn command(&self) -> Command {
        match self {
            Request::Handshake(_) => Command::Handshake,
            Request::Auth(_) => Command::Auth,
            Request::Event(_) => Command::Event,
            Request::ForceLeave(_) => Command::ForceLeave,
            Request::Join(_) => Command::Join,
            Request::Members => Command::Members,
            Request::MembersFiltered(_) => Command::MembersFiltered,
            Request::Stream(_) => Command::Stream,
            Request::Monitor(_) => Command::Monitor,
            Request::Stop(_) => Command::Stop,
            Request::Leave => Command::Leave,
            Request::Tags(_) => Command::Tags,
            Request::Query(_) => Command::Query,
            Request::Respond(_) => Command::Respond,
            Request::InstallKey(_) => Command::InstallKey,
            Request::UseKey(_) => Command::UseKey,
            Request::RemoveKey(_) => Command::RemoveKey,
            Request::ListKeys => Command::ListKeys,
            Request::Stats => Command::Stats,
            Request::GetCoordinate(_) => Command::GetCoordinate,
        }
    }

    /// Appends header and body.
    pub fn encode(&self, seq: u64, out: &mut Vec<u8>) {
        RequestHeader { command: self.command().as_str().to_owned(), seq }.encode(out);
        match self {
            Request::Handshake(body) => body.encode(out),
            Request::Auth(body) => body.encode(out),
            Request::Event(body) => body.encode(out),
            Request::ForceLeave(body) => body.encode(out),
            Request::Join(body) => body.encode(out),
            Request::MembersFiltered(body) => body.encode(out),
            Request::Stream(body) => body.encode(out),
            Request::Monitor(body) => body.encode(out),
            Request::Stop(body) => body.encode(out),
            Request::Tags(body) => body.encode(out),
            Request::Query(body) => body.encode(out),
            Request::Respond(body) => body.encode(out),
            Request::InstallKey(body) | Request::UseKey(body) | Request::RemoveKey(body) => body.encode(out),
            Request::GetCoordinate(body) => body.encode(out),
            Request::Members | Request::Leave | Request::ListKeys | Request::Stats => {}
        }
    }

    /// Decodes the body of `command`, one msgpack value. Commands without a body ignore `body`.
    ///
    /// # Errors
    /// The body can't be decoded, with the reason. Serf then closes the connection without a reply.
    pub fn decode(command: Command, body: &[u8]) -> Result<Request, DecodeError> {
        Ok(match command {
            Command::Handshake => Request::Handshake(Value::decode(body)?),
            Command::Auth => Request::Auth(Value::decode(body)?),
            Command::Event => Request::Event(Value::decode(body)?),
            Command::ForceLeave => Request::ForceLeave(Value::decode(body)?),
            Command::Join => Request::Join(Value::decode(body)?),
            Command::Members => Request::Members,
            Command::MembersFiltered => Request::MembersFiltered(Value::decode(body)?),
            Command::Stream => Request::Stream(Value::decode(body)?),
            Command::Monitor => Request::Monitor(Value::decode(body)?),
            Command::Stop => Request::Stop(Value::decode(body)?),
            Command::Leave => Request::Leave,
            Command::Tags => Request::Tags(Value::decode(body)?),
            Command::Query => Request::Query(Value::decode(body)?),
            Command::Respond => Request::Respond(Value::decode(body)?),
            Command::InstallKey => Request::InstallKey(Value::decode(body)?),
            Command::UseKey => Request::UseKey(Value::decode(body)?),
            Command::RemoveKey => Request::RemoveKey(Value::decode(body)?),
            Command::ListKeys => Request::ListKeys,
            Command::Stats => Request::Stats,
            Command::GetCoordinate => Request::GetCoordinate(Value::decode(body)?),
        })
    }
}

macro_rules! commands {
    ($($name:ident = $text:literal,)*) => {
        /// A command's name; see [`Request`].
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the variants of Request say what each is")]
        pub enum Command { $($name,)* }

        impl Command {
            /// All commands.
            pub const ALL: &[Command] = &[$(Command::$name,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Command::$name => $text,)* }
            }
        }
    };
}

commands! {
    Handshake = "handshake",
    Auth = "auth",
    Event = "event",
    ForceLeave = "force-leave",
    Join = "join",
    Members = "members",
    MembersFiltered = "members-filtered",
    Stream = "stream",
    Monitor = "monitor",
    Stop = "stop",
    Leave = "leave",
    Tags = "tags",
    Query = "query",
    Respond = "respond",
    InstallKey = "install-key",
    UseKey = "use-key",
    RemoveKey = "remove-key",
    ListKeys = "list-keys",
    Stats = "stats",
    GetCoordinate = "get-coordinate",
}

impl Command {
    /// The command with this name.
    pub fn parse(name: &str) -> Option<Command> {
        Command::ALL.iter().copied().find(|command| command.as_str() == name)
    }

    /// Whether a body follows the header.
    pub fn has_body(self) -> bool {
        !matches!(self, Command::Members | Command::Leave | Command::ListKeys | Command::Stats)
    }
}

record! {
    /// Precedes every request. Serf's server decodes each header over the previous one, so a header without `Seq` or
    /// `Command` has the previous values: keep one header and [`Value::decode_over`] it.
    RequestHeader {
        /// Name of the command.
        command: String = "Command",
        /// Number of the request on this connection, chosen by the client and repeated in replies. 0 is legal.
        seq: u64 = "Seq",
    }
}

record! {
    /// Body of `handshake`.
    HandshakeRequest {
        /// [`super::IPC_VERSION`].
        version: i32 = "Version",
    }
}

record! {
    /// Body of `auth`.
    AuthRequest {
        /// The agent's `rpc_auth`.
        auth_key: String = "AuthKey",
    }
}

record! {
    /// Body of `event`.
    EventRequest {
        /// Name of the event.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
        /// Receivers may deliver only the newest of several events of this name.
        coalesce: bool = "Coalesce",
    }
}

record! {
    /// Body of `force-leave`.
    ForceLeaveRequest {
        /// Name of the member.
        node: String = "Node",
        /// Erase the member from every member list.
        prune: bool = "Prune",
    }
}

record! {
    /// Body of `join`.
    JoinRequest {
        /// Addresses, `host[:port]` or `name/host[:port]`.
        existing: Vec<String> = "Existing",
        /// Deliver user events from before the join.
        replay: bool = "Replay",
    }
}

record! {
    /// Body of `members-filtered`: regular expressions that must match whole values.
    MembersRequest {
        /// For tags, by name. A tag that a member does not have is the empty text.
        tags: BTreeMap<String, String> = "Tags",
        /// For the status; empty: all.
        status: String = "Status",
        /// For the name; empty: all.
        name: String = "Name",
    }
}

record! {
    /// Body of `stream`.
    StreamRequest {
        /// Event filters, separated by commas; empty means `*`.
        filter: String = "Type",
    }
}

record! {
    /// Body of `monitor`.
    MonitorRequest {
        /// TRACE, DEBUG, INFO, WARN or ERR, in any case.
        log_level: String = "LogLevel",
    }
}

record! {
    /// Body of `stop`.
    StopRequest {
        /// `Seq` of the stream or monitor.
        stop: u64 = "Stop",
    }
}

record! {
    /// Body of `tags`. Deletions are applied first.
    TagsRequest {
        /// Tags to set.
        tags: BTreeMap<String, String> = "Tags",
        /// Names of tags to delete.
        delete_tags: Vec<String> = "DeleteTags",
    }
}

record! {
    /// Body of `query`.
    QueryRequest {
        /// Nodes that the query is for; empty: all.
        filter_nodes: Vec<String> = "FilterNodes",
        /// Regular expressions that the tags of a node must match.
        filter_tags: BTreeMap<String, String> = "FilterTags",
        /// Whether nodes acknowledge that the query arrived.
        request_ack: bool = "RequestAck",
        /// Members that each answer is relayed by, in addition to being sent directly.
        relay_factor: u8 = "RelayFactor",
        /// How long answers are accepted, nanoseconds; 0: the agent's default.
        timeout_ns: i64 = "Timeout",
        /// Name of the query.
        name: String = "Name",
        /// Payload.
        payload: Vec<u8> = "Payload",
    }
}

record! {
    /// Body of `respond`.
    RespondRequest {
        /// `ID` of the query record.
        id: u64 = "ID",
        /// The answer.
        payload: Vec<u8> = "Payload",
    }
}

record! {
    /// Body of `install-key`, `use-key` and `remove-key`.
    KeyRequest {
        /// The key in base64.
        key: String = "Key",
    }
}

record! {
    /// Body of `get-coordinate`.
    CoordinateRequest {
        /// Name of the member.
        node: String = "Node",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_parse_by_their_names() {
        for &command in Command::ALL {
            assert_eq!(Command::parse(command.as_str()), Some(command));
            let request = Request::decode(command, b"\x80").unwrap();
            assert_eq!(request.command(), command);
            let (mut header, mut whole) = (Vec::new(), Vec::new());
            RequestHeader { command: command.as_str().into(), seq: 7 }.encode(&mut header);
            request.encode(7, &mut whole);
            assert!(whole.starts_with(&header));
            assert_eq!(whole.len() > header.len(), command.has_body(), "{command:?}");
        }
        assert_eq!(Command::parse("bogus"), None);
    }

    #[test]
    fn a_header_inherits_what_it_lacks() {
        let mut header = RequestHeader { command: "members".into(), seq: 4 };
        header.decode_over(&mut crate::wire::msgpack::Reader::new(b"\x81\xa3Seq\x05")).unwrap();
        assert_eq!(header, RequestHeader { command: "members".into(), seq: 5 });
    }
}
