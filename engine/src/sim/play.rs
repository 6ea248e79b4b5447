//! Plays a scenario in a World and measures it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::check::{Violation, settle_bound};
use super::measure::{Measures, Meter};
use super::moment::Moment;
use super::scenario::{Action, Scenario, Start, Step};
use super::{Link, STRANGER, World};
use crate::canary::Canary;
use crate::command::{KeyOperation, QueryParams, Ticket};
use crate::config::{Config, Restored};
use crate::context::NodeId;
use crate::random::Random;
use crate::sim::kept::snapshot;
use crate::time::Time;
use crate::view::{MemberStatus, SwimState};
use crate::wire::message;

/// A failed join is tried again after this time and a random time up to as long.
const JOIN_RETRY: Duration = Duration::from_secs(1);
/// Time between two checks of queue depths, of joins to be tried again and of whether all views are equal.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A scenario that is being played.
pub struct Play {
    world: World,
    scenario: Scenario,
    meter: Meter,
    chance: Random,
    agenda: BTreeMap<(Time, u32), Step>,
    agenda_end: u32,
    /// Nodes that crashed, with what their snapshots held, and nodes that left or are about to.
    crashed: Vec<(u32, Config, Restored)>,
    left: Vec<(u32, Config, NodeId)>,
    /// Nodes whose join failed, and when it is tried again.
    retries: Vec<(Time, NodeId)>,
    canary: Canary,
    tickets: u64,
    islands: u32,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub measures: Measures,
    /// The trace hash.
    pub trace_hash: u64,
    /// Inputs handled.
    pub steps: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Nodes that run at the end.
    pub running: usize,
    /// Broken rules, if they were checked.
    pub violations: Vec<Violation>,
    /// How long it took until all views were equal once the faults were over, if the scenario asks for that.
    pub settled_in: Option<Duration>,
    /// What is still wrong at the end: views that differ, queries that did not end.
    pub unsettled: Option<String>,
}

/// More nodes than this start one after the other within [`START_SPAN`]: no seed node has room for the streams of
/// thousands in the same instant, and no fleet starts so.
const JOINS_AT_ONCE: u32 = 128;
const START_SPAN: Duration = Duration::from_millis(200);

impl Play {
    /// A scenario and a seed from which everything follows.
    pub fn new(scenario: &Scenario, seed: u64) -> Play {
        let settings = scenario.settings.clone();
        let network = scenario.network.network();
        let (n, joins) = match scenario.start {
            Start::Converged => (scenario.nodes, 0),
            Start::Join => (1, scenario.nodes - 1),
        };
        let mut world = World::converged(seed, network, n, |raw| settings.apply(raw));
        world.forget_members(scenario.views_missing);
        world.keep_nothing();
        let meter = Meter::default();
        for id in world.ids() {
            meter.0.borrow_mut().started(id, id.0 + 1, Time::ZERO, true);
        }
        world.watch(Box::new(meter.clone()));
        let mut play = Play {
            world,
            scenario: scenario.clone(),
            meter,
            chance: Random::new(seed ^ 0xabcd),
            agenda: BTreeMap::new(),
            agenda_end: 0,
            crashed: Vec::new(),
            left: Vec::new(),
            retries: Vec::new(),
            canary: Canary::None,
            tickets: 0,
            islands: 0,
        };
        for step in &scenario.steps {
            for turn in 0..step.times.max(1) {
                play.plan(step.at.0 + step.every.0 * turn, step.clone());
            }
        }
        let join = |count| Step { action: Action::Join, count: Some(count), ..Step::default() };
        let (turns, each) = if joins > JOINS_AT_ONCE { (joins, 1) } else { (joins.min(1), joins) };
        (0..turns).for_each(|turn| play.plan(START_SPAN * turn / turns, join(each)));
        play
    }

    /// Checks the protocol's rules on every transition.
    pub fn check(&mut self) {
        self.world.check();
    }

    /// Makes all nodes break a rule, those added later too.
    pub fn set_canary(&mut self, canary: Canary) {
        self.canary = canary;
        for id in self.world.ids() {
            self.world.set_canary(id, canary);
        }
    }

    /// Compresses one of so many writes to streams, beside sending it as it is, to measure what LZW would make of
    /// the traffic without spending the time on all of it.
    pub fn sample_compression(&mut self, every: u64) {
        self.meter.0.borrow_mut().sample_every = every;
    }

    /// The World in which it is played.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Plays it to its end. `goes_on` is called every 250 ms of virtual time, with the time so far and the expected
    /// one; it stops the run by returning false.
    pub fn run(self, mut goes_on: impl FnMut(Duration, Duration) -> bool) -> Outcome {
        self.observe(|moment| goes_on(moment.passed, moment.expected))
    }

    /// Like [`run`](Self::run), but `goes_on` sees the whole moment.
    pub fn observe(mut self, mut goes_on: impl FnMut(&Moment<'_>) -> bool) -> Outcome {
        let lasts = self.scenario.lasts.0;
        let end = Time::ZERO + lasts;
        let mut stopped = false;
        while self.world.now() < end && !stopped {
            self.act();
            let next = self.agenda.keys().next().map_or(end, |&(at, _)| at);
            let until = next.min(end).min(self.world.now() + LOOK_INTERVAL);
            self.world.run(until.since(self.world.now()));
            self.look();
            stopped = !self.moment(lasts, &mut goes_on);
        }
        let (mut settled_in, mut unsettled) = (None, None);
        if self.scenario.settle && !stopped {
            (settled_in, unsettled, stopped) = self.settle(&mut goes_on);
        }
        let running = self.world.running().count();
        let (trace_hash, steps) = (self.world.trace_hash(), self.world.steps());
        let lasted = self.world.now().since(Time::ZERO);
        let violations = self.world.violations().to_vec();
        drop(self.world);
        let measures = std::mem::take(&mut *self.meter.0.borrow_mut());
        let unsettled = unsettled.filter(|_| !stopped);
        Outcome { measures, trace_hash, steps, lasted, stopped, running, violations, settled_in, unsettled }
    }

    /// Heals everything and waits until all views are equal and all queries over.
    fn settle(
        &mut self,
        goes_on: &mut impl FnMut(&Moment<'_>) -> bool,
    ) -> (Option<Duration>, Option<String>, bool) {
        self.heal();
        self.world.links.network.loss = self.world.links.network.loss.min(0.05);
        let Some(config) = self.world.running().next().and_then(|id| self.world.node(id)).map(|n| n.config())
        else {
            return (None, None, false);
        };
        let bound = settle_bound(config, self.world.running().count());
        let start = self.world.now();
        loop {
            let wrong = self.world.disagreement().or_else(|| self.unfinished());
            let passed = self.world.now().since(start);
            if wrong.is_none() && self.retries.is_empty() {
                return (Some(passed), None, false);
            }
            if passed >= bound {
                let wrong = wrong.unwrap_or_else(|| "a join still fails".to_owned());
                return (None, Some(format!("{passed:?} after the last fault: {wrong}")), false);
            }
            if !self.moment(self.scenario.lasts.0 + bound, goes_on) {
                return (None, None, true);
            }
            self.world.run(LOOK_INTERVAL);
            self.look();
        }
    }

    fn moment(&self, expected: Duration, goes_on: &mut impl FnMut(&Moment<'_>) -> bool) -> bool {
        let passed = self.world.now().since(Time::ZERO);
        goes_on(&Moment { passed, expected, world: &self.world, measures: &self.meter.0.borrow() })
    }

    /// A query that should be over and is not.
    fn unfinished(&self) -> Option<String> {
        let measures = self.meter.0.borrow();
        let mut open = measures.asked.keys().filter(|(node, _)| self.world.node(*node).is_some());
        open.next().map(|(node, ticket)| format!("query {} of n{} has not ended", ticket.0, node.0 + 1))
    }

    fn plan(&mut self, after: Duration, step: Step) {
        self.agenda_end += 1;
        self.agenda.insert((Time::ZERO + after, self.agenda_end), step);
    }

    /// Does what is due.
    fn act(&mut self) {
        while let Some((&(at, order), _)) = self.agenda.first_key_value() {
            if at > self.world.now() {
                return;
            }
            if let Some(step) = self.agenda.remove(&(at, order)) {
                self.take(&step);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step.action {
            Action::Nothing => {}
            Action::Heal => self.heal(),
            Action::Event => self.send_event(step.bytes),
            Action::Query => self.ask(),
            Action::Restart => self.restart(step),
            Action::Move => self.move_away(),
            Action::Prune => self.prune(),
            Action::Expel => {
                let mut ids = self.pick(step);
                ids.push(NodeId(0));
                ids.iter().for_each(|&at| self.world.expel(at, &ids));
            }
            Action::Join => (0..step.count.unwrap_or(1)).for_each(|_| self.join_new()),
            Action::InstallKey => self.operate_key(KeyOperation::Install, step.key),
            Action::UseKey => self.operate_key(KeyOperation::Use, step.key),
            Action::RemoveKey => self.operate_key(KeyOperation::Remove, step.key),
            Action::Partition => {
                self.islands += 1;
                let ids = self.pick(step);
                self.sicken(&ids);
                self.world.move_to_island(&ids, self.islands);
                if step.one_way {
                    self.world.deafen_island(self.islands);
                }
            }
            _ => {
                for id in self.pick(step) {
                    self.afflict(id, step);
                }
            }
        }
    }

    /// What happens to single nodes.
    fn afflict(&mut self, id: NodeId, step: &Step) {
        match step.action {
            Action::Crash => self.crash(id),
            Action::Leave => self.leave(id),
            Action::Hostile => self.send_nonsense(id),
            Action::Link => {
                self.sicken(&[id]);
                let flips = step.bad != Default::default() && step.good != Default::default();
                let flip_flop = flips.then_some((step.bad.0, step.good.0));
                let Step { inbound_loss, outbound_loss, .. } = *step;
                self.world.set_link(id, Link { inbound_loss, outbound_loss, flip_flop });
            }
            Action::Starve => {
                self.sicken(&[id]);
                self.world.starve(id, step.still.0, step.runs.0);
            }
            Action::HoldMessages => {
                self.sicken(&[id]);
                self.world.hold_messages(id, step.still.0, step.runs.0);
            }
            Action::Pause => {
                self.sicken(&[id]);
                self.world.pause(id, step.still.0);
            }
            Action::Skew => {
                self.sicken(&[id]);
                self.world.skew(id, step.rate);
            }
            _ => unreachable!("the other actions are not about single nodes"),
        }
    }

    /// Running nodes chosen from the seed, never the first.
    fn pick(&mut self, step: &Step) -> Vec<NodeId> {
        let skewed = |world: &World, id: NodeId| world.skews.iter().any(|skew| skew.id == id);
        let wants_clock = step.action == Action::Skew;
        let mut ids: Vec<NodeId> = self
            .world
            .running()
            .filter(|&id| id.0 > 0 && !(wants_clock && skewed(&self.world, id)))
            .filter(|&id| self.world.node(id).is_some_and(|node| !node.has_left() && !node.is_leaving()))
            .collect();
        self.chance.shuffle(&mut ids);
        ids.truncate(step.whom(ids.len() + 1));
        ids
    }

    fn pick_running(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.world.running().collect();
        ids[self.chance.below(ids.len() as u32) as usize]
    }

    fn sicken(&mut self, ids: &[NodeId]) {
        let measures = &mut *self.meter.0.borrow_mut();
        for &id in ids {
            let number = measures.number(id);
            measures.sick.insert(number);
        }
    }

    fn heal(&mut self) {
        self.world.heal();
        self.meter.0.borrow_mut().sick.clear();
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn send_event(&mut self, bytes: usize) {
        let id = self.pick_running();
        let mut payload = self.ticket().0.to_be_bytes().to_vec();
        payload.resize(bytes.max(payload.len()), b'x');
        self.meter.0.borrow_mut().event_sent(&payload, self.world.now());
        let payload = Bytes::from(payload);
        // One too long for Serf's limit is refused, and never arrives.
        let _ = self.world.with(id, |node, ctx| node.user_event(ctx, "deploy", &payload, false));
    }

    fn ask(&mut self) {
        let (id, ticket) = (self.pick_running(), self.ticket());
        let params = QueryParams { name: "uptime".to_owned(), request_ack: true, ..QueryParams::default() };
        let now = self.world.now();
        self.meter.0.borrow_mut().asked.insert((id, ticket), now);
        match self.world.with(id, |node, ctx| node.query(ctx, ticket, &params)) {
            Ok(_) => self.meter.0.borrow_mut().queries.0 += 1,
            Err(_) => {
                self.meter.0.borrow_mut().asked.remove(&(id, ticket));
            }
        }
    }

    fn operate_key(&mut self, operation: KeyOperation, key: u8) {
        let (id, ticket) = (self.pick_running(), self.ticket());
        let key = vec![7 + key; 32];
        // Refused only with too many queries under way.
        let _ = self.world.with(id, |node, ctx| node.key_query(ctx, ticket, operation, &key));
    }

    fn crash(&mut self, id: NodeId) {
        let Some(node) = self.world.node(id) else { return };
        let keeps = self.scenario.steps.iter().any(|step| step.action == Action::Restart && step.snapshot);
        let restored = if keeps { snapshot(&self.world, node) } else { Restored::default() };
        let config = node.config().clone();
        let number = self.meter.0.borrow().number(id);
        self.world.crash(id);
        self.meter.0.borrow_mut().departed(number, self.world.now(), false);
        self.crashed.push((number, config, restored));
    }

    fn leave(&mut self, id: NodeId) {
        let ticket = self.ticket();
        let number = self.meter.0.borrow().number(id);
        if self.world.with(id, |node, ctx| node.leave(ctx, ticket)).is_ok() {
            self.meter.0.borrow_mut().departed(number, self.world.now(), true);
            let config = self.world.node(id).expect("it just answered").config().clone();
            self.left.push((number, config, id));
        }
    }

    /// Random bytes, half of them behind a type byte that there is, as a datagram or over a stream.
    fn send_nonsense(&mut self, id: NodeId) {
        let mut bytes: Vec<u8> = (0..self.chance.below(200)).map(|_| self.chance.below(256) as u8).collect();
        if let Some(first) = bytes.first_mut().filter(|_| self.chance.below(2) == 0) {
            *first %= message::ERR + 1;
        }
        match self.chance.below(3) {
            0 => self.world.inject_stream(id, STRANGER, bytes, self.chance.below(2) == 0),
            _ => self.world.inject(id, STRANGER, &bytes),
        }
    }

    fn restart(&mut self, step: &Step) {
        for (number, config, restored) in std::mem::take(&mut self.crashed) {
            // A snapshot from before the first join lists no member to join, like no snapshot.
            let mut others = restored.alive.iter().chain(&restored.failed);
            let rejoins = step.snapshot && others.any(|(name, _)| *name != config.node_name);
            let id = self.world.restart(&config, |raw| {
                if step.snapshot {
                    raw.restored = restored;
                }
                if step.moved {
                    raw.advertise.set_port(raw.advertise.port() + 1);
                }
            });
            self.came(id, number, !rejoins);
        }
    }

    /// A member that left comes back under another address.
    fn move_away(&mut self) {
        for (number, config, old) in std::mem::take(&mut self.left) {
            if self.world.node(old).is_some() {
                // Still on its way out.
                self.left.push((number, config, old));
                continue;
            }
            let id = self.world.restart(&config, |raw| {
                raw.advertise.set_port(raw.advertise.port() + 1);
            });
            self.came(id, number, true);
        }
    }

    fn join_new(&mut self) {
        let settings = self.scenario.settings.clone();
        let id = self.world.add(|raw| settings.apply(raw));
        self.came(id, id.0 + 1, true);
    }

    fn came(&mut self, id: NodeId, number: u32, joins: bool) {
        self.meter.0.borrow_mut().started(id, number, self.world.now(), false);
        self.world.set_canary(id, self.canary);
        if joins {
            self.join(id);
        }
    }

    /// Has a node join the first one, the only one that all know from the start.
    fn join(&mut self, id: NodeId) {
        let Some(addr) = self.world.node(NodeId(0)).map(|node| node.config().advertise) else { return };
        let ticket = self.ticket();
        // Refused only after a leave.
        let _ = self.world.with(id, |node, ctx| node.join(ctx, ticket, vec![addr], false));
    }

    fn prune(&mut self) {
        let Some(node) = self.world.node(NodeId(0)) else { return };
        let failed = node.view().iter().filter(|(_, known)| known.status == MemberStatus::Failed);
        let names: Vec<String> =
            failed.map(|(member, _)| self.world.ctx.roster.name(member).to_owned()).collect();
        for name in names {
            let ticket = self.ticket();
            // Refused only with too many under way; the next prune gets the rest.
            let _ = self.world.with(NodeId(0), |node, ctx| node.force_leave(ctx, ticket, &name, true));
        }
    }

    /// Looks at queues, ends nodes that left, and has failed joins tried again.
    fn look(&mut self) {
        let now = self.world.now();
        let mut measures = self.meter.0.borrow_mut();
        let mut left = Vec::new();
        for node in self.world.nodes.iter().flatten() {
            let depths = node.queue_depths();
            for (place, depth) in depths.into_iter().enumerate() {
                measures.queue_depths[place] = measures.queue_depths[place].max(depth);
            }
            if node.has_left() {
                left.push(node.shared.id);
            }
        }
        let failed_joins = std::mem::take(&mut measures.failed_joins);
        drop(measures);
        for id in left {
            self.world.crash(id);
        }
        for id in failed_joins {
            self.retries.push((now + JOIN_RETRY + self.chance.duration(JOIN_RETRY), id));
        }
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|&(at, _)| at <= now);
        self.retries = later;
        self.retry(due);
    }

    fn retry(&mut self, due: Vec<(Time, NodeId)>) {
        for (_, id) in due {
            let alone = self.world.node(id).is_some_and(|node| node.view().swim_count(SwimState::Alive) <= 1);
            if alone {
                self.join(id);
            }
        }
    }
}

impl std::fmt::Debug for Play {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Play({} in {:?})", self.scenario.name, self.world)
    }
}
