//! One member of a cluster as a deterministic state machine: values in, values out.
//!
//! The owner (a shard or the simulator's World) hands in datagrams, stream input, due timers and commands,
//! each with the lent [`Context`], and drains the Context's outputs afterwards. A Node never blocks, never
//! looks at a clock and never fails on a peer's bytes: what is refused is dropped and counted.

mod command;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::command::Leave;
use crate::command::Ticket;
use crate::config::Config;
use crate::context::{Context, NodeId, StreamId, StreamInput};
use crate::egress::{Egress, Scope};
use crate::event::{Member, Notice};
use crate::roster::MemberIndex;
use crate::serf::{Serf, member_record};
use crate::stats::Stats;
use crate::streams::Streams;
use crate::swim::broadcast::Class;
use crate::swim::dissemination::Finished;
use crate::swim::{Source, Swim, push_pull_scale};
use crate::timers::{TimerKey, TimerKind};
use crate::view::{MemberStatus, SwimState, View};
use crate::wire::coordinate::Coordinate;
use crate::wire::{DropReason, LamportTime, Message, packet};

/// One member of a cluster.
pub struct Node {
    pub(crate) shared: Shared,
    pub(crate) swim: Swim,
    pub(crate) serf: Serf,
    pub(crate) streams: Streams,
    early: EarlyExchanges,
    leave: Leave,
    waiters: BTreeMap<u32, (Finished, Ticket)>,
    next_waiter: u32,
    finished: Vec<Finished>,
}

/// What all parts of a node work with; lent to them as a [`Scope`].
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) me: MemberIndex,
    pub(crate) config: Arc<Config>,
    pub(crate) view: View,
    pub(crate) egress: Egress,
    pub(crate) stats: Stats,
}

impl Shared {
    pub(crate) fn scope<'a>(&'a mut self, ctx: &'a mut Context) -> Scope<'a> {
        Scope {
            ctx,
            node: self.id,
            me: self.me,
            config: &self.config,
            view: &mut self.view,
            egress: &mut self.egress,
            stats: &mut self.stats,
        }
    }
}

/// Gossip rounds before the first early exchange.
const EARLY_GOSSIP_ROUNDS: u32 = 5;

/// Push/pulls with random members soon after a join. Gossip alone leaves one of some thousand pairs without
/// the news of a join storm until the next periodic exchange, half a minute later; and what a join taught is
/// not gossiped on here, as Serf does. They go on at doubling distances while there is news.
#[derive(Default)]
struct EarlyExchanges {
    interval: Duration,
    generation: u32,
    heard_news: bool,
}

impl EarlyExchanges {
    /// Arms the next one, somewhere in the interval so that nodes which joined together don't act in step.
    fn schedule(&mut self, scope: &mut Scope<'_>) {
        self.heard_news = false;
        let at = scope.now() + self.interval / 2 + scope.ctx.random.duration(self.interval);
        scope.schedule(at, TimerKind::EarlyPushPull, 0, self.generation);
    }
}

impl Node {
    /// A node of that identity. It does nothing before [`start`](Self::start).
    pub fn new(id: NodeId, config: Arc<Config>, ctx: &mut Context) -> Node {
        let me = ctx.roster.intern_name(&config.node_name);
        let egress = Egress::new(&config, ctx);
        let swim = Swim::new(&config);
        let serf = Serf::new(&config);
        let shared = Shared { id, me, config, view: View::default(), egress, stats: Stats::default() };
        Node {
            shared,
            swim,
            serf,
            streams: Streams::default(),
            early: EarlyExchanges::default(),
            leave: Leave::No,
            waiters: BTreeMap::new(),
            next_waiter: 0,
            finished: Vec::new(),
        }
    }

    /// Announces the node to itself and arms its timers, each with a random delay so that nodes started
    /// together don't act in step.
    pub fn start(&mut self, ctx: &mut Context) {
        let scope = &mut self.shared.scope(ctx);
        self.swim.introduce_self(scope);
        self.serf.start(scope);
        let probe = scope.ctx.random.duration(scope.config.probe_interval);
        scope.schedule(scope.now() + probe, TimerKind::Probe, 0, 0);
        let push_pull = scope.ctx.random.duration(scope.config.push_pull_interval);
        scope.schedule(scope.now() + push_pull, TimerKind::PushPull, 0, 0);
        if let Some(addr) = self.serf.next_rejoin(scope) {
            self.streams.rejoin(scope, addr);
        }
        self.settle(ctx);
    }

    /// A datagram arrived. The bytes are unsealed in place.
    pub fn handle_datagram(&mut self, ctx: &mut Context, from: SocketAddr, bytes: &mut [u8]) {
        self.shared.stats.datagrams_received += 1;
        self.shared.stats.bytes_received += bytes.len() as u64;
        let plain = match packet::open(&self.shared.egress.envelope, bytes) {
            Ok(plain) => plain,
            Err(reason) => return self.shared.scope(ctx).drop_input(reason, Some(from)),
        };
        let mut scratch = std::mem::take(&mut ctx.scratch);
        packet::for_each_message(plain, &mut scratch, &mut |message| self.on_message(ctx, from, message));
        ctx.scratch = scratch;
        self.settle(ctx);
    }

    /// Something happened to a stream.
    pub fn handle_stream(&mut self, ctx: &mut Context, id: StreamId, input: StreamInput<'_>) {
        let scope = &mut self.shared.scope(ctx);
        self.streams.on_input(scope, &mut self.swim, &mut self.serf, id, input);
        self.settle(ctx);
    }

    /// A timer of this node is due. Stale ones are no-ops.
    pub fn handle_timeout(&mut self, ctx: &mut Context, key: TimerKey) {
        let scope = &mut self.shared.scope(ctx);
        match key.kind {
            TimerKind::Probe => self.swim.probe(scope),
            TimerKind::ProbeTimeout => self.swim.on_probe_timeout(scope, key),
            TimerKind::ProbeEnd => self.swim.on_probe_end(scope, key),
            TimerKind::RelayTimeout => self.swim.on_relay_timeout(scope, key),
            TimerKind::Suspicion => self.swim.on_suspicion_timeout(scope, key),
            TimerKind::Gossip => self.swim.gossip(scope),
            TimerKind::Reap => self.serf.reap(scope),
            TimerKind::PushPull => self.push_pull(ctx),
            TimerKind::EarlyPushPull => self.early_push_pull(ctx, key),
            TimerKind::StreamDeadline => self.streams.on_deadline(scope, key),
            TimerKind::Merge => self.streams.on_merge(scope, &mut self.swim, &mut self.serf, key),
            TimerKind::Leave => self.go_on_leaving(ctx, key),
            TimerKind::BroadcastTimeout => self.end_waiter(ctx, key.subject, key.generation == 1),
            TimerKind::QueryEnd => self.serf.on_query_end(scope, key),
            TimerKind::Coalesce => self.serf.on_coalesce_timer(scope, key),
            TimerKind::QueueCheck => self.serf.check_queues(scope),
            TimerKind::Reconnect => {
                if let Some(addr) = self.serf.reconnect(scope) {
                    self.streams.reconnect(scope, addr);
                }
            }
        }
        self.settle(ctx);
    }

    /// Gives all references to the roster back. The node is gone without a word, as after a crash.
    pub fn stop(mut self, ctx: &mut Context) {
        self.swim.clear(ctx);
        self.shared.egress.dissemination.clear(&mut ctx.roster);
        self.shared.view.clear(&mut ctx.roster);
        ctx.roster.release_name(self.shared.me);
    }

    /// What the node believes about everybody.
    pub fn view(&self) -> &View {
        &self.shared.view
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Its local health score: 0 is healthy (Lifeguard 4.1).
    pub fn health_score(&self) -> u32 {
        self.swim.awareness.score()
    }

    /// Whether it has left.
    pub fn has_left(&self) -> bool {
        self.leave == Leave::Left
    }

    /// The member, event and query clocks.
    pub fn clocks(&self) -> [LamportTime; 3] {
        [self.serf.clock.time(), self.serf.event_clock.time(), self.serf.query_clock.time()]
    }

    /// Queued intents, queries and user events.
    pub fn queue_depths(&self) -> [usize; 3] {
        Class::ALL.map(|class| self.shared.egress.dissemination.user_len(class))
    }

    /// Whether its gossip is encrypted.
    pub fn encrypted(&self) -> bool {
        !self.shared.egress.envelope.keyring.is_empty()
    }

    /// Its keys, the primary first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.shared.egress.envelope.keyring.keys()
    }

    /// Where a member is in the space of round trips: this node itself, or one that was probed.
    pub fn coordinate(&self, ctx: &Context, name: &str) -> Option<Coordinate> {
        if name == self.shared.config.node_name {
            return self.shared.config.coordinates.then(|| *self.serf.coordinates.own());
        }
        let (member, _) = self.shared.view.by_name(&ctx.roster, name)?;
        self.serf.coordinates.of(member)
    }

    /// How often the own coordinate became nonsense and started again; none without coordinates.
    pub fn coordinate_resets(&self) -> Option<u64> {
        self.shared.config.coordinates.then(|| self.serf.coordinates.resets())
    }

    /// Its own record.
    pub fn local_member(&self, ctx: &Context) -> Member {
        member_record(&self.shared.view, &ctx.roster, self.shared.me).expect("a node is in its own view")
    }

    /// Everybody this node lists, by name.
    pub fn members(&self, ctx: &Context) -> Vec<Member> {
        let view = &self.shared.view;
        let listed = view.iter().filter(|(_, known)| known.status != MemberStatus::None);
        let mut members: Vec<Member> =
            listed.filter_map(|(member, _)| member_record(view, &ctx.roster, member)).collect();
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        members
    }

    fn on_message(&mut self, ctx: &mut Context, from: SocketAddr, message: Result<Message<'_>, DropReason>) {
        let scope = &mut self.shared.scope(ctx);
        match message {
            Err(reason) => scope.drop_input(reason, Some(from)),
            Ok(Message::Ping(ping)) => self.swim.on_ping(scope, &ping, from),
            Ok(Message::IndirectPing(request)) => self.swim.on_indirect_ping(scope, &request, from),
            Ok(Message::Ack(ack)) => self.swim.on_ack(scope, &ack),
            Ok(Message::Nack(nack)) => self.swim.on_nack(scope, nack),
            Ok(Message::Suspect(suspect)) => self.swim.on_suspect(scope, &suspect, Source::Heard),
            Ok(Message::Alive(alive)) => self.swim.on_alive(scope, &alive, Source::Heard, Some(from)),
            Ok(Message::Dead(dead)) => self.swim.on_dead(scope, &dead, Source::Heard),
            Ok(Message::User(bytes)) => self.serf.on_message(scope, Some(from), bytes),
            Ok(Message::Err(_)) => scope.drop_input(DropReason::MisplacedType, Some(from)),
        }
    }

    fn push_pull(&mut self, ctx: &mut Context) {
        self.push_pull_once(ctx);
        let scope = &mut self.shared.scope(ctx);
        let interval = scope.config.push_pull_interval * push_pull_scale(scope.view.table_count());
        scope.schedule(scope.now() + interval, TimerKind::PushPull, 0, 0);
    }

    /// Came into a cluster: the first early exchange is due soon.
    fn on_joined(&mut self, ctx: &mut Context) {
        let scope = &mut self.shared.scope(ctx);
        self.early.generation = self.early.generation.wrapping_add(1);
        self.early.interval = scope.config.gossip_interval * EARLY_GOSSIP_ROUNDS;
        self.early.schedule(scope);
    }

    fn early_push_pull(&mut self, ctx: &mut Context, key: TimerKey) {
        if key.generation != self.early.generation {
            return;
        }
        self.push_pull_once(ctx);
        let scope = &mut self.shared.scope(ctx);
        self.early.interval *= 2;
        if self.early.heard_news && self.early.interval < scope.config.push_pull_interval {
            self.early.schedule(scope);
        }
    }

    fn push_pull_once(&mut self, ctx: &mut Context) {
        let scope = &mut self.shared.scope(ctx);
        let me = scope.me;
        let picked = scope.view.random_member(&mut scope.ctx.random, |member, known| {
            known.swim == SwimState::Alive && member != me
        });
        if let Some(addr) = picked.and_then(|member| scope.view.socket_addr(&scope.ctx.roster, member)) {
            self.streams.push_pull(scope, addr);
        }
    }

    /// What every input ends with: changes are passed on, streams that probes ask for are opened, gossip begins
    /// if there is something to tell and somebody to hear it, and who waited for a broadcast is told.
    fn settle(&mut self, ctx: &mut Context) {
        let mut changes = std::mem::take(&mut self.swim.changes);
        self.early.heard_news |= !changes.is_empty();
        for change in changes.drain(..) {
            self.serf.on_change(&mut self.shared.scope(ctx), change);
        }
        self.swim.changes = changes;
        for ping in std::mem::take(&mut self.swim.stream_pings) {
            self.streams.ping(&mut self.shared.scope(ctx), ping);
        }
        if self.streams.take_joined() {
            self.on_joined(ctx);
        }
        if let Some(acked) = self.swim.take_acked() {
            self.serf.on_acked(&mut self.shared.scope(ctx), &acked);
        }
        if let Some(answered) = self.streams.take_rejoined() {
            let scope = &mut self.shared.scope(ctx);
            if let Some(addr) = self.serf.on_rejoin(scope, answered) {
                self.streams.rejoin(scope, addr);
            }
        }
        let scope = &mut self.shared.scope(ctx);
        self.serf.record_clock(scope);
        scope.wake_gossip();
        self.settle_broadcasts(ctx);
    }
}

impl Scope<'_> {
    /// Whether anybody else is there to hear.
    pub(crate) fn others_alive(&self) -> bool {
        let me_alive = self.view.get(self.me).is_some_and(|known| known.swim == SwimState::Alive);
        self.view.swim_count(SwimState::Alive) > usize::from(me_alive)
    }

    /// Tells why a push/pull came to nothing.
    pub(crate) fn push_pull_failed(&mut self, addr: SocketAddr, reason: String) {
        self.notice(Notice::PushPullFailed { addr, reason });
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({}, {} in the table)", self.shared.config.node_name, self.shared.view.table_count())
    }
}
