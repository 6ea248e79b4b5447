//! Thane's engine: SWIM and Serf membership as a deterministic state machine, values in, values out.
//!
//! A program that wants to be a member of a cluster uses [`api`]: it starts a node, gets a handle and a stream
//! of events, and never sees what follows. [`delegate`] holds the rules such a program can add. This manual
//! is for whoever drives a [`Node`](node::Node) itself (with other sockets, another clock, in a simulation) or
//! wants to know what it does with a message.
//!
//! # What a Node is
//!
//! One member of one cluster. It holds a [`View`](view::View) (what it believes about everybody), the SWIM
//! layer that decides who is here, on top of it the serf layer (user events, queries, intents) or, in plain
//! SWIM, nothing but the program's delegate, its broadcasts that still have to go out, and its open streams.
//!
//! It has no clock, no socket, no thread, no file and no source of chance. All of that is lent to it with each
//! input as a [`Context`](context::Context), which one owner may lend to many nodes in turn: names and
//! addresses, which most nodes agree on, are then held once, and 8 bytes are left for a member in each view.
//! The same seed and the same inputs at the same times give the same outputs, byte for byte.
//!
//! # The duties of whoever drives it
//!
//! 1. Make a [`Context`](context::Context) and, with [`Node::new`](node::Node::new), the nodes. Give each an
//!    id of its own, and its delegate, if it has one, before [`start`](node::Node::start).
//! 2. Before every input set [`Context::now`](context::Context::now). It must not fall. One value may serve a
//!    batch of inputs.
//! 3. Hand in what happens: [`handle_datagram`](node::Node::handle_datagram) with the bytes as they came (they
//!    are unsealed in place), [`handle_stream`](node::Node::handle_stream) with what happened to a stream, and
//!    the program's commands, which are the Node's other methods.
//! 4. Take due timers with [`Timers::pop_due`](timers::Timers::pop_due) and hand each to its node's
//!    [`handle_timeout`](node::Node::handle_timeout). Timers are never cancelled; stale ones do nothing.
//!    Sleep no longer than until [`Timers::next_deadline`](timers::Timers::next_deadline).
//! 5. After each input, or a batch of them, carry out what lies in
//!    [`Context::out`](context::Context::out), in the order of the next section.
//! 6. End a node with [`Node::stop`](node::Node::stop), or the roster keeps what the node refers to.
//!
//! A Node never fails on a peer's bytes. What it refuses is dropped and counted by
//! [`DropReason`](drop_reason::DropReason); the owner has nothing to check. One thread at a time may work with a
//! Context; engines on several threads have one each.
//!
//! # The order of effects
//!
//! | order | what | why there |
//! | --- | --- | --- |
//! | 1 | [`records`](context::Outputs::records) for the snapshot | A leave is on disk before others hear of it: who crashes now doesn't rejoin by itself. |
//! | 2 | [`datagrams`](context::Outputs::datagrams), as ranges of [`send_buffer`](context::Outputs::send_buffer) | Acks before everything that may take time. Then [`clear_datagrams`](context::Outputs::clear_datagrams). |
//! | 3 | [`streams`](context::Outputs::streams): open, write, close, abort | In order for each stream. |
//! | 4 | [`completions`](context::Outputs::completions) of commands, by ticket | Whoever asked is answered before it reads of the consequences. |
//! | 5 | [`events`](context::Outputs::events) for the program | |
//! | 6 | [`notices`](context::Outputs::notices) for the log | The only outputs that may be thrown away. |
//! | 7 | [`keyrings`](context::Outputs::keyrings): nodes whose keys changed | The file is rewritten from [`Node::keys`](node::Node::keys). |
//! | 8 | [`ended`](context::Outputs::ended): nodes that lost their name | Stop them; their last datagrams are out. |
//!
//! Datagrams may be lost, doubled and reordered. Streams must be reliable and ordered; `Open` is answered by
//! `Opened` or `Failed`, bytes may be cut anywhere, and after `Close`, `Abort` or `Failed` an id is over.
//! Accepted streams get odd ids ([`StreamId::accepted`](context::StreamId::accepted)), own ones even ids.
//!
//! # What each message means and does
//!
//! Datagrams and streams first lose their wrapping: label, seal, checksum, compression, compound
//! ([`wire::packet`], [`wire::stream`]). Then, of SWIM:
//!
//! | message | says | does |
//! | --- | --- | --- |
//! | [`Ping`](wire::Ping) | Are you there? | An ack goes back, with the own coordinate or the delegate's payload, and with queued broadcasts as far as they fit. One for another name is dropped: the sender's picture is old. |
//! | [`IndirectPing`](wire::IndirectPing) | Ping somebody for me | A ping under an own sequence number; its ack is forwarded, and without one a nack goes back after the probe timeout. |
//! | [`Ack`](wire::Ack) | I am here | Ends the own probe and betters the health score, or is forwarded to whoever asked. With a payload the round trip is measured. |
//! | [`Nack`](wire::Nack) | No answer here either | Counted: the asked one lives, so a missing ack speaks against the target and not against this node. |
//! | [`Suspect`](wire::Suspect) | I can't reach it | With a current incarnation: alive becomes suspect and the time to refute runs, shorter with each further accuser. About this node: it refutes. |
//! | [`Dead`](wire::Dead) | It is gone | Alive and suspect become dead, or left if the member says so itself. About this node: it refutes, unless it leaves. |
//! | [`Alive`](wire::Alive) | It is here, at this address, with this meta | Asked of the delegate first. Unknown members are added; known ones change only under a higher incarnation, and to another address only if they had left. About this node: what differs is refuted. |
//! | push/pull (stream) | Everything I know; now you | The own state goes back; versions must fit and, if it joins, the delegate agree; then each record is merged like a message, 500 at a time. Somebody else's *dead* counts as *suspect* only, so that the member can refute. |
//! | ping (stream) | Are you there, if no datagram gets through? | An ack. Saves a member behind a broken datagram path from being declared dead; the log tells. |
//! | user message | For the layer above | Below, or [`Delegate::on_message`](delegate::Delegate::on_message). |
//!
//! Whatever is believed and new is queued to be gossiped on. Of the serf layer:
//!
//! | message | says | does |
//! | --- | --- | --- |
//! | join intent | A member is in, as of this Lamport time | Undoes an older leave intent. |
//! | leave intent | A member means to go | Alive becomes leaving, so that its departure counts as left and not failed; failed becomes left. With prune it is erased. About this node, if it stays: a join intent answers. |
//! | user event | A name and a payload | Delivered once, unless older than the last 512 Lamport times. |
//! | query | A question with a deadline, perhaps for some only | Acked and delivered once where all filters pass; passed on in any case. |
//! | query response | An ack or an answer, straight to whoever asked | Delivered once per member, until the deadline. |
//! | relay | Pass this on to that member | Sent on as it is. |
//! | state (in a push/pull) | Clocks, status times, who left, recent events | As if the intents and events had come one by one, but not gossiped on. |
//! | key and conflict messages | Inside queries named `_serf_…` | Keys are installed, used, removed, listed; a name's address is told. The program never sees them. |
//!
//! # What holds
//!
//! - A member's incarnation is raised by that member only. Higher beats lower; at the same incarnation dead
//!   beats suspect beats alive. So all views that heard the same come to the same end, in whatever order.
//! - A member is known only if this node's own view has it; the roster, which all nodes of a Context share, tells
//!   nobody anything.
//! - A broadcast goes out a bounded number of times: the
//!   [retransmit factor](config::RawConfig::retransmit_mult) times ⌈log₁₀(n + 1)⌉ packets.
//! - A datagram costs time in proportion to its bytes, never to the size of the cluster. A push/pull is as long
//!   as the cluster is big; its merge is cut into slices with a timer between them, so that no ack waits behind
//!   it.
//! - A leave is announced first and alone, then the departure, then silence: nobody takes it for a failure.
//! - A delegate is called in the middle of an input and sees the state before it.
//!
//! # Limits
//!
//! [`wire::limits`] has those of the format, each with its origin. Those of a node at one time: 256 streams,
//! 64 joins and 128 merges under way, 1024 pings relayed, 1024 own queries, 4096 queries to answer, 4096
//! intents for members not known yet, 256 tags updates and force-leaves that wait. Queues of broadcasts are cut
//! at [`queue_depth_max`](config::RawConfig::queue_depth_max). What finds something full is dropped and counted,
//! or refused with [`CommandError::Busy`](command::CommandError::Busy). A packet has 1400 bytes, a user event
//! 512 (at most 9216), a query and an answer 1024 each, tags 512 in all, a plain program's message 1024.
//!
//! # Departures
//!
//! From SWIM (Das, Gupta, Motivala 2002), with memberlist:
//! - Full states are exchanged over streams from time to time: gossip alone leaves a small share uninformed,
//!   and two halves of a split cluster would never find each other.
//! - Gossip has rounds of its own beside what is carried by pings and acks, so that it doesn't wait for probes.
//! - A dead member still gets gossip for a while, so that it learns of its death and can refute.
//! - A probe's last resort is a stream, for networks that lose datagrams only.
//!
//! From Lifeguard (Dadgar, Phillips, Currey 2018):
//! - The health score stretches the probe interval but not the wait for a direct ack, as in memberlist: a slow
//!   node asks others as early as a healthy one, and gives them more time to answer.
//! - The ping of a suspect carries the accusation and no other news, as memberlist's, so that nothing can crowd
//!   out what it has to refute.
//!
//! From memberlist:
//! - The probe order is a computed permutation of the view's places and takes no memory; a member that appears
//!   during a round is visited in the next one, where memberlist puts it at a random place of this one.
//! - The gossip timer runs only while something is queued: an idle node wakes for probes only.
//! - A lone joiner does not gossip on what its join taught it, since the cluster knows it. It exchanges states
//!   with random members soon after, at doubling distances while there is news; that finds whom a storm of joins
//!   left out.
//! - An IPv4 address in 4 and in 16 bytes is the same address: the difference is the sender's socket, not the
//!   member.
//! - The last incarnation and Lamport times from 2⁶³ on are refused: who took one could not go on counting.
//! - Packets below 600 bytes are not compressed; it costs more than it saves.
//! - The delegate's [`admit`](delegate::Delegate::admit) is asked about alives with less than six version bytes
//!   too, which memberlist drops as soon as there is an alive delegate; and it is not asked about what this node
//!   announces of itself, which a mistake in it could keep out of its own cluster.
//! - Delegates are one trait per node instead of six interfaces; a message of the program's own goes on to
//!   others because [`on_message`](delegate::Delegate::on_message) says so, not because it queues it again.
//!
//! From Serf:
//! - Who declares itself dead has left, even where its intent comes late; Serf shows a failure in between.
//! - A prune waits for the departure of a member that still leaves, without blocking anything. A pruned member
//!   stays as a tombstone in SWIM until gossip about it has died out, so that it doesn't come back.
//! - The own leave goes out at once, not with the next round: leaving works while queues are full.
//! - A program can be asked about alives and merges apart; Serf's one merge delegate gets both.
//!
//! `docs/differences.md` lists what users of the agent see of it, with the rest.
//!
//! # Driving nodes by hand
//!
//! Two nodes, a clock that jumps from deadline to deadline, and a network that loses nothing:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//!
//! use thane_engine::command::Ticket;
//! use thane_engine::config::{ConfigError, RawConfig};
//! use thane_engine::context::{Context, NodeId, StreamId, StreamInput, StreamOperation};
//! use thane_engine::event::Event;
//! use thane_engine::node::Node;
//! use thane_engine::random::Nonces;
//!
//! /// Where the nodes are, and which streams belong together.
//! struct Net {
//!     nodes: Vec<Node>,
//!     streams: BTreeMap<(NodeId, StreamId), (NodeId, StreamId)>,
//!     accepted: u64,
//! }
//!
//! impl Net {
//!     fn at(&self, addr: SocketAddr) -> Option<NodeId> {
//!         let place = self.nodes.iter().position(|node| node.config().advertise == addr)?;
//!         Some(NodeId(place as u32))
//!     }
//!
//!     fn input(&mut self, ctx: &mut Context, node: NodeId, id: StreamId, input: StreamInput<'_>) {
//!         self.nodes[node.0 as usize].handle_stream(ctx, id, input);
//!     }
//!
//!     /// Carries out what nodes put out, until they put out nothing more.
//!     fn carry_out(&mut self, ctx: &mut Context) {
//!         while !(ctx.out.datagrams.is_empty() && ctx.out.streams.is_empty()) {
//!             let (datagrams, bytes) = (ctx.out.datagrams.clone(), ctx.out.send_buffer.clone());
//!             ctx.out.clear_datagrams();
//!             for datagram in datagrams {
//!                 let from = self.nodes[datagram.node.0 as usize].config().advertise;
//!                 if let Some(to) = self.at(datagram.to) {
//!                     let mut received = bytes[datagram.range].to_vec();
//!                     self.nodes[to.0 as usize].handle_datagram(ctx, from, &mut received);
//!                 }
//!             }
//!             for (node, id, operation) in std::mem::take(&mut ctx.out.streams) {
//!                 let peer = self.streams.get(&(node, id)).copied();
//!                 match (operation, peer) {
//!                     (StreamOperation::Open(addr), _) => self.connect(ctx, node, id, addr),
//!                     (StreamOperation::Write(bytes), Some((peer, at))) => {
//!                         self.input(ctx, peer, at, StreamInput::Bytes(bytes.into()));
//!                     }
//!                     (StreamOperation::Close | StreamOperation::Abort, Some((peer, at))) => {
//!                         self.streams.remove(&(node, id));
//!                         self.input(ctx, peer, at, StreamInput::Finished);
//!                     }
//!                     _ => {}
//!                 }
//!             }
//!         }
//!     }
//!
//!     fn connect(&mut self, ctx: &mut Context, node: NodeId, id: StreamId, addr: SocketAddr) {
//!         let Some(peer) = self.at(addr) else {
//!             return self.input(ctx, node, id, StreamInput::Failed("connection refused"));
//!         };
//!         let at = StreamId::accepted(self.accepted);
//!         self.accepted += 1;
//!         self.streams.insert((node, id), (peer, at));
//!         self.streams.insert((peer, at), (node, id));
//!         let from = self.nodes[node.0 as usize].config().advertise;
//!         self.input(ctx, peer, at, StreamInput::Accepted(from));
//!         self.input(ctx, node, id, StreamInput::Opened);
//!     }
//! }
//!
//! let mut ctx = Context::new(7, Nonces::from_os());
//! let mut net = Net { nodes: Vec::new(), streams: BTreeMap::new(), accepted: 0 };
//! for n in 0..2u8 {
//!     let addr = SocketAddr::from(([127, 0, 0, n + 1], 7946));
//!     let config = Arc::new(RawConfig::lan(format!("n{n}"), addr).check()?);
//!     let mut node = Node::new(NodeId(n.into()), config, &mut ctx);
//!     node.start(&mut ctx);
//!     net.nodes.push(node);
//! }
//! let addr = net.nodes[0].config().advertise;
//! net.nodes[1].join(&mut ctx, Ticket(1), vec![addr], true).expect("it has not left");
//! net.nodes[1].user_event(&mut ctx, "hello", &"world".into(), false).expect("it is short");
//! let heard = loop {
//!     net.carry_out(&mut ctx);
//!     // A driver would answer completions, write notices to a log, and so on.
//!     let of_first = ctx.out.events.drain(..).filter(|(node, _)| *node == NodeId(0));
//!     let told = of_first.map(|(_, event)| event).find(|event| matches!(event, Event::User { .. }));
//!     if let Some(event) = told {
//!         break event;
//!     }
//!     ctx.now = ctx.timers.next_deadline().expect("there is always a next probe");
//!     while let Some((node, key)) = ctx.timers.pop_due(ctx.now) {
//!         net.nodes[node.0 as usize].handle_timeout(&mut ctx, key);
//!     }
//! };
//! assert!(matches!(heard, Event::User { name, payload, .. } if name == "hello" && payload == "world"));
//! assert_eq!(net.nodes[0].members(&ctx).len(), 2);
//! net.nodes.into_iter().for_each(|node| node.stop(&mut ctx));
//! assert_eq!(ctx.roster.names_count(), 0);
//! # Ok::<(), ConfigError>(())
//! ```

pub mod api;
#[cfg(feature = "sim")]
pub mod canary;
pub mod command;
pub mod config;
pub mod context;
mod deferred;
pub mod delegate;
mod digest;
pub mod dissemination;
pub mod drop_reason;
pub mod duration;
pub mod event;
#[cfg(feature = "fixtures")]
pub mod fixtures;
mod ids;
pub mod io;
pub mod ipc;
pub mod node;
pub mod random;
mod reconcile;
pub mod roster;
mod scope;
mod sending;
mod serf;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
pub mod swim;
pub mod time;
pub mod timers;
pub mod view;
pub mod wire;
