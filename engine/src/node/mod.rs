//! One member of a cluster as a deterministic state machine.
//!
//! The owner (a shard or the simulator's World) hands in datagrams, stream input, due timers and commands,
//! each with the lent [`Context`], and drains the Context's outputs afterwards. A Node never blocks, never reads a
//! clock and never fails on a peer's bytes: input that it refuses is dropped and counted.

mod accepted;
mod command;
mod exchange;
mod growth;
mod joins;
mod layers;
mod listing;
mod reconcile;
mod settle;
#[cfg(feature = "sim")]
mod settled;
mod states;
mod steps;
mod streams;
mod tls_peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use self::accepted::{ACCEPTED_MAX, FIRST_BYTE, SOURCE_MAX};
use self::command::Leave;
use self::exchange::EarlyExchanges;
use self::layers::TopLayer;
pub(crate) use self::listing::ListedMember;
use self::reconcile::Reconciler;
pub(crate) use self::streams::HELD_BYTES_MAX;
use self::streams::Streams;
use self::tls_peers::TlsPeers;
use crate::command::Ticket;
use crate::config::Config;
use crate::context::{Context, NodeId, StreamId, StreamInput};
use crate::deferred::Finished;
use crate::delegate::Delegate;
use crate::dissemination::{Class, Dissemination, Source};
use crate::drop_reason::DropReason;
use crate::event::Member;
use crate::reconcile::compared::Compared;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::coordinate::Coordinates;
use crate::serf::member_record;
use crate::stats::Stats;
use crate::swim::{Swim, push_pull_scale};
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{MemberStatus, View};
use crate::wire::coordinate::Coordinate;
use crate::wire::envelope::Envelope;
use crate::wire::layer::{Layer, Step};
use crate::wire::{DecodeError, LamportTime, Message, packet};

/// Members visited in one slice of a list, at some 0.5 µs each.
const MEMBERS_SLICE: u32 = 512;

/// One member of a cluster.
pub struct Node {
    pub(crate) shared: Shared,
    pub(crate) swim: Swim,
    pub(crate) top: TopLayer,
    pub(crate) streams: Streams,
    early: EarlyExchanges,
    reconciler: Reconciler,
    tls_peers: TlsPeers,
    leave: Leave,
    waiters: BTreeMap<u32, (Finished, Ticket)>,
    next_waiter: u32,
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
    pub(crate) compared: Compared,
    pub(crate) stats: Stats,
    pub(crate) delegate: Option<Box<dyn Delegate>>,
    #[cfg(feature = "sim")]
    pub(crate) canary: crate::canary::Canary,
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
            compared: &self.compared,
            stats: &mut self.stats,
            delegate: &mut self.delegate,
            #[cfg(feature = "sim")]
            canary: self.canary,
        }
    }
}

impl Node {
    /// A node with that id. It does nothing before [`start`](Self::start).
    pub fn new(id: NodeId, config: Arc<Config>, ctx: &mut Context) -> Node {
        let me = ctx.roster.intern_name(&config.node_name);
        let dissemination = Dissemination::new(&config, ctx);
        let swim = Swim::new(&config);
        let top = TopLayer::new(&config);
        let (view, stats) = (View::default(), Stats::default());
        let envelope = envelope(&config);
        let shared = Shared {
            id,
            me,
            config,
            view,
            envelope,
            dissemination,
            ack_payload: Vec::new(),
            compared: Compared::default(),
            stats,
            delegate: None,
            #[cfg(feature = "sim")]
            canary: crate::canary::Canary::None,
        };
        Node {
            shared,
            swim,
            top,
            streams: Streams::default(),
            early: EarlyExchanges::default(),
            reconciler: Reconciler::default(),
            tls_peers: TlsPeers::default(),
            leave: Leave::No,
            waiters: BTreeMap::new(),
            next_waiter: 0,
        }
    }

    /// Sets the node's delegate. To be called before [`start`](Self::start), which calls the delegate.
    pub fn set_delegate(&mut self, delegate: Box<dyn Delegate>) {
        self.shared.delegate = Some(delegate);
    }

    /// Announces from now on that this node takes streams by TLS, to those that speak the extensions.
    pub(crate) fn announce_tls(&mut self) {
        self.shared.compared.announces_tls = true;
    }

    /// Whether the member at that address announced that it takes streams by TLS.
    pub(crate) fn takes_tls(&self, addr: SocketAddr) -> bool {
        self.tls_peers.has(addr)
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
        self.top.start(scope);
        let probe = scope.ctx.random.duration(scope.config.probe_interval);
        scope.schedule(scope.now() + probe, TimerKind::Probe, 0, 0);
        let interval = scope.config.push_pull_interval * push_pull_scale(n);
        let push_pull = scope.ctx.random.duration(interval);
        scope.schedule(scope.now() + push_pull, TimerKind::PushPull, 0, 0);
        self.settle(ctx);
    }

    /// A datagram arrived. The bytes are unsealed in place.
    pub fn handle_datagram(&mut self, ctx: &mut Context, from: SocketAddr, bytes: &mut [u8]) {
        self.shared.stats.datagrams_received += 1;
        self.shared.stats.bytes_received += bytes.len() as u64;
        if !self.shared.config.allows(from.ip()) {
            self.shared.scope(ctx).drop_input(DropReason::AddressNotAllowed, Some(from));
            return self.settle(ctx);
        }
        let mut sealed = false;
        let opened = self.shared.envelope.open_traced(bytes, |step| {
            sealed |= matches!(step, Step::Enter(Layer::Sealed { .. }));
        });
        match opened {
            Ok(plain) => {
                ctx.arrived_plain = !sealed;
                if packet::is_one_message(plain) {
                    self.on_message(ctx, from, Message::decode(plain), true);
                } else {
                    let mut scratch = std::mem::take(&mut ctx.scratch);
                    packet::for_each_message(plain, &mut scratch, &mut |message| {
                        self.on_message(ctx, from, message, false)
                    });
                    ctx.scratch = scratch;
                    self.top.on_datagram_end(&mut self.shared.scope(ctx), from);
                }
            }
            Err(reason) => self.shared.scope(ctx).drop_input(reason, Some(from)),
        }
        self.settle(ctx);
        ctx.arrived_plain = false;
    }

    /// Something happened to a stream.
    pub fn handle_stream(&mut self, ctx: &mut Context, id: StreamId, input: StreamInput<'_>) {
        let scope = &mut self.shared.scope(ctx);
        self.streams.on_input(scope, &mut self.swim, &mut self.top, id, input);
        self.settle(ctx);
        ctx.arrived_plain = false;
    }

    /// A timer of this node is due. Stale ones are no-ops.
    pub fn handle_timeout(&mut self, ctx: &mut Context, key: TimerKey) {
        let scope = &mut self.shared.scope(ctx);
        match key.kind {
            TimerKind::Probe => self.swim.probe(scope),
            TimerKind::ProbeTimeout => self.swim.on_probe_timeout(scope, key),
            TimerKind::ProbeEnd => self.swim.on_probe_end(scope, key),
            TimerKind::RelayTimeout => self.swim.on_relay_timeout(scope, key),
            TimerKind::Claim => self.swim.on_claim_timer(scope, key),
            TimerKind::Former => self.swim.on_former_timer(scope, key),
            TimerKind::Suspicion => self.swim.on_suspicion_timeout(scope, key),
            TimerKind::Gossip => scope.on_gossip_timer(key),
            TimerKind::PushPull => self.on_push_pull_timer(ctx),
            TimerKind::EarlyPushPull => self.on_early_push_pull_timer(ctx, key),
            TimerKind::StreamDeadline => self.streams.on_deadline(scope, key),
            TimerKind::Merge => self.streams.on_merge(scope, &mut self.swim, key),
            TimerKind::InquiryEnd => self.swim.on_inquiry_end(scope, key),
            TimerKind::Growth => self.on_growth_timer(ctx, key),
            TimerKind::Reconcile => self.on_apply_timer(ctx),
            TimerKind::Leave => self.go_on_leaving(ctx, key),
            TimerKind::BroadcastTimeout => self.end_waiter(ctx, key.subject, key.generation == 1),
            TimerKind::Reap
            | TimerKind::QueryEnd
            | TimerKind::Votes
            | TimerKind::Coalesce
            | TimerKind::QueueCheck
            | TimerKind::Reconnect => self.top.on_timeout(scope, key),
        }
        self.settle(ctx);
    }

    /// Releases all references to the roster. The node sends nothing: to its peers it has crashed.
    pub fn stop(mut self, ctx: &mut Context) {
        self.swim.clear(ctx);
        self.top.clear(&mut ctx.roster);
        self.shared.dissemination.clear(&mut ctx.roster);
        self.shared.view.clear(&mut ctx.roster);
        ctx.roster.release_name(self.shared.me);
    }

    /// What the node believes about all members.
    pub fn view(&self) -> &View {
        &self.shared.view
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Counts input that the driver refused on its behalf.
    pub(crate) fn count_drops(&mut self, reason: DropReason, count: usize) {
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

    /// Whether it has begun to leave and has not left yet.
    pub fn is_leaving(&self) -> bool {
        !matches!(self.leave, Leave::No | Leave::Left)
    }

    /// The member, event and query clocks.
    pub fn clocks(&self) -> [LamportTime; 3] {
        self.top.clocks()
    }

    /// Queued intents, queries and user events.
    pub fn queue_depths(&self) -> [usize; 3] {
        Class::ALL.map(|class| self.shared.dissemination.user_len(class))
    }

    /// How many members have queued news.
    pub fn news_depth(&self) -> usize {
        self.shared.dissemination.news_len()
    }

    /// Since when the oldest of the queued intents, queries, user events and news about members waits.
    pub fn oldest_queued(&self) -> [Option<Time>; 4] {
        let of = &self.shared.dissemination;
        let [intent, query, event] = Class::ALL.map(|class| of.oldest_user(class));
        [intent, query, event, of.oldest_news()]
    }

    /// Whether its gossip is encrypted.
    pub fn encrypted(&self) -> bool {
        !self.shared.envelope.keyring.is_empty()
    }

    /// Its keys, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.shared.envelope.keyring.keys()
    }

    /// The network coordinate of a member: of this node, or of one that it probed.
    pub fn coordinate(&self, ctx: &Context, name: &str) -> Option<Coordinate> {
        let coordinates = self.top.coordinates(&self.shared.config)?;
        if name == self.shared.config.node_name {
            return Some(*coordinates.own());
        }
        let (member, _) = self.shared.view.by_name(&ctx.roster, name)?;
        coordinates.of(member)
    }

    /// How often this node's coordinate started again because a number in it was not finite; `None` without
    /// coordinates.
    pub fn coordinate_resets(&self) -> Option<u64> {
        self.top.coordinates(&self.shared.config).map(Coordinates::resets)
    }

    /// This node's record.
    pub fn local_member(&self, ctx: &Context) -> Member {
        member_record(&self.shared.view, &ctx.roster, self.shared.me).expect("a node is in its own view")
    }

    /// All members that this node lists, ordered by name.
    pub fn members(&self, ctx: &Context) -> Vec<Member> {
        let mut members = Vec::with_capacity(self.shared.view.members_count());
        let mut from = Some(MemberIndex(0));
        while let Some(start) = from {
            from = self.members_slice(ctx, start, &mut members);
        }
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// Adds the next members that this node lists, in index order. Returns where the next slice begins, or
    /// `None` after the last. A slice takes a fraction of a millisecond, so that a long list delays no ack. A
    /// member that comes or goes between two slices may be listed or not; none is listed twice.
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

    /// A message of a datagram; `alone`: it is the only one.
    fn on_message(
        &mut self,
        ctx: &mut Context,
        from: SocketAddr,
        message: Result<Message<'_>, DecodeError>,
        alone: bool,
    ) {
        let scope = &mut self.shared.scope(ctx);
        match message {
            Err(error) => scope.drop_input(error, Some(from)),
            Ok(Message::Ping(ping)) => self.swim.on_ping(scope, &ping, from),
            Ok(Message::IndirectPing(request)) => self.swim.on_indirect_ping(scope, &request, from),
            Ok(Message::Ack(ack)) => self.swim.on_ack(scope, &ack),
            Ok(Message::Nack(nack)) => self.swim.on_nack(scope, nack),
            Ok(Message::Suspect(suspect)) => {
                self.swim.on_suspect(scope, &suspect, Source::Gossip, Some(from))
            }
            Ok(Message::Alive(alive)) => self.swim.on_alive(scope, alive, Source::Gossip, Some(from)),
            Ok(Message::Dead(dead)) => self.swim.on_dead(scope, &dead, Source::Gossip, Some(from)),
            Ok(Message::User(bytes)) if alone => self.top.on_message(scope, Some(from), bytes),
            Ok(Message::User(bytes)) => self.top.on_datagram_message(scope, from, bytes),
            Ok(Message::Reconcile(step)) => self.on_reconcile(ctx, from, &step),
            Ok(Message::Err(_)) => scope.drop_input(DecodeError::MisplacedType, Some(from)),
        }
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
