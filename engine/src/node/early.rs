//! Push/pulls with random members soon after a join.
//!
//! Gossip alone leaves one of some thousand pairs without the news of a join storm until the next periodic
//! exchange, half a minute later, and a storm of joins fills it for tens of seconds: so bootstrap travels by
//! push/pull, and what it teaches is not gossiped on here, as Serf does.

use std::time::Duration;

use crate::egress::Scope;
use crate::timers::{TimerKey, TimerKind};

/// Members exchanged in a second by a node that learns of many: with short tags 300 kB each way.
const MEMBERS_PER_SECOND: u32 = 5_000;
/// Gossip rounds after which exchanges go on only while there is news.
const GOSSIP_ROUNDS: u32 = 5;
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
    /// The node came into a cluster.
    pub(super) fn begin(&mut self, scope: &mut Scope<'_>) {
        self.generation = self.generation.wrapping_add(1);
        (self.growing, self.heard_news, self.known) = (true, false, scope.view.table_count());
        self.interval = shortest(scope);
        self.schedule(scope);
    }

    /// Whether the node came in a short time ago, or with many others.
    pub(super) fn is_growing(&self) -> bool {
        self.growing
    }

    /// It is time for an exchange, unless the one before is still under way. False if none is to be made.
    pub(super) fn go_on(&mut self, scope: &mut Scope<'_>, key: TimerKey, busy: bool) -> bool {
        if key.generation != self.generation {
            return false;
        }
        if busy {
            self.schedule(scope);
            return false;
        }
        let (known, calm) = (scope.view.table_count(), scope.config.gossip_interval * GOSSIP_ROUNDS);
        self.interval = if known > self.known + self.known / GROWTH {
            shortest(scope)
        } else if self.heard_news {
            self.interval * 2
        } else if self.interval < calm {
            calm
        } else {
            self.growing = false;
            return true;
        };
        self.growing = self.interval < calm;
        if self.interval < scope.config.push_pull_interval {
            self.known = known;
            self.heard_news = false;
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

/// The shortest interval, so that a large state is exchanged less often.
fn shortest(scope: &Scope<'_>) -> Duration {
    let members = u32::try_from(scope.view.table_count()).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / MEMBERS_PER_SECOND)
        .saturating_mul(members)
        .max(scope.config.gossip_interval / 2)
}
