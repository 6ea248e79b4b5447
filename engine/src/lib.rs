//! Thane's engine: SWIM and Serf membership as a deterministic state machine.
//!
//! A program that wants to be a member of a cluster uses [`api`]: it starts a node, gets a handle and a stream
//! of events, and needs nothing else from this page. [`delegate`] holds the rules that such a program can add.
//! This manual is for programs that drive a [`Node`](node::Node) themselves (with other sockets, with another
//! clock, in a simulation), and for readers who want to know what a node does with a message.
//!
//! # What a Node is
//!
//! One member of one cluster. It holds a [`View`](view::View) (what it believes about all members), the SWIM
//! layer (which members are alive), on top of it the serf layer (user events, queries, intents) or, in plain
//! SWIM, only the program's delegate, its queued broadcasts, and its open streams.
//!
//! It has no clock, no socket, no thread, no file and no source of randomness. The driver lends it all of these
//! with each input, as a [`Context`](context::Context). One Context may serve many nodes in turn: it holds names
//! and addresses, on which most nodes agree, once, and each view needs only 8 bytes a member. The same seed and
//! the same inputs at the same times give the same outputs, byte for byte.
//!
//! # What a driver does
//!
//! 1. Make a [`Context`](context::Context) and, with [`Node::new`](node::Node::new), the nodes. Each needs a
//!    different id, and its delegate, if it has one, before [`start`](node::Node::start).
//! 2. Set [`Context::now`](context::Context::now) before every input. It must not fall. One value may serve a
//!    batch of inputs.
//! 3. Hand in what happens: [`handle_datagram`](node::Node::handle_datagram) with the received bytes (they are
//!    unsealed in place), [`handle_stream`](node::Node::handle_stream) with what happened to a stream, and the
//!    program's commands, which are the Node's other methods.
//! 4. Take due timers with [`Timers::pop_due`](timers::Timers::pop_due) and hand each to its node's
//!    [`handle_timeout`](node::Node::handle_timeout). Timers are never cancelled; stale ones do nothing.
//!    Sleep no longer than until [`Timers::next_deadline`](timers::Timers::next_deadline).
//! 5. After each input, or a batch of them, carry out what [`Context::out`](context::Context::out) holds, in the
//!    order of the next section.
//! 6. End a node with [`Node::stop`](node::Node::stop); without it the roster keeps what the node refers to.
//!
//! A Node never fails on a peer's bytes. It drops what it refuses, counts it by
//! [`DropReason`](drop_reason::DropReason), and returns nothing that a driver has to check. Only one thread at a
//! time may use a Context; engines on several threads have one each.
//!
//! Every input and every command ends the same way: what it left for another layer is applied in order, and
//! broadcasts that must not wait are sent.
//!
//! # The order of effects
//!
//! | order | what | why there |
//! | --- | --- | --- |
//! | 1 | [`records`](context::Outputs::records) for the snapshot | A leave is on disk before other members hear of it: a node that crashes then does not rejoin by itself. The times of events and queries are with the kernel before these are reported: none is handled twice. |
//! | 2 | [`datagrams`](context::Outputs::datagrams), as ranges of [`send_buffer`](context::Outputs::send_buffer) | Acks go before everything that may take time. Then [`clear_datagrams`](context::Outputs::clear_datagrams). |
//! | 3 | [`streams`](context::Outputs::streams): open, write, close, abort | In order for each stream. |
//! | 4 | [`completions`](context::Outputs::completions) of commands, by ticket | A command is answered before the events that follow from it. |
//! | 5 | [`events`](context::Outputs::events) for the program | |
//! | 6 | [`notices`](context::Outputs::notices) for the log | The only outputs that a driver may discard. |
//! | 7 | [`keyrings`](context::Outputs::keyrings): keys for a keyring file | Written on another thread, because that waits for the disk; then [`Node::keyring_written`](node::Node::keyring_written). |
//! | 8 | [`ended`](context::Outputs::ended): nodes that lost their name | Stop them; their last datagrams are out. |
//!
//! Datagrams may be lost, duplicated and reordered. Streams must be reliable and ordered; `Open` is answered by
//! `Opened` or `Failed`, bytes may be cut anywhere, and after `Close`, `Abort` or `Failed` an id is not used
//! again. Accepted streams get odd ids ([`StreamId::accepted`](context::StreamId::accepted)), streams that the
//! node opens get even ids.
//!
//! # What each message means and does
//!
//! Label, seal and checksum ([`wire::envelope`]), compression and compound ([`wire::packet`], [`wire::stream`])
//! are removed first. Then, of SWIM:
//!
//! | message | meaning | effect |
//! | --- | --- | --- |
//! | [`Ping`](wire::Ping) | A probe | An ack is sent, with this node's coordinate or the delegate's payload, and with as many queued broadcasts as fit. A ping for another name is dropped: the sender's view is outdated. |
//! | [`IndirectPing`](wire::IndirectPing) | A request to probe a third node | A ping with a sequence number of this node is sent; its ack is forwarded, and without one a nack is sent after the probe timeout. |
//! | [`Ack`](wire::Ack) | The answer to a ping | Ends this node's probe and improves the health score, or is forwarded to the node that asked. With a payload the round trip is measured. |
//! | [`Nack`](wire::Nack) | No ack at the relay either | Counted: the relay is alive, so the missing ack is evidence against the target and not against this node. |
//! | [`Suspect`](wire::Suspect) | A member did not ack | With a current incarnation: alive becomes suspect, and the time to refute begins; each further accuser shortens it. About this node: it refutes. |
//! | [`Dead`](wire::Dead) | A member is dead or left | Alive and suspect become dead, or left if the member says so itself. About this node: it refutes, unless it leaves. |
//! | [`Alive`](wire::Alive) | A member is alive, at this address, with this meta | The delegate decides first. Unknown members are added; known ones change only with a higher incarnation, and take another address only if they had left. About this node: it refutes what differs. |
//! | push/pull (stream) | The sender's whole state | This node's state is sent back; versions must fit and, if the sender joins, the delegate must admit it; then each record is merged like a message, 500 at a time. A record that lists a third member as *dead* counts as *suspect*, so that the member can refute. |
//! | ping (stream) | A probe where no datagram was acked | An ack. Prevents that a member behind a broken datagram path is declared dead; the prober logs it. |
//! | user message | For the layer above | See below, or [`Delegate::on_message`](delegate::Delegate::on_message). |
//!
//! What is new is queued to be gossiped on. Of the serf layer:
//!
//! | message | meaning | effect |
//! | --- | --- | --- |
//! | join intent | A member joined at this Lamport time | Cancels an older leave intent. |
//! | leave intent | A member leaves | Alive becomes leaving, so that the departure counts as left and not failed; failed becomes left. With prune the member is erased. About this node, if it does not leave: it answers with a join intent. |
//! | user event | A name and a payload | Delivered once, unless older than the last 512 Lamport times. |
//! | query | A question with a deadline and filters | Acked and delivered once if all filters pass; passed on in any case. |
//! | query response | An ack or an answer, straight to the node that asked | Delivered once per member, until the deadline. |
//! | relay | A message for a third node | Sent on unchanged. |
//! | state (in a push/pull) | Clocks, status times, left members, recent events | The same as the intents and events one by one, but they are not gossiped on. |
//! | key and conflict messages | Inside queries named `_serf_…` | Keys are installed, used, removed, listed; a node votes for an address. The program does not see them. |
//!
//! # What holds
//!
//! - Only a member itself raises its incarnation. A higher one wins; at the same incarnation dead wins over
//!   suspect and suspect over alive. So all views that received the same messages agree, in whatever order they
//!   came.
//! - A node knows a member only if its view has an entry for it; the roster, which all nodes of a Context share,
//!   adds no knowledge.
//! - A broadcast goes out a bounded number of times: the
//!   [retransmit factor](config::RawConfig::retransmit_mult) times ⌈log₁₀(n + 1)⌉ packets.
//! - A datagram costs time in proportion to its bytes, never to the size of the cluster. A push/pull is as long
//!   as the cluster is large; it is merged in slices with a timer between them, so that no ack waits for it.
//! - A leave is announced alone, then the departure, then nothing more: no member takes it for a failure.
//! - A delegate is called during an input and sees the state before it.
//!
//! # Limits
//!
//! [`wire::limits`] has those of the format, each with its origin. Those of a node at one time: 256 streams,
//! 64 joins and 128 merges under way, 1024 relayed pings, 1024 queries of this node, 4096 queries to answer, 4096
//! intents for members not known yet, 256 waiting tags updates and force-leaves. Queues of broadcasts are cut
//! at [`queue_depth_max`](config::RawConfig::queue_depth_max). Beyond a limit, input is dropped and counted, and
//! commands are refused with [`CommandError::Busy`](command::CommandError::Busy). A packet has 1400 bytes, a
//! user event 512 (at most 9216), a query and an answer 1024 each, tags 512 in all, a message of a plain program
//! 1024.
//!
//! # Departures
//!
//! From SWIM (Das, Gupta, Motivala 2002), as memberlist does:
//! - Whole states are exchanged over streams from time to time: gossip alone does not reach a small share of the
//!   members, and two halves of a split cluster would never merge.
//! - Gossip has separate rounds beside pings and acks, so that it does not wait for probes.
//! - A dead member still gets gossip for a while, so that it learns of its death and can refute.
//! - The last attempt of a probe is a stream, for networks that lose only datagrams.
//!
//! From Lifeguard (Dadgar, Phillips, Currey 2018):
//! - The health score stretches the probe interval but not the wait for a direct ack, as in memberlist: a slow
//!   node asks others as early as a healthy one, and gives them more time to answer.
//! - The ping of a suspect carries the accusation and no other news, as in memberlist, so that the accusation
//!   always has room.
//!
//! From memberlist:
//! - The probe order is a computed permutation of the view's places and takes no memory; a member that appears
//!   during a round is visited in the next one. Memberlist inserts it at a random place of the current round.
//! - The gossip timer runs only while something is queued: an idle node wakes for probes only.
//! - A lone joiner does not gossip on what the answer to its join contains, since the cluster knows it. It
//!   exchanges states with random members soon after, at doubling distances while there is news; so it finds
//!   members that joined at the same time.
//! - An IPv4 address in 4 and in 16 bytes is the same address: the form depends on the sender's socket.
//! - Incarnations above 2³¹ - 1 and Lamport times above 2⁶² are refused, and one message raises either by a bounded
//!   step only: a clock or member that took a huge one could not go on. The answer to an own join is free of the steps.
//! - Packets of up to 1,400 bytes are not compressed: compression costs more than it saves.
//! - The delegate's [`admit`](delegate::Delegate::admit) also decides about alives with less than six version
//!   bytes, which memberlist drops as soon as there is an alive delegate; it is not called for what this node
//!   announces, so that a mistake in it can't keep the node out of its cluster.
//! - There is one delegate trait instead of six interfaces; a message of the program is gossiped on if
//!   [`on_message`](delegate::Delegate::on_message) returns so; in memberlist the program queues it again.
//!
//! From Serf:
//! - A member that declares itself dead has left, even if its intent arrives late; Serf shows a failure in
//!   between.
//! - A prune waits for the departure of a member that still leaves, without blocking other work. A pruned member
//!   stays as a tombstone in SWIM until gossip about it has ended, so that it does not come back.
//! - This node's leave goes out at once and not with the next round: leaving works while queues are full.
//! - A delegate decides about alives and merges separately; Serf's one merge delegate gets both.
//!
//! `docs/differences.md` lists these and all other differences that users of the agent see.
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
//! /// The nodes, and which streams belong together.
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
pub mod caps;
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
mod held;
mod ids;
pub mod io;
pub mod ipc;
pub mod node;
pub mod pattern;
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
#[cfg(feature = "sim")]
pub mod targets;
pub mod time;
pub mod timers;
pub mod tls;
pub mod view;
pub mod wire;
