//! For simulations only: nodes of a cluster that has been together for long. No node joins; its view is filled with
//! what it would have learnt.

use super::Node;
use crate::canary::Canary;
use crate::context::Context;
use crate::roster::FactIndex;
use crate::time::Time;
use crate::view::View;
use crate::wire::LamportTime;

impl Node {
    /// Starts in a cluster of `n` without announcing anything. Returns the node's fact about itself, with a
    /// reference that the caller has to release.
    pub(crate) fn start_settled(&mut self, ctx: &mut Context, n: usize) -> FactIndex {
        self.start_in(ctx, n);
        self.shared.dissemination.clear(&mut ctx.roster);
        let fact = self.shared.view.get(self.shared.me).expect("a node is in its own view").fact;
        ctx.roster.retain_fact(fact);
        fact
    }

    /// Fills the node's view with `everybody`, the node included, as if it had seen all join intents.
    pub(crate) fn know_from_the_start(
        &mut self,
        ctx: &mut Context,
        everybody: &View,
        last_joined_at: LamportTime,
    ) {
        self.shared.view.clear(&mut ctx.roster);
        self.shared.view = everybody.share(&mut ctx.roster);
        if let Ok(serf) = self.top.serf() {
            serf.clock.witness_joined(last_joined_at);
        }
        self.reconciler.has_known(self.shared.view.digest());
        self.observe(ctx);
    }

    /// What the node announces of its members.
    pub(crate) fn announced_digest(&self) -> u64 {
        self.shared.compared.at(Time::ZERO).members
    }

    /// Makes the node break a rule, for tests of the checkers.
    pub(crate) fn set_canary(&mut self, canary: Canary) {
        self.shared.canary = canary;
    }
}
