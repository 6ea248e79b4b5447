//! Early exchanges: after a join a node exchanges states with random members at doubling distances, as long as
//! there is news.

use std::sync::Arc;

use thane_engine::context::{Context, StreamId, StreamInput, StreamOperation};
use thane_engine::node::Node;
use thane_engine::random::Nonces;
use thane_engine::timers::TICK;
use thane_engine::wire::stream::encode_push_pull_header;
use thane_engine::wire::{Incarnation, NodeState};

use super::*;

/// A node that joined a cluster in which no member answers datagrams. Only early exchanges open streams.
struct Joiner {
    node: Node,
    ctx: Context,
    accepted: u64,
}

impl Joiner {
    fn new() -> Joiner {
        let mut raw = RawConfig::lan("joiner", addr(1));
        let never = 3600 * SECOND;
        (raw.probe_interval, raw.push_pull_interval, raw.reconnect_interval) = (never, never, never);
        let mut ctx = Context::new(5, Nonces::seeded(5));
        let mut node = Node::new(NodeId(0), Arc::new(raw.check().unwrap()), &mut ctx);
        node.start(&mut ctx);
        // The first periodic exchange and the first probe lie anywhere in their intervals.
        Joiner { node, ctx, accepted: 0 }
    }

    /// Joins through a cluster that consists of these members.
    fn join(&mut self, members: &[u8]) {
        self.node.join(&mut self.ctx, Ticket(1), vec![addr(members[0])], true).unwrap();
        let id = self.opened().unwrap();
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Opened);
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Bytes(push_pull(members).into()));
        self.pass(TICK * 2);
    }

    /// A member exchanges states with this node, and lists these members.
    fn is_asked(&mut self, members: &[u8]) {
        let id = StreamId::accepted(self.accepted);
        self.accepted += 1;
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Accepted(addr(members[0])));
        self.node.handle_stream(&mut self.ctx, id, StreamInput::Bytes(push_pull(members).into()));
        self.pass(TICK * 2);
    }

    /// Lets time pass. Returns how many streams the node opened.
    fn pass(&mut self, span: Duration) -> usize {
        let (end, mut opened) = (self.ctx.now + span, 0);
        while self.ctx.now < end {
            self.ctx.now = self.ctx.now + TICK;
            while let Some((_, key)) = self.ctx.timers.pop_due(self.ctx.now) {
                self.node.handle_timeout(&mut self.ctx, key);
            }
            opened += usize::from(self.opened().is_some());
            self.ctx.out.clear_datagrams();
        }
        opened
    }

    fn opened(&mut self) -> Option<StreamId> {
        let streams = std::mem::take(&mut self.ctx.out.streams);
        streams
            .iter()
            .find_map(|(_, id, operation)| matches!(operation, StreamOperation::Open(_)).then_some(*id))
    }
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 81, 5, last], 7946))
}

/// A push/pull that lists these members as alive.
fn push_pull(members: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_push_pull_header(members.len(), 0, false, &mut out);
    for &last in members {
        let (name, ip) = (format!("n{last}"), [127, 81, 5, last]);
        let record = NodeState {
            name: &name,
            addr: ip[..].into(),
            port: 7946,
            meta: b"\xff\x80"[..].into(),
            incarnation: Incarnation(1),
            versions: [1, 5, 2, 2, 5, 5][..].into(),
            ..NodeState::default()
        };
        record.encode(&mut out);
    }
    out
}

#[test]
fn without_news_there_is_one_early_exchange() {
    let mut joiner = Joiner::new();
    joiner.join(&[2, 3]);
    assert_eq!(joiner.pass(20 * SECOND), 1);
}

#[test]
fn news_of_a_small_push_pull_makes_early_exchanges_go_on() {
    let mut joiner = Joiner::new();
    joiner.join(&[2, 3]);
    joiner.is_asked(&[3, 4]);
    assert_eq!(joiner.node.view().swim_count(SwimState::Alive), 4);
    assert_eq!(joiner.pass(20 * SECOND), 2, "the second one brought no news");
}
