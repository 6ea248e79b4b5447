//! The World: production nodes in virtual time. One seed decides everything; the same seed gives the same
//! trace hash on every machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Ticket;
use crate::config::{Config, RawConfig};
use crate::context::{Context, NodeId, StreamId, StreamInput, StreamOperation};
use crate::delegate::Delegate;
use crate::event::{Completion, Event, Notice, SnapshotRecord};
use crate::node::Node;
use crate::random::{Nonces, Random};
use crate::time::Time;
use crate::view::{MemberStatus, SwimState};

/// How the simulated network treats what is sent.
#[derive(Clone, Debug)]
pub struct Network {
    /// Shortest one-way delay.
    pub delay_min: Duration,
    /// Longest one-way delay.
    pub delay_max: Duration,
    /// Share of datagrams lost, 0 to 1. Streams lose nothing.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplication: f64,
}

impl Default for Network {
    fn default() -> Network {
        let delay = Duration::from_micros;
        Network { delay_min: delay(200), delay_max: delay(600), loss: 0.0, duplication: 0.0 }
    }
}

/// Production nodes in virtual time.
pub struct World {
    ctx: Context,
    nodes: Vec<Option<Node>>,
    by_addr: BTreeMap<SocketAddr, NodeId>,
    /// Where nodes are; only nodes with the same number reach each other.
    islands: Vec<u32>,
    network: Network,
    chance: Random,
    in_flight: BinaryHeap<Reverse<Flight>>,
    flights: u64,
    peers: BTreeMap<(NodeId, StreamId), (NodeId, StreamId)>,
    accepted: u64,
    /// When the last bytes of each stream direction arrive: streams keep their order.
    stream_clock: BTreeMap<(NodeId, StreamId), Time>,
    completions: Vec<(NodeId, Ticket, Completion)>,
    events: Vec<(NodeId, Event)>,
    notices: Vec<(Time, NodeId, Notice)>,
    records: Vec<(NodeId, SnapshotRecord)>,
    trace: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Time,
    order: u64,
    to: NodeId,
    load: Load,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Datagram(SocketAddr, Vec<u8>),
    Accepted(StreamId, SocketAddr),
    Opened(StreamId),
    Bytes(StreamId, Vec<u8>),
    Finished(StreamId),
    Failed(StreamId),
}

impl World {
    /// An empty world whose every choice follows from `seed`.
    pub fn new(seed: u64, network: Network) -> World {
        World {
            ctx: Context::new(seed, Nonces::seeded(seed ^ 0x5eed)),
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            islands: Vec::new(),
            network,
            chance: Random::new(seed ^ 0x0dd5),
            in_flight: BinaryHeap::new(),
            flights: 0,
            peers: BTreeMap::new(),
            accepted: 0,
            stream_clock: BTreeMap::new(),
            completions: Vec::new(),
            events: Vec::new(),
            notices: Vec::new(),
            records: Vec::new(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Adds and starts a node named `n1`, `n2`, ... with Serf's LAN settings, which `change` may change.
    pub fn add(&mut self, change: impl FnOnce(&mut RawConfig)) -> NodeId {
        self.add_node(None, change)
    }

    /// Adds and starts such a node with a delegate.
    pub fn add_with(&mut self, delegate: Box<dyn Delegate>, change: impl FnOnce(&mut RawConfig)) -> NodeId {
        self.add_node(Some(delegate), change)
    }

    fn add_node(
        &mut self,
        delegate: Option<Box<dyn Delegate>>,
        change: impl FnOnce(&mut RawConfig),
    ) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let number = id.0 + 1;
        let addr = SocketAddr::from(([127, (number >> 16) as u8, (number >> 8) as u8, number as u8], 7946));
        let mut raw = RawConfig::lan(format!("n{number}"), addr);
        change(&mut raw);
        let config = raw.check().expect("a scenario's settings are valid");
        self.start(id, config, delegate);
        id
    }

    fn start(&mut self, id: NodeId, config: Config, delegate: Option<Box<dyn Delegate>>) {
        self.by_addr.insert(config.advertise, id);
        let mut node = Node::new(id, Arc::new(config), &mut self.ctx);
        if let Some(delegate) = delegate {
            node.set_delegate(delegate);
        }
        node.start(&mut self.ctx);
        self.nodes.push(Some(node));
        self.islands.push(0);
        self.drain();
    }

    /// Calls a node with its context, then delivers what it puts out.
    pub fn with<T>(&mut self, id: NodeId, call: impl FnOnce(&mut Node, &mut Context) -> T) -> T {
        let node = self.nodes[id.0 as usize].as_mut().expect("the scenario uses a node that runs");
        let result = call(node, &mut self.ctx);
        self.drain();
        result
    }

    /// The node, if it runs.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)?.as_ref()
    }

    /// Ends a node without a word.
    pub fn crash(&mut self, id: NodeId) {
        if let Some(node) = self.nodes[id.0 as usize].take() {
            self.mix(&[0xdd, id.0 as u8]);
            node.stop(&mut self.ctx);
        }
    }

    /// Moves nodes to an island; nodes reach each other only within one.
    pub fn move_to_island(&mut self, ids: &[NodeId], island: u32) {
        ids.iter().for_each(|id| self.islands[id.0 as usize] = island);
    }

    /// Virtual time.
    pub fn now(&self) -> Time {
        self.ctx.now
    }

    /// Runs for that long.
    pub fn run(&mut self, span: Duration) {
        let end = self.ctx.now + span;
        while self.step(end) {}
        self.ctx.now = end;
    }

    /// Runs until the condition holds, at most that long. The time it took, or none.
    pub fn run_until(&mut self, span: Duration, mut holds: impl FnMut(&World) -> bool) -> Option<Duration> {
        let (start, end) = (self.ctx.now, self.ctx.now + span);
        while !holds(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.ctx.now.since(start))
    }

    /// In what SWIM state a node holds another, by name.
    pub fn state(&self, id: NodeId, name: &str) -> SwimState {
        let Some(node) = self.node(id) else { return SwimState::Absent };
        node.view().by_name(&self.ctx.roster, name).map_or(SwimState::Absent, |(_, known)| known.swim)
    }

    /// Whether every running node of `ids` holds all of `names` in that state.
    pub fn all_hold(&self, ids: &[NodeId], names: &[String], state: SwimState) -> bool {
        ids.iter()
            .filter(|&&id| self.node(id).is_some())
            .all(|&id| names.iter().all(|name| self.state(id, name) == state))
    }

    /// The incarnation under which a node holds another.
    pub fn incarnation(&self, id: NodeId, name: &str) -> Option<u32> {
        let view = self.node(id)?.view();
        let (member, _) = view.by_name(&self.ctx.roster, name)?;
        view.incarnation(&self.ctx.roster, member).map(|incarnation| incarnation.0)
    }

    /// Answers to commands so far.
    pub fn completions(&self) -> &[(NodeId, Ticket, Completion)] {
        &self.completions
    }

    /// Everything applications were told so far.
    pub fn events(&self) -> &[(NodeId, Event)] {
        &self.events
    }

    /// In what Serf status a node lists another, by name.
    pub fn status(&self, id: NodeId, name: &str) -> MemberStatus {
        let Some(node) = self.node(id) else { return MemberStatus::None };
        node.view().by_name(&self.ctx.roster, name).map_or(MemberStatus::None, |(_, known)| known.status)
    }

    /// Everything nodes wrote to their snapshots so far.
    pub fn records(&self) -> &[(NodeId, SnapshotRecord)] {
        &self.records
    }

    /// Everything nodes told their logs so far.
    pub fn notices(&self) -> &[(Time, NodeId, Notice)] {
        &self.notices
    }

    /// Facts and names the roster holds: none once all nodes are gone.
    pub fn roster_counts(&self) -> (usize, usize) {
        (self.ctx.roster.names_count(), self.ctx.roster.facts_count())
    }

    /// A hash over everything that happened, in order.
    pub fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// Does the next thing that happens up to `end`. False if there is none.
    fn step(&mut self, end: Time) -> bool {
        let flight = self.in_flight.peek().map(|Reverse(flight)| flight.at);
        let timer = self.ctx.timers.next_deadline();
        let Some(at) = flight.into_iter().chain(timer).min().filter(|&at| at <= end) else { return false };
        self.ctx.now = self.ctx.now.max(at);
        if flight.is_some_and(|flight| flight <= at) {
            if let Some(Reverse(flight)) = self.in_flight.pop() {
                self.deliver(flight);
            }
        } else if let Some((id, key)) = self.ctx.timers.pop_due(self.ctx.now)
            && let Some(node) = self.nodes[id.0 as usize].as_mut()
        {
            node.handle_timeout(&mut self.ctx, key);
        }
        self.drain();
        true
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { at, to, load, .. } = flight;
        self.mix(&at.as_nanos().to_le_bytes());
        self.mix(&to.0.to_le_bytes());
        if let Load::Datagram(_, bytes) | Load::Bytes(_, bytes) = &load {
            let bytes = bytes.clone();
            self.mix(&bytes);
        }
        let Some(node) = self.nodes[to.0 as usize].as_mut() else { return };
        let ctx = &mut self.ctx;
        match load {
            Load::Datagram(from, mut bytes) => node.handle_datagram(ctx, from, &mut bytes),
            Load::Accepted(id, from) => node.handle_stream(ctx, id, StreamInput::Accepted(from)),
            Load::Opened(id) => node.handle_stream(ctx, id, StreamInput::Opened),
            Load::Bytes(id, bytes) => node.handle_stream(ctx, id, StreamInput::Bytes(&bytes)),
            Load::Finished(id) => node.handle_stream(ctx, id, StreamInput::Finished),
            Load::Failed(id) => node.handle_stream(ctx, id, StreamInput::Failed("connection refused")),
        }
    }

    fn drain(&mut self) {
        let datagrams = std::mem::take(&mut self.ctx.out.datagrams);
        for datagram in datagrams {
            let bytes = self.ctx.out.send_buffer[datagram.range].to_vec();
            self.send(datagram.node, datagram.to, bytes);
        }
        self.ctx.out.clear_datagrams();
        for (node, id, operation) in std::mem::take(&mut self.ctx.out.streams) {
            self.operate(node, id, operation);
        }
        self.completions.append(&mut self.ctx.out.completions);
        self.events.append(&mut self.ctx.out.events);
        self.records.append(&mut self.ctx.out.records);
        self.ctx.out.keyrings.clear();
        for node in std::mem::take(&mut self.ctx.out.ended) {
            self.crash(node);
        }
        let now = self.ctx.now;
        self.notices.extend(self.ctx.out.notices.drain(..).map(|(node, notice)| (now, node, notice)));
    }

    fn send(&mut self, from: NodeId, to: SocketAddr, bytes: Vec<u8>) {
        let Some(&target) = self.by_addr.get(&to) else { return };
        let Some(source) = self.address_of(from) else { return };
        if !self.reaches(from, target) || self.chance.unit() < self.network.loss {
            return;
        }
        if self.chance.unit() < self.network.duplication {
            let at = self.ctx.now + self.delay();
            self.fly(at, target, Load::Datagram(source, bytes.clone()));
        }
        let at = self.ctx.now + self.delay();
        self.fly(at, target, Load::Datagram(source, bytes));
    }

    fn operate(&mut self, node: NodeId, id: StreamId, operation: StreamOperation) {
        match operation {
            StreamOperation::Open(to) => self.connect(node, id, to),
            StreamOperation::Write(bytes) => {
                if let Some(&(peer, peer_id)) = self.peers.get(&(node, id)) {
                    self.fly_in_order(peer, peer_id, Load::Bytes(peer_id, bytes));
                }
            }
            StreamOperation::Close | StreamOperation::Abort => {
                if let Some((peer, peer_id)) = self.peers.remove(&(node, id)) {
                    self.fly_in_order(peer, peer_id, Load::Finished(peer_id));
                }
            }
        }
    }

    fn connect(&mut self, node: NodeId, id: StreamId, to: SocketAddr) {
        let target = self
            .by_addr
            .get(&to)
            .copied()
            .filter(|&target| self.nodes[target.0 as usize].is_some() && self.reaches(node, target));
        let (Some(target), Some(source)) = (target, self.address_of(node)) else {
            let at = self.ctx.now + self.delay() * 2;
            return self.fly(at, node, Load::Failed(id));
        };
        let accepted = StreamId::accepted(self.accepted);
        self.accepted += 1;
        self.peers.insert((node, id), (target, accepted));
        self.peers.insert((target, accepted), (node, id));
        self.fly_in_order(target, accepted, Load::Accepted(accepted, source));
        let at = self.ctx.now + self.delay() * 2;
        self.fly(at, node, Load::Opened(id));
    }

    fn fly_in_order(&mut self, to: NodeId, id: StreamId, load: Load) {
        let earliest = self.stream_clock.get(&(to, id)).copied().unwrap_or_default();
        let at = (self.ctx.now + self.delay()).max(earliest + Duration::from_nanos(1));
        self.stream_clock.insert((to, id), at);
        self.fly(at, to, load);
    }

    fn fly(&mut self, at: Time, to: NodeId, load: Load) {
        self.flights += 1;
        self.in_flight.push(Reverse(Flight { at, order: self.flights, to, load }));
    }

    fn delay(&mut self) -> Duration {
        let Network { delay_min, delay_max, .. } = self.network;
        delay_min + self.chance.duration(delay_max.saturating_sub(delay_min))
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.islands[from.0 as usize] == self.islands[to.0 as usize]
    }

    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.node(id).map(|node| node.config().advertise)
    }

    /// FNV-1a: slow and simple, the same everywhere.
    fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running: BTreeSet<u32> = self.nodes.iter().flatten().map(|node| node.shared.id.0).collect();
        write!(f, "World({} nodes run, at {})", running.len(), self.ctx.now)
    }
}
