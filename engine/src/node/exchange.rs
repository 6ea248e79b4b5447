//! The push/pulls that this node starts by itself: from time to time, and soon after a join.

use std::time::Duration;

use super::Node;
use crate::context::Context;
use crate::deferred::Asked;
use crate::scope::Scope;
use crate::swim::push_pull_scale;
use crate::timers::{TimerKey, TimerKind};
use crate::view::SwimState;

/// Gossip rounds before the first early exchange.
const EARLY_GOSSIP_ROUNDS: u32 = 5;

/// Push/pulls with random members soon after a join. Gossip alone leaves one of some thousand pairs without
/// the news of a join storm until the next periodic exchange, half a minute later; and a joiner does not gossip
/// on what its join taught it, as Serf does. They go on at doubling distances while there is news. What this node sends
/// and gossip can't carry goes out the same way.
#[derive(Default)]
pub(super) struct EarlyExchanges {
    interval: Duration,
    generation: u32,
    heard_news: bool,
    /// This node has something to tell: they go on until they are as far apart as the periodic ones.
    tells: bool,
}

impl EarlyExchanges {
    /// This node came into a cluster: the first exchange is due soon.
    pub(super) fn start(&mut self, scope: &mut Scope<'_>) {
        self.tells = false;
        self.begin(scope);
    }

    /// This node has something that push/pulls alone carry.
    pub(super) fn spread(&mut self, scope: &mut Scope<'_>) {
        self.tells = true;
        self.begin(scope);
    }

    fn begin(&mut self, scope: &mut Scope<'_>) {
        self.generation = self.generation.wrapping_add(1);
        self.interval = scope.config.gossip_interval * EARLY_GOSSIP_ROUNDS;
        self.schedule(scope);
    }

    /// SWIM learnt something, by gossip or by an exchange.
    pub(super) fn on_news(&mut self) {
        self.heard_news = true;
    }

    /// An exchange was started. Arms the next one if there was news since this one was armed, or is something to tell.
    fn go_on(&mut self, scope: &mut Scope<'_>) {
        self.interval *= 2;
        if (self.heard_news || self.tells) && self.interval < scope.config.push_pull_interval {
            self.schedule(scope);
        }
    }

    /// Arms the next one, somewhere in the interval so that nodes which joined together don't act in step.
    fn schedule(&mut self, scope: &mut Scope<'_>) {
        self.heard_news = false;
        let at = scope.now() + self.interval / 2 + scope.ctx.random.duration(self.interval);
        scope.schedule(at, TimerKind::EarlyPushPull, 0, self.generation);
    }
}

impl Node {
    /// The periodic push/pull is due.
    pub(super) fn on_push_pull_timer(&mut self, ctx: &mut Context) {
        self.push_pull(ctx);
        let scope = &mut self.shared.scope(ctx);
        let interval = scope.config.push_pull_interval * push_pull_scale(scope.view.table_count());
        scope.schedule(scope.now() + interval, TimerKind::PushPull, 0, 0);
    }

    /// An early push/pull is due, unless a later join armed another one.
    pub(super) fn on_early_push_pull_timer(&mut self, ctx: &mut Context, key: TimerKey) {
        if key.generation == self.early.generation {
            self.push_pull(ctx);
            self.early.go_on(&mut self.shared.scope(ctx));
        }
    }

    /// Starts an exchange with a random member that is alive: a push/pull, or first a look whether it is a Thane node
    /// and differs.
    fn push_pull(&mut self, ctx: &mut Context) {
        let scope = &mut self.shared.scope(ctx);
        let me = scope.me;
        let picked = scope.view.random_member(&mut scope.ctx.random, |member, known| {
            known.swim == SwimState::Alive && member != me
        });
        let Some(member) = picked else { return };
        // A plain node's delegate may have a state to exchange.
        if scope.config.extensions && (scope.config.serf || scope.delegate.is_none()) {
            self.swim.inquire(scope, member, Asked::Exchange);
        } else if let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member) {
            self.streams.push_pull(scope, addr);
        }
    }
}
