//! A handle to one node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Answers, ApiError, KeyReport, NodeStats, ShardOwner};
use crate::command::{CommandError, KeyOperation, QueryParams, QueryToken, Ticket};
use crate::context::{Context, NodeId};
use crate::event::{Completion, Member};
use crate::io::UdpCounters;
use crate::node::Node;
use crate::shard::{Call, Reply, Request};
use crate::view::MemberStatus;
use crate::wire::coordinate::Coordinate;

/// A handle to one node, for any thread and any runtime. Cheap to clone. Dropping a handle does not end its
/// node, but an engine ends with all its nodes once no [`Engine`](super::Engine) and no handle of it is left.
///
/// Every method but [`shutdown`](Self::shutdown) returns [`ApiError::Busy`] if the shard's mailbox is full and [`ApiError::Stopped`] if the node
/// has ended. Dropping the future of a call does not take the request back.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shard: Arc<ShardOwner>,
    pub(super) id: NodeId,
    pub(super) name: Arc<str>,
    pub(super) bound: SocketAddr,
    pub(super) advertise: SocketAddr,
}

impl Handle {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that its sockets are bound to, with the port that the system picked if it did.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// The address that it announces to other members.
    pub fn advertise(&self) -> SocketAddr {
        self.advertise
    }

    /// Leaves the cluster gracefully. Returns after the broadcast of the departure and
    /// [`leave_propagate_delay`](crate::config::RawConfig::leave_propagate_delay), once the snapshot is on disk.
    /// The node still runs afterwards but sends nothing; [`shutdown`](Self::shutdown) ends it.
    ///
    /// # Errors
    /// An earlier leave is under way or done; this call changes nothing then.
    pub async fn leave(&self) -> Result<(), ApiError> {
        self.pending(|node, ctx, ticket| node.leave(ctx, ticket)).await.map(|_| ())
    }

    /// Ends the node without announcing it. Returns once its sockets are closed and its snapshot is on disk, at
    /// once if it has ended already. A full mailbox delays it.
    pub async fn shutdown(&self) {
        self.shard.push_and_wait(|reply| Request::Remove(self.id, reply)).await;
    }

    /// Sends a user event to all members, this node included. Returns once it is queued. With `coalesce`,
    /// receivers may deliver only the newest of several events of this name.
    ///
    /// # Errors
    /// Name and payload together exceed
    /// [`user_event_size_limit`](crate::config::RawConfig::user_event_size_limit), or the node has left. Nothing
    /// is sent then.
    pub async fn user_event(&self, name: &str, payload: Bytes, coalesce: bool) -> Result<(), ApiError> {
        let name = name.to_owned();
        self.call(move |node, ctx| node.user_event(ctx, &name, &payload, coalesce)).await?.map_err(Into::into)
    }

    /// Sends a query to the members that its filters select. Names that begin with `_serf_` are reserved, except
    /// `_serf_ping` without payload.
    ///
    /// # Errors
    /// The query is too long, its name is reserved, or too many queries are under way. Nothing is sent then.
    pub async fn query(&self, params: QueryParams) -> Result<Answers, ApiError> {
        let (answers_in, answers) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move |hosted, ctx| {
            let ticket = hosted.register(Reply::Answers(answers_in));
            let started = hosted.node.query(ctx, ticket, &params);
            if started.is_err() {
                hosted.forget(ticket);
            }
            let _ = reply.send(started);
        }))?;
        let timeout = answer.await.map_err(|_| ApiError::Stopped)??;
        Ok(Answers::new(timeout, answers))
    }

    /// Has all members perform a key operation. Returns when all alive members have answered, at the latest after
    /// a query's default timeout.
    ///
    /// # Errors
    /// The query can't be sent; no keyring has changed then. Errors of members are in the report.
    pub async fn keys(&self, operation: KeyOperation, key: Vec<u8>) -> Result<KeyReport, ApiError> {
        let (answers_in, mut answers) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move |hosted, ctx| {
            let ticket = hosted.register(Reply::Answers(answers_in));
            let alive = |member: &Member| member.status == MemberStatus::Alive;
            let nodes: BTreeSet<String> =
                hosted.node.members(ctx).into_iter().filter(alive).map(|member| member.name).collect();
            let started = hosted.node.key_query(ctx, ticket, operation, &key);
            if started.is_err() {
                hosted.forget(ticket);
            }
            let _ = reply.send(started.map(|_| nodes));
        }))?;
        let mut missing = answer.await.map_err(|_| ApiError::Stopped)??;
        let mut report = KeyReport { nodes: missing.len(), ..KeyReport::default() };
        while !missing.is_empty()
            && let Some(answer) = answers.recv().await
        {
            if let Answer::Response { from, payload } = answer {
                // A newcomer's answer does not stand for that of a member which is missing.
                report.nodes += usize::from(!missing.remove(&from));
                report.count(from, &payload);
            }
        }
        Ok(report)
    }

    /// Answers a query that arrived as an [`Event::Query`](crate::event::Event::Query).
    ///
    /// # Errors
    /// The query's deadline has passed, it was answered already, or the answer is too long. Nothing is sent then;
    /// after an answer that is too long a shorter one can be sent.
    pub async fn respond(&self, query: QueryToken, payload: Bytes) -> Result<(), ApiError> {
        self.call(move |node, ctx| node.respond(ctx, query, &payload)).await?.map_err(Into::into)
    }

    /// Declares a failed member left; with `prune`, all members erase it. Returns once the broadcast was sent.
    /// An unknown name is not an error.
    ///
    /// # Errors
    /// [`ApiError::RemovalTimeout`]: the broadcast was not sent within
    /// [`broadcast_timeout`](crate::config::RawConfig::broadcast_timeout). This node has changed the member's
    /// status all the same, and the broadcast stays queued.
    pub async fn force_leave(&self, node_name: &str, prune: bool) -> Result<(), ApiError> {
        let name = node_name.to_owned();
        let done = self.pending(move |node, ctx, ticket| node.force_leave(ctx, ticket, &name, prune));
        match done.await? {
            Completion::Broadcasted { in_time: false } => Err(ApiError::RemovalTimeout),
            _ => Ok(()),
        }
    }

    /// Replaces this node's tags. Returns once the broadcast was sent.
    ///
    /// # Errors
    /// The encoded tags exceed 512 bytes: the tags are unchanged. [`ApiError::TagsTimeout`]: the tags have changed
    /// and the broadcast is queued, but it was not sent within
    /// [`broadcast_timeout`](crate::config::RawConfig::broadcast_timeout).
    pub async fn set_tags(&self, tags: BTreeMap<String, String>) -> Result<(), ApiError> {
        self.announced(move |node, ctx, ticket| node.set_tags(ctx, ticket, &tags)).await
    }

    /// This node's tags, as last announced.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>, ApiError> {
        self.local_member().await.map(|member| member.tags)
    }

    /// Changes some of this node's tags: those in `remove` are deleted, then those in `set` are set. Returns once
    /// the broadcast was sent. Two updates at the same time do not undo each other.
    ///
    /// # Errors
    /// As for [`set_tags`](Self::set_tags).
    pub async fn update_tags(
        &self,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<(), ApiError> {
        self.announced(move |node, ctx, ticket| node.update_tags(ctx, ticket, set, &remove)).await
    }

    /// Asks the delegate for the node's meta again and announces it. Plain SWIM only.
    ///
    /// # Errors
    /// The delegate gives no meta: nothing has changed. [`ApiError::TagsTimeout`]: the meta has changed, but the
    /// broadcast was not sent in time.
    pub async fn update_meta(&self) -> Result<(), ApiError> {
        self.announced(|node, ctx, ticket| node.update_meta(ctx, ticket)).await
    }

    /// Gossips a message of the program to the delegates of all other members. Returns once it is queued. Plain
    /// SWIM only.
    ///
    /// # Errors
    /// The message is longer than 1,024 bytes, or too many are queued. Nothing is sent then.
    pub async fn broadcast(&self, message: Bytes) -> Result<(), ApiError> {
        self.call(move |node, ctx| node.broadcast(ctx, message)).await?.map_err(Into::into)
    }

    /// Sends a message of the program to the delegate of one member, in one datagram that may be lost. Plain SWIM
    /// only.
    ///
    /// # Errors
    /// The message is longer than 1,024 bytes, or no member of that name is alive. Nothing is sent then.
    pub async fn send(&self, member: &str, message: Bytes) -> Result<(), ApiError> {
        let member = member.to_owned();
        self.call(move |node, ctx| node.send(ctx, &member, &message)).await?.map_err(Into::into)
    }

    /// This node's member record.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn local_member(&self) -> Result<Member, ApiError> {
        self.call(|node, ctx| node.local_member(ctx)).await
    }

    /// The network coordinate of this node, or of a member that it has probed; `None` for any other name.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn coordinate(&self, node_name: &str) -> Result<Option<Coordinate>, ApiError> {
        let name = node_name.to_owned();
        self.call(move |node, ctx| node.coordinate(ctx, &name)).await
    }

    /// The network coordinates of some members, in the order of the names; `None` as for
    /// [`coordinate`](Self::coordinate). The node handles no other input meanwhile: ask for hundreds, not for thousands.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn coordinates(&self, node_names: Vec<String>) -> Result<Vec<Option<Coordinate>>, ApiError> {
        self.call(move |node, ctx| node_names.iter().map(|name| node.coordinate(ctx, name)).collect()).await
    }

    /// The counters of all sockets of the node's shard, those of its other nodes included.
    ///
    /// # Errors
    /// The engine has stopped, or the mailbox is full.
    pub async fn udp_counters(&self) -> Result<UdpCounters, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.shard.mailbox.push(Request::Census(reply))?;
        Ok(answer.await.map_err(|_| ApiError::Stopped)?.udp)
    }

    /// Counts and clocks of this node.
    ///
    /// # Errors
    /// The node has stopped, or the mailbox is full.
    pub async fn stats(&self) -> Result<NodeStats, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move |hosted, ctx| {
            let _ = reply.send(NodeStats::of(&hosted.node, hosted.outlet_dropped, ctx.now));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Runs `call` on the shard and waits for what it returns.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Node, &mut Context) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move |hosted, ctx| {
            let _ = reply.send(call(&mut hosted.node, ctx));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Runs `call` on the shard and waits for the completion of the command that it starts.
    pub(super) async fn pending(
        &self,
        call: impl FnOnce(&mut Node, &mut Context, Ticket) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<Completion, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move |hosted, ctx| {
            let ticket = hosted.register(Reply::Completion(reply));
            if let Err(error) = call(&mut hosted.node, ctx, ticket) {
                hosted.refuse(ticket, error);
            }
        }))?;
        Ok(answer.await.map_err(|_| ApiError::Stopped)??)
    }

    /// Changes what the node announces of itself and waits until the broadcast was sent.
    async fn announced(
        &self,
        call: impl FnOnce(&mut Node, &mut Context, Ticket) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<(), ApiError> {
        match self.pending(call).await? {
            Completion::Broadcasted { in_time: false } => Err(ApiError::TagsTimeout),
            _ => Ok(()),
        }
    }

    fn push(&self, call: Call) -> Result<(), ApiError> {
        self.shard.mailbox.push(Request::Call(self.id, call))
    }
}
