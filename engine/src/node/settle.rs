//! What every input and every command ends with.

use super::Node;
use crate::context::Context;
use crate::deferred::Deferred;

impl Node {
    /// Applies what the input deferred, in order, and what that defers in turn; then records the member clock
    /// and settles the dissemination. The queue is empty afterwards.
    pub(super) fn settle(&mut self, ctx: &mut Context) {
        loop {
            while let Some(deferred) = ctx.deferred.pop_front() {
                self.apply(ctx, deferred);
            }
            let scope = &mut self.shared.scope(ctx);
            self.top.record_clock(scope);
            self.observe(ctx);
            let scope = &mut self.shared.scope(ctx);
            // A policy that sends here may finish broadcasts.
            scope.settle_broadcasts();
            if ctx.deferred.is_empty() {
                break;
            }
        }
        if self.shared.dissemination.watched() {
            let watched = self.awaits_broadcasts();
            self.shared.dissemination.watch(watched);
        }
    }

    fn apply(&mut self, ctx: &mut Context, deferred: Deferred) {
        let scope = &mut self.shared.scope(ctx);
        match deferred {
            Deferred::Change(change) => {
                self.early.on_news();
                self.top.on_change(scope, change);
            }
            Deferred::Acked(acked) => self.top.on_acked(scope, &acked),
            Deferred::StreamPing(ping) => self.streams.ping(scope, ping),
            Deferred::Reconnect(addr) => self.streams.reconnect(scope, addr),
            Deferred::Rejoin(addr) => self.streams.rejoin(scope, addr),
            Deferred::Rejoined(answered) => self.top.on_rejoined(scope, answered),
            Deferred::Merged(slot) => self.streams.finish_merge(scope, &mut self.top, slot),
            Deferred::Erased(member) => self.swim.bury(scope, member),
            Deferred::VoteAsked(member) if self.swim.is_claimed(member) => {}
            Deferred::VoteAsked(member) | Deferred::Claimed(member) => self.top.send_votes(scope, member),
            Deferred::Confirm(member, addr) => self.streams.confirm(scope, member, addr),
            Deferred::VoteLost(all, for_me) => self.swim.on_vote_lost(scope, (all, for_me)),
            Deferred::Joined => {
                self.early.start(scope);
                self.start_growth(ctx);
            }
            Deferred::Finished(finished) => self.on_finished(ctx, finished),
            Deferred::Compared(compared) => self.on_compared(ctx, compared),
            Deferred::Told(told) => {
                if let Ok(serf) = self.top.serf() {
                    told.iter().for_each(|told| serf.on_told(scope, told));
                }
            }
            Deferred::ReconcileOpened(id, set) => self.on_reconcile_opened(ctx, id, set),
            Deferred::ReconcileStep(id, step) => self.on_reconcile_step(ctx, id, step),
        }
    }
}
