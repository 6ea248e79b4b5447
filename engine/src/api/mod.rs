//! What an embedding program holds: an [`Engine`] (one shard thread) and a [`Handle`] for each node on it.
//!
//! The engine's thread is its own; handles work from any thread and any tokio runtime. Requests travel
//! through a bounded lock-free mailbox; a full one is [`ApiError::Busy`], never a wait.
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
//! - A node runs until its [`Handle::shutdown`] or [`Engine::stop`], until it loses its name to another node
//!   ([`resolve_name_conflicts`](RawConfig::resolve_name_conflicts)), or until its engine ends. After
//!   [`Handle::leave`] it still runs, silent. Dropping one of several handles changes nothing, and a dropped
//!   [`Outlet`] only means that its events go nowhere.
//! - An engine ends when it is stopped, or when the last [`Engine`] and the last [`Handle`] of its nodes are
//!   dropped: its nodes then end without a word, as after a crash, their snapshots are written to disk, their
//!   sockets are closed, and the thread ends. The drop doesn't wait for that; [`Engine::stop`] does.
//! - When a node has ended, its outlet gives what it still holds and then `None`, and every call of its
//!   handles is [`ApiError::Stopped`]. Nothing panics, in whatever order things are dropped.

mod handle;
mod join;
mod listing;
mod outlet;
mod resolve;
mod start;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

pub use self::handle::Handle;
#[cfg(feature = "fixtures")]
pub(crate) use self::listing::LIST_PIECE;
pub use self::listing::Listing;
pub use self::outlet::{Answers, Outlet};
#[cfg(doc)]
use crate::config::RawConfig;
pub use crate::io::memory::share_one_heap;
use crate::io::{Driver, DriverChoice};
pub use crate::shard::{
    Answer, ApiError, JoinError, NodeCensus, NodeEvent, NodeOptions, OutletItem, RingReader, ShardCensus,
    SnapshotOptions, StartError, Watch,
};
use crate::shard::{Mailbox, Request, ShardOptions, spawn};
use crate::wire::LamportTime;

/// Events and notices that wait for the application at one time. Beyond it new ones are dropped and counted
/// in [`NodeStats::outlet_dropped`]; an engine never waits for its application.
pub const OUTLET_DEPTH: usize = 8192;

/// One or more shards: threads with their own runtime, sockets, timers and any number of nodes. A node stays on
/// one shard for life.
#[derive(Clone, Debug)]
pub struct Engine {
    shards: Arc<[Arc<ShardOwner>]>,
    /// The port that nodes share a socket on.
    shared_port: Option<u16>,
    /// Nodes added so far, which take turns among the shards.
    added: Arc<AtomicUsize>,
    driver: Driver,
    reason: Arc<str>,
}

/// What became of a key operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Alive members that were asked.
    pub nodes: usize,
    /// Those that answered.
    pub responses: usize,
    /// Those that answered with an error.
    pub errors: usize,
    /// Error texts and remarks, by node.
    pub messages: BTreeMap<String, String>,
    /// From a list: on how many nodes each key (in base64) is installed.
    pub keys: BTreeMap<String, usize>,
}

impl KeyReport {
    /// What went wrong, in Serf's words; none if all members did it.
    pub fn error(&self) -> Option<String> {
        let KeyReport { nodes, responses, errors, .. } = self;
        if *errors > 0 {
            Some(format!("{errors}/{nodes} nodes reported failure"))
        } else if responses != nodes {
            Some(format!("{responses}/{nodes} nodes reported success"))
        } else {
            None
        }
    }
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

/// How an engine for many nodes is laid out.
#[derive(Clone, Debug)]
pub struct ShardsOptions {
    /// Threads. One stays on the processor the system gives it; several are pinned, one after the other.
    pub shards: u32,
    /// A port on which all nodes that are bound to it share one socket and one listener per shard, each node
    /// with its own address (Linux, IPv4, usually 127.0.0.0/8; 0: the system picks one, see
    /// [`Engine::shared_port`]). The socket is bound to the unspecified address: what comes to an address that
    /// is no node's is dropped.
    pub shared_port: Option<u16>,
}

/// Held by everybody who can reach a shard; the last one to go ends it.
#[derive(Debug)]
struct ShardOwner {
    mailbox: Arc<Mailbox>,
}

impl Drop for ShardOwner {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}

impl Engine {
    /// Starts an engine with one shard.
    ///
    /// # Errors
    /// The thread or its runtime can't be made, or the driver that was demanded does not work here.
    pub fn start(choice: DriverChoice) -> std::io::Result<Engine> {
        Engine::start_shards(choice, &ShardsOptions { shards: 1, shared_port: None })
    }

    /// Starts an engine with several shards.
    ///
    /// # Errors
    /// As for [`start`](Self::start); the shared port is taken; not Linux and a shared port is asked for.
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

    /// The port that nodes share, if they do.
    pub fn shared_port(&self) -> Option<u16> {
        self.shared_port
    }

    /// How every node stands, by shard.
    ///
    /// # Errors
    /// The engine has stopped, or a shard is too busy to be asked.
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

    /// The events of all nodes from now on, one reader for each shard. Reading costs the shards nothing but the
    /// writing; a reader that lags loses events, which the nodes' own outlets may still have.
    pub fn watch(&self) -> Vec<Watch> {
        self.shards.iter().map(|shard| shard.mailbox.watch().reader()).collect()
    }

    /// The shard that serves a node bound there: the kernel decides for shared sockets, else they take turns.
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

    /// The driver in use.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Why that driver: one line.
    pub fn driver_reason(&self) -> &str {
        &self.reason
    }

    /// Starts a node. When this returns its sockets are bound, it has begun, and it has joined through
    /// [`NodeOptions::join`] if there is anything in it.
    ///
    /// # Errors
    /// The settings, the addresses or the snapshot are refused, or nobody to join through answered.
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

    /// Stops every node without a word and ends the threads. Returns when the sockets are closed.
    pub async fn stop(&self) {
        for shard in self.shards.iter() {
            let (reply, answer) = oneshot::channel();
            if shard.mailbox.push(Request::Stop(reply)).is_ok() {
                // An error means that the thread is gone already.
                let _ = answer.await;
            }
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
