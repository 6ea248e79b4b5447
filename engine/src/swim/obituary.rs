//! Departures sent to the members that they are about.
//!
//! A tombstone keeps old news from bringing a member back. It must not keep out a member that is still there: a
//! departure can be forged, or be a mistake of `force-leave -prune`. Gossip does not go to erased members, so they
//! would never hear of it. Therefore the members that erased one send the departure to its address a few times, and
//! once more whenever it pings them: if it lives, it refutes with a newer incarnation, to whoever sent it the
//! departure, and is back.

use std::net::SocketAddr;

use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::swim::Swim;
use crate::view::{MemberStatus, SwimState};
use crate::wire::Dead;

/// How often a member's departure is sent, by about [`SENDERS`] members each time.
const SENDS: u8 = 3;
/// Members of the cluster that send one each time, on average.
const SENDERS: u32 = 6;
/// Departures that wait to be sent again. Beyond it they are sent once.
const WAITING_MAX: usize = 1024;
/// Those sent per probe interval.
const SENT_MAX: usize = 32;

/// A departure that is still to be sent.
#[derive(Copy, Clone, Debug)]
pub(super) struct Obituary {
    member: MemberIndex,
    sends: u8,
}

impl Swim {
    /// A member was erased by a prune.
    pub(crate) fn bury(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        if self.leaving {
            return;
        }
        self.send_by_chance(scope, member);
        if self.obituaries.len() < WAITING_MAX {
            self.obituaries.push(Obituary { member, sends: SENDS - 1 });
        }
    }

    /// A probe interval has passed.
    pub(super) fn send_obituaries(&mut self, scope: &mut Scope<'_>) {
        let due = self.obituaries.len().min(SENT_MAX);
        for Obituary { member, sends } in self.obituaries.drain(..due).collect::<Vec<_>>() {
            self.send_by_chance(scope, member);
            if sends > 1 {
                self.obituaries.push(Obituary { member, sends: sends - 1 });
            }
        }
    }

    /// A ping names its sender. If it was erased here, it is sent its departure.
    pub(super) fn challenge(&mut self, scope: &mut Scope<'_>, name: &str) {
        let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, name) else { return };
        if known.status == MemberStatus::None && matches!(known.swim, SwimState::Absent | SwimState::Left) {
            self.send_obituary(scope, member);
        }
    }

    /// Sends a departure with such a chance that about [`SENDERS`] members do.
    fn send_by_chance(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let members = u32::try_from(scope.view.table_count()).unwrap_or(u32::MAX);
        if members <= SENDERS || scope.ctx.random.below(members) < SENDERS {
            self.send_obituary(scope, member);
        }
    }

    fn send_obituary(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let Some(known) = scope.view.get(member) else { return };
        let is_back = matches!(known.swim, SwimState::Alive | SwimState::Suspect);
        if is_back || !self.may_challenge() {
            return;
        }
        let fact = scope.ctx.roster.fact(known.fact);
        let (to, incarnation): (SocketAddr, _) = (fact.socket_addr(), fact.incarnation);
        let name = scope.ctx.roster.name(member).to_owned();
        let dead = Dead { incarnation, node: &name, from: &name };
        scope.send_message(to, |out| dead.encode(out));
    }
}
