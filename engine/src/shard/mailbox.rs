//! The requests of other threads to a shard: a bounded lock-free queue and a wake-up.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use tokio::sync::{mpsc, oneshot};

use super::census::ShardCensus;
use super::errors::{ApiError, StartError};
use super::hosted::HostedNode;
use super::item::OutletEntry;
use super::options::NodeOptions;
use super::sync::{ArrayQueue, AtomicBool, Notify, OnceLock, Ordering, fence};
use super::watch::WatchRing;
use crate::context::{Context, NodeId};
use crate::node::ListedMember;

/// Capacity of the queue, requests.
const DEPTH: usize = 1024;
/// References that the shard takes back in one turn, some ten nanoseconds each.
const GIVEN_BACK_SLICE: usize = 4096;

/// A function that the shard calls with a node.
pub(crate) type Call = Box<dyn FnOnce(&mut HostedNode, &mut Context) + Send>;

/// What other threads ask of a shard.
pub(crate) enum Request {
    /// Start a node.
    Add(Box<NodeOptions>, mpsc::Sender<OutletEntry>, oneshot::Sender<Result<Added, StartError>>),
    /// Call a function with a node.
    Call(NodeId, Call),
    /// Count all nodes.
    Census(oneshot::Sender<ShardCensus>),
    /// End a node without announcing it.
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

/// What waits for one shard.
pub(crate) struct Mailbox {
    requests: ArrayQueue<Request>,
    /// References to members whose lists have been dropped. Bounded by the lists that were requested.
    given_back: SegQueue<Vec<ListedMember>>,
    arrived: Notify,
    closed: AtomicBool,
    abandoned: AtomicBool,
    /// The ring of all nodes' events, made for the first reader.
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
    /// Adds a request and wakes the shard. After an error the request is dropped.
    pub(crate) fn push(&self, request: Request) -> Result<(), ApiError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ApiError::Stopped);
        }
        self.requests.push(request).map_err(|_| ApiError::Busy)?;
        self.arrived.notify_one();
        if self.closed_meanwhile() {
            // It closed between the two checks, and the shard pops no more.
            self.close();
        }
        Ok(())
    }

    /// Gives references to members back. Unlike a request, this is never refused.
    pub(crate) fn give_back(&self, listed: Vec<ListedMember>) {
        if !listed.is_empty() {
            self.given_back.push(listed);
            self.arrived.notify_one();
        }
    }

    /// A slice of the references that were given back, if there are any.
    pub(crate) fn take_back(&self) -> Option<Vec<ListedMember>> {
        let mut listed = self.given_back.pop()?;
        let some = listed.split_off(listed.len().saturating_sub(GIVEN_BACK_SLICE));
        self.give_back(listed);
        Some(some)
    }

    /// Marks that no sender is left.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Whether no sender is left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The next request, if there is one.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.requests.pop()
    }

    /// Returns when something may have arrived since it last returned. Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The ring of events, made when it is first asked for.
    pub(crate) fn watch(&self) -> &Arc<WatchRing> {
        let ring = self.watch.get_or_init(WatchRing::for_shard);
        if self.closed_meanwhile() {
            // `close` may have run before this ring was there.
            ring.close();
        }
        ring
    }

    /// The ring of events, if it has a reader.
    pub(crate) fn watched(&self) -> Option<&WatchRing> {
        self.watch.get().map(|ring| &**ring).filter(|ring| ring.is_read())
    }

    /// Refuses all later requests. Waiting ones are dropped, and with them the senders of their answers, so that
    /// the callers return `Stopped`.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while self.requests.pop().is_some() {}
        if let Some(ring) = self.watch.get() {
            ring.close();
        }
    }

    /// Whether the mailbox has closed, for a sender that has just pushed something. With the fence here and the
    /// one in `close`, either this returns true or `close` finds what was pushed.
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
