//! What a Node reports to the application, the snapshot and the log.

mod members;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

pub use self::members::Members;
use crate::command::QueryToken;
use crate::roster::{FactIndex, Roster};
use crate::view::MemberStatus;
use crate::wire::serf::decode_tags;
use crate::wire::{LamportTime, Versions};

/// The record of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Node name.
    pub name: String,
    /// IP address.
    pub addr: IpAddr,
    /// Gossip port.
    pub port: u16,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Status.
    pub status: MemberStatus,
    /// SWIM and Serf protocol versions.
    pub versions: Versions,
}

/// A [`Member`] that borrows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MemberRef<'a> {
    /// Node name.
    pub name: &'a str,
    /// IP address.
    pub addr: IpAddr,
    /// Gossip port.
    pub port: u16,
    /// What it announced beside its address: encoded tags, or bytes of the program.
    pub meta: &'a [u8],
    /// Status.
    pub status: MemberStatus,
    /// SWIM and Serf protocol versions.
    pub versions: Versions,
}

impl<'a> MemberRef<'a> {
    /// The member that announced this.
    pub(crate) fn of(roster: &'a Roster, fact: FactIndex, status: MemberStatus) -> MemberRef<'a> {
        let fact = roster.fact(fact);
        MemberRef {
            name: roster.name(fact.member),
            addr: fact.ip(),
            port: fact.port,
            meta: fact.meta(),
            status,
            versions: fact.versions(),
        }
    }

    /// The tags; none where the meta is not made of tags.
    pub fn tags(&self) -> BTreeMap<String, String> {
        decode_tags(self.meta).unwrap_or_default()
    }

    /// A copy that owns its data.
    pub fn to_owned(&self) -> Member {
        let MemberRef { name, addr, port, status, versions, .. } = *self;
        Member { name: name.to_owned(), addr, port, tags: self.tags(), status, versions }
    }
}

/// What happened to members.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberEventKind {
    /// Joined.
    Join,
    /// Left after an announcement.
    Leave,
    /// Gone without an announcement.
    Failed,
    /// Changed its tags.
    Update,
    /// Erased.
    Reap,
}

impl MemberEventKind {
    /// Serf's word, as handlers and RPC streams see it.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberEventKind::Join => "member-join",
            MemberEventKind::Leave => "member-leave",
            MemberEventKind::Failed => "member-failed",
            MemberEventKind::Update => "member-update",
            MemberEventKind::Reap => "member-reap",
        }
    }
}

/// An event for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Members changed, all in the same way.
    Member {
        /// What happened.
        kind: MemberEventKind,
        /// The members.
        members: Members,
    },
    /// A node sent a user event.
    User {
        /// Its Lamport time.
        ltime: LamportTime,
        /// Its name.
        name: String,
        /// Its payload.
        payload: Bytes,
        /// Whether it may be coalesced.
        coalesce: bool,
    },
    /// A node sent a query.
    Query {
        /// Names the query in a respond command, until the deadline.
        token: QueryToken,
        /// Its Lamport time.
        ltime: LamportTime,
        /// Its name.
        name: String,
        /// Its payload.
        payload: Bytes,
        /// The name of the node that sent it.
        source_node: String,
        /// How long an answer is taken, from now on.
        timeout: Duration,
    },
}

/// The answer to a pending command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A join is complete.
    Joined {
        /// Targets that answered.
        contacted: usize,
        /// One line for each target that did not, in the order of the targets.
        errors: Vec<String>,
    },
    /// The graceful leave is complete; the node can be dropped.
    Left,
    /// The broadcast of a force-leave or of new tags went out, or the broadcast timeout passed.
    Broadcasted {
        /// It went out in time.
        in_time: bool,
    },
    /// A node acked the query.
    QueryAck {
        /// Which node.
        from: String,
    },
    /// A node answered the query.
    QueryResponse {
        /// Which node.
        from: String,
        /// What it answered.
        payload: Bytes,
    },
    /// The query is over.
    QueryDone,
}

/// A line for the snapshot file (PROTOCOL 10.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRecord {
    /// A member joined.
    Alive {
        /// Its name.
        name: String,
        /// Its gossip address.
        addr: SocketAddr,
    },
    /// A member left or was erased.
    NotAlive {
        /// Its name.
        name: String,
    },
    /// A member failed. Serf writes the same line as for a leave; Thane keeps the address, so that a node that
    /// finds no member alive can try it.
    Failed {
        /// Its name.
        name: String,
        /// Its gossip address.
        addr: SocketAddr,
    },
    /// The member clock, less one.
    Clock(LamportTime),
    /// The newest user event's Lamport time.
    EventClock(LamportTime),
    /// The newest query's Lamport time.
    QueryClock(LamportTime),
    /// From here on the clocks say of every user event and query whether it was delivered; the file was another
    /// program's, whose clocks lag ([`Restored::lags`](crate::config::Restored::lags)).
    Settled,
    /// The node leaves gracefully: sync to disk.
    Leave,
}

/// What a log prints; the agent uses Serf's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Member events before coalescing (`serf: EventMemberJoin: n ip`), those of one input that are alike.
    Members {
        /// What happened.
        kind: MemberEventKind,
        /// The members.
        members: Members,
        /// A force-leave or prune did it.
        forced: bool,
    },
    /// A probe failed and this node accuses the member.
    SuspectNoAck {
        /// The member.
        name: String,
    },
    /// The system did not send a probe's ping, which accuses nobody.
    PingRefused {
        /// The member.
        name: String,
        /// Its address.
        addr: SocketAddr,
    },
    /// A suspicion ran out.
    MarkingFailed {
        /// The member.
        name: String,
        /// Accusers other than the first.
        confirmations: u32,
    },
    /// This node is accused and answers with a new incarnation.
    Refuting {
        /// What it is accused of: `suspect`, `dead`, or an `alive` that it did not send.
        what: &'static str,
        /// The node that says so.
        from: String,
    },
    /// A member acks over a stream but not by datagram.
    TcpFallbackOnly {
        /// The member.
        name: String,
    },
    /// An alive for a known name came with another address.
    AddressConflict {
        /// The member.
        name: String,
        /// The address the view has.
        mine: SocketAddr,
        /// The address announced.
        theirs: SocketAddr,
        /// The member's state in memberlist's numbers: alive 0, suspect 1, dead 2, left 3.
        state: u8,
    },
    /// What Serf makes of it.
    NameConflict {
        /// The member.
        name: String,
        /// The address the view has.
        mine: SocketAddr,
        /// The address announced.
        theirs: SocketAddr,
        /// The name is this node's: whether a vote decides (`resolve_name_conflicts`).
        own: Option<bool>,
    },
    /// A failed member is tried again.
    Reconnecting {
        /// The member.
        name: String,
        /// Where.
        addr: SocketAddr,
    },
    /// A known member of the snapshot is tried.
    Rejoining {
        /// The member.
        name: String,
        /// Where.
        addr: SocketAddr,
    },
    /// The rejoin from the snapshot is over.
    Rejoined {
        /// The member that answered, and its address; `None` if none did.
        member: Option<(String, SocketAddr)>,
    },
    /// A push/pull failed.
    PushPullFailed {
        /// The other side.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A sealed push/pull has more than 60 % of the size that is refused: the cluster is about to outgrow it.
    LargeState {
        /// Its size.
        bytes: usize,
        /// The largest that is accepted.
        bytes_max: usize,
    },
    /// Input of peers was refused (also counted by reason).
    Dropped {
        /// Why.
        reason: crate::drop_reason::DropReason,
        /// Where the first of it came from, if known.
        from: Option<SocketAddr>,
        /// How many inputs in a row, at least 1: a flood of junk makes few notices.
        count: u64,
        /// The first of it came over a stream.
        stream: bool,
    },
    /// The delegate refused to believe that a member is alive (also counted).
    AliveVetoed {
        /// The member.
        name: String,
        /// The delegate's reason.
        reason: String,
    },
    /// The delegate refused a joining push/pull (also counted).
    MergeVetoed {
        /// The delegate's reason.
        reason: String,
    },
    /// The delegate returned more than fits; it was left out.
    DelegateTooLong {
        /// Which of its methods.
        method: &'static str,
        /// What it returned.
        bytes: usize,
        /// The most that fits.
        bytes_max: usize,
    },
    /// A broadcast queue is long, or was cut.
    QueueDepth {
        /// Intent, Event or Query.
        queue: &'static str,
        /// How long.
        depth: usize,
        /// How many entries were dropped.
        dropped: usize,
    },
    /// A user event or query is older than what is remembered.
    TooOld {
        /// `event` or `query`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its Lamport time.
        ltime: LamportTime,
    },
    /// A query's filter has an expression that this node does not understand (also counted).
    BadFilter {
        /// The expression.
        expr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A response came for a query that is over.
    LateResponse {
        /// The member that answered; `None` if none did.
        from: String,
    },
    /// The vote about this node's name, which another node claims, is over. A node that lost it ends; the vote of one that
    /// goes on because the other node does not answer is not reported.
    NameVote {
        /// Answers.
        all: u32,
        /// Answers that name this node's address.
        for_me: u32,
        /// Whether that is the majority.
        kept: bool,
    },
    /// A node asks this one to list or change its keys.
    KeyQuery {
        /// What is asked.
        operation: crate::command::KeyOperation,
    },
    /// This node does not do that.
    KeyRefused {
        /// What is asked.
        operation: crate::command::KeyOperation,
        /// Why not, as the answer says.
        reason: String,
    },
    /// The same, because the node does not encrypt.
    NoKeys {
        /// The same reason, as the answer says.
        reason: &'static str,
    },
    /// Another address has this node's name and answers: this node ends.
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        addr: SocketAddr,
    },
    /// Members listed this node's name at an address that does not answer: the name is this node's.
    NameReclaimed {
        /// The name.
        name: String,
        /// Where they listed it.
        addr: SocketAddr,
    },
    /// The keyring file could not be written; the node's keys are unchanged, and the answer to the query says so.
    Keyring {
        /// Why.
        remark: String,
    },
    /// The snapshot says that the node left, and it rejoins all the same, as configured.
    LeaveIgnored,
    /// The snapshot file has a line that can't be read, or a write to it failed.
    Snapshot {
        /// What.
        remark: String,
    },
    /// An internal query that this node does not know.
    UnknownInternalQuery {
        /// Its name.
        name: String,
    },
    /// Reconnecting was skipped by chance, as Serf does on a cluster with few failures.
    ReconnectSkipped,
}
