//! How requests from other threads reach a shard: a bounded lock-free queue and a wake-up.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use tokio::sync::{mpsc, oneshot};

use super::census::ShardCensus;
use super::errors::{ApiError, StartError};
use super::hosted::HostedNode;
use super::item::OutletItem;
use super::options::NodeOptions;
use super::sync::{ArrayQueue, AtomicBool, Notify, OnceLock, Ordering, fence};
use super::watch::WatchRing;
use crate::context::{Context, NodeId};
use crate::node::ListedMember;

/// Requests that may wait for a shard at one time.
const DEPTH: usize = 1024;
/// References that are taken back at one time: some ten nanoseconds each.
const GIVEN_BACK_SLICE: usize = 4096;

/// Something to do with a node on its shard.
pub(crate) type Call = Box<dyn FnOnce(&mut HostedNode, &mut Context) + Send>;

/// What other threads ask of a shard.
pub(crate) enum Request {
    /// Start a node.
    Add(Box<NodeOptions>, mpsc::Sender<OutletItem>, oneshot::Sender<Result<Added, StartError>>),
    /// Call a node.
    Call(NodeId, Call),
    /// Tell about all nodes at once.
    Census(oneshot::Sender<ShardCensus>),
    /// End a node without a word.
    Remove(NodeId, oneshot::Sender<()>),
    /// End all nodes and the shard.
    Stop(oneshot::Sender<()>),
}

/// A node that was started.
pub(crate) struct Added {
    pub(crate) id: NodeId,
    pub(crate) bound: SocketAddr,
    pub(crate) advertise: SocketAddr,
}

/// The requests that wait for one shard.
pub(crate) struct Mailbox {
    requests: ArrayQueue<Request>,
    /// References to facts that lists held. Never more than the lists that were asked for.
    given_back: SegQueue<Vec<ListedMember>>,
    arrived: Notify,
    closed: AtomicBool,
    abandoned: AtomicBool,
    /// Where all nodes' events go, once somebody has asked for it.
    watch: OnceLock<Arc<WatchRing>>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            requests: ArrayQueue::new(DEPTH),
            given_back: SegQueue::new(),
            arrived: Notify::new(),
            closed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            watch: OnceLock::new(),
        }
    }
}

impl Mailbox {
    /// Leaves a request.
    pub(crate) fn push(&self, request: Request) -> Result<(), ApiError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ApiError::Stopped);
        }
        self.requests.push(request).map_err(|_| ApiError::Busy)?;
        self.arrived.notify_one();
        if self.closed_meanwhile() {
            // It closed between the two looks and nobody pops any more.
            self.close();
        }
        Ok(())
    }

    /// Gives references to facts back. Unlike a request this can't find the mailbox full.
    pub(crate) fn give_back(&self, facts: Vec<ListedMember>) {
        if !facts.is_empty() {
            self.given_back.push(facts);
            self.arrived.notify_one();
        }
    }

    /// Some of the references that were given back, if any were.
    pub(crate) fn take_back(&self) -> Option<Vec<ListedMember>> {
        let mut facts = self.given_back.pop()?;
        let some = facts.split_off(facts.len().saturating_sub(GIVEN_BACK_SLICE));
        self.give_back(facts);
        Some(some)
    }

    /// Nobody is left who could leave a request.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Whether nobody is left who could leave a request.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The next request, if one waits.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.requests.pop()
    }

    /// Returns when requests may have arrived since it returned last.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The ring of events, made for whoever watches first.
    pub(crate) fn watch(&self) -> &Arc<WatchRing> {
        let ring = self.watch.get_or_init(WatchRing::for_shard);
        if self.closed_meanwhile() {
            // Whoever closed it may not have seen this ring.
            ring.close();
        }
        ring
    }

    /// The ring of events, if anybody watches.
    pub(crate) fn watched(&self) -> Option<&WatchRing> {
        self.watch.get().map(|ring| &**ring).filter(|ring| ring.is_read())
    }

    /// Takes no more requests. Those that wait are dropped, which tells whoever waits for an answer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while self.requests.pop().is_some() {}
        if let Some(ring) = self.watch.get() {
            ring.close();
        }
    }

    /// Whether it has closed, asked by somebody who has just left something. With the fence here and the one in
    /// `close` either this is true or `close` finds what was left.
    fn closed_meanwhile(&self) -> bool {
        fence(Ordering::SeqCst);
        self.closed.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({} of {DEPTH})", self.requests.len())
    }
}
