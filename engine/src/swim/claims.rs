//! Names that are announced at another address than the one under which a node lists them.
//!
//! A name is not given to another address while its old one answers: the node pings the old address under the name. If
//! that answers, the claim is dropped. If not, a claim that is newer than the member's departure is taken; for any other
//! one the new address has to answer to the name. The departure of a member that did not leave is passed on before its
//! name is given away, since Serf takes another address after a departure only.

use std::net::SocketAddr;
use std::time::Duration;

use crate::context::Context;
use crate::deferred::{Change, Deferred};
use crate::delegate::Announcement;
use crate::dissemination::Source;
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::roster::{FactIndex, MemberIndex};
use crate::scope::Scope;
use crate::swim::Swim;
use crate::swim::probe::{ask_for_name, is_late};
use crate::swim::state::address_of;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{Known, SwimState};
use crate::wire::{Alive, Dead, NodeState, SeqNo, WireState, ip_from_bytes};

/// Claims at one time; each lasts up to two probe timeouts, and one that was refused a few seconds.
pub(crate) const CLAIMS_MAX: usize = 128;
/// Pings that an address gets within one probe timeout.
pub(super) const ASKS: u32 = 3;

/// What a claim's timer is for, beside asking again (`1` to [`ASKS`] - 1).
const DECIDE: u32 = ASKS;
const GIVE_UP: u32 = ASKS + 1;
const TAKE: u32 = ASKS + 2;
const FORGET: u32 = ASKS + 3;
const CONFIRM: u32 = ASKS + 4;

/// How long a refused claim is remembered, and in it time for an exchange with the old address.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Members do not all make that exchange at once: somewhere within so much for each of them.
const CONFIRM_SPREAD: Duration = Duration::from_millis(2);
/// Exchanges of this kind are this far apart at least: strangers can cause them.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);

/// A name that is announced at another address.
#[derive(Debug)]
pub(super) struct Claim {
    id: u32,
    member: MemberIndex,
    old: SocketAddr,
    /// What is announced; holds a reference.
    fact: FactIndex,
    source: Source,
    seq: SeqNo,
    phase: Phase,
    /// Until when the address that is asked may answer.
    answers_until: Time,
    /// The old address was asked over a stream what it is, or will be.
    is_confirmed: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The old address is asked.
    AskingOld,
    /// The old one did not answer, and the member has not left: the new one is asked.
    AskingNew,
    /// The departure of the member's former self is passed on: the claim is about to be taken.
    Granted,
    /// The old address answered: for a while further claims are dropped at once.
    Refused,
}

/// The claims of one node.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    next_id: u32,
    /// When the last exchange with an old address was to begin.
    confirmed_at: Option<Time>,
}

impl Claims {
    /// Whether the claim on a member's name is not decided yet.
    fn is_open(&self, member: MemberIndex) -> bool {
        self.claims.iter().any(|claim| claim.member == member && claim.phase != Phase::Refused)
    }

    /// Releases its references to facts.
    pub(super) fn clear(&mut self, ctx: &mut Context) {
        for claim in self.claims.drain(..) {
            ctx.roster.release_fact(claim.fact);
        }
    }
}

impl Swim {
    /// Whether it is still to be decided which address a name belongs to.
    pub(crate) fn is_claimed(&self, member: MemberIndex) -> bool {
        self.claims.is_open(member)
    }

    /// Another member's name is announced at another address.
    pub(super) fn on_claim(
        &mut self,
        scope: &mut Scope<'_>,
        (member, known): (MemberIndex, Known),
        alive: &Alive<'_>,
        source: Source,
        from: Option<SocketAddr>,
    ) {
        if alive.incarnation.0 == 0 {
            return;
        }
        if !has_departed(known) {
            report_conflict(scope, member, alive, from);
        }
        let claims = &mut self.claims.claims;
        let Some(place) = claims.iter().position(|claim| claim.member == member) else {
            return self.open_claim(scope, (member, known), alive, source, from);
        };
        let Claim { id, fact, phase, .. } = claims[place];
        let claimed = scope.ctx.roster.fact(fact);
        if claimed.socket_addr() != socket_addr_of(alive) {
            return scope.stats.count_drop(DropReason::NameHeld);
        }
        if alive.incarnation > claimed.incarnation {
            claims[place].fact = scope.ctx.roster.intern_fact_of(Some(member), alive);
            scope.ctx.roster.release_fact(fact);
        }
        if phase == Phase::Refused {
            scope.stats.count_drop(DropReason::NameHeld);
            self.plan_confirmation(scope, id);
        } else if phase == Phase::AskingNew && self.is_due(scope, place) {
            self.take_claim(scope, place);
        }
    }

    /// Whether a claim may be taken once the old address did not answer: it is newer than the departure of the member.
    /// Older ones may be old news, so that the new address is to answer first.
    fn is_due(&self, scope: &Scope<'_>, place: usize) -> bool {
        let claim = &self.claims.claims[place];
        let Some(known) = scope.view.get(claim.member) else { return true };
        let [announced, held] = [claim.fact, known.fact].map(|fact| scope.ctx.roster.fact(fact).incarnation);
        has_departed(known) && announced > held
    }

    fn open_claim(
        &mut self,
        scope: &mut Scope<'_>,
        (member, known): (MemberIndex, Known),
        alive: &Alive<'_>,
        source: Source,
        from: Option<SocketAddr>,
    ) {
        if self.claims.claims.len() >= CLAIMS_MAX {
            return scope.drop_input(DropReason::QueueFull, from);
        }
        let old = scope.ctx.roster.fact(known.fact).socket_addr();
        let fact = scope.ctx.roster.intern_fact_of(Some(member), alive);
        self.claims.next_id = self.claims.next_id.wrapping_add(1);
        let (id, seq) = (self.claims.next_id, self.fresh_seq(scope));
        let answers_until = scope.now();
        self.claims.claims.push(Claim {
            id,
            member,
            old,
            fact,
            source,
            seq,
            phase: Phase::AskingOld,
            answers_until,
            is_confirmed: false,
        });
        self.ask_address(scope, id, DECIDE);
    }

    /// Pings the address that is in question, and arms the timers for the further pings and for what follows.
    fn ask_address(&mut self, scope: &mut Scope<'_>, id: u32, then: u32) {
        let step = scope.config.probe_timeout / ASKS;
        for turn in 1..ASKS {
            scope.schedule(scope.now() + step * turn, TimerKind::Claim, id, turn);
        }
        let until = scope.now() + scope.config.probe_timeout;
        scope.schedule(until, TimerKind::Claim, id, then);
        if let Some(claim) = self.claims.claims.iter_mut().find(|claim| claim.id == id) {
            claim.answers_until = until;
        }
        self.ask_again(scope, id);
    }

    fn ask_again(&mut self, scope: &mut Scope<'_>, id: u32) {
        let Some(claim) = self.claims.claims.iter().find(|claim| claim.id == id) else { return };
        let to = match claim.phase {
            Phase::AskingOld => claim.old,
            Phase::AskingNew => scope.ctx.roster.fact(claim.fact).socket_addr(),
            Phase::Granted | Phase::Refused => return,
        };
        let name = scope.ctx.roster.name(claim.member).to_owned();
        ask_for_name(scope, to, &name, claim.seq);
    }

    /// The time for an answer, or for the next step, is over.
    pub(crate) fn on_claim_timer(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let id = key.subject;
        let Some(place) = self.claims.claims.iter().position(|claim| claim.id == id) else { return };
        match (key.generation, self.claims.claims[place].phase) {
            // This node stood still, and the answer may wait unread.
            (DECIDE, Phase::AskingOld) if is_late(scope, self.claims.claims[place].answers_until) => {
                self.ask_address(scope, id, DECIDE);
            }
            (DECIDE, Phase::AskingOld) => {
                if self.is_due(scope, place) {
                    return self.take_claim(scope, place);
                }
                let seq = self.fresh_seq(scope);
                let claim = &mut self.claims.claims[place];
                (claim.phase, claim.seq) = (Phase::AskingNew, seq);
                self.ask_address(scope, id, GIVE_UP);
            }
            (GIVE_UP, Phase::AskingNew) | (FORGET, Phase::Refused) => self.end_claim(scope, place),
            (CONFIRM, Phase::Refused) => {
                let Claim { member, old, .. } = self.claims.claims[place];
                scope.defer(Deferred::Confirm(member, old));
            }
            (TAKE, Phase::Granted) => self.take_claim(scope, place),
            (1..DECIDE, Phase::AskingOld | Phase::AskingNew) => self.ask_again(scope, id),
            _ => {}
        }
    }

    /// An ack came. Returns whether it answers a claim's ping.
    pub(super) fn answers_claim(&mut self, scope: &mut Scope<'_>, seq: SeqNo) -> bool {
        let Some(place) = self.claims.claims.iter().position(|claim| claim.seq == seq) else { return false };
        let Claim { id, member, phase, .. } = self.claims.claims[place];
        match phase {
            Phase::AskingOld => {
                self.claims.claims[place].phase = Phase::Refused;
                scope.stats.count_drop(DropReason::NameHeld);
                scope.defer(Deferred::Claimed(member));
                let spread = self.plan_confirmation(scope, id);
                scope.schedule(scope.now() + spread + REFUSED_FOR, TimerKind::Claim, id, FORGET);
            }
            Phase::AskingNew if scope.view.get(member).is_none_or(has_departed) => {
                self.take_claim(scope, place);
            }
            Phase::AskingNew => {
                self.claims.claims[place].phase = Phase::Granted;
                self.declare_departed(scope, member);
                scope.schedule(scope.now() + scope.config.gossip_interval, TimerKind::Claim, id, TAKE);
            }
            Phase::Granted | Phase::Refused => {}
        }
        true
    }

    /// The old address of a member answers. If the member has left, it did not really, or is about to end, or is at the
    /// new address and has both: it is sent its departure, and an exchange of states over a stream tells, since nobody
    /// else can answer that. Returns the time until it begins.
    fn plan_confirmation(&mut self, scope: &mut Scope<'_>, id: u32) -> Duration {
        let now = scope.now();
        let Some(claim) = self.claims.claims.iter_mut().find(|claim| claim.id == id) else {
            return Duration::ZERO;
        };
        let member = claim.member;
        let is_too_soon = self.claims.confirmed_at.is_some_and(|last| now < last + CONFIRM_EVERY);
        if claim.is_confirmed || is_too_soon || !scope.view.get(member).is_some_and(has_departed) {
            return Duration::ZERO;
        }
        claim.is_confirmed = true;
        let members = u32::try_from(scope.view.table_count()).unwrap_or(u32::MAX);
        let spread = scope.ctx.random.duration(CONFIRM_SPREAD * members);
        self.claims.confirmed_at = Some(now + spread);
        scope.schedule(now + spread, TimerKind::Claim, id, CONFIRM);
        self.send_obituary(scope, member);
        spread
    }

    /// The old address said over a stream what it is: the record of the member, from its own state.
    pub(crate) fn on_confirmation(
        &mut self,
        scope: &mut Scope<'_>,
        member: MemberIndex,
        state: &NodeState<'_>,
    ) {
        let is_it = |claim: &Claim| claim.member == member && claim.phase == Phase::Refused;
        let Some(place) = self.claims.claims.iter().position(is_it) else { return };
        let there = ip_from_bytes(&state.addr).map(|ip| SocketAddr::new(ip, state.port));
        let claimed = scope.ctx.roster.fact(self.claims.claims[place].fact).socket_addr();
        let has_moved = state.state == WireState::Alive && there == Some(claimed);
        if state.name == scope.ctx.roster.name(member) && (has_moved || state.state == WireState::Left) {
            self.take_claim(scope, place);
        }
    }

    /// A member that does not answer any more, and whose name another address has, is gone. Peers give the name to the
    /// other address after a departure in the member's own name only.
    fn declare_departed(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let Some(known) = scope.view.get(member) else { return };
        let incarnation = scope.ctx.roster.fact(known.fact).incarnation;
        let name = scope.ctx.roster.name(member).to_owned();
        if known.swim == SwimState::Dead {
            scope.view.set_swim(&scope.ctx.roster, member, SwimState::Left, scope.now());
            return self.pass_on(scope, member, &name, Source::Own);
        }
        self.on_dead(scope, &Dead { incarnation, node: &name, from: &name }, Source::Own, None);
    }

    /// Takes a claim: the member is alive at the new address.
    fn take_claim(&mut self, scope: &mut Scope<'_>, place: usize) {
        let Claim { member, old, fact, source, .. } = self.claims.claims[place];
        let known = scope.view.get(member);
        let is_as_before = known.is_none_or(|known| {
            has_departed(known) && scope.ctx.roster.fact(known.fact).socket_addr() == old
        });
        if is_as_before {
            scope.ctx.roster.retain_fact(fact);
            self.move_member(scope, fact, source);
        }
        self.end_claim(scope, place);
    }

    /// A member that has left is alive at the address of the fact, to which the caller hands over a reference.
    fn move_member(&mut self, scope: &mut Scope<'_>, fact: FactIndex, source: Source) {
        let member = scope.view.set_fact(&mut scope.ctx.roster, fact);
        self.end_suspicion(scope, member);
        scope.view.set_swim(&scope.ctx.roster, member, SwimState::Alive, scope.now());
        scope.broadcast_member(member, member, source);
        if matches!(source, Source::Gossip | Source::Exchange | Source::Reconciled) {
            self.unanswered.add(member);
        }
        scope.defer(Deferred::Change(Change::Joined(member)));
    }

    fn end_claim(&mut self, scope: &mut Scope<'_>, place: usize) {
        let claim = self.claims.claims.swap_remove(place);
        scope.ctx.roster.release_fact(claim.fact);
        scope.defer(Deferred::Claimed(claim.member));
    }
}

/// Whether a member has left, or is not in the SWIM table any more.
fn has_departed(known: Known) -> bool {
    matches!(known.swim, SwimState::Left | SwimState::Absent)
}

/// Where an alive message says that its member is.
pub(super) fn socket_addr_of(alive: &Alive<'_>) -> SocketAddr {
    SocketAddr::new(address_of(alive), alive.port)
}

/// A member that has not left is announced at another address.
pub(super) fn report_conflict(
    scope: &mut Scope<'_>,
    member: MemberIndex,
    alive: &Alive<'_>,
    from: Option<SocketAddr>,
) {
    let theirs = socket_addr_of(alive);
    let mine = scope.view.socket_addr(&scope.ctx.roster, member).unwrap_or(theirs);
    scope.notice(Notice::AddressConflict { name: alive.node.to_owned(), mine, theirs });
    scope.drop_input(DropReason::AddressConflict, from);
    let Scope { ctx, view, delegate, .. } = scope;
    if let (Some(delegate), Some(fact)) = (delegate, view.fact(&ctx.roster, member)) {
        let known = fact.alive(ctx.roster.name(member));
        delegate.on_conflict(&Announcement::from(&known), &Announcement::from(alive));
    }
}
