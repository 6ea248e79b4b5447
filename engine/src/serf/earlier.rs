//! What the program that ran before on this snapshot has delivered. Serf's file says less than that: its clocks get there
//! half a second later, or not at all if it is killed. As Serf does when it joins, a node that starts on such a file
//! takes everything for delivered that is older than the clocks of the first peer that it exchanges state with.

use std::time::Duration;

use super::{Recorded, Serf, record};
use crate::deferred::Deferred;
use crate::event::SnapshotRecord;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::time::Time;
use crate::wire::LamportTime;

/// As long as this after the start, gossip may still bring what was delivered before.
const GOSSIP_LASTS: Duration = Duration::from_secs(15);

/// What is known of the deliveries before this node's start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// The restored clocks say all, or nothing ran before.
    Known,
    /// They lag, and the node has not begun.
    Unknown,
    /// They lag, and no peer has told its clocks since that start.
    Since(Time),
    /// The same, and a peer was asked.
    Asked(Time),
}

impl Earlier {
    pub(super) fn begin(&mut self, now: Time) {
        if *self == Earlier::Unknown {
            *self = Earlier::Since(now);
        }
    }

    /// Whether a message that gossip brings now may have been delivered by the program before. It is not remembered
    /// either: if it is new, it comes again.
    pub(super) fn covers(self, now: Time) -> bool {
        matches!(self, Earlier::Since(start) | Earlier::Asked(start) if now.since(start) < GOSSIP_LASTS)
    }
}

impl Serf {
    /// A member appeared. The first one is asked for its clocks: perhaps this node joins nobody.
    pub(super) fn ask_for_earlier(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        if let Earlier::Since(start) = self.earlier
            && member != scope.me
            && let Some(addr) = scope.view.socket_addr(&scope.ctx.roster, member)
        {
            self.earlier = Earlier::Asked(start);
            scope.defer(Deferred::Reconnect(addr));
        }
    }

    /// A peer has told its clocks, which are one ahead of its newest event and query. What is older counts as delivered,
    /// and the snapshot says so from now on.
    pub(super) fn settle_earlier(
        &mut self,
        scope: &mut Scope<'_>,
        events: LamportTime,
        queries: LamportTime,
    ) {
        if std::mem::replace(&mut self.earlier, Earlier::Known) == Earlier::Known {
            return;
        }
        self.event_min = self.event_min.max(events);
        self.queries.min = self.queries.min.max(queries);
        let before = |time: LamportTime| LamportTime(time.0.saturating_sub(1));
        let Recorded { events, queries, .. } = &mut self.recorded;
        record(scope, events, before(self.event_min), SnapshotRecord::EventClock);
        record(scope, queries, before(self.queries.min), SnapshotRecord::QueryClock);
        if scope.config.snapshot {
            scope.ctx.out.records.push((scope.node, SnapshotRecord::Settled));
        }
    }
}
