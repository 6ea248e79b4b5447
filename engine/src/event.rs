//! What a Node tells the application, the snapshot and the log.

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

/// A member as the application sees it.
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

/// A [`Member`] that is only looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MemberRef<'a> {
    /// Node name.
    pub name: &'a str,
    /// IP address.
    pub addr: IpAddr,
    /// Gossip port.
    pub port: u16,
    /// What it announced beside its address: encoded tags, or a program's own.
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

    /// The member with what it says.
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
    /// Left on purpose.
    Leave,
    /// Gone without a word.
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
        /// How.
        kind: MemberEventKind,
        /// Who.
        members: Members,
    },
    /// Somebody sent a user event.
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
    /// Somebody asks.
    Query {
        /// Names the query in a respond command, until the deadline.
        token: QueryToken,
        /// Its Lamport time.
        ltime: LamportTime,
        /// Its name.
        name: String,
        /// Its payload.
        payload: Bytes,
        /// Who asks.
        source_node: String,
        /// How long an answer is taken, from now on.
        timeout: Duration,
    },
}

/// The answer to a pending command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A join is through: how many targets answered, and why others did not, in the order of the targets.
    Joined {
        /// Targets that answered.
        contacted: usize,
        /// One line for each that did not.
        errors: Vec<String>,
    },
    /// The graceful leave is through; the node can be dropped.
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
    /// A member failed. Serf makes no difference; here it is what a node that is alone looks for.
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
    /// The node leaves gracefully: sync to disk.
    Leave,
}

/// What a log would tell; the agent prints them in Serf's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Member events before coalescing (`serf: EventMemberJoin: n ip`), those of one input that are alike.
    Members {
        /// What happened.
        kind: MemberEventKind,
        /// To whom.
        members: Members,
        /// A force-leave or prune did it.
        forced: bool,
    },
    /// A probe failed and the member is accused.
    SuspectNoAck {
        /// Whom.
        name: String,
    },
    /// A suspicion ran out.
    MarkingFailed {
        /// Whom.
        name: String,
        /// Accusers other than the first.
        confirmations: u32,
    },
    /// This node is accused and answers with a new incarnation.
    Refuting {
        /// What it is accused of: `suspect`, `dead`, or an `alive` that is not its own.
        what: &'static str,
        /// Who says so.
        from: String,
    },
    /// Pings don't get through but a stream does.
    TcpFallbackOnly {
        /// Whom.
        name: String,
    },
    /// An alive for a known name came with another address.
    AddressConflict {
        /// Whom.
        name: String,
        /// The address the view has.
        mine: SocketAddr,
        /// The address announced.
        theirs: SocketAddr,
    },
    /// A failed member is tried again.
    Reconnecting {
        /// Whom.
        name: String,
        /// Where.
        addr: SocketAddr,
    },
    /// A known member of the snapshot is tried.
    Rejoining {
        /// Whom.
        name: String,
        /// Where.
        addr: SocketAddr,
    },
    /// The rejoin from the snapshot is over: through whom, or nobody.
    Rejoined {
        /// Who answered.
        name: Option<String>,
    },
    /// A push/pull failed.
    PushPullFailed {
        /// With whom.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Input of peers was refused (also counted by reason).
    Dropped {
        /// Why.
        reason: crate::drop_reason::DropReason,
        /// Where the first of it came from, if known.
        from: Option<SocketAddr>,
        /// How many inputs in a row, at least 1: a flood of junk makes few notices.
        count: u64,
    },
    /// The delegate refused to believe that a member is alive (also counted).
    AliveVetoed {
        /// Whom.
        name: String,
        /// The delegate's reason.
        reason: String,
    },
    /// The delegate refused a joining push/pull (also counted).
    MergeVetoed {
        /// The delegate's reason.
        reason: String,
    },
    /// The delegate gave more than fits; it was left out.
    DelegateTooLong {
        /// Which of its methods.
        method: &'static str,
        /// What it gave.
        bytes: usize,
        /// What it may give.
        bytes_max: usize,
    },
    /// A broadcast queue is long, or was cut.
    QueueDepth {
        /// Which: Intent, Event or Query.
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
    /// A response came for a query that is over.
    LateResponse {
        /// Who answered.
        from: String,
    },
    /// The vote about this node's name, which another node claims, is over. A node that lost it ends.
    NameVote {
        /// Answers.
        all: u32,
        /// Answers that name this node's address.
        for_me: u32,
        /// Whether that is the majority.
        kept: bool,
    },
    /// The keyring file could not be written; the node goes on with the new keys.
    Keyring {
        /// Why.
        remark: String,
    },
    /// Something about the snapshot file: a line that makes no sense, a write that failed.
    Snapshot {
        /// What.
        remark: String,
    },
    /// A query of the cluster's own business that this node does not know.
    UnknownInternalQuery {
        /// Its name.
        name: String,
    },
    /// Reconnecting was skipped by chance, as Serf does on a cluster with few failures.
    ReconnectSkipped,
}
