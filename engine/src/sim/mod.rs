//! The World: production nodes in virtual time. One seed decides everything; the same seed gives the same
//! trace hash on every machine.
//!
//! `network` decides what becomes of packets, `fault` what is wrong with nodes, `check` watches that no rule
//! of the protocol is broken. A World keeps everything that nodes report ([`World::events`] and so on) unless
//! [`World::keep_nothing`] is called; a [`Watcher`] is called in both cases.

pub mod catalog;
mod check;
mod converged;
mod delays;
mod drive;
mod expel;
mod fault;
mod flights;
mod kept;
mod measure;
mod moment;
mod network;
mod play;
mod scenario;
pub mod swarm;
mod trace;
mod watch;

pub use crate::canary::Canary;
pub use crate::duration::Span;
pub use crate::swim::push_pull_scale;
pub use check::{Rule, Violation, settle_bound};
pub use delays::Delays;
pub use measure::{Departures, Measures, Traffic};
pub use moment::Moment;
pub use network::{Link, Network};
pub use play::{Outcome, Play};
pub use scenario::{Action, NODES_MAX, NetworkSpec, Scenario, ScenarioError, Settings, Start, Step};
pub use trace::TraceLevel;
pub use watch::{Seen, Watcher};

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::check::Checker;
use self::fault::{Peer, Skew, Stall};
use self::flights::Flights;
use self::network::Links;
use self::trace::Trace;
use crate::command::Ticket;
use crate::config::{Config, RawConfig};
use crate::context::{Context, NodeId, StreamId};
use crate::delegate::Delegate;
use crate::event::{Completion, Event, Notice, SnapshotRecord};
use crate::node::Node;
use crate::random::{Nonces, Random};
use crate::time::Time;
use crate::view::{MemberStatus, SwimState};

/// Where datagrams come from that no node sent.
const STRANGER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 255, 0, 1), 7946));
/// Buffers of states kept for the next ones: about what is under way at once in a big idle cluster.
const SPARE_STATES_MAX: usize = 16;

/// Production nodes in virtual time.
pub struct World {
    ctx: Context,
    nodes: Vec<Option<Node>>,
    by_addr: HashMap<SocketAddr, NodeId, foldhash::fast::FixedState>,
    links: Links,
    flights: Flights,
    peers: HashMap<(NodeId, StreamId), Peer, foldhash::fast::FixedState>,
    accepted: u64,
    stalls: Vec<Option<Box<Stall>>>,
    /// Nodes that stand still or are starved: when each is to go on or to stop.
    stalled: BTreeSet<(Time, NodeId)>,
    skews: Vec<Skew>,
    keep: bool,
    completions: Vec<(NodeId, Ticket, Completion)>,
    events: Vec<(NodeId, Event)>,
    notices: Vec<(Time, NodeId, Notice)>,
    records: Vec<(NodeId, SnapshotRecord)>,
    watchers: Vec<Box<dyn Watcher>>,
    checker: Option<Box<Checker>>,
    trace: Trace,
    steps: u64,
}

impl World {
    /// An empty world whose every choice follows from `seed`.
    pub fn new(seed: u64, network: Network) -> World {
        let mut ctx = Context::new(seed, Nonces::seeded(seed ^ 0x5eed));
        ctx.spare.max = SPARE_STATES_MAX;
        World {
            ctx,
            nodes: Vec::new(),
            by_addr: HashMap::default(),
            links: Links::new(network, Random::new(seed ^ 0x0dd5)),
            flights: Flights::default(),
            peers: HashMap::default(),
            accepted: 0,
            stalls: Vec::new(),
            stalled: BTreeSet::new(),
            skews: Vec::new(),
            keep: true,
            completions: Vec::new(),
            events: Vec::new(),
            notices: Vec::new(),
            records: Vec::new(),
            watchers: Vec::new(),
            checker: None,
            trace: Trace::new(),
            steps: 0,
        }
    }

    /// Keeps no events, notices, completions and records from now on: at size they would fill the memory.
    pub fn keep_nothing(&mut self) {
        self.keep = false;
    }

    /// Reports everything to `watcher` too from now on.
    pub fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.watchers.push(watcher);
    }

    /// Checks the protocol's rules on every transition from now on. Costs time in proportion to the size of
    /// the view that an input may have changed.
    pub fn check(&mut self) {
        let mut checker = Checker::default();
        for node in self.nodes.iter().flatten() {
            checker.watch(node, &self.ctx.roster);
        }
        self.checker = Some(Box::new(checker));
    }

    /// Rules that were broken, as far as checking is on.
    pub fn violations(&self) -> &[Violation] {
        self.checker.as_ref().map_or(&[], |checker| checker.violations())
    }

    /// How much goes into the trace hash.
    pub fn trace_level(&mut self, level: TraceLevel) {
        self.trace.level = level;
    }

    /// Adds and starts a node named `n1`, `n2`, ... with Serf's LAN settings, which `change` may change.
    pub fn add(&mut self, change: impl FnOnce(&mut RawConfig)) -> NodeId {
        let config = self.next_config(change);
        self.start(config, None)
    }

    /// Adds and starts such a node with a delegate.
    pub fn add_with(&mut self, delegate: Box<dyn Delegate>, change: impl FnOnce(&mut RawConfig)) -> NodeId {
        let config = self.next_config(change);
        self.start(config, Some(delegate))
    }

    /// Starts a node again that crashed or left, with its settings, which `change` may change: what an
    /// earlier run left in the snapshot, another address. It is a new node with a new id.
    pub fn restart(&mut self, old: &Config, change: impl FnOnce(&mut RawConfig)) -> NodeId {
        let mut raw: RawConfig = (**old).clone();
        change(&mut raw);
        self.start(raw.check().expect("a scenario's settings are valid"), None)
    }

    fn next_config(&self, change: impl FnOnce(&mut RawConfig)) -> Config {
        let number = self.nodes.len() as u32 + 1;
        let addr = SocketAddr::from(([127, (number >> 16) as u8, (number >> 8) as u8, number as u8], 7946));
        let mut raw = RawConfig::lan(format!("n{number}"), addr);
        change(&mut raw);
        raw.check().expect("a scenario's settings are valid")
    }

    fn start(&mut self, config: Config, delegate: Option<Box<dyn Delegate>>) -> NodeId {
        let id = self.seat(config);
        let node = self.nodes[id.0 as usize].as_mut().expect("it was just seated");
        if let Some(delegate) = delegate {
            node.set_delegate(delegate);
        }
        node.start(&mut self.ctx);
        self.drain();
        self.check_after(id);
        id
    }

    /// Makes a node and its place in the network; does not start it.
    fn seat(&mut self, config: Config) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.by_addr.insert(config.advertise, id);
        let node = Node::new(id, Arc::new(config), &mut self.ctx);
        self.nodes.push(Some(node));
        self.links.add();
        self.stalls.push(None);
        id
    }

    /// Gives a node another address, at which datagrams and streams reach it too.
    pub fn add_address(&mut self, id: NodeId, addr: SocketAddr) {
        self.by_addr.insert(addr, id);
    }

    /// Calls a node with its context, then delivers what it puts out.
    pub fn with<T>(&mut self, id: NodeId, call: impl FnOnce(&mut Node, &mut Context) -> T) -> T {
        let result = self.lend(id, call).expect("the scenario uses a node that runs");
        self.drain();
        self.check_after(id);
        result
    }

    /// The node, if it runs.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)?.as_ref()
    }

    /// Nodes that run.
    pub fn running(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().flatten().map(|node| node.shared.id)
    }

    /// Ends a node without a word.
    pub fn crash(&mut self, id: NodeId) {
        if let Some(node) = self.nodes[id.0 as usize].take() {
            self.trace.mix(0xdd00_0000_0000 | u64::from(id.0));
            node.stop(&mut self.ctx);
            self.stalls[id.0 as usize] = None;
            self.skews.retain(|skew| skew.id != id);
        }
    }

    /// Moves nodes to an island; nodes reach each other only within one.
    pub fn move_to_island(&mut self, ids: &[NodeId], island: u32) {
        ids.iter().for_each(|&id| self.links.move_to_island(id, island));
    }

    /// Lets what an island sends to island 0 pass until [`heal`](Self::heal): it is heard, but hears nothing.
    pub fn deafen_island(&mut self, island: u32) {
        self.links.deafen(island);
    }

    /// Sets what is wrong with a node's link.
    pub fn set_link(&mut self, id: NodeId, link: Link) {
        self.links.set_link(id, Some(link));
    }

    /// Lets nothing pass from one node to another. The other direction is not touched.
    pub fn block(&mut self, from: NodeId, to: NodeId) {
        self.links.block(from, to);
    }

    /// Changes how the network treats what is sent from now on.
    pub fn set_network(&mut self, network: Network) {
        self.links.network = network;
    }

    /// Pauses a node for `span`: its inputs wait and are handled all at once when it resumes.
    pub fn pause(&mut self, id: NodeId, span: Duration) {
        self.stall(id, Stall::new(self.ctx.now + span, None));
    }

    /// Starves a node of CPU: it is paused for `still`, handles what waited and runs for `runs`, and
    /// so on until [`heal`](Self::heal).
    pub fn starve(&mut self, id: NodeId, still: Duration, runs: Duration) {
        self.stall(id, Stall::new(self.ctx.now + still, Some((still, runs))));
    }

    /// Lets a node's messages wait in both directions for `still`, then pass for `runs`, and so on, while its
    /// timers go on: how the Lifeguard paper makes members slow.
    pub fn hold_messages(&mut self, id: NodeId, still: Duration, runs: Duration) {
        let mut stall = Stall::new(self.ctx.now + still, Some((still, runs)));
        stall.messages_only = true;
        self.stall(id, stall);
    }

    /// Lets a node's clock run at another rate from now on: seconds of the node for one of the world.
    pub fn skew(&mut self, id: NodeId, rate: f64) {
        assert!(rate > 0.0, "a clock does not stand still or run backwards");
        assert!(self.skews.iter().all(|skew| skew.id != id), "a clock is skewed once");
        self.skews.push(Skew::new(id, rate, self.ctx.now));
    }

    /// Makes a node break a rule of the protocol.
    pub fn set_canary(&mut self, id: NodeId, canary: Canary) {
        if let Some(node) = self.nodes[id.0 as usize].as_mut() {
            node.set_canary(canary);
        }
    }

    /// Ends partitions, bad links, blocks, starvation and pauses. Losses of the network and skewed clocks
    /// stay.
    pub fn heal(&mut self) {
        self.links.heal();
        let stalled: Vec<(Time, NodeId)> = self.stalled.iter().copied().collect();
        for (_, id) in stalled {
            self.end_stall(id);
        }
    }

    /// A datagram with these bytes from that address arrives at a node a moment later.
    pub fn inject(&mut self, to: NodeId, from: SocketAddr, bytes: &[u8]) {
        let at = self.ctx.now + Duration::from_nanos(1);
        let bytes = self.flights.buffer(bytes);
        self.flights.depart(at, to, flights::Load::Datagram(from, bytes));
    }

    /// A peer at that address connects to a node, writes these bytes and, if `closes`, closes the stream.
    pub fn inject_stream(&mut self, to: NodeId, from: SocketAddr, bytes: Vec<u8>, closes: bool) {
        let id = StreamId::accepted(self.accepted);
        self.accepted += 1;
        let closed = closes.then_some(flights::Load::Finished(id));
        let loads = [flights::Load::Accepted(id, from), flights::Load::Bytes(id, bytes)];
        let mut at = self.ctx.now;
        for load in loads.into_iter().chain(closed) {
            at = at + Duration::from_nanos(1);
            self.flights.depart(at, to, load);
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Time {
        self.ctx.now
    }

    /// Inputs handled so far: datagrams, stream input, timers.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs for `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.ctx.now + span;
        while self.step(end) {}
        self.ctx.now = end;
    }

    /// Runs until the condition holds, for at most `span`. Returns the time it took, or `None`.
    pub fn run_until(&mut self, span: Duration, mut holds: impl FnMut(&World) -> bool) -> Option<Duration> {
        let (start, end) = (self.ctx.now, self.ctx.now + span);
        while !holds(self) {
            if !self.step(end) {
                self.ctx.now = end;
                return holds(self).then_some(span);
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

    /// The address under which a node holds another.
    pub fn address(&self, id: NodeId, name: &str) -> Option<SocketAddr> {
        let view = self.node(id)?.view();
        let (member, _) = view.by_name(&self.ctx.roster, name)?;
        view.socket_addr(&self.ctx.roster, member)
    }

    /// In what Serf status a node lists another, by name.
    pub fn status(&self, id: NodeId, name: &str) -> MemberStatus {
        let Some(node) = self.node(id) else { return MemberStatus::None };
        node.view().by_name(&self.ctx.roster, name).map_or(MemberStatus::None, |(_, known)| known.status)
    }

    /// Answers to commands so far.
    pub fn completions(&self) -> &[(NodeId, Ticket, Completion)] {
        &self.completions
    }

    /// All events so far.
    pub fn events(&self) -> &[(NodeId, Event)] {
        &self.events
    }

    /// Everything nodes wrote to their snapshots so far.
    pub fn records(&self) -> &[(NodeId, SnapshotRecord)] {
        &self.records
    }

    /// All notices so far.
    pub fn notices(&self) -> &[(Time, NodeId, Notice)] {
        &self.notices
    }

    /// Facts and names the roster holds: none once all nodes are gone.
    pub fn roster_counts(&self) -> (usize, usize) {
        (self.ctx.roster.names_count(), self.ctx.roster.facts_count())
    }

    /// A hash over everything that happened, in order.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({} nodes run, at {})", self.running().count(), self.ctx.now)
    }
}
