//! What an embedding program holds: an [`Engine`] (one shard thread) and a [`Handle`] for each node on it.
//!
//! The engine's thread is its own; handles work from any thread and any tokio runtime. Requests travel
//! through a bounded lock-free mailbox; a full one is [`ApiError::Busy`], never a wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::command::{CommandError, JoinTarget, QueryParams, QueryToken};
use crate::config::{ConfigError, RawConfig};
use crate::context::{Context, NodeId};
use crate::event::{Completion, Event, Member, Notice};
use crate::io::mailbox::{Call, Mailbox, Request};
use crate::io::seat::Reply;
use crate::io::shard;
use crate::io::{Driver, DriverChoice};
use crate::node::Node;
use crate::view::MemberStatus;
use crate::wire::LamportTime;
use crate::wire::coordinate::Coordinate;

/// Events and notices that wait for the application at one time. Beyond it new ones are dropped and counted
/// in [`NodeStats::outlet_dropped`]; an engine never waits for its application.
pub const OUTLET_DEPTH: usize = 8192;

/// One shard: a thread with its own runtime, sockets, timers and any number of nodes.
#[derive(Clone, Debug)]
pub struct Engine {
    mailbox: Arc<Mailbox>,
    driver: Driver,
    reason: Arc<str>,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The settings. An advertise port of 0 becomes the port that was bound.
    pub config: RawConfig,
    /// Where the node's UDP socket and TCP listener are bound, both on the same port; 0: the system picks.
    pub bind: SocketAddr,
    /// Where the node keeps its snapshot, if it keeps one.
    pub snapshot: Option<SnapshotOptions>,
}

/// A node's snapshot file (PROTOCOL 10.1).
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The file.
    pub path: PathBuf,
    /// Rejoin the members of the snapshot even if the last run ended with a graceful leave.
    pub rejoin_after_leave: bool,
}

/// Why a node could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address can't be bound.
    #[error("Failed to bind {addr} ({what}): {error}")]
    Bind {
        /// `TCP` or `UDP`.
        what: &'static str,
        /// Which address.
        addr: SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The snapshot can't be used.
    #[error("Failed to open snapshot {}: {error}", path.display())]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The engine is gone or its mailbox is full.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The node refused it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The mailbox is full; try again later.
    #[error("the engine is busy, try again later")]
    Busy,
    /// The node or its engine has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The broadcast of new tags did not go out within the broadcast timeout.
    #[error("timeout waiting for update broadcast")]
    TagsTimeout,
    /// The broadcast of a force-leave did not go out within the broadcast timeout.
    #[error("timed out broadcasting node removal")]
    RemovalTimeout,
}

/// A join through no address at all: one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinError {
    /// Why each address did not work.
    pub errors: Vec<String>,
}

impl std::fmt::Display for JoinError {
    /// Serf's layout, which scripts match.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errors.len() {
            1 => write!(f, "1 error occurred:")?,
            n => write!(f, "{n} errors occurred:")?,
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n\t* {error}"))?;
        write!(f, "\n\n")
    }
}

impl std::error::Error for JoinError {}

/// What a node tells its application, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An event, after coalescing.
    Event(Event),
    /// A line for the log.
    Notice(Notice),
}

/// What a node tells its application: [`Told`]s in order. Ends when the node has stopped.
pub type Outlet = mpsc::Receiver<Told>;

/// An answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A node acked.
    Ack {
        /// Which node.
        from: String,
    },
    /// A node answered.
    Response {
        /// Which node.
        from: String,
        /// What.
        payload: Bytes,
    },
}

/// The answers to a query: the channel ends at the query's deadline.
#[derive(Debug)]
pub struct Answers {
    /// How long answers are taken.
    pub timeout: Duration,
    /// The answers as they come.
    pub answers: mpsc::UnboundedReceiver<Answer>,
}

/// Numbers about a node, as `info` and metrics show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Members of any status.
    pub members: usize,
    /// Failed members.
    pub failed: usize,
    /// Left members.
    pub left: usize,
    /// Local health score, 0 is healthy.
    pub health_score: u32,
    /// Member clock.
    pub member_time: LamportTime,
    /// Event clock.
    pub event_time: LamportTime,
    /// Query clock.
    pub query_time: LamportTime,
    /// Queued intents.
    pub intent_queue: usize,
    /// Queued user events.
    pub event_queue: usize,
    /// Queued queries.
    pub query_queue: usize,
    /// Whether gossip is encrypted.
    pub encrypted: bool,
    /// Refused input by reason, those that occurred.
    pub drops: Vec<(&'static str, u64)>,
    /// Times the own coordinate became nonsense and started again; none without coordinates.
    pub coordinate_resets: Option<u64>,
    /// Events and notices that the application was too slow for.
    pub outlet_dropped: u64,
    /// Datagrams and bytes: received, then sent.
    pub datagrams: (u64, u64),
    /// Bytes of these datagrams: received, then sent.
    pub datagram_bytes: (u64, u64),
}

impl Engine {
    /// Starts the shard thread.
    ///
    /// # Errors
    /// The thread or its runtime can't be made, or the driver that was demanded does not work here.
    pub fn start(choice: DriverChoice) -> std::io::Result<Engine> {
        let (driver, reason) = choice.resolve()?;
        let mailbox = Arc::new(Mailbox::default());
        shard::spawn(driver, Arc::clone(&mailbox))?;
        Ok(Engine { mailbox, driver, reason: reason.into() })
    }

    /// The driver in use.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Why that driver: one line.
    pub fn driver_reason(&self) -> &str {
        &self.reason
    }

    /// Starts a node. Its sockets are bound and it has begun when this returns.
    ///
    /// # Errors
    /// The settings, the addresses or the snapshot are refused.
    pub async fn add(&self, options: NodeOptions) -> Result<(Handle, Outlet), StartError> {
        let (reply, answer) = oneshot::channel();
        let (outlet_in, outlet) = mpsc::channel(OUTLET_DEPTH);
        let name: Arc<str> = options.config.node_name.as_str().into();
        self.mailbox.push(Request::Add(Box::new(options), outlet_in, reply))?;
        let added = answer.await.map_err(|_| ApiError::Stopped)??;
        let handle = Handle {
            mailbox: Arc::clone(&self.mailbox),
            id: added.id,
            name,
            bound: added.bound,
            advertise: added.advertise,
        };
        Ok((handle, outlet))
    }

    /// Stops every node without a word and ends the thread. Returns when the sockets are closed.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.mailbox.push(Request::Stop(reply)).is_ok() {
            // An error means that the thread is gone already.
            let _ = answer.await;
        }
    }
}

/// One node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
    id: NodeId,
    name: Arc<str>,
    bound: SocketAddr,
    advertise: SocketAddr,
}

impl Handle {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its sockets are bound.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// The address it announces.
    pub fn advertise(&self) -> SocketAddr {
        self.advertise
    }

    /// Joins through every address of every entry: `host`, `host:port`, `[v6]:port`, a bare IPv6 address, or
    /// `nodename/` before one of these. A missing port is the port this node is bound to. Without `replay`,
    /// user events from before the join are not delivered. Returns how many addresses answered.
    ///
    /// # Errors
    /// If none answered: one line for each.
    pub async fn join(&self, entries: &[String], replay: bool) -> Result<usize, JoinError> {
        let mut targets = Vec::new();
        let mut errors = Vec::new();
        for entry in entries {
            match resolve(entry, self.bound.port()).await {
                Ok(found) => targets.extend(found),
                Err(error) => errors.push(error),
            }
        }
        if targets.is_empty() {
            return Err(JoinError { errors });
        }
        let joined = self
            .pending(Reply::Completion, move |node, ctx, ticket| node.join(ctx, ticket, targets, !replay))
            .await;
        match joined {
            Ok(Completion::Joined { contacted, .. }) if contacted > 0 => Ok(contacted),
            Ok(Completion::Joined { errors: more, .. }) => {
                errors.extend(more);
                Err(JoinError { errors })
            }
            Ok(_) => unreachable!("a join completes with Joined"),
            Err(error) => Err(JoinError { errors: vec![error.to_string()] }),
        }
    }

    /// Leaves gracefully; returns once the news had time to spread. The node still runs afterwards, silent;
    /// [`shutdown`](Self::shutdown) ends it.
    ///
    /// # Errors
    /// If it leaves already, or has left.
    pub async fn leave(&self) -> Result<(), ApiError> {
        self.pending(Reply::Completion, |node, ctx, ticket| node.leave(ctx, ticket)).await.map(|_| ())
    }

    /// Ends the node without a word; returns once its sockets are closed and its snapshot is on disk.
    pub async fn shutdown(&self) {
        let (reply, answer) = oneshot::channel();
        if self.mailbox.push(Request::Remove(self.id, reply)).is_ok() {
            // An error means that the engine is gone already.
            let _ = answer.await;
        }
    }

    /// Sends a user event to everybody, this node included.
    ///
    /// # Errors
    /// If it is too long.
    pub async fn user_event(&self, name: &str, payload: Bytes, coalesce: bool) -> Result<(), ApiError> {
        let name = name.to_owned();
        self.call(move |node, ctx| node.user_event(ctx, &name, &payload, coalesce)).await?.map_err(Into::into)
    }

    /// Asks everybody. Queries named `_serf_…` are refused, except `_serf_ping` without payload.
    ///
    /// # Errors
    /// If it is too long or its name is reserved.
    pub async fn query(&self, params: QueryParams) -> Result<Answers, ApiError> {
        let (answers_in, answers) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |seat, ctx| {
            let ticket = seat.expect(Reply::Answers(answers_in));
            let started = seat.node.query(ctx, ticket, &params);
            if started.is_err() {
                seat.forget(ticket);
            }
            let _ = reply.send(started);
        }))?;
        let timeout = answer.await.map_err(|_| ApiError::Stopped)??;
        Ok(Answers { timeout, answers })
    }

    /// Answers a query that an [`Event::Query`] told of.
    ///
    /// # Errors
    /// If it is over, was answered already, or the answer is too long.
    pub async fn respond(&self, query: QueryToken, payload: Bytes) -> Result<(), ApiError> {
        self.call(move |node, ctx| node.respond(ctx, query, &payload)).await?.map_err(Into::into)
    }

    /// Declares a failed member left; with `prune` it is erased everywhere. Returns once that was sent.
    /// An unknown name is not an error.
    ///
    /// # Errors
    /// If the broadcast did not go out in time.
    pub async fn force_leave(&self, node_name: &str, prune: bool) -> Result<(), ApiError> {
        let name = node_name.to_owned();
        let done = self
            .pending(Reply::Completion, move |node, ctx, ticket| node.force_leave(ctx, ticket, &name, prune));
        match done.await? {
            Completion::Broadcasted { in_time: false } => Err(ApiError::RemovalTimeout),
            _ => Ok(()),
        }
    }

    /// Replaces the own tags. Returns once that was sent.
    ///
    /// # Errors
    /// If they are too long, or the broadcast did not go out in time.
    pub async fn set_tags(&self, tags: BTreeMap<String, String>) -> Result<(), ApiError> {
        let done =
            self.pending(Reply::Completion, move |node, ctx, ticket| node.set_tags(ctx, ticket, &tags));
        match done.await? {
            Completion::Broadcasted { in_time: false } => Err(ApiError::TagsTimeout),
            _ => Ok(()),
        }
    }

    /// Everybody this node lists, by name.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn members(&self) -> Result<Vec<Member>, ApiError> {
        self.call(|node, ctx| node.members(ctx)).await
    }

    /// The own member record.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn local_member(&self) -> Result<Member, ApiError> {
        self.call(|node, ctx| node.local_member(ctx)).await
    }

    /// Where a member is in the space of round trips: this node itself, or one that it has probed.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn coordinate(&self, node_name: &str) -> Result<Option<Coordinate>, ApiError> {
        let name = node_name.to_owned();
        self.call(move |node, ctx| node.coordinate(ctx, &name)).await
    }

    /// Its numbers.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn stats(&self) -> Result<NodeStats, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |seat, _| {
            let _ = reply.send(node_stats(&seat.node, seat.outlet_dropped));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Calls the node and waits for what the call returns.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Node, &mut Context) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |seat, ctx| {
            let _ = reply.send(call(&mut seat.node, ctx));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Calls the node and waits for the completion that follows.
    async fn pending(
        &self,
        reply_kind: fn(oneshot::Sender<Result<Completion, CommandError>>) -> Reply,
        call: impl FnOnce(&mut Node, &mut Context, crate::command::Ticket) -> Result<(), CommandError>
        + Send
        + 'static,
    ) -> Result<Completion, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |seat, ctx| {
            let ticket = seat.expect(reply_kind(reply));
            if let Err(error) = call(&mut seat.node, ctx, ticket) {
                seat.refuse(ticket, error);
            }
        }))?;
        Ok(answer.await.map_err(|_| ApiError::Stopped)??)
    }

    fn send(&self, call: Call) -> Result<(), ApiError> {
        self.mailbox.push(Request::Call(self.id, call))
    }
}

fn node_stats(node: &Node, outlet_dropped: u64) -> NodeStats {
    let (view, stats) = (node.view(), node.stats());
    let [member_time, event_time, query_time] = node.clocks();
    let [intent_queue, query_queue, event_queue] = node.queue_depths();
    NodeStats {
        members: view.members_count(),
        failed: view.status_count(MemberStatus::Failed),
        left: view.status_count(MemberStatus::Left),
        health_score: node.health_score(),
        member_time,
        event_time,
        query_time,
        intent_queue,
        event_queue,
        query_queue,
        encrypted: node.encrypted(),
        coordinate_resets: node.coordinate_resets(),
        drops: stats.all_drops().map(|(reason, count)| (reason.as_str(), count)).collect(),
        outlet_dropped,
        datagrams: (stats.datagrams_received, stats.datagrams_sent),
        datagram_bytes: (stats.bytes_received, stats.bytes_sent),
    }
}

/// The addresses of one entry of a join.
async fn resolve(entry: &str, default_port: u16) -> Result<Vec<JoinTarget>, String> {
    let failed = |reason: String| format!("Failed to resolve {entry}: {reason}");
    let (node, host) = match entry.split_once('/') {
        Some(("", _)) => return Err(failed("empty node name provided".to_owned())),
        Some((node, host)) => (Some(node.to_owned()), host),
        None => (None, entry),
    };
    let target = |addr: SocketAddr| JoinTarget { label: entry.to_owned(), node: node.clone(), addr };
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return Ok(vec![target(addr)]);
    }
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        return Ok(vec![target(SocketAddr::new(ip, default_port))]);
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => {
            (name, port.parse::<u16>().map_err(|_| failed(format!("invalid port {port:?}")))?)
        }
        None => (host, default_port),
    };
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| failed(error.to_string()))?;
    let targets: Vec<JoinTarget> = found.map(target).collect();
    if targets.is_empty() { Err(failed("no addresses".to_owned())) } else { Ok(targets) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(entry: &str) -> Result<Vec<(Option<String>, SocketAddr)>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let targets = runtime.block_on(resolve(entry, 7946))?;
        Ok(targets.into_iter().map(|target| (target.node, target.addr)).collect())
    }

    #[test]
    fn join_entries_take_every_form() {
        let v4: SocketAddr = "127.0.0.1:7946".parse().unwrap();
        let v6: SocketAddr = "[::1]:7946".parse().unwrap();
        let with_port: SocketAddr = "127.0.0.1:17".parse().unwrap();
        assert_eq!(resolved("127.0.0.1").unwrap(), [(None, v4)]);
        assert_eq!(resolved("127.0.0.1:17").unwrap(), [(None, with_port)]);
        assert_eq!(resolved("::1").unwrap(), [(None, v6)]);
        assert_eq!(resolved("[::1]").unwrap(), [(None, v6)]);
        assert_eq!(resolved("[::1]:7946").unwrap(), [(None, v6)]);
        assert_eq!(resolved("a/127.0.0.1").unwrap(), [(Some("a".to_owned()), v4)]);
        assert!(resolved("/127.0.0.1").unwrap_err().contains("empty node name"));
        assert!(resolved("127.0.0.1:x").unwrap_err().contains("invalid port"));
    }

    #[test]
    fn join_errors_have_serfs_layout() {
        let one = JoinError { errors: vec!["a".to_owned()] };
        assert_eq!(one.to_string(), "1 error occurred:\n\t* a\n\n");
        let two = JoinError { errors: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(two.to_string(), "2 errors occurred:\n\t* a\n\t* b\n\n");
    }
}
