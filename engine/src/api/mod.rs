//! What an embedding program holds: an [`Engine`] (one or more shard threads) and a [`Handle`] for each node.
//!
//! The engine starts its own threads; handles work from any thread and any tokio runtime. Requests travel
//! through a lock-free mailbox of 1,024 requests per shard; a full mailbox is [`ApiError::Busy`], never a wait.
//!
//! ```
//! use thane_engine::api::NodeOptions;
//! use thane_engine::event::Event;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // Alone on a port that the system picks; `.join(["10.0.0.7"])` would join a cluster.
//! let options = NodeOptions::local("web-1", ([127, 31, 9, 1], 0)).tag("role", "web");
//! let (node, mut outlet) = options.start().await.unwrap();
//! let Some(Event::Member { members, .. }) = outlet.next_event().await else { panic!("it runs") };
//! assert_eq!(members.first().unwrap().name, "web-1");
//! node.user_event("deploy", "v2".into(), false).await.unwrap();
//! node.leave().await.unwrap();
//! # });
//! ```
//!
//! # What lives how long
//! - A node runs until [`Handle::shutdown`] or [`Engine::stop`] is called, until it loses its name to another
//!   node ([`resolve_name_conflicts`](RawConfig::resolve_name_conflicts)), or until its engine ends. After
//!   [`Handle::leave`] it still runs, but sends nothing more. Dropping one of several handles changes nothing.
//!   Dropping an [`Outlet`] discards the node's later events.
//! - An engine ends when it is stopped, or when the last [`Engine`] and the last [`Handle`] of its nodes are
//!   dropped. Its nodes then end without announcing it, as after a crash; their snapshots are written to disk,
//!   their sockets are closed, and the threads end. The drop does not wait for that; [`Engine::stop`] does.
//! - When a node has ended, its outlet yields the items that it still holds and then `None`, and every call of
//!   its handles returns [`ApiError::Stopped`]. Nothing panics, in whatever order things are dropped.
//!
//! # Errors and state
//! Unless an error's documentation says otherwise, a call that fails has changed nothing. A call that returns
//! [`ApiError::Stopped`] may have been carried out if the node ended at the same time.

mod handle;
mod join;
mod key_report;
mod listing;
mod outlet;
mod resolve;
mod start;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

pub use self::handle::Handle;
pub use self::key_report::KeyReport;
#[cfg(feature = "fixtures")]
pub(crate) use self::listing::LIST_PIECE;
pub use self::listing::Listing;
pub use self::outlet::{Answers, Outlet};
pub use self::stats::NodeStats;
#[cfg(doc)]
use crate::config::RawConfig;
pub use crate::io::code::release_unused_code;
pub use crate::io::memory::share_one_heap;
use crate::io::{Driver, DriverChoice};
pub use crate::shard::{
    Answer, ApiError, JoinError, NodeCensus, NodeEvent, NodeOptions, OutletEntry, OutletItem, RingReader,
    ShardCensus, SnapshotOptions, StartError, Watch,
};
use crate::shard::{Mailbox, Request, ShardOptions, spawn};

/// Capacity of an [`Outlet`], in events and notices. When it is full, the shard drops new ones and counts them
/// in [`NodeStats::outlet_dropped`]; an engine never waits for the program. Notices use at most half of it.
pub const OUTLET_DEPTH: usize = 8192;

/// One or more shards: threads with their own runtime, sockets, timers and any number of nodes. A node never
/// moves to another shard. Cheap to clone; clones are the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    shards: Arc<[Arc<ShardOwner>]>,
    /// The port of the sockets that nodes share.
    shared_port: Option<u16>,
    /// Nodes added so far: they are assigned to the shards in turn.
    added: Arc<AtomicUsize>,
    driver: Driver,
    reason: Arc<str>,
}

/// How an engine for many nodes is laid out.
#[derive(Clone, Debug)]
pub struct ShardsOptions {
    /// Shard threads, at least 1; 0 counts as 1. A single thread runs on any processor; of several, thread `n`
    /// is pinned to processor `n`, modulo the number of processors.
    pub shards: u32,
    /// The port of one UDP socket and one TCP listener per shard that all nodes bound to this port share, each
    /// node under an address of its own, usually in 127.0.0.0/8. Linux and IPv4 only. 0: the system picks a
    /// port ([`Engine::shared_port`] returns it). `None`: every node has its own sockets. The shared sockets are
    /// bound to the unspecified address; datagrams and connections to an address of no node are dropped.
    pub shared_port: Option<u16>,
}

/// Shared by all that can send requests to one shard; dropping the last reference ends the shard.
#[derive(Debug)]
struct ShardOwner {
    mailbox: Arc<Mailbox>,
}

impl ShardOwner {
    /// Pushes a request that must not be refused, again while the mailbox is full, and waits for its answer.
    /// Returns at once if the shard has ended.
    async fn push_and_wait(&self, request: impl Fn(oneshot::Sender<()>) -> Request) {
        loop {
            let (reply, answer) = oneshot::channel();
            match self.mailbox.push(request(reply)) {
                Ok(()) => {
                    // An error means that the thread has ended already.
                    let _ = answer.await;
                    return;
                }
                Err(ApiError::Busy) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    }
}

impl Drop for ShardOwner {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}

impl Engine {
    /// Starts an engine with one shard and no shared port.
    ///
    /// # Errors
    /// The system refuses the thread or its runtime, or `choice` demands a driver that does not work on this
    /// machine. Nothing keeps running.
    pub fn start(choice: DriverChoice) -> std::io::Result<Engine> {
        Engine::start_shards(choice, &ShardsOptions { shards: 1, shared_port: None })
    }

    /// Starts an engine with several shards.
    ///
    /// # Errors
    /// As for [`start`](Self::start); the shared port is in use; a shared port is asked for on a system other
    /// than Linux. Shards that had started end again.
    pub fn start_shards(choice: DriverChoice, options: &ShardsOptions) -> std::io::Result<Engine> {
        let (driver, reason) = choice.resolve()?;
        let count = options.shards.max(1);
        let (mut shards, mut shared_port) = (Vec::new(), options.shared_port);
        for number in 0..count {
            let mailbox = Arc::new(Mailbox::default());
            let shared = shared_port.map(|port| bind_shared(port, number, count)).transpose()?;
            if let Some((_, socket)) = &shared {
                shared_port = Some(socket.local_addr()?.port());
            }
            let processor = (count > 1).then_some(number as usize);
            spawn(ShardOptions { driver, processor, shared }, Arc::clone(&mailbox))?;
            shards.push(Arc::new(ShardOwner { mailbox }));
        }
        let added = Arc::new(AtomicUsize::new(0));
        Ok(Engine { shards: shards.into(), shared_port, added, driver, reason: reason.into() })
    }

    /// The port whose sockets nodes share, if [`ShardsOptions::shared_port`] was set.
    pub fn shared_port(&self) -> Option<u16> {
        self.shared_port
    }

    /// Counts of all running nodes, one [`ShardCensus`] for each shard.
    ///
    /// # Errors
    /// The engine has stopped, or the mailbox of a shard is full. Reading changes nothing.
    pub async fn census(&self) -> Result<Vec<ShardCensus>, ApiError> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let (reply, answer) = oneshot::channel();
            shard.mailbox.push(Request::Census(reply))?;
            answers.push(answer);
        }
        let mut shards = Vec::with_capacity(answers.len());
        for answer in answers {
            shards.push(answer.await.map_err(|_| ApiError::Stopped)?);
        }
        Ok(shards)
    }

    /// Readers of the events of all nodes from now on, one for each shard. A shard copies its events into the
    /// ring only while there is a reader, and never waits for one. A reader that lags by more than 8,192 events
    /// loses the oldest and counts them ([`RingReader::lost`]); the nodes' own outlets are not affected.
    pub fn watch(&self) -> Vec<Watch> {
        self.shards.iter().map(|shard| shard.mailbox.watch().reader()).collect()
    }

    /// The shard that serves a node bound to this address. For shared sockets the kernel steers by destination
    /// address; other nodes are assigned in turn.
    fn shard_for(&self, bind: SocketAddr) -> &Arc<ShardOwner> {
        #[cfg(target_os = "linux")]
        if let (SocketAddr::V4(addr), Some(port)) = (bind, self.shared_port)
            && addr.port() == port
        {
            let shard = crate::io::shared::shard_of(*addr.ip(), self.shards.len() as u32);
            return &self.shards[shard as usize];
        }
        let turn = self.added.fetch_add(1, Ordering::Relaxed);
        &self.shards[turn % self.shards.len()]
    }

    /// The driver of the data plane of all shards.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Why this driver was chosen: one line for the log.
    pub fn driver_reason(&self) -> &str {
        &self.reason
    }

    /// Starts a node. When this returns, its sockets are bound, its timers run, and it has joined through
    /// [`NodeOptions::join`] unless that is empty.
    ///
    /// # Errors
    /// See [`StartError`]. After an error no node runs and no socket stays bound; a snapshot file may have been
    /// created.
    pub async fn add(&self, mut options: NodeOptions) -> Result<(Handle, Outlet), StartError> {
        let (reply, answer) = oneshot::channel();
        let (outlet_in, outlet) = mpsc::channel(OUTLET_DEPTH);
        let name: Arc<str> = options.config.node_name.as_str().into();
        let join = std::mem::take(&mut options.join);
        let shard = Arc::clone(self.shard_for(options.bind));
        shard.mailbox.push(Request::Add(Box::new(options), outlet_in, reply))?;
        let added = answer.await.map_err(|_| ApiError::Stopped)??;
        let handle = Handle { shard, id: added.id, name, bound: added.bound, advertise: added.advertise };
        if !join.is_empty()
            && let Err(error) = handle.join(&join, false).await
        {
            handle.shutdown().await;
            return Err(error.into());
        }
        Ok((handle, outlet.into()))
    }

    /// Ends every node without announcing it, and the threads. Returns when all snapshots are on disk and all
    /// sockets are closed. Stopping an engine that has stopped does nothing.
    pub async fn stop(&self) {
        for shard in self.shards.iter() {
            shard.push_and_wait(Request::Stop).await;
        }
    }
}

fn bind_shared(
    port: u16,
    shard: u32,
    shards: u32,
) -> std::io::Result<(std::net::TcpListener, std::net::UdpSocket)> {
    #[cfg(target_os = "linux")]
    return crate::io::shared::bind(port, shard, shards);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (port, shard, shards);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
