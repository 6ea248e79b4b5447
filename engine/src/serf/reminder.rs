//! Reminders: an intent is sent once more to a member that evidently did not hear it. Gossip may miss any member,
//! and Serf's push/pull repairs neither of the two cases here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::dissemination::{Class, Source};
use crate::scope::Scope;
use crate::serf::Serf;
use crate::view::{MemberStatus, SwimState};
use crate::wire::serf::LeaveIntent;
use crate::wire::stream::PushPullFrame;
use crate::wire::{LamportTime, WireState};

/// Reminders at a time: where half of a cluster leaves or was pruned, they must not become a flood.
const REMINDERS_MAX: usize = 32;

impl Serf {
    /// Sends the leave intent to members that are listed as leaving and still answer. A member that leaves
    /// ignores it. One that does not leave answers with a newer join intent: it is back, and joined through a
    /// node that had not heard of its leave, so that its join intent was no newer; or it was pruned while a
    /// partition cut it off.
    pub(super) fn remind_leaving(&self, scope: &mut Scope<'_>) {
        if scope.view.status_count(MemberStatus::Leaving) == 0 {
            return;
        }
        let roster = &scope.ctx.roster;
        let answering = scope.view.iter().filter(|(member, known)| {
            known.status == MemberStatus::Leaving && known.swim == SwimState::Alive && *member != scope.me
        });
        let reminders: Vec<(SocketAddr, Vec<u8>)> = answering
            .take(REMINDERS_MAX)
            .map(|(member, known)| {
                let prune = self.prune_when_gone.contains(&member);
                let leave = LeaveIntent { ltime: known.status_ltime, node: roster.name(member), prune };
                (roster.fact(known.fact).socket_addr(), encoded(&leave))
            })
            .collect();
        for (to, bytes) in reminders {
            scope.send_user(to, &bytes);
        }
    }

    /// Gossips prunes again that the sender of a push/pull evidently missed. Members that the sender lists as
    /// alive are left out: either they refute, or its probes find out.
    pub(super) fn repeat_prunes(
        &self,
        scope: &mut Scope<'_>,
        frame: &PushPullFrame,
        mut missed: BTreeMap<&str, LamportTime>,
    ) {
        let mut offset = 0;
        while !missed.is_empty()
            && let Some(state) = frame.next_node(&mut offset)
        {
            if matches!(state.state, WireState::Alive | WireState::Suspect) {
                missed.remove(state.name);
            }
        }
        for (node, ltime) in missed.into_iter().take(REMINDERS_MAX) {
            let bytes = encoded(&LeaveIntent { ltime, node, prune: true });
            scope.broadcast(Class::Intent, bytes.into(), Source::Own);
        }
    }
}

/// The Lamport time at which a member was erased, if the other side lists it with one that is no newer.
pub(super) fn pruned_after(scope: &Scope<'_>, node: &str, ltime: LamportTime) -> Option<LamportTime> {
    let (_, known) = scope.view.by_name(&scope.ctx.roster, node)?;
    let erased = known.status == MemberStatus::None && known.status_ltime >= ltime;
    erased.then_some(known.status_ltime)
}

fn encoded(leave: &LeaveIntent<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    leave.encode(&mut bytes);
    bytes
}
