//! Growth of the view: while it grows, and while messages are missing, the node compares with random members.

use super::Node;
use crate::context::Context;
use crate::deferred::Asked;
use crate::timers::{TimerKey, TimerKind};
use crate::view::SwimState;

/// A view that grew by so many members, and by an eighth, since the last look grows fast.
const GROWTH_MIN: u32 = 64;
/// In smaller clusters all news is gossiped, whatever grows.
const QUIET_MIN: u32 = 16;
/// Looks after a fast growth until single joins are gossiped again: those who start last come one by one.
const FAST_LOOKS: u32 = 10;
/// The wait between two looks grows to at most so many times the gossip interval; then the view has stopped growing.
const GROWTH_WAIT_MAX: u32 = 16;

/// Looks at random members while the view grows, or messages are missing.
#[derive(Default)]
pub(super) struct Growth {
    /// In gossip intervals; 0: the view does not grow.
    pub(super) wait: u32,
    generation: u32,
    /// Members alive at the last look.
    pub(super) count: u32,
    /// Looks for which the view still counts as growing fast.
    fast: u32,
}

impl Node {
    /// The node's view has so many alive members, after an input.
    pub(super) fn watch_growth(&mut self, ctx: &mut Context, alive: u32) {
        let growth = &mut self.reconciler.growth;
        if growth.wait == 0 {
            growth.count = growth.count.min(alive);
            if alive >= growth.count + GROWTH_MIN.max(growth.count / 8) {
                self.start_growth(ctx);
            }
        }
    }

    /// The view grows, or is about to: looks at random members until it stops.
    pub(super) fn start_growth(&mut self, ctx: &mut Context) {
        if self.shared.config.extensions {
            self.start_looks(ctx);
            let growth = &mut self.reconciler.growth;
            // A joiner that knows some members is one of many, as far as it can tell.
            if self.shared.view.digest().alive().count >= QUIET_MIN {
                growth.fast = FAST_LOOKS;
                self.shared.dissemination.set_quiet(true);
            }
        }
    }

    /// Compares with random members, again and again until the view has not grown for some time.
    pub(super) fn start_looks(&mut self, ctx: &mut Context) {
        let growth = &mut self.reconciler.growth;
        growth.generation = growth.generation.wrapping_add(1);
        growth.wait = 1;
        self.schedule_growth(ctx);
    }

    /// The next look is due.
    pub(super) fn on_growth_timer(&mut self, ctx: &mut Context, key: TimerKey) {
        let growth = &mut self.reconciler.growth;
        if key.generation != growth.generation {
            return;
        }
        let count = self.shared.view.digest().alive().count;
        let grew = count.saturating_sub(growth.count);
        growth.count = count;
        growth.wait = if grew > 0 { 1 } else { growth.wait * 2 };
        // News about others is left to exchanges while there is a lot of it.
        growth.fast = if grew >= GROWTH_MIN { FAST_LOOKS } else { growth.fast.saturating_sub(growth.wait) };
        if growth.wait > GROWTH_WAIT_MAX {
            (growth.wait, growth.fast) = (0, 0);
        }
        self.shared.dissemination.set_quiet(growth.fast > 0);
        if growth.wait == 0 {
            return;
        }
        let scope = &mut self.shared.scope(ctx);
        let me = scope.me;
        let picked = scope.view.random_member(&mut scope.ctx.random, |member, known| {
            known.swim == SwimState::Alive && member != me
        });
        if let Some(member) = picked {
            self.swim.inquire(scope, member, Asked::Growth);
        }
        self.schedule_growth(ctx);
    }

    fn schedule_growth(&mut self, ctx: &mut Context) {
        let Growth { wait, generation, .. } = self.reconciler.growth;
        let scope = &mut self.shared.scope(ctx);
        let wait = scope.config.gossip_interval * wait;
        let at = scope.now() + wait / 2 + scope.ctx.random.duration(wait);
        scope.schedule(at, TimerKind::Growth, 0, generation);
    }
}
