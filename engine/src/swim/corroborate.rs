//! Corroboration of suspicions (DESIGN 7): a few members probe a suspect as soon as they hear of the suspicion, so that
//! the suspicion is confirmed, or not, within a few round trips. Part of [`crate::config::RawConfig::fast_detection`].
//!
//! Which members probe follows from the suspect's name, so that nobody has to ask: those that follow it on the circle
//! ([`crate::roster::circle`]). Views that differ in some members differ in some of them only.

use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::swim::Swim;
use crate::view::SwimState;

/// Members that probe a suspect at once. More than a suspicion wants, as some of them may be gone or have lost packets.
const CORROBORATORS: usize = 8;
/// Members of the circle that are looked at for them; those that the view does not have count too.
const WALK_MAX: usize = 64;
/// Suspects that one node probes at a time, besides its own probe.
pub(super) const CORROBORATIONS_MAX: usize = 8;

impl Swim {
    /// Another member accuses `suspect`, and this node hears of it for the first time: probes it if that falls to it.
    pub(super) fn corroborate(&mut self, scope: &mut Scope<'_>, suspect: MemberIndex) {
        if scope.config.fast_detection && !self.probes(suspect) && is_corroborator(scope, suspect) {
            self.start_corroboration(scope, suspect);
        }
    }
}

/// Whether this node is among the first alive members after the suspect.
fn is_corroborator(scope: &mut Scope<'_>, suspect: MemberIndex) -> bool {
    let (view, me) = (&*scope.view, scope.me);
    let point = scope.ctx.roster.point(suspect);
    let is_alive = |&(_, member): &(u64, MemberIndex)| {
        member != suspect && view.get(member).is_some_and(|known| known.swim == SwimState::Alive)
    };
    let followers = scope.ctx.roster.order().successors(point).take(WALK_MAX);
    followers.filter(is_alive).take(CORROBORATORS).any(|(_, member)| member == me)
}
