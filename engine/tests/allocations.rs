//! What a node's everyday inputs allocate (nothing), and what a member costs in memory.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thane_engine::command::{JoinTarget, Ticket};
use thane_engine::config::RawConfig;
use thane_engine::context::{Context, NodeId, StreamInput, StreamOperation};
use thane_engine::node::Node;
use thane_engine::random::Nonces;
use thane_engine::wire::envelope::Envelope;
use thane_engine::wire::packet::Assembler;
use thane_engine::wire::serf::{PushPullSource, UserEvent, encode_push_pull};
use thane_engine::wire::stream::encode_push_pull_header;
use thane_engine::wire::{
    Ack, Alive, Incarnation, LamportTime, Message, NodeState, Ping, SeqNo, encode_tags, message,
};

/// A node in a Context of its own.
struct Alone {
    node: Node,
    ctx: Context,
    envelope: Envelope,
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 34, 3, 2], 7946))
}

/// `role`, `dc` and `rack`.
fn meta() -> Vec<u8> {
    let tags = [("dc", "east"), ("rack", "r12"), ("role", "web")];
    let mut meta = Vec::new();
    encode_tags(&tags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(), &mut meta);
    meta
}

impl Alone {
    fn new(key: Option<&[u8]>, retransmit_mult: u32) -> Alone {
        let mut raw = RawConfig::lan("myself", SocketAddr::from(([127, 34, 3, 1], 7946)));
        raw.probe_interval = Duration::from_secs(86_400);
        raw.push_pull_interval = Duration::from_secs(86_400);
        raw.retransmit_mult = retransmit_mult;
        let keys: Vec<Vec<u8>> = key.iter().map(|key| key.to_vec()).collect();
        raw.keys.clone_from(&keys);
        let mut ctx = Context::new(1, Nonces::seeded(1));
        let mut node = Node::new(NodeId(0), Arc::new(raw.check().unwrap()), &mut ctx);
        node.start(&mut ctx);
        let envelope = Envelope::new(&keys).unwrap();
        Alone { node, ctx, envelope }
    }

    fn packet(&self, messages: &[Vec<u8>]) -> Vec<u8> {
        let (mut assembler, mut packet) = (Assembler::default(), Vec::new());
        assembler.begin(1400);
        messages.iter().for_each(|message| assembler.push(|out| out.extend_from_slice(message)));
        assembler.finish(&mut packet, &self.envelope, true, [7; 12]);
        packet
    }

    /// Hands a datagram in and forgets what it brought about, as a driver does. Returns datagrams sent.
    fn receive(&mut self, packet: &mut [u8]) -> usize {
        self.node.handle_datagram(&mut self.ctx, peer(), packet);
        self.clear()
    }

    fn pass(&mut self, span: Duration) -> usize {
        self.ctx.now = self.ctx.now + span;
        while let Some((_, key)) = self.ctx.timers.pop_due(self.ctx.now) {
            self.node.handle_timeout(&mut self.ctx, key);
        }
        self.clear()
    }

    fn clear(&mut self) -> usize {
        let out = &mut self.ctx.out;
        let sent = out.datagrams.len();
        out.clear_datagrams();
        out.streams.clear();
        out.completions.clear();
        out.events.clear();
        out.notices.clear();
        sent
    }

    /// Allocations of the last of several rounds of `input`, which must bring about `sent` datagrams each.
    fn allocations(&mut self, sent: usize, mut input: impl FnMut(&mut Alone) -> usize) -> u64 {
        // The first rounds grow the buffers to what they need.
        for _ in 0..32 {
            assert_eq!(input(self), sent);
        }
        let measured = allocation_counter::measure(|| {
            for _ in 0..32 {
                assert_eq!(input(self), sent);
            }
        });
        measured.count_total
    }

    /// Allocations of receiving these messages in one packet.
    fn of_packet(&mut self, messages: &[Vec<u8>], sent: usize) -> u64 {
        let packet = self.packet(messages);
        let mut received = packet.clone();
        self.allocations(sent, |alone| {
            received.copy_from_slice(&packet);
            alone.receive(&mut received)
        })
    }
}

fn alive(name: &str) -> Vec<u8> {
    let (mut out, meta) = (Vec::new(), meta());
    let alive = Alive {
        incarnation: Incarnation(1),
        node: name,
        addr: (&[127, 34, 3, 3][..]).into(),
        port: 7946,
        meta: meta.into(),
        versions: (&[1, 5, 2, 2, 5, 5][..]).into(),
    };
    alive.encode(&mut out);
    out
}

fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    Ping { seq: SeqNo(70_000), node: "myself", ..Ping::default() }.encode(&mut out);
    out
}

fn event(ltime: u64) -> Vec<u8> {
    let mut out = vec![message::USER];
    let payload = vec![b'x'; 100].into();
    UserEvent { ltime: LamportTime(ltime), name: "deploy", payload, coalesce: false }.encode(&mut out);
    out
}

#[test]
fn what_a_node_does_all_day_allocates_nothing() {
    for key in [None, Some(&[9; 16][..])] {
        let mut alone = Alone::new(key, 4);
        let known: Vec<Vec<u8>> = (0..10).map(|n| alive(&format!("member-{n}"))).collect();
        let mut learn = alone.packet(&known);
        alone.receive(&mut learn);
        let mut ack = Vec::new();
        Ack { seq: SeqNo(3), payload: (&[1, 2, 3][..]).into() }.encode(&mut ack);
        // Long enough for all gossip about the members to be over.
        alone.pass(Duration::from_secs(60));
        assert_eq!(alone.of_packet(&[ping()], 1), 0, "ping to ack, key {key:?}");
        assert_eq!(alone.of_packet(&[ack], 0), 0, "an ack nobody waits for");
        assert_eq!(alone.of_packet(&known, 0), 0, "ten known alive");
        assert_eq!(alone.of_packet(&[event(5)], 0), 0, "a user event, new once and then known");
    }
}

#[test]
fn gossip_and_piggyback_allocate_nothing() {
    // So many transmissions that the messages outlast the test.
    let mut alone = Alone::new(None, 1_000);
    let known: Vec<Vec<u8>> = (0..10).map(|n| alive(&format!("member-{n}"))).collect();
    let mut learn = alone.packet(&known);
    alone.receive(&mut learn);
    let ping = ping();
    let mut received = ping.clone();
    let allocated = alone.allocations(4, |alone| {
        let gossip = alone.pass(Duration::from_millis(200));
        received.copy_from_slice(&ping);
        alone.node.handle_datagram(&mut alone.ctx, peer(), &mut received);
        assert!(alone.ctx.out.datagrams[0].range.len() > 1_000, "the ack carries gossip");
        gossip + alone.clear()
    });
    assert_eq!(allocated, 0);
}

/// The answer to a join: `count` members with names of 20 bytes and three tags.
fn push_pull(count: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|n| format!("member-number-{n:06}")).collect();
    let (mut records, mut user, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let meta = meta();
    for (n, name) in names.iter().enumerate() {
        let [_, _, high, low] = (n as u32).to_be_bytes();
        let addr = [10, 34, high, low];
        let record = NodeState {
            name,
            addr: addr[..].into(),
            port: 7946,
            meta: meta[..].into(),
            incarnation: Incarnation(1),
            versions: (&[1, 5, 2, 2, 5, 5][..]).into(),
            ..NodeState::default()
        };
        record.encode(&mut records);
    }
    let source = PushPullSource {
        ltime: LamportTime(20),
        event_ltime: LamportTime(1),
        query_ltime: LamportTime(1),
        members: (count as u32, names.iter().map(|name| (name.as_str(), LamportTime(1)))),
        left: (0, std::iter::empty()),
        events: std::iter::empty(),
        marker: std::marker::PhantomData,
    };
    encode_push_pull(source, &mut user);
    encode_push_pull_header(count, user.len(), false, &mut out);
    [out, records, user].concat()
}

#[test]
fn a_member_costs_at_most_220_bytes() {
    const MEMBERS: usize = 50_000;
    let frame = push_pull(MEMBERS);
    let mut alone = Alone::new(None, 4);
    let target = JoinTarget { label: String::new(), node: None, addr: peer() };
    alone.node.join(&mut alone.ctx, Ticket(1), vec![target], true).unwrap();
    let opened = |(_, id, operation): &(NodeId, _, StreamOperation)| {
        matches!(operation, StreamOperation::Open(_)).then_some(*id)
    };
    let id = alone.ctx.out.streams.iter().find_map(opened).unwrap();
    alone.node.handle_stream(&mut alone.ctx, id, StreamInput::Opened);
    alone.clear();
    let measured = allocation_counter::measure(|| {
        for part in frame.chunks(16 * 1024) {
            alone.node.handle_stream(&mut alone.ctx, id, StreamInput::Bytes(part.into()));
        }
        while alone.node.view().table_count() < MEMBERS + 1 {
            alone.pass(Duration::from_millis(1));
        }
        alone.node.handle_stream(&mut alone.ctx, id, StreamInput::Finished);
        // The decoder and its frame go with the stream.
        alone.pass(Duration::from_secs(60));
    });
    let each = measured.bytes_current as f64 / MEMBERS as f64;
    println!("{each:.0} bytes a member, {} at the peak", measured.bytes_max / MEMBERS as u64);
    assert!(each <= 220.0, "{each:.0} bytes a member");
}

#[test]
fn the_messages_of_these_tests_are_what_they_seem() {
    assert!(matches!(Message::decode(&ping()), Ok(Message::Ping(ping)) if ping.node == "myself"));
    assert!(matches!(Message::decode(&alive("a")), Ok(Message::Alive(alive)) if alive.node == "a"));
    assert!(matches!(Message::decode(&event(1)), Ok(Message::User(_))));
}
