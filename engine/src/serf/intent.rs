//! Intents: a member joined, or leaves (PROTOCOL 5.7). The newest Lamport time wins; an intent about a member that
//! is not known yet waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dissemination::{BroadcastId, Class, Source};
use crate::drop_reason::DropReason;
use crate::event::{MemberEventKind, SnapshotRecord};
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::{Serf, Sight};
use crate::time::Time;
use crate::view::MemberStatus;
use crate::wire::LamportTime;
use crate::wire::serf::{JoinIntent, LeaveIntent};

/// Names with a waiting intent. Honest clusters have few; beyond it new ones are dropped and counted.
const WAITING_MAX: usize = 4096;

/// Intents for members not known yet.
#[derive(Default)]
pub(super) struct Intents {
    waiting: BTreeMap<String, Waiting>,
}

struct Waiting {
    ltime: LamportTime,
    leave: bool,
    since: Time,
}

impl Intents {
    pub(super) fn expire(&mut self, now: Time, after: Duration) {
        self.waiting.retain(|_, waiting| now.since(waiting.since) <= after);
    }
}

impl Serf {
    /// A leave intent about a member.
    pub(super) fn on_leave_intent(&mut self, scope: &mut Scope<'_>, leave: &LeaveIntent<'_>) -> Sight {
        if !self.clock.witness(leave.ltime, scope.now()) {
            scope.drop_input(DropReason::LamportTimeRefused, None);
            return Sight::Ignored;
        }
        let listed = listed(scope, leave.node);
        let Some((member, status, status_ltime)) = listed else {
            return self.wait(scope, leave.node, leave.ltime, true);
        };
        if member == scope.me && !self.leaving && leave.ltime >= status_ltime {
            // The cluster hears that this node leaves, and it does not: a new join intent corrects that. Also if
            // the leave has the time of this node's join (Serf does nothing then): a member that hears the
            // leave first would ignore that join.
            self.announce_join(scope);
            return Sight::Ignored;
        }
        // The time of a prune reaches others without it: the leaver tells it as that of its departure.
        let is_tie = leave.prune && leave.ltime == status_ltime && has_gone(status) && member != scope.me;
        if leave.ltime <= status_ltime && !is_tie {
            return Sight::Repeated;
        }
        scope.view.set_status_ltime(&scope.ctx.roster, member, leave.ltime);
        match status {
            MemberStatus::Alive => {
                scope.view.set_status(&scope.ctx.roster, member, MemberStatus::Leaving, scope.ctx.now)
            }
            MemberStatus::Failed => {
                scope.view.set_status(&scope.ctx.roster, member, MemberStatus::Left, scope.ctx.now);
                self.emit(scope, MemberEventKind::Leave, member, true);
            }
            _ => {}
        }
        if member == scope.me {
            // This node's intent is queued already.
            return Sight::Ignored;
        }
        if !leave.prune {
            return Sight::First;
        }
        if matches!(status, MemberStatus::Alive | MemberStatus::Leaving) {
            // Serf sleeps for six seconds here, under its lock, to wait for the departure.
            self.prune_when_gone.insert(member);
        } else {
            self.erase(scope, member, true);
        }
        Sight::First
    }

    /// A join intent about a member.
    pub(super) fn on_join_intent(&mut self, scope: &mut Scope<'_>, join: &JoinIntent<'_>) -> Sight {
        if !self.clock.witness(join.ltime, scope.now()) {
            scope.drop_input(DropReason::LamportTimeRefused, None);
            return Sight::Ignored;
        }
        let Some((member, status, status_ltime)) = listed(scope, join.node) else {
            return self.wait(scope, join.node, join.ltime, false);
        };
        if join.ltime <= status_ltime {
            return Sight::Repeated;
        }
        if status == MemberStatus::Left {
            // The intent waits for the member to return. If its time were stored at once, as Serf does, the next
            // push/pull would carry it as the time of a departure, and others would list the returned member
            // as leaving.
            return self.wait(scope, join.node, join.ltime, false);
        }
        scope.view.set_status_ltime(&scope.ctx.roster, member, join.ltime);
        if status == MemberStatus::Leaving {
            self.prune_when_gone.remove(&member);
            scope.view.set_status(&scope.ctx.roster, member, MemberStatus::Alive, scope.ctx.now);
        }
        Sight::First
    }

    /// Announces that this node joined.
    pub(crate) fn announce_join(&mut self, scope: &mut Scope<'_>) {
        let node = scope.config.node_name.clone();
        let join = JoinIntent { ltime: self.clock.time(), node: &node };
        self.on_join_intent(scope, &join);
        let mut bytes = Vec::new();
        join.encode(&mut bytes);
        scope.broadcast(Class::Intent, bytes.into(), Source::Own);
    }

    /// Announces that this node leaves.
    pub(crate) fn announce_leave(&mut self, scope: &mut Scope<'_>) -> BroadcastId {
        self.leaving = true;
        if scope.config.snapshot {
            scope.ctx.out.records.push((scope.node, SnapshotRecord::Leave));
        }
        let node = scope.config.node_name.clone();
        self.spread_leave(scope, Class::OwnLeave, &node, false)
    }

    /// Announces that a failed member has left; with `prune`, that all members erase it.
    pub(crate) fn force_leave(&mut self, scope: &mut Scope<'_>, node: &str, prune: bool) -> BroadcastId {
        self.spread_leave(scope, Class::Intent, node, prune)
    }

    fn spread_leave(&mut self, scope: &mut Scope<'_>, class: Class, node: &str, prune: bool) -> BroadcastId {
        let leave = LeaveIntent { ltime: self.clock.time(), node, prune };
        self.clock.increment();
        self.on_leave_intent(scope, &leave);
        let mut bytes = Vec::new();
        leave.encode(&mut bytes);
        scope.broadcast(class, bytes.into(), Source::Own)
    }

    /// Takes the intent that waited for a member which just came. Returns the member's first status.
    pub(super) fn apply_buffered(&mut self, scope: &mut Scope<'_>, member: MemberIndex) -> MemberStatus {
        if self.intents.waiting.is_empty() {
            return MemberStatus::Alive;
        }
        let seen = scope.view.get(member).map(|known| known.status_ltime).unwrap_or_default();
        match self.intents.waiting.remove(scope.ctx.roster.name(member)) {
            Some(waiting) if waiting.ltime > seen => {
                scope.view.set_status_ltime(&scope.ctx.roster, member, waiting.ltime);
                if waiting.leave { MemberStatus::Leaving } else { MemberStatus::Alive }
            }
            _ => MemberStatus::Alive,
        }
    }

    fn wait(&mut self, scope: &mut Scope<'_>, node: &str, ltime: LamportTime, leave: bool) -> Sight {
        let waiting = &mut self.intents.waiting;
        if waiting.get(node).is_some_and(|known| known.ltime >= ltime) {
            return Sight::Repeated;
        }
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(node) {
            scope.drop_input(DropReason::QueueFull, None);
            return Sight::Ignored;
        }
        waiting.insert(node.to_owned(), Waiting { ltime, leave, since: scope.ctx.now });
        Sight::First
    }
}

fn has_gone(status: MemberStatus) -> bool {
    matches!(status, MemberStatus::Left | MemberStatus::Failed)
}

fn listed(scope: &Scope<'_>, node: &str) -> Option<(MemberIndex, MemberStatus, LamportTime)> {
    let (member, known) = scope.view.by_name(&scope.ctx.roster, node)?;
    (known.status != MemberStatus::None).then_some((member, known.status, known.status_ltime))
}
