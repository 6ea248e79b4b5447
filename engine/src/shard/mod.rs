//! A shard: one thread with its own runtime, sockets, timers and nodes. It reads the clock, hands inputs to
//! nodes and carries out what they put out; it makes no decision of the protocol.
//!
//! `thread` starts it, `mailbox` holds the requests of other threads, `lifecycle` starts and ends nodes, `outputs`
//! carries out what nodes put out, `hosted` is a node with what the shard keeps for it. `options`, `errors`, `item`,
//! `census` and `watch` are the types that the shard and the embedding interface (`api`) both name.

mod census;
mod errors;
mod hosted;
mod item;
mod lifecycle;
mod mailbox;
mod options;
mod outputs;
mod sync;
mod thread;
mod watch;
#[cfg(test)]
mod watch_tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

pub use self::census::{NodeCensus, ShardCensus};
pub use self::errors::{ApiError, JoinError, StartError};
pub(crate) use self::hosted::Reply;
use self::hosted::{HostedNode, Synced};
pub use self::item::{Answer, OutletEntry, OutletItem};
pub(crate) use self::mailbox::{Call, Mailbox, Request};
pub use self::options::{NodeOptions, SnapshotOptions};
pub(crate) use self::thread::{ShardOptions, spawn};
pub use self::watch::{NodeEvent, RingReader, Watch};
use crate::context::{Context, NodeId, StreamId, StreamInput};
use crate::io::alarm::Alarm;
use crate::io::clock::MonotonicClock;
use crate::io::memory::HeapTrimmer;
use crate::io::tcp::{StreamEvent, Streams};
use crate::io::{SocketIndex, Udp, UdpOptions};
use crate::node::Node;
use crate::random::{Nonces, os_seed};
use crate::time::Time;

/// Datagrams or timers handled before outputs are carried out.
const BATCH: usize = 256;
/// Stream events handled before outputs are carried out, each with at most 16 KiB. Acks wait for them.
const STREAM_BATCH: usize = 32;
/// Receive buffers of a shard with many nodes.
const SHARED_BUFFERS: usize = 1024;
/// About what a listed member takes while its list is sent, bytes.
const LISTED_BYTES: usize = 256;

/// Everything on one shard.
struct Shard {
    mailbox: Arc<Mailbox>,
    clock: MonotonicClock,
    udp: Udp,
    streams: Streams,
    ctx: Context,
    nodes: Vec<Option<HostedNode>>,
    /// The node of each socket that is not shared.
    node_by_socket: Vec<NodeId>,
    /// The socket that many nodes share, and its port.
    shared: Option<(SocketIndex, u16)>,
    /// The nodes behind the shared socket.
    node_by_ip: HashMap<Ipv4Addr, NodeId>,
    /// When the journals' buffers are due to be written, if one is not empty.
    flush_at: Option<Time>,
    /// Snapshots of nodes that have ended and are not on disk yet.
    syncing: Vec<Synced>,
    trimmer: HeapTrimmer,
    alarm: Alarm,
}

impl Shard {
    fn new(options: ShardOptions, mailbox: Arc<Mailbox>) -> io::Result<Shard> {
        let mut udp_options = UdpOptions::default();
        if options.shared.is_some() {
            udp_options.receive_buffers = SHARED_BUFFERS;
            udp_options.shared_sockets = true;
        }
        let (mut udp, streams) = (Udp::new(options.driver, &udp_options)?, Streams::default());
        let mut shared = None;
        if let Some((listener, socket)) = options.shared {
            let port = socket.local_addr()?.port();
            streams.listen_for_all(tokio::net::TcpListener::from_std(listener)?);
            shared = Some((udp.add_shared(socket)?, port));
        }
        Ok(Shard {
            mailbox,
            clock: MonotonicClock::start(),
            udp,
            streams,
            shared,
            node_by_ip: HashMap::new(),
            ctx: Context::new(os_seed()?, Nonces::from_os()),
            nodes: Vec::new(),
            node_by_socket: Vec::new(),
            flush_at: None,
            syncing: Vec::new(),
            trimmer: HeapTrimmer::default(),
            alarm: Alarm::new()?,
        })
    }

    /// Serves until the shard is stopped or abandoned.
    async fn run(mut self) {
        loop {
            self.receive();
            self.fire_timers();
            while let Some(request) = self.mailbox.pop() {
                if let Some(reply) = self.serve(request).await {
                    self.stop().await;
                    // The caller may have dropped its future.
                    let _ = reply.send(());
                    return;
                }
            }
            self.release_listed();
            if self.mailbox.is_abandoned() {
                return self.stop().await;
            }
            self.flush_journals();
            self.trimmer.look(self.ctx.now);
            let due = self.due();
            // If the alarm can't be set, timers fire late, with the next input. That is better than ending.
            let _ = self.alarm.set(due);
            tokio::select! {
                () = self.udp.readable() => {}
                () = self.mailbox.arrived() => {}
                event = self.streams.events.recv() => self.on_stream_events(event),
                () = self.alarm.rings() => {}
            }
        }
    }

    /// The earliest time at which something is due, on the machine's clock.
    fn due(&self) -> Option<Instant> {
        let later = self.flush_at.into_iter().chain(self.trimmer.due());
        self.ctx.timers.next_deadline().into_iter().chain(later).min().map(|at| self.clock.instant(at))
    }

    /// Takes back a slice of the references that dropped lists held.
    fn release_listed(&mut self) {
        if let Some(listed) = self.mailbox.take_back() {
            self.trimmer.note(listed.len() * LISTED_BYTES, self.ctx.now);
            Node::release_listed(&mut self.ctx, listed);
        }
    }

    fn receive(&mut self) {
        self.ctx.now = self.clock.now();
        let Shard { udp, ctx, nodes, node_by_socket, node_by_ip, .. } = self;
        udp.receive_arrivals(BATCH, |arrival, bytes| {
            let id = match arrival.to {
                None => node_by_socket.get(arrival.socket.0 as usize),
                Some(ip) => node_by_ip.get(&ip),
            };
            if let Some(hosted) = id.and_then(|id| nodes.get_mut(id.0 as usize)?.as_mut()) {
                hosted.node.handle_datagram(ctx, arrival.from, bytes);
            }
        });
        self.carry_out();
    }

    fn fire_timers(&mut self) {
        self.ctx.now = self.clock.now();
        for _ in 0..BATCH {
            let Some((id, key)) = self.ctx.timers.pop_due(self.ctx.now) else { break };
            if let Some(hosted) = hosted_node(&mut self.nodes, id) {
                hosted.node.handle_timeout(&mut self.ctx, key);
            }
        }
        self.carry_out();
    }

    fn on_stream_events(&mut self, first: Option<StreamEvent>) {
        self.ctx.now = self.clock.now();
        let mut next = first;
        for _ in 0..STREAM_BATCH {
            let Some(event) = next else { break };
            self.on_stream_event(event);
            next = self.streams.events.try_recv().ok();
        }
        if let Some(event) = next {
            self.on_stream_event(event);
        }
        self.carry_out();
    }

    fn on_stream_event(&mut self, event: StreamEvent) {
        let mut input = |node, id, input: StreamInput<'_>| {
            if let Some(hosted) = hosted_node(&mut self.nodes, node) {
                hosted.node.handle_stream(&mut self.ctx, id, input);
            }
        };
        match event {
            StreamEvent::Accepted(node, stream, from) => self.on_accepted(node, stream, from),
            StreamEvent::AcceptedAt(IpAddr::V4(ip), stream, from) => {
                if let Some(&node) = self.node_by_ip.get(&ip) {
                    self.on_accepted(node, stream, from);
                }
            }
            // The shared listener is an IPv4 one.
            StreamEvent::AcceptedAt(IpAddr::V6(_), ..) => {}
            StreamEvent::Opened(node, id) => input(node, id, StreamInput::Opened),
            StreamEvent::Bytes(node, id, bytes) => {
                input(node, id, StreamInput::Bytes(bytes[..].into()));
                self.trimmer.note(bytes.len(), self.ctx.now);
            }
            StreamEvent::Finished(node, id) => input(node, id, StreamInput::Finished),
            StreamEvent::Failed(node, id, reason) => input(node, id, StreamInput::Failed(&reason)),
            StreamEvent::Refused(node, id, reason) => input(node, id, StreamInput::Refused(reason)),
            StreamEvent::Ended(node, id) => self.streams.forget(node, id),
        }
    }

    fn on_accepted(&mut self, node: NodeId, stream: TcpStream, from: SocketAddr) {
        if let Some(hosted) = hosted_node(&mut self.nodes, node) {
            let id = StreamId::accepted(hosted.accepted);
            hosted.accepted += 1;
            self.streams.adopt(node, id, stream, hosted.tls.clone());
            hosted.node.handle_stream(&mut self.ctx, id, StreamInput::Accepted(from));
        }
    }

    /// Serves a request; returns where to answer once the shard has stopped, if it is to stop.
    async fn serve(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        self.ctx.now = self.clock.now();
        match request {
            Request::Add(options, outlet, reply) => {
                let added = self.add(*options, outlet).await;
                if let Err(Ok(added)) = reply.send(added) {
                    // The caller dropped its future, so there is no handle to this node.
                    self.close(added.id).await;
                }
            }
            Request::Call(id, call) => {
                if let Some(hosted) = hosted_node(&mut self.nodes, id) {
                    call(hosted, &mut self.ctx);
                }
            }
            Request::Census(reply) => {
                // The caller may have dropped its future.
                let _ = reply.send(self.census());
            }
            Request::Remove(id, reply) => {
                self.close(id).await;
                // The caller may have dropped its future.
                let _ = reply.send(());
            }
            Request::Stop(reply) => return Some(reply),
        }
        self.carry_out();
        None
    }

    fn census(&self) -> ShardCensus {
        let census = |hosted: &HostedNode| NodeCensus::of(&hosted.node);
        ShardCensus { nodes: self.nodes.iter().flatten().map(census).collect(), udp: self.udp.counters() }
    }

    async fn stop(mut self) {
        for id in 0..self.nodes.len() as u32 {
            self.close(NodeId(id)).await;
        }
        self.synced().await;
        self.mailbox.close();
        self.udp.close().await;
    }
}

fn hosted_node(nodes: &mut [Option<HostedNode>], id: NodeId) -> Option<&mut HostedNode> {
    nodes.get_mut(id.0 as usize)?.as_mut()
}
