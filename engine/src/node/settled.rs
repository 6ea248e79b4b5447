//! For simulations only: nodes of a cluster that has been together for long. Nobody joins; what each node
//! would have learnt is put into its view.

use super::Node;
use crate::canary::Canary;
use crate::context::Context;
use crate::roster::FactIndex;
use crate::view::View;
use crate::wire::LamportTime;

impl Node {
    /// Starts in a cluster of `n` without announcing anything. Gives what the node says about itself, with a reference that the
    /// caller owes.
    pub(crate) fn start_settled(&mut self, ctx: &mut Context, n: usize) -> FactIndex {
        self.start_in(ctx, n);
        self.shared.dissemination.clear(&mut ctx.roster);
        let fact = self.shared.view.get(self.shared.me).expect("a node is in its own view").fact;
        ctx.roster.retain_fact(fact);
        fact
    }

    /// Lets the node know what `everybody` says, itself included, as if it had seen everybody's join intent.
    pub(crate) fn know_from_the_start(
        &mut self,
        ctx: &mut Context,
        everybody: &View,
        last_joined_at: LamportTime,
    ) {
        self.shared.view.clear(&mut ctx.roster);
        self.shared.view = everybody.share(&mut ctx.roster);
        if let Ok(serf) = self.top.serf() {
            serf.clock.witness(last_joined_at);
        }
    }

    /// Makes the node break a rule, for tests of the checkers.
    pub(crate) fn set_canary(&mut self, canary: Canary) {
        self.swim.canary = canary;
        if let Ok(serf) = self.top.serf() {
            serf.canary = canary;
        }
    }
}
