//! Serf's part of a push/pull (PROTOCOL 5.8).

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use crate::deferred::Told;
use crate::drop_reason::DropReason;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::Serf;
use crate::serf::reminder::pruned_after;
use crate::view::{Known, MemberStatus, SwimState};
use crate::wire::serf::{JoinIntent, LeaveIntent, PushPullSource, UserEvent, encode_push_pull};
use crate::wire::stream::PushPullFrame;
use crate::wire::{DecodeError, LamportTime, SerfMessage};

/// This node's own join, which a push/pull answers.
#[derive(Copy, Clone, Debug)]
pub(crate) struct OwnJoin {
    /// User events from before the join are not delivered.
    pub(crate) ignore_old: bool,
}

impl Serf {
    /// Appends this node's part, with the newest user events of at most so many bytes.
    pub(crate) fn encode_state(&self, scope: &Scope<'_>, events_bytes_max: usize, out: &mut Vec<u8>) {
        let members = || scope.view.iter().filter(|(_, known)| known.status != MemberStatus::None);
        let counts = (scope.view.members_count(), scope.view.status_count(MemberStatus::Left));
        self.encode_state_of(scope, counts, members, events_bytes_max, out);
    }

    /// Appends this node's part about these members alone.
    pub(crate) fn encode_referral(
        &self,
        scope: &Scope<'_>,
        members: &[(MemberIndex, Known)],
        out: &mut Vec<u8>,
    ) {
        let listed = || members.iter().copied().filter(|(_, known)| known.status != MemberStatus::None);
        let left = listed().filter(|(_, known)| known.status == MemberStatus::Left).count();
        self.encode_state_of(scope, (listed().count(), left), listed, usize::MAX, out);
    }

    /// `counts`: of the members, and of those that left.
    fn encode_state_of<I: Iterator<Item = (MemberIndex, Known)>>(
        &self,
        scope: &Scope<'_>,
        counts: (usize, usize),
        members: impl Fn() -> I,
        events_bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let roster = &scope.ctx.roster;
        let (members_count, left_count) = counts;
        let left = || members().filter(|(_, known)| known.status == MemberStatus::Left);
        let source = PushPullSource {
            ltime: self.clock.time(),
            event_ltime: self.event_clock.time(),
            query_ltime: self.query_clock.time(),
            members: (
                members_count as u32,
                members().map(|(member, known)| (roster.name(member), announced_ltime(known))),
            ),
            left: (left_count as u32, left().map(|(member, _)| roster.name(member))),
            events: self.events.newest(events_bytes_max),
            marker: PhantomData,
        };
        encode_push_pull(source, out);
    }

    /// Merges the other side's part. News in it is not gossiped on. `join`: it answers this node's own join.
    pub(crate) fn merge_state(
        &mut self,
        scope: &mut Scope<'_>,
        frame: &PushPullFrame,
        join: Option<OwnJoin>,
    ) {
        let state = match SerfMessage::decode(frame.user_state()) {
            Ok(SerfMessage::PushPull(state)) => state,
            Ok(_) => return scope.drop_input(DecodeError::MisplacedType, None),
            Err(reason) => return scope.drop_input(reason, None),
        };
        let (mut sane, now) = (true, scope.now());
        for (clock, ltime) in [
            (&mut self.clock, state.ltime),
            (&mut self.event_clock, state.event_ltime),
            (&mut self.query_clock, state.query_ltime),
        ] {
            // The sender's clock is one ahead of the newest message that it saw.
            let Some(newest) = ltime.0.checked_sub(1).map(LamportTime) else { continue };
            sane &= if join.is_some() { clock.witness_joined(newest) } else { clock.witness(newest, now) };
        }
        if !sane {
            return scope.drop_input(DropReason::LamportTimeRefused, None);
        }
        let left: BTreeSet<&str> = state.left_members().collect();
        let (mut hint, mut missed) = (0, BTreeMap::new());
        for (node, ltime) in state.status_ltimes() {
            if is_known(scope, node, ltime, &mut hint) && !left.contains(node) {
                continue;
            }
            if let Some(pruned) = pruned_after(scope, node, ltime) {
                missed.insert(node, pruned);
            } else if left.contains(node) {
                self.on_departure(scope, node, ltime);
            } else {
                self.on_join_intent(scope, &JoinIntent { ltime, node });
            }
        }
        self.repeat_prunes(scope, frame, missed);
        self.settle_earlier(scope, state.event_ltime, state.query_ltime);
        if join.is_some_and(|join| join.ignore_old) {
            self.event_min = self.event_min.max(state.event_ltime);
        }
        // The list is a ring by Lamport time: where it wraps around, older events follow newer ones.
        let mut slots: Vec<_> = state.events().collect();
        slots.sort_by_key(|slot| slot.ltime);
        for slot in slots {
            for (name, payload) in slot.events {
                let event = UserEvent { ltime: slot.ltime, name, payload, coalesce: false };
                self.on_user_event(scope, &event);
            }
        }
    }
}

impl Serf {
    /// A record of a reconciliation says what Serf's part of a push/pull would say of a member.
    pub(crate) fn on_told(&mut self, scope: &mut Scope<'_>, told: &Told) {
        let Some(known) = scope.view.get(told.member) else { return };
        let (ltime, node) = (told.ltime, scope.ctx.roster.name(told.member).to_owned());
        let node = node.as_str();
        match told.status {
            MemberStatus::Alive | MemberStatus::Failed => {
                self.on_join_intent(scope, &JoinIntent { ltime, node });
            }
            MemberStatus::Leaving => {
                self.on_leave_intent(scope, &LeaveIntent { ltime, node, prune: false });
            }
            MemberStatus::Left => self.on_departure(scope, node, ltime),
            // Pruned there. A member that is alive here refutes that, or this node finds out.
            MemberStatus::None if !matches!(known.swim, SwimState::Alive | SwimState::Suspect) => {
                self.on_leave_intent(scope, &LeaveIntent { ltime, node, prune: true });
            }
            MemberStatus::None => {}
        }
    }

    /// The other side lists a member as left. The time is that of its leave, or of its join if no leave intent
    /// was seen: a tie counts as a departure. Serf stores a time that is one later, and again later with every
    /// exchange, until it exceeds the join intent of a member that comes back; here the time is kept.
    fn on_departure(&mut self, scope: &mut Scope<'_>, node: &str, ltime: LamportTime) {
        let known = scope.view.by_name(&scope.ctx.roster, node);
        let tie = known.filter(|(_, known)| {
            known.status_ltime == ltime && !matches!(known.status, MemberStatus::Left | MemberStatus::None)
        });
        let later = LamportTime(ltime.0.saturating_add(u64::from(tie.is_some())));
        self.on_leave_intent(scope, &LeaveIntent { ltime: later, node, prune: false });
        if let Some((member, _)) = tie
            && scope.view.get(member).is_some_and(|known| known.status_ltime == later)
        {
            scope.view.set_status_ltime(&scope.ctx.roster, member, ltime);
        }
    }
}

/// Whether the view lists a member with an intent that is at least as new. So it is for most members, and such an
/// intent changes nothing: the clock has witnessed a time as late.
fn is_known(scope: &Scope<'_>, node: &str, ltime: LamportTime, hint: &mut u32) -> bool {
    let Some(member) = scope.ctx.roster.member_near(node, hint) else { return false };
    let listed = scope.view.get(member).filter(|known| known.status != MemberStatus::None);
    listed.is_some_and(|known| ltime <= known.status_ltime)
}

/// The time that a push/pull carries for a member. The other side takes it for the time of a join unless it lists
/// the member as left. The time of a leaving member is that of its leave, and would bring the member back: 0, which
/// is older than every intent, goes out instead.
fn announced_ltime(known: Known) -> LamportTime {
    if known.status == MemberStatus::Leaving { LamportTime(0) } else { known.status_ltime }
}
