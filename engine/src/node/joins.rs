//! Joins: push/pulls with the addresses that an application names.
//!
//! The answer to a push/pull says what the other side knew before it, and a member may refuse what it is told: its view
//! has a newer departure, or another node has the name. So the other side is asked whom it lists under this node's name:
//! by a query straight to it that Serf members answer as well, and if nothing answers, by one more push/pull.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::streams::{Cause, Streams};
use crate::command::{CommandError, Ticket};
use crate::context::Context;
use crate::deferred::{Deferred, JoinAnswer, JoinTarget};
use crate::event::Completion;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::timers::{TimerKey, TimerKind};
use crate::view::SwimState;
use crate::wire::stream::PushPullFrame;
use crate::wire::{WireState, ip_from_bytes};

/// Joins under way at one time.
const JOINS_MAX: usize = 64;
/// How often the other side is asked.
const ASKS_MAX: u32 = 5;
/// How long it has for the first answer; twice as long for each further one, 3.1 s together.
const ANSWERS_WITHIN: Duration = Duration::from_millis(100);

struct Join {
    ticket: Ticket,
    ignore_old: bool,
    targets: Vec<SocketAddr>,
    pending: usize,
    contacted: usize,
    errors: BTreeMap<usize, String>,
    /// Targets whose states are merged and that are asked whether they have this node.
    checks: BTreeMap<usize, Check>,
}

#[derive(Default)]
struct Check {
    asked: u32,
    answered: bool,
}

/// The joins of one node that are under way, by slot.
#[derive(Default)]
pub(super) struct Joins {
    open: BTreeMap<u32, Join>,
    next: u32,
}

impl Joins {
    /// Whether user events from before the join in that slot are not delivered; `None` if it is over.
    pub(super) fn ignores_old(&self, slot: u32) -> Option<bool> {
        self.open.get(&slot).map(|join| join.ignore_old)
    }
}

impl Streams {
    /// Opens a push/pull to every target.
    pub(crate) fn join(
        &mut self,
        scope: &mut Scope<'_>,
        ticket: Ticket,
        targets: Vec<SocketAddr>,
        ignore_old: bool,
    ) -> Result<(), CommandError> {
        if self.joins.open.len() >= JOINS_MAX {
            return Err(CommandError::Busy("joins"));
        }
        self.joins.next = self.joins.next.wrapping_add(1);
        let (slot, pending) = (self.joins.next, targets.len());
        let addrs = targets.clone();
        let (errors, checks) = (BTreeMap::new(), BTreeMap::new());
        let join = Join { ticket, ignore_old, targets, pending, contacted: 0, errors, checks };
        self.joins.open.insert(slot, join);
        for (place, addr) in addrs.into_iter().enumerate() {
            self.exchange(scope, addr, Cause::Join(JoinTarget { slot, place }));
        }
        if pending == 0 {
            self.finish_join(scope, slot);
        }
        Ok(())
    }

    /// An exchange is over.
    pub(super) fn end_exchange(&mut self, scope: &mut Scope<'_>, cause: Cause, result: Result<(), String>) {
        if cause == Cause::Rejoin {
            if result.is_ok() {
                scope.defer(Deferred::Joined);
            }
            scope.defer(Deferred::Rejoined(result.is_ok()));
        }
        if let (Cause::Join(target) | Cause::ConfirmJoin(target), Err(reason)) = (cause, result) {
            self.end_target(scope, target, Err(reason));
        }
    }

    /// The state of a join's target is merged: it is asked whether it has this node, unless its state says so.
    pub(super) fn on_joined(&mut self, scope: &mut Scope<'_>, target: JoinTarget, frame: &PushPullFrame) {
        let JoinTarget { slot, place } = target;
        scope.defer(Deferred::Joined);
        let Some(join) = self.joins.open.get_mut(&slot) else { return };
        if has_both(scope, frame, join.targets[place]) {
            return self.end_target(scope, target, Ok(()));
        }
        join.checks.insert(place, Check::default());
        scope.defer(Deferred::AskJoined(target));
    }

    /// The target's state came once more.
    pub(super) fn on_confirmed(&mut self, scope: &mut Scope<'_>, target: JoinTarget, frame: &PushPullFrame) {
        let Some(join) = self.joins.open.get(&target.slot) else { return };
        let has_both = has_both(scope, frame, join.targets[target.place]);
        self.end_target(scope, target, if has_both { Ok(()) } else { Err(not_taken(scope)) });
    }

    /// The target told whom it lists under this node's name.
    pub(crate) fn on_join_answer(&mut self, scope: &mut Scope<'_>, answer: &JoinAnswer) {
        let JoinTarget { slot, place } = answer.target;
        let Some(check) = self.joins.open.get_mut(&slot).and_then(|join| join.checks.get_mut(&place)) else {
            return;
        };
        check.answered = true;
        let from = scope.ctx.roster.member(&answer.from);
        if answer.has_us && from.is_some_and(|from| is_here(scope, from)) {
            self.end_target(scope, answer.target, Ok(()));
        }
    }

    /// Asks a target again, or gives up.
    fn go_on(&mut self, scope: &mut Scope<'_>, target: JoinTarget) {
        let JoinTarget { slot, place } = target;
        let Some(join) = self.joins.open.get_mut(&slot) else { return };
        let Some(check) = join.checks.get(&place) else { return };
        if check.asked < ASKS_MAX {
            scope.defer(Deferred::AskJoined(target));
        } else if check.answered {
            self.end_target(scope, target, Err(not_taken(scope)));
        } else {
            let addr = join.targets[place];
            self.exchange(scope, addr, Cause::ConfirmJoin(target));
        }
    }

    fn end_target(&mut self, scope: &mut Scope<'_>, target: JoinTarget, result: Result<(), String>) {
        let JoinTarget { slot, place } = target;
        let Some(join) = self.joins.open.get_mut(&slot) else { return };
        join.checks.remove(&place);
        join.pending -= 1;
        match result {
            Ok(()) => join.contacted += 1,
            Err(reason) => {
                let ip = join.targets[place].ip();
                join.errors.insert(place, format!("Failed to join {ip}: {reason}"));
            }
        }
        if join.pending == 0 {
            self.finish_join(scope, slot);
        }
    }

    fn finish_join(&mut self, scope: &mut Scope<'_>, slot: u32) {
        if let Some(join) = self.joins.open.remove(&slot) {
            let errors = join.errors.into_values().collect();
            let joined = Completion::Joined { contacted: join.contacted, errors };
            scope.ctx.out.completions.push((scope.node, join.ticket, joined));
        }
    }
}

impl Node {
    /// Asks a join's target whom it lists under this node's name.
    pub(super) fn ask_joined(&mut self, ctx: &mut Context, target: JoinTarget) {
        let scope = &mut self.shared.scope(ctx);
        let JoinTarget { slot, place } = target;
        let Some(join) = self.streams.joins.open.get_mut(&slot) else { return };
        let to = join.targets[place];
        let Some(check) = join.checks.get_mut(&place) else { return };
        let wait = ANSWERS_WITHIN * (1 << check.asked);
        check.asked += 1;
        let can_ask = self.top.serf().is_ok_and(|serf| serf.ask_whether_known(scope, to, target));
        if can_ask {
            return scope.schedule(scope.now() + wait, TimerKind::JoinCheck, slot, place as u32);
        }
        self.streams.exchange(scope, to, Cause::ConfirmJoin(target));
    }

    /// A join's target had time to answer.
    pub(super) fn on_join_check(&mut self, ctx: &mut Context, key: TimerKey) {
        let target = JoinTarget { slot: key.subject, place: key.generation as usize };
        self.streams.go_on(&mut self.shared.scope(ctx), target);
    }
}

fn not_taken(scope: &Scope<'_>) -> String {
    let (name, addr) = (&scope.config.node_name, scope.config.advertise);
    format!("it does not list {name} at {addr}, or is not listed here")
}

fn is_here(scope: &Scope<'_>, member: MemberIndex) -> bool {
    let known = scope.view.get(member);
    known.is_some_and(|known| matches!(known.swim, SwimState::Alive | SwimState::Suspect))
}

/// Whether a state has this node as it is, and the view has the member at the address that the state came from.
fn has_both(scope: &Scope<'_>, frame: &PushPullFrame, from: SocketAddr) -> bool {
    let Some(me) = scope.view.fact(&scope.ctx.roster, scope.me) else { return false };
    let (mut has_us, mut has_them, mut offset) = (false, None, 0);
    while let Some(state) = frame.next_node(&mut offset) {
        let there = ip_from_bytes(&state.addr).map(|ip| SocketAddr::new(ip, state.port));
        let is_alive = state.state == WireState::Alive;
        if state.name == scope.config.node_name {
            has_us |= is_alive && there == Some(me.socket_addr()) && state.incarnation == me.incarnation;
        }
        if there == Some(from) && is_alive {
            let here = scope.ctx.roster.member(state.name).is_some_and(|member| is_here(scope, member));
            has_them = Some(has_them.unwrap_or(false) | here);
        }
    }
    // Behind a translated address it has no such record.
    has_us && has_them.unwrap_or(true)
}
