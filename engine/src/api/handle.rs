//! The way to one node from any thread and any runtime.

use std::collections::BTreeMap;
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
use crate::wire::SerfMessage;
use crate::wire::coordinate::Coordinate;

/// One node, from any thread and any runtime. Cheap to clone. Dropping handles does not end the node, but an
/// engine of which there is no [`Engine`](super::Engine) and no handle left ends with all its nodes.
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

    /// Where its sockets are bound.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// The address it announces.
    pub fn advertise(&self) -> SocketAddr {
        self.advertise
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
        if self.shard.mailbox.push(Request::Remove(self.id, reply)).is_ok() {
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
        self.leave_request(Box::new(move |hosted, ctx| {
            let ticket = hosted.expect(Reply::Answers(answers_in));
            let started = hosted.node.query(ctx, ticket, &params);
            if started.is_err() {
                hosted.forget(ticket);
            }
            let _ = reply.send(started);
        }))?;
        let timeout = answer.await.map_err(|_| ApiError::Stopped)??;
        Ok(Answers::new(timeout, answers))
    }

    /// Has a key operation done by all members. Returns as soon as all answered, at the latest after a query's
    /// default time.
    ///
    /// # Errors
    /// If it can't be asked. What members answer is in the report.
    pub async fn keys(&self, operation: KeyOperation, key: Vec<u8>) -> Result<KeyReport, ApiError> {
        let (answers_in, mut answers) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        self.leave_request(Box::new(move |hosted, ctx| {
            let ticket = hosted.expect(Reply::Answers(answers_in));
            let nodes = hosted.node.view().status_count(MemberStatus::Alive);
            let started = hosted.node.key_query(ctx, ticket, operation, &key);
            if started.is_err() {
                hosted.forget(ticket);
            }
            let _ = reply.send(started.map(|_| nodes));
        }))?;
        let nodes = answer.await.map_err(|_| ApiError::Stopped)??;
        let mut report = KeyReport { nodes, ..KeyReport::default() };
        while report.responses < nodes
            && let Some(answer) = answers.recv().await
        {
            if let Answer::Response { from, payload } = answer {
                report.count(from, &payload);
            }
        }
        Ok(report)
    }

    /// Answers a query that an [`Event::Query`](crate::event::Event::Query) told of.
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
        self.announced(move |node, ctx, ticket| node.set_tags(ctx, ticket, &tags)).await
    }

    /// The own tags, as last announced.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>, ApiError> {
        self.local_member().await.map(|member| member.tags)
    }

    /// Changes some of the own tags and leaves the others: those in `remove` go, those in `set` come or
    /// change. Returns once that was sent. Two updates at a time don't undo each other.
    ///
    /// # Errors
    /// As those of [`set_tags`](Self::set_tags).
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
    /// If the delegate gives none, or the broadcast did not go out in time.
    pub async fn update_meta(&self) -> Result<(), ApiError> {
        self.announced(|node, ctx, ticket| node.update_meta(ctx, ticket)).await
    }

    /// Gossips a message of the program's own to all other nodes, whose delegates get it. Returns at once.
    /// Plain SWIM only.
    ///
    /// # Errors
    /// If it is longer than 1024 bytes, or too many wait.
    pub async fn broadcast(&self, message: Bytes) -> Result<(), ApiError> {
        self.call(move |node, ctx| node.broadcast(ctx, message)).await?.map_err(Into::into)
    }

    /// Sends a message of the program's own straight to one member, whose delegate gets it unless the
    /// datagram is lost. Plain SWIM only.
    ///
    /// # Errors
    /// If it is longer than 1024 bytes, or nobody of that name is alive.
    pub async fn send(&self, member: &str, message: Bytes) -> Result<(), ApiError> {
        let member = member.to_owned();
        self.call(move |node, ctx| node.send(ctx, &member, &message)).await?.map_err(Into::into)
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

    /// What the sockets of the node's shard counted, those of its other nodes included.
    ///
    /// # Errors
    /// The engine has stopped, or the shard is too busy to be asked.
    pub async fn udp_counters(&self) -> Result<UdpCounters, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.shard.mailbox.push(Request::Census(reply))?;
        Ok(answer.await.map_err(|_| ApiError::Stopped)?.udp)
    }

    /// Its numbers.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn stats(&self) -> Result<NodeStats, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.leave_request(Box::new(move |hosted, _| {
            let _ = reply.send(node_stats(&hosted.node, hosted.outlet_dropped));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Calls the node and waits for what the call returns.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Node, &mut Context) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.leave_request(Box::new(move |hosted, ctx| {
            let _ = reply.send(call(&mut hosted.node, ctx));
        }))?;
        answer.await.map_err(|_| ApiError::Stopped)
    }

    /// Calls the node and waits for the completion that follows.
    pub(super) async fn pending(
        &self,
        reply_kind: fn(oneshot::Sender<Result<Completion, CommandError>>) -> Reply,
        call: impl FnOnce(&mut Node, &mut Context, Ticket) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<Completion, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.leave_request(Box::new(move |hosted, ctx| {
            let ticket = hosted.expect(reply_kind(reply));
            if let Err(error) = call(&mut hosted.node, ctx, ticket) {
                hosted.refuse(ticket, error);
            }
        }))?;
        Ok(answer.await.map_err(|_| ApiError::Stopped)??)
    }

    /// Changes what the node announces of itself and waits until that was sent.
    async fn announced(
        &self,
        call: impl FnOnce(&mut Node, &mut Context, Ticket) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<(), ApiError> {
        match self.pending(Reply::Completion, call).await? {
            Completion::Broadcasted { in_time: false } => Err(ApiError::TagsTimeout),
            _ => Ok(()),
        }
    }

    fn leave_request(&self, call: Call) -> Result<(), ApiError> {
        self.shard.mailbox.push(Request::Call(self.id, call))
    }
}

impl KeyReport {
    /// Counts one node's answer.
    fn count(&mut self, from: String, payload: &[u8]) {
        self.responses += 1;
        let response = match SerfMessage::decode(payload) {
            Ok(SerfMessage::KeyResponse(response)) => response,
            _ => {
                self.errors += 1;
                self.messages.insert(from, "Failed to decode key query response".to_owned());
                return;
            }
        };
        self.errors += usize::from(!response.result);
        if !response.message.is_empty() {
            self.messages.insert(from, response.message.to_owned());
        }
        for key in response.keys {
            *self.keys.entry(key.to_owned()).or_default() += 1;
        }
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
