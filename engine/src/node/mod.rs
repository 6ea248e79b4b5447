//! One member of a cluster as a deterministic state machine: values in, values out.
//!
//! The owner (a shard or the simulator's World) hands in datagrams, stream input, due timers and commands,
//! each with the lent [`Context`], and drains the Context's outputs afterwards. A Node never blocks, never
//! looks at a clock and never fails on a peer's bytes: what is refused is dropped and counted.

mod command;
mod layers;
mod listing;
#[cfg(feature = "sim")]
mod settled;
mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::command::Leave;
use self::layers::Upper;
pub(crate) use self::listing::ListedMember;
use self::streams::Streams;
use crate::command::Ticket;
use crate::config::Config;
use crate::context::{Context, NodeId, StreamId, StreamInput};
use crate::delegate::Delegate;
use crate::dissemination::{Class, Dissemination, Finished};
use crate::event::Member;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::coordinate::Coordinates;
use crate::serf::member_record;
use crate::stats::Stats;
use crate::swim::{Source, Swim, push_pull_scale};
use crate::timers::{TimerKey, TimerKind};
use crate::view::{MemberStatus, SwimState, View};
use crate::wire::coordinate::Coordinate;
use crate::wire::envelope::Envelope;
use crate::wire::{DropReason, LamportTime, Message, packet};

/// Members looked at in one slice of a list, at some 0.5 µs each.
const MEMBERS_SLICE: u32 = 512;

/// One member of a cluster.
pub struct Node {
    pub(crate) shared: Shared,
    pub(crate) swim: Swim,
    pub(crate) upper: Upper,
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
    pub(crate) envelope: Envelope,
    pub(crate) dissemination: Dissemination,
    pub(crate) ack_payload: Vec<u8>,
    pub(crate) stats: Stats,
    pub(crate) delegate: Option<Box<dyn Delegate>>,
}

impl Shared {
    pub(crate) fn scope<'a>(&'a mut self, ctx: &'a mut Context) -> Scope<'a> {
        Scope {
            ctx,
            node: self.id,
            me: self.me,
            config: &self.config,
            view: &mut self.view,
            envelope: &mut self.envelope,
            dissemination: &mut self.dissemination,
            ack_payload: &mut self.ack_payload,
            stats: &mut self.stats,
            delegate: &mut self.delegate,
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
        let dissemination = Dissemination::new(&config, ctx);
        let swim = Swim::new(&config);
        let upper = Upper::new(&config);
        let (view, stats) = (View::default(), Stats::default());
        let envelope = envelope(&config);
        let ack_payload = Vec::new();
        let shared =
            Shared { id, me, config, view, envelope, dissemination, ack_payload, stats, delegate: None };
        Node {
            shared,
            swim,
            upper,
            streams: Streams::default(),
            early: EarlyExchanges::default(),
            leave: Leave::No,
            waiters: BTreeMap::new(),
            next_waiter: 0,
            finished: Vec::new(),
        }
    }

    /// Gives the node its rules. Before [`start`](Self::start), which asks it already.
    pub fn set_delegate(&mut self, delegate: Box<dyn Delegate>) {
        self.shared.delegate = Some(delegate);
    }

    /// Announces the node to itself and arms its timers, each with a random delay so that nodes started
    /// together don't act in step.
    pub fn start(&mut self, ctx: &mut Context) {
        self.start_in(ctx, 1);
    }

    /// Starts in a cluster of about `n`: the first push/pull comes within the interval of that size.
    fn start_in(&mut self, ctx: &mut Context, n: usize) {
        let scope = &mut self.shared.scope(ctx);
        self.swim.introduce_self(scope);
        self.upper.start(scope);
        let probe = scope.ctx.random.duration(scope.config.probe_interval);
        scope.schedule(scope.now() + probe, TimerKind::Probe, 0, 0);
        let interval = scope.config.push_pull_interval * push_pull_scale(n);
        let push_pull = scope.ctx.random.duration(interval);
        scope.schedule(scope.now() + push_pull, TimerKind::PushPull, 0, 0);
        if let Some(addr) = self.upper.next_rejoin(scope) {
            self.streams.rejoin(scope, addr);
        }
        self.settle(ctx);
    }

    /// A datagram arrived. The bytes are unsealed in place.
    pub fn handle_datagram(&mut self, ctx: &mut Context, from: SocketAddr, bytes: &mut [u8]) {
        self.shared.stats.datagrams_received += 1;
        self.shared.stats.bytes_received += bytes.len() as u64;
        let plain = match self.shared.envelope.open(bytes) {
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
        self.streams.on_input(scope, &mut self.swim, &mut self.upper, id, input);
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
            TimerKind::Gossip => scope.gossip(),
            TimerKind::PushPull => self.push_pull(ctx),
            TimerKind::EarlyPushPull => self.early_push_pull(ctx, key),
            TimerKind::StreamDeadline => self.streams.on_deadline(scope, key),
            TimerKind::Merge => self.streams.on_merge(scope, &mut self.swim, &mut self.upper, key),
            TimerKind::Leave => self.go_on_leaving(ctx, key),
            TimerKind::BroadcastTimeout => self.end_waiter(ctx, key.subject, key.generation == 1),
            TimerKind::Reap
            | TimerKind::QueryEnd
            | TimerKind::Coalesce
            | TimerKind::QueueCheck
            | TimerKind::Reconnect => {
                if let Some(addr) = self.upper.on_timeout(scope, key) {
                    self.streams.reconnect(scope, addr);
                }
                if let Some(addr) = self.upper.rejoin_again(scope, key.kind) {
                    self.streams.rejoin(scope, addr);
                }
            }
        }
        self.settle(ctx);
    }

    /// Gives all references to the roster back. The node is gone without a word, as after a crash.
    pub fn stop(mut self, ctx: &mut Context) {
        self.swim.clear(ctx);
        self.upper.clear(&mut ctx.roster);
        self.shared.dissemination.clear(&mut ctx.roster);
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

    /// Counts what its owner refused in its name.
    pub(crate) fn count_drops(&mut self, reason: crate::wire::DropReason, count: usize) {
        (0..count).for_each(|_| self.shared.stats.count_drop(reason));
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

    /// Whether it has begun to leave and is not through with it.
    pub fn is_leaving(&self) -> bool {
        !matches!(self.leave, Leave::No | Leave::Left)
    }

    /// The member, event and query clocks.
    pub fn clocks(&self) -> [LamportTime; 3] {
        self.upper.clocks()
    }

    /// Queued intents, queries and user events.
    pub fn queue_depths(&self) -> [usize; 3] {
        Class::ALL.map(|class| self.shared.dissemination.user_len(class))
    }

    /// Whether its gossip is encrypted.
    pub fn encrypted(&self) -> bool {
        !self.shared.envelope.keyring.is_empty()
    }

    /// Its keys, the primary first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.shared.envelope.keyring.keys()
    }

    /// Where a member is in the space of round trips: this node itself, or one that was probed.
    pub fn coordinate(&self, ctx: &Context, name: &str) -> Option<Coordinate> {
        let coordinates = self.upper.coordinates(&self.shared.config)?;
        if name == self.shared.config.node_name {
            return Some(*coordinates.own());
        }
        let (member, _) = self.shared.view.by_name(&ctx.roster, name)?;
        coordinates.of(member)
    }

    /// How often the own coordinate became nonsense and started again; none without coordinates.
    pub fn coordinate_resets(&self) -> Option<u64> {
        self.upper.coordinates(&self.shared.config).map(Coordinates::resets)
    }

    /// Its own record.
    pub fn local_member(&self, ctx: &Context) -> Member {
        member_record(&self.shared.view, &ctx.roster, self.shared.me).expect("a node is in its own view")
    }

    /// Everybody this node lists, by name.
    pub fn members(&self, ctx: &Context) -> Vec<Member> {
        let mut members = Vec::with_capacity(self.shared.view.members_count());
        let mut from = Some(MemberIndex(0));
        while let Some(start) = from {
            from = self.members_slice(ctx, start, &mut members);
        }
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// Adds the next members that this node lists, in index order, and tells where to go on. A slice takes a
    /// fraction of a millisecond, so that a long list can be asked for without holding back an ack. Who comes
    /// or goes between two slices may be missing or listed; nobody is listed twice.
    pub fn members_slice(
        &self,
        ctx: &Context,
        from: MemberIndex,
        into: &mut Vec<Member>,
    ) -> Option<MemberIndex> {
        let view = &self.shared.view;
        let end = view.index_end().min(from.0.saturating_add(MEMBERS_SLICE));
        for member in (from.0..end).map(MemberIndex) {
            if view.get(member).is_some_and(|known| known.status != MemberStatus::None) {
                into.extend(member_record(view, &ctx.roster, member));
            }
        }
        (end < view.index_end()).then_some(MemberIndex(end))
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
            Ok(Message::User(bytes)) => self.upper.on_message(scope, Some(from), bytes),
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
            self.upper.on_change(&mut self.shared.scope(ctx), change);
        }
        self.swim.changes = changes;
        for ping in std::mem::take(&mut self.swim.stream_pings) {
            self.streams.ping(&mut self.shared.scope(ctx), ping);
        }
        if self.streams.take_joined() {
            self.on_joined(ctx);
        }
        if let Some(acked) = self.swim.take_acked() {
            self.upper.on_acked(&mut self.shared.scope(ctx), &acked);
        }
        if let Some(answered) = self.streams.take_rejoined() {
            let scope = &mut self.shared.scope(ctx);
            if let Some(addr) = self.upper.on_rejoin(scope, answered) {
                self.streams.rejoin(scope, addr);
            }
        }
        let scope = &mut self.shared.scope(ctx);
        self.upper.record_clock(scope);
        scope.wake_gossip();
        self.settle_broadcasts(ctx);
    }
}

/// The envelope that the settings ask for.
fn envelope(config: &Config) -> Envelope {
    Envelope {
        label: config.label.clone(),
        compress: config.compression,
        verify_incoming: config.gossip_verify_incoming,
        verify_outgoing: config.gossip_verify_outgoing,
        ..Envelope::new(&config.keys).expect("the config's keys were checked")
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({}, {} in the table)", self.shared.config.node_name, self.shared.view.table_count())
    }
}
