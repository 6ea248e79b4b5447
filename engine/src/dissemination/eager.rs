//! Thane's policy: news is forwarded at first sight, down the segment graph.
//!
//! Everybody forwards a broadcast once, to about five members ([`super::graph`]). What that misses is repaired by the
//! rounds of the classic policy: after its forwards a broadcast has [`REPAIRS`] transmissions left, to random members,
//! and loses one each time that the node hears it again. A node that heard it often enough sends it no more. Where
//! forwarding is no use it leaves the broadcast to the rounds, with all the transmissions that Serf gives it:
//!
//! - Much news about members and many intents, as while a cluster forms or half of it fails: sending each on costs more
//!   packets than rounds that fill theirs.
//! - What exceeds the budgets in bytes ([`super::budget`]).
//!
//! The messages are ordinary gossip. A Serf peer takes them and gossips them on its way, and what this node hears of
//! that counts as heard again.

use bytes::Bytes;

use super::broadcasts::{Broadcasts, Item, Limits};
use super::budget::{Budget, Pace};
use super::classic::{Classic, add_random};
use super::graph::{add_targets, graph_of};
use super::growth::Growth;
use super::{BroadcastId, Class, Source};
use crate::context::Context;
use crate::roster::MemberIndex;
use crate::roster::circle::{finish, point_of_bytes};
use crate::sending::Sending;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{SwimState, View};

/// Transmissions to random members in the rounds that follow the forwards, less one for each time that the broadcast is
/// heard again. With 20 % loss and 5 % of the members crashed, one node in 3,000 is missed.
const REPAIRS: u32 = 6;
/// Random members that get what begins at this node, on top of those in the graph: nobody else makes up for the
/// origin's few packets.
const ORIGIN_EXTRA: u32 = 4;
/// Random members that get what is forwarded where there is no useful graph.
const RANDOM: u32 = 4;
/// A cluster with fewer members has no useful graph.
const GRAPH_MEMBERS_MIN: usize = 16;
/// Nor has a view that has fewer than one of so many names of the roster: the search for its members takes too long.
const SPARSE: usize = 8;
/// Members with queued news, from which on news about members goes by the rounds. About as many fill a packet.
const NEWS_MAX: usize = 16;
/// The same for intents.
const INTENTS_MAX: usize = 64;
/// Broadcasts that wait to be forwarded; further ones go by the rounds.
const PENDING_MAX: usize = 1024;
/// Rounds at most in a gossip interval, each as long as packets are full.
const ROUNDS_MAX: u32 = 4;
/// The subject of the timer that ends a hold; the rounds' has 0.
const HOLD: u32 = 1;

/// The state of the policy in one node.
#[derive(Debug)]
pub(super) struct Eager {
    rounds: Classic,
    /// What this input, or the hold, leaves to forward.
    pending: Vec<Pending>,
    /// The members that a forward goes to; kept for its memory.
    targets: Vec<MemberIndex>,
    budget: Budget,
    pace: Pace,
    /// The timer of the hold is armed.
    holds: bool,
    growth: Growth,
    /// The limits when this node forwarded last.
    limits: Limits,
}

/// A broadcast that waits to be forwarded.
#[derive(Copy, Clone, Debug)]
struct Pending {
    graph: u8,
    /// It begins at this node.
    own: bool,
    item: Item,
}

impl Eager {
    pub(super) fn new(rounds: Classic) -> Eager {
        Eager {
            rounds,
            pending: Vec::new(),
            targets: Vec::new(),
            budget: Budget::default(),
            pace: Pace::default(),
            holds: false,
            growth: Growth::default(),
            limits: Limits { member: u32::MAX, user: u32::MAX },
        }
    }

    pub(super) fn limits(&self, sending: &Sending<'_>) -> Limits {
        self.rounds.limits(sending)
    }

    pub(super) fn on_member(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        view: &View,
        member: MemberIndex,
        from: MemberIndex,
        source: Source,
    ) {
        let Some(known) = view.get(member) else { return broadcasts.forget_member(ctx, member) };
        let own = source == Source::Own;
        // What a node says about itself is a refutation or its departure.
        let urgent = known.swim == SwimState::Suspect || own && member == from;
        let little = broadcasts.news_len() < NEWS_MAX && !self.growth.is_fast();
        let forwards = (urgent || little) && self.pending.len() < PENDING_MAX;
        let Some(item) = broadcasts.queue_member(ctx, view, member, from, forwards) else { return };
        let incarnation = ctx.roster.fact(known.fact).incarnation.0;
        let state = u64::from(incarnation) << 8 | known.swim as u64;
        let graph = graph_of(finish(ctx.roster.point(member) ^ state));
        self.pending.push(Pending { graph, own, item });
    }

    pub(super) fn on_message(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        class: Class,
        message: Bytes,
        max: usize,
        source: Source,
    ) -> (BroadcastId, usize) {
        let many =
            class == Class::Intent && (broadcasts.user_len(class) >= INTENTS_MAX || self.growth.is_fast());
        let forwards = !many && self.pending.len() < PENDING_MAX;
        let key = forwards.then(|| point_of_bytes(&message));
        let (id, dropped) = broadcasts.queue_user(ctx, class, message, max, key);
        if let Some(key) = key {
            let (graph, own) = (graph_of(key), source == Source::Own);
            self.pending.push(Pending { graph, own, item: Item::Message(key, id) });
        }
        (id, dropped)
    }

    pub(super) fn on_repeated_member(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        member: MemberIndex,
    ) {
        broadcasts.heard_member(ctx, member, self.limits);
    }

    pub(super) fn on_repeated_message(
        &mut self,
        broadcasts: &mut Broadcasts,
        ctx: &mut Context,
        message: &[u8],
    ) {
        broadcasts.heard_message(ctx, point_of_bytes(message), self.limits);
    }

    /// Forwards what the input brought, unless there was much of late; arms the timer of the rounds.
    pub(super) fn settle(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        let now = sending.ctx.now;
        self.growth.update(now, sending.view.table_count());
        if !self.pending.is_empty() && !self.holds {
            match self.pace.take(now) {
                Ok(()) => self.forward(broadcasts, sending),
                Err(until) => {
                    self.holds = true;
                    sending.schedule(until, TimerKind::Gossip, HOLD, 0);
                }
            }
        }
        self.rounds.settle(broadcasts, sending);
    }

    pub(super) fn on_timer(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>, key: TimerKey) {
        if key.subject == HOLD {
            // The input ends with `settle`, which forwards now.
            self.holds = false;
            return;
        }
        let mut full = self.rounds.on_timer(broadcasts, sending);
        for _ in 1..ROUNDS_MAX {
            if !full || broadcasts.is_empty() {
                break;
            }
            full = self.rounds.send_round(broadcasts, sending);
        }
    }

    /// Sends what waits at once: this node is about to leave.
    pub(super) fn send_now(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        self.forward(broadcasts, sending);
        self.rounds.send_round(broadcasts, sending);
    }

    /// Forgets what waits, and the size of the view: both were emptied.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.growth = Growth::default();
    }

    /// Forwards all that waits.
    fn forward(&mut self, broadcasts: &mut Broadcasts, sending: &mut Sending<'_>) {
        self.limits = self.rounds.limits(sending);
        self.budget.update(sending.ctx.now, sending.config.gossip_interval);
        let (mut pending, mut targets) =
            (std::mem::take(&mut self.pending), std::mem::take(&mut self.targets));
        pending.sort_unstable_by_key(|pending| pending.graph);
        for group in pending.chunk_by(|a, b| a.graph == b.graph) {
            targets.clear();
            self.pick(group, sending, &mut targets);
            let mut rest = group;
            while !rest.is_empty() && !targets.is_empty() {
                let taken = self.send(rest, &targets, broadcasts, sending);
                rest = &rest[taken..];
            }
        }
        pending.clear();
        (self.pending, self.targets) = (pending, targets);
    }

    /// Picks the members to which news of one graph goes.
    fn pick(&self, group: &[Pending], sending: &mut Sending<'_>, targets: &mut Vec<MemberIndex>) {
        let (view, me) = (sending.view, sending.me);
        let members = view.table_count();
        let no_graph = members < GRAPH_MEMBERS_MIN
            || self.growth.is_fast()
            || sending.ctx.roster.names_count() > SPARSE * members;
        if no_graph {
            add_random(sending, RANDOM, targets);
        } else {
            let point = sending.ctx.roster.point(me);
            let has = |member| {
                view.get(member)
                    .is_some_and(|known| matches!(known.swim, SwimState::Alive | SwimState::Suspect))
            };
            add_targets(sending.ctx.roster.order(), (point, me), group[0].graph, has, targets);
        }
        if group.iter().any(|pending| pending.own) {
            add_random(sending, ORIGIN_EXTRA, targets);
        }
    }

    /// Sends as much as fits into one packet to all targets. Returns how many broadcasts that were; at least one.
    fn send(
        &mut self,
        group: &[Pending],
        targets: &[MemberIndex],
        broadcasts: &mut Broadcasts,
        sending: &mut Sending<'_>,
    ) -> usize {
        let (mut taken, mut reached) = (0, true);
        for &target in targets {
            if !self.budget.admits(target) {
                reached = false;
                continue;
            }
            sending.begin_packet();
            let fitting = group
                .iter()
                .take_while(|pending| broadcasts.append(sending.ctx, sending.view, pending.item))
                .count();
            taken = fitting;
            if sending.ctx.assembler.is_empty() {
                break;
            }
            let before = sending.stats.bytes_sent;
            sending.finish_packet_to_member(target);
            self.budget.spend(target, sending.stats.bytes_sent - before);
        }
        // One that fits no packet at all stays in the queue, as in the classic policy.
        let taken = taken.max(1);
        if reached {
            let left_out = |limit: u32| limit.saturating_sub(REPAIRS);
            for pending in &group[..taken] {
                let times = match pending.item {
                    Item::Member(..) => left_out(self.limits.member),
                    Item::Message(..) => left_out(self.limits.user),
                };
                broadcasts.advance(sending.ctx, pending.item, times, self.limits);
            }
        }
        taken
    }
}
