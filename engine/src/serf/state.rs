//! Serf's part of a push/pull (PROTOCOL 5.8).

use std::marker::PhantomData;
use std::net::SocketAddr;

use crate::egress::Scope;
use crate::serf::Serf;
use crate::view::MemberStatus;
use crate::wire::serf::{JoinIntent, LeaveIntent, PushPullSource, UserEvent, encode_push_pull};
use crate::wire::{DropReason, LamportTime, SerfMessage};

impl Serf {
    /// Appends this node's part.
    pub(crate) fn encode_state(&self, scope: &Scope<'_>, out: &mut Vec<u8>) {
        let roster = &scope.ctx.roster;
        let members = || scope.view.iter().filter(|(_, known)| known.status != MemberStatus::None);
        let left = || members().filter(|(_, known)| known.status == MemberStatus::Left);
        let source = PushPullSource {
            ltime: self.clock.time(),
            event_ltime: self.event_clock.time(),
            query_ltime: self.query_clock.time(),
            members: (
                scope.view.members_count() as u32,
                members().map(|(member, known)| (roster.name(member), known.status_ltime)),
            ),
            left: (
                scope.view.status_count(MemberStatus::Left) as u32,
                left().map(|(member, _)| roster.name(member)),
            ),
            events: self.events.slots(),
            marker: PhantomData,
        };
        encode_push_pull(source, out);
    }

    /// Merges somebody's part. What it teaches is not broadcast. `ignore_old`: user events from before this
    /// node's join are not delivered.
    pub(crate) fn merge_state(
        &mut self,
        scope: &mut Scope<'_>,
        from: Option<SocketAddr>,
        bytes: &[u8],
        ignore_old: bool,
    ) {
        let state = match SerfMessage::decode(bytes) {
            Ok(SerfMessage::PushPull(state)) => state,
            Ok(_) => return scope.drop_input(DropReason::MisplacedType, from),
            Err(reason) => return scope.drop_input(reason, from),
        };
        let mut sane = true;
        for (clock, ltime) in [
            (&mut self.clock, state.ltime),
            (&mut self.event_clock, state.event_ltime),
            (&mut self.query_clock, state.query_ltime),
        ] {
            // The sender's clock is one ahead of the newest message that it saw.
            sane &= ltime.0 == 0 || clock.witness(LamportTime(ltime.0 - 1));
        }
        if !sane {
            return scope.drop_input(DropReason::LamportTimeExhausted, from);
        }
        let left: std::collections::BTreeSet<&str> = state.left_members().collect();
        for (node, ltime) in state.status_ltimes() {
            if left.contains(node) {
                let ltime = LamportTime(ltime.0.saturating_add(1));
                self.on_leave_intent(scope, &LeaveIntent { ltime, node, prune: false });
            } else {
                self.on_join_intent(scope, &JoinIntent { ltime, node });
            }
        }
        if ignore_old {
            self.event_min = self.event_min.max(state.event_ltime);
        }
        for slot in state.events() {
            for (name, payload) in slot.events {
                self.on_user_event(scope, &UserEvent { ltime: slot.ltime, name, payload, coalesce: false });
            }
        }
    }
}
