//! Joins: push/pulls with the addresses that an application names.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::streams::{Cause, Streams};
use crate::command::{CommandError, Ticket};
use crate::deferred::Deferred;
use crate::event::Completion;
use crate::scope::Scope;

/// Joins under way at one time.
const JOINS_MAX: usize = 64;

struct Join {
    ticket: Ticket,
    ignore_old: bool,
    targets: Vec<SocketAddr>,
    pending: usize,
    contacted: usize,
    errors: BTreeMap<usize, String>,
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
