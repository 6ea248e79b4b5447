//! Push/pulls with random members soon after a join.
//!
//! Gossip alone leaves one of some thousand pairs without the news of a join storm until the next periodic
//! exchange, half a minute later, and a storm of joins fills it for tens of seconds: so bootstrap travels by
//! push/pull, and what it teaches is not gossiped on here, as Serf does.

use std::time::Duration;

use crate::egress::Scope;
use crate::streams::Streams;
use crate::timers::{TimerKey, TimerKind};

/// Members exchanged in a second by a node that learns of many: with short tags 300 kB each way.
const MEMBERS_PER_SECOND: u32 = 5_000;
/// Gossip rounds after which exchanges go on only while there is news.
const GOSSIP_ROUNDS: u32 = 5;
/// Of so much time a node spends one part on exchanges, unless they take longer than it should wait: where all
/// have much to do, as many nodes on one machine, fewer exchanges are faster.
const LOAD: u32 = 16;
/// A view that has grown by one part in so many since the last exchange is a young one.
const GROWTH: usize = 8;

/// When a node that joined exchanges next: at once again while its view grows much, at doubling distances while
/// there is news.
#[derive(Debug, Default)]
pub(super) struct EarlyExchanges {
    interval: Duration,
    generation: u32,
    /// Members known at the last exchange.
    known: usize,
    growing: bool,
    /// Something about a member changed since the last exchange.
    pub(super) heard_news: bool,
}

impl EarlyExchanges {
    /// The node came into a cluster. Its own last push/pull took so long.
    pub(super) fn begin(&mut self, scope: &mut Scope<'_>, took: Duration) {
        self.generation = self.generation.wrapping_add(1);
        // Without push/pulls gossip has to do it.
        self.growing = !scope.config.push_pull_interval.is_zero();
        (self.heard_news, self.known) = (false, scope.view.table_count());
        self.interval = shortest(scope, took);
        self.schedule(scope);
    }

    /// Whether the node came in a short time ago, or with many others.
    pub(super) fn is_growing(&self) -> bool {
        self.growing
    }

    /// It is time for an exchange. False if none is to be made: the one before is still under way.
    pub(super) fn go_on(&mut self, scope: &mut Scope<'_>, key: TimerKey, streams: &Streams) -> bool {
        if key.generation != self.generation {
            return false;
        }
        if streams.is_exchanging() {
            self.schedule(scope);
            return false;
        }
        let (known, calm) = (scope.view.table_count(), calm(scope));
        let young = known > self.known + self.known / GROWTH;
        let wanted = young || self.heard_news || self.interval < calm;
        self.interval = match (young, self.heard_news) {
            (true, _) => shortest(scope, streams.took),
            (false, true) => self.interval * 2,
            (false, false) => calm,
        };
        let goes_on = wanted && self.interval < scope.config.push_pull_interval;
        self.growing = goes_on && (young || self.interval < calm);
        (self.known, self.heard_news) = (known, false);
        if goes_on {
            self.schedule(scope);
        }
        true
    }

    /// Arms the next one, somewhere in the interval so that nodes which joined together don't act in step.
    fn schedule(&mut self, scope: &mut Scope<'_>) {
        let at = scope.now() + self.interval / 2 + scope.ctx.random.duration(self.interval);
        scope.schedule(at, TimerKind::EarlyPushPull, 0, self.generation);
    }
}

/// The shortest interval: longer for a large state, and where exchanges take long.
fn shortest(scope: &Scope<'_>, took: Duration) -> Duration {
    let members = u32::try_from(scope.view.table_count()).unwrap_or(u32::MAX);
    let large = (Duration::from_secs(1) / MEMBERS_PER_SECOND).saturating_mul(members);
    let busy = took.saturating_mul(LOAD).min(scope.config.push_pull_interval / 4);
    large.max(busy).max(scope.config.gossip_interval / 2)
}

/// The interval from which on exchanges go on only while there is news.
fn calm(scope: &Scope<'_>) -> Duration {
    scope.config.gossip_interval * GOSSIP_ROUNDS
}
