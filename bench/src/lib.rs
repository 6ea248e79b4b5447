//! What the benches of the parts work on: the members of a cluster, packets that hold them, a node that runs.
//! Sizes are those of a Serf cluster with short names and two tags.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thane_engine::command::{JoinTarget, Ticket};
use thane_engine::config::RawConfig;
use thane_engine::context::{Context, NodeId, StreamId, StreamInput, StreamOperation};
use thane_engine::node::Node;
use thane_engine::random::Nonces;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::serf::{PushPullSource, UserEvent, encode_push_pull};
use thane_engine::wire::stream::encode_push_pull_header;
use thane_engine::wire::{Alive, Incarnation, LamportTime, NodeState, Ping, SeqNo, message};

/// A member of the cluster.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name: `node-00042`.
    pub name: String,
    addr: [u8; 4],
}

/// The tags `role=web` and `dc=east`, encoded: 19 bytes.
pub const META: &[u8] = b"\xff\x82\xa4role\xa3web\xa2dc\xa4east";
const VERSIONS: &[u8] = &[1, 5, 2, 2, 5, 5];

impl Member {
    /// The n-th member.
    pub fn new(n: u32) -> Member {
        let [_, top, high, low] = n.to_be_bytes();
        Member { name: format!("node-{n:05}"), addr: [127, 13 + top, high, low] }
    }

    /// Where it is.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::from((self.addr, 7946))
    }

    /// What gossip says of it.
    pub fn alive(&self) -> Alive<'_> {
        self.alive_again(1)
    }

    /// What gossip says of it with that incarnation.
    pub fn alive_again(&self, incarnation: u32) -> Alive<'_> {
        Alive {
            incarnation: Incarnation(incarnation),
            node: &self.name,
            addr: self.addr[..].into(),
            port: 7946,
            meta: META.into(),
            versions: VERSIONS.into(),
        }
    }

    /// What a push/pull says of it.
    pub fn state(&self) -> NodeState<'_> {
        NodeState {
            name: &self.name,
            addr: self.addr[..].into(),
            port: 7946,
            meta: META.into(),
            incarnation: Incarnation(1),
            versions: VERSIONS.into(),
            ..NodeState::default()
        }
    }
}

/// The first `count` members.
pub fn members(count: u32) -> Vec<Member> {
    (1..=count).map(Member::new).collect()
}

/// An envelope without label; sealed with AES-128 or AES-256 if there is a key.
pub fn envelope(key: Option<&[u8]>, compress: bool) -> Envelope {
    let keys: Vec<Vec<u8>> = key.iter().map(|key| key.to_vec()).collect();
    let envelope = Envelope::new(&keys).expect("the benches' keys have 16 or 32 bytes");
    Envelope { compress, ..envelope }
}

/// Puts alive messages of all `members` into one packet and appends it to `out`.
pub fn gossip_packet(assembler: &mut Assembler, envelope: &Envelope, members: &[Member], out: &mut Vec<u8>) {
    assembler.begin(1400 - envelope.overhead());
    for member in members {
        assembler.push(|out| member.alive().encode(out));
    }
    assembler.finish(out, envelope, true, [7; 12]);
}

/// A ping as Serf sends it.
pub fn ping(node: &str) -> Ping<'_> {
    let source_addr = [127, 13, 0, 2][..].into();
    Ping { seq: SeqNo(70_000), node, source_addr, source_port: 7946, source_node: "node-00002" }
}

/// A ping of the node as a datagram.
pub fn ping_packet(envelope: &Envelope) -> Vec<u8> {
    let (mut assembler, mut out) = (Assembler::default(), Vec::new());
    assembler.begin(1400 - envelope.overhead());
    assembler.push(|out| ping("node-00001").encode(out));
    assembler.finish(&mut out, envelope, false, [7; 12]);
    out
}

/// A user event with 100 bytes of payload as a datagram.
pub fn event_packet() -> Vec<u8> {
    let mut packet = Vec::new();
    encode_event(100, &mut packet);
    packet
}

/// A datagram of at most `bytes`, with a ping of the node if that is wanted, filled up by a user event.
pub fn packet_of_bytes(envelope: &Envelope, bytes: usize, pings: bool) -> Vec<u8> {
    let mut assembler = Assembler::default();
    for payload in (0..=bytes).rev() {
        let mut out = Vec::new();
        assembler.begin(usize::MAX);
        if pings {
            assembler.push(|out| ping("node-00001").encode(out));
        }
        assembler.push(|out| encode_event(payload, out));
        assembler.finish(&mut out, envelope, false, [7; 12]);
        if out.len() <= bytes {
            return out;
        }
    }
    ping_packet(envelope)
}

fn encode_event(payload: usize, out: &mut Vec<u8>) {
    out.push(message::USER);
    let payload = vec![b'x'; payload].into();
    UserEvent { ltime: LamportTime(5), name: "deploy", payload, coalesce: false }.encode(out);
}

/// A push/pull of all `members`, type byte first, with serf's part.
pub fn push_pull(members: &[Member]) -> Vec<u8> {
    let (mut records, mut user, mut out) = (Vec::new(), Vec::new(), Vec::new());
    members.iter().for_each(|member| member.state().encode(&mut records));
    let source = PushPullSource {
        ltime: LamportTime(20_000),
        event_ltime: LamportTime(1),
        query_ltime: LamportTime(1),
        members: (members.len() as u32, members.iter().map(|member| (member.name.as_str(), LamportTime(1)))),
        left: (0, std::iter::empty()),
        events: std::iter::empty(),
        marker: std::marker::PhantomData,
    };
    encode_push_pull(source, &mut user);
    encode_push_pull_header(members.len(), user.len(), false, &mut out);
    [out, records, user].concat()
}

/// Where packets come from.
pub fn peer() -> SocketAddr {
    SocketAddr::from(([127, 13, 0, 2], 7946))
}

/// A node that runs, in a Context of its own.
pub struct Bench {
    /// The node: `node-00001`.
    pub node: Node,
    /// Its Context.
    pub ctx: Context,
}

impl Bench {
    /// Starts a node with Serf's settings for a local network, which `change` may change.
    pub fn new(change: impl FnOnce(&mut RawConfig)) -> Bench {
        let mut raw = RawConfig::lan("node-00001", SocketAddr::from(([127, 13, 0, 1], 7946)));
        // What the node would do by itself would be measured too.
        raw.probe_interval = Duration::from_secs(86_400);
        raw.push_pull_interval = Duration::from_secs(86_400);
        change(&mut raw);
        let config = raw.check().expect("the benches' settings are valid");
        let mut ctx = Context::new(1, Nonces::seeded(1));
        let mut node = Node::new(NodeId(0), Arc::new(config), &mut ctx);
        node.start(&mut ctx);
        Bench { node, ctx }
    }

    /// Hands a datagram in.
    pub fn receive(&mut self, bytes: &mut [u8]) {
        self.node.handle_datagram(&mut self.ctx, peer(), bytes);
    }

    /// Lets members become known by gossip, ten in a packet.
    pub fn learn(&mut self, members: &[Member]) {
        let (mut assembler, envelope) = (Assembler::default(), envelope(None, false));
        for members in members.chunks(10) {
            let mut packet = Vec::new();
            gossip_packet(&mut assembler, &envelope, members, &mut packet);
            self.receive(&mut packet);
        }
        self.clear();
    }

    /// Starts a node that queues without end: its transmit limit is out of reach.
    pub fn endless() -> Bench {
        Bench::new(|raw| raw.retransmit_mult = 1_000_000_000)
    }

    /// A request for a push/pull arrives on a new stream, is merged and answered.
    pub fn push_pull(&mut self, number: u32, frame: &[u8]) {
        let id = StreamId::accepted(number.into());
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Accepted(peer()));
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Bytes(frame.into()));
        self.merge();
    }

    /// Merges what arrived, slice by slice.
    fn merge(&mut self) {
        let merged = self.node.stats().push_pulls;
        while self.node.stats().push_pulls == merged {
            self.pass(Duration::from_millis(1));
        }
        self.clear();
    }

    /// Lets `span` pass and does what is due then.
    pub fn pass(&mut self, span: Duration) {
        self.ctx.now = self.ctx.now + span;
        while let Some((_, key)) = self.ctx.timers.pop_due(self.ctx.now) {
            self.node.handle_timeout(&mut self.ctx, key);
        }
    }

    /// Forgets all outputs, as a driver does once it has dealt with them.
    pub fn clear(&mut self) {
        let out = &mut self.ctx.out;
        out.clear_datagrams();
        out.streams.clear();
        out.records.clear();
        out.completions.clear();
        out.events.clear();
        out.notices.clear();
    }
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bench({:?})", self.node)
    }
}

/// A node that opened a stream to join and sent its own state.
#[derive(Debug)]
pub struct Joining(Bench, StreamId);

impl Default for Joining {
    fn default() -> Joining {
        let mut bench = Bench::new(|_| {});
        let Bench { node, ctx } = &mut bench;
        let target = JoinTarget { label: String::new(), node: None, addr: peer() };
        node.join(ctx, Ticket(1), vec![target], true).expect("it is the first join");
        let id = ctx
            .out
            .streams
            .iter()
            .find_map(|(_, id, operation)| matches!(operation, StreamOperation::Open(_)).then_some(*id))
            .expect("a join opens a stream");
        node.handle_stream(ctx, id, StreamInput::Opened);
        bench.clear();
        Joining(bench, id)
    }
}

impl Joining {
    /// The answer arrives whole and is merged.
    pub fn finish(&mut self, answer: &[u8]) {
        let Joining(Bench { node, ctx }, id) = self;
        node.handle_stream(ctx, *id, StreamInput::Bytes(answer[..].into()));
        self.0.merge();
    }

    /// The node after the answer: it knows these members and has nothing to gossip.
    pub fn knowing(members: &[Member]) -> Bench {
        let mut joining = Joining::default();
        joining.finish(&push_pull(members));
        joining.0
    }
}
