//! Joins: push/pulls with the addresses that an application names. A join succeeds if the contacted member lists this
//! node afterwards and this node has members. A Thane node that refuses a joiner sends the reason instead of its state. If
//! the contacted member lists this node as gone, this node refutes that and repeats the exchange once with the new
//! incarnation before the join counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::streams::{Cause, Streams};
use crate::command::{CommandError, Ticket};
use crate::deferred::Deferred;
use crate::event::Completion;
use crate::scope::Scope;
use crate::wire::stream::PushPullFrame;
use crate::wire::{Incarnation, WireState};

/// Joins under way at one time.
const JOINS_MAX: usize = 64;

struct Join {
    ticket: Ticket,
    ignore_old: bool,
    targets: Vec<Target>,
    pending: usize,
    contacted: usize,
    errors: BTreeMap<usize, String>,
}

/// An address that is contacted.
struct Target {
    addr: SocketAddr,
    /// The incarnation that this node told there.
    told: Incarnation,
    repeated: bool,
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

    fn target(&mut self, slot: u32, place: usize) -> Option<&mut Target> {
        self.open.get_mut(&slot)?.targets.get_mut(place)
    }

    /// This node tells its state to a target.
    pub(super) fn tell(&mut self, scope: &Scope<'_>, slot: u32, place: usize) {
        if let Some(target) = self.target(slot, place) {
            target.told = own_incarnation(scope);
        }
    }

    /// The address to exchange states with once more: this node has refuted what the target had of it.
    pub(super) fn again_at(&mut self, scope: &Scope<'_>, slot: u32, place: usize) -> Option<SocketAddr> {
        let target = self.target(slot, place)?;
        let repeats = target.told < own_incarnation(scope) && !target.repeated;
        target.repeated |= repeats;
        repeats.then_some(target.addr)
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
        let told = Incarnation(0);
        let targets = targets.into_iter().map(|addr| Target { addr, told, repeated: false }).collect();
        let join = Join { ticket, ignore_old, targets, pending, contacted: 0, errors: BTreeMap::new() };
        self.joins.open.insert(slot, join);
        for (place, addr) in addrs.into_iter().enumerate() {
            self.exchange(scope, addr, Cause::Join(slot, place));
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
        let Cause::Join(slot, place) = cause else { return };
        let Some(join) = self.joins.open.get_mut(&slot) else { return };
        join.pending -= 1;
        match result {
            Ok(()) => {
                join.contacted += 1;
                scope.defer(Deferred::Joined);
            }
            Err(reason) => {
                let ip = join.targets[place].addr.ip();
                join.errors.insert(place, format!("Failed to join {ip}: {reason}"));
            }
        }
        if join.pending == 0 {
            self.finish_join(scope, slot);
        }
    }

    /// The members that a target told are merged.
    pub(super) fn end_join(&mut self, scope: &mut Scope<'_>, slot: u32, place: usize, frame: &PushPullFrame) {
        let cause = Cause::Join(slot, place);
        if let Some(addr) = self.joins.again_at(scope, slot, place) {
            return self.exchange(scope, addr, cause);
        }
        let alone = !scope.others_alive() && lists_others(scope, frame);
        let refused = || "none of the members that it lists is taken for alive here".to_owned();
        self.end_exchange(scope, cause, if alone { Err(refused()) } else { Ok(()) });
    }

    fn finish_join(&mut self, scope: &mut Scope<'_>, slot: u32) {
        if let Some(join) = self.joins.open.remove(&slot) {
            let errors = join.errors.into_values().collect();
            let joined = Completion::Joined { contacted: join.contacted, errors };
            scope.ctx.out.completions.push((scope.node, join.ticket, joined));
        }
    }
}

fn own_incarnation(scope: &Scope<'_>) -> Incarnation {
    scope.view.incarnation(&scope.ctx.roster, scope.me).unwrap_or_default()
}

/// Whether a state has a member other than this node that is alive.
fn lists_others(scope: &Scope<'_>, frame: &PushPullFrame) -> bool {
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        if state.state == WireState::Alive && state.name != scope.config.node_name {
            return true;
        }
    }
    false
}
