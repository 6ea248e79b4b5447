//! Departures sent to the members that they are about.
//!
//! A tombstone keeps old news from bringing a member back. It must not keep out a member that is still there: a
//! departure can be forged, or be a mistake of `force-leave -prune`. Gossip does not go to members that left or were
//! erased, so they would never hear of it. Therefore the members that hear of one send the departure to its address,
//! again at growing distances in case the network or the member stands still, and once more whenever it pings them: if
//! it lives and does not leave, it refutes with a newer incarnation, to whoever sent it the departure, and is back.

use std::net::SocketAddr;

use crate::drop_reason::DropReason;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::swim::Swim;
use crate::swim::claims::socket_addr_of;
use crate::swim::merge::announced;
use crate::view::{Known, MemberStatus, SwimState};
use crate::wire::stream::PushPullFrame;
use crate::wire::{Alive, Dead, Ping, WireState, ip_from_bytes};

/// Departures sent between two probes: a stale list of thousands must not become thousands of datagrams.
const CHALLENGES_MAX: u32 = 32;
/// How often a member's departure is sent, by about [`SENDERS`] members each time: at once, after one probe interval,
/// and then each time twice as long after the last, in the end 256 intervals.
const SENDS: u8 = 10;
/// Members of the cluster that send one each time, on average.
const SENDERS: u32 = 6;
/// Departures that wait to be sent again, 8 bytes each. Further ones are sent once.
const WAITING_MAX: usize = 1024;
/// Those sent per probe interval.
const SENT_MAX: usize = 32;

/// A departure that is to be sent again.
#[derive(Copy, Clone, Debug)]
pub(super) struct Obituary {
    member: MemberIndex,
    /// How often it was sent.
    sent: u8,
    /// Probe intervals until it is sent.
    wait: u16,
}

impl Swim {
    /// Refuses news from before a member's departure, and sends the departure to the member. A member that was
    /// started again does not know its former incarnation: on the departure it refutes with a newer one.
    pub(super) fn send_tombstone(&mut self, scope: &mut Scope<'_>, known: Known, alive: &Alive<'_>) {
        scope.stats.count_drop(DropReason::Departed);
        if !self.may_challenge() {
            return;
        }
        let incarnation = scope.ctx.roster.fact(known.fact).incarnation;
        let dead = Dead { incarnation, node: alive.node, from: alive.node };
        scope.send_bare(socket_addr_of(alive), |out| dead.encode(out));
    }

    /// A member sent this node its own departure, but one that this node refuted before: that did not reach the sender.
    pub(super) fn answer_obituary(&mut self, scope: &mut Scope<'_>, from: Option<SocketAddr>) {
        let Some(sender) = from.filter(|_| !self.leaving && self.may_challenge()) else { return };
        let roster = &scope.ctx.roster;
        if scope.view.iter().any(|(member, _)| scope.view.socket_addr(roster, member) == Some(sender)) {
            self.introduce_to(scope, sender);
        }
    }

    /// Counts a departure that is sent to its member. False if there were too many since the last probe.
    fn may_challenge(&mut self) -> bool {
        let may = self.challenges < CHALLENGES_MAX;
        self.challenges += u32::from(may);
        may
    }

    /// A member was erased by a prune, or is said to have left.
    pub(crate) fn bury(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        if self.leaving {
            return;
        }
        self.send_by_chance(scope, member);
        self.obituaries.retain(|obituary| obituary.member != member);
        if self.obituaries.len() < WAITING_MAX {
            self.obituaries.push(Obituary { member, sent: 1, wait: 1 });
        }
    }

    /// A probe interval has passed.
    pub(super) fn send_obituaries(&mut self, scope: &mut Scope<'_>) {
        let mut obituaries = std::mem::take(&mut self.obituaries);
        let mut sent = 0;
        obituaries.retain_mut(|obituary| {
            obituary.wait = obituary.wait.saturating_sub(1);
            if obituary.wait > 0 || sent == SENT_MAX {
                return true;
            }
            sent += 1;
            obituary.wait = 1 << obituary.sent;
            obituary.sent += 1;
            self.send_by_chance(scope, obituary.member) && obituary.sent < SENDS
        });
        self.obituaries = obituaries;
    }

    /// A ping names its sender. If it left or was erased here, it is sent its departure; if another address has its
    /// name, that is what it is sent.
    pub(super) fn challenge(&mut self, scope: &mut Scope<'_>, ping: &Ping<'_>, from: SocketAddr) {
        let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, ping.source_node) else { return };
        let has_departed = matches!(known.status, MemberStatus::None | MemberStatus::Left);
        if has_departed && matches!(known.swim, SwimState::Absent | SwimState::Left) {
            return self.send_obituary(scope, member);
        }
        let there = ip_from_bytes(&ping.source_addr).map(|ip| SocketAddr::new(ip, ping.source_port));
        let fact = scope.ctx.roster.fact(known.fact);
        if member != scope.me
            && there.is_some_and(|there| there != fact.socket_addr())
            && self.may_challenge()
        {
            let mut message = Vec::new();
            fact.alive(ping.source_node).encode(&mut message);
            scope.send_bare(from, |out| out.extend_from_slice(&message));
        }
    }

    /// Sends a departure with such a chance that about [`SENDERS`] members do. False if the member is back or forgotten.
    fn send_by_chance(&mut self, scope: &mut Scope<'_>, member: MemberIndex) -> bool {
        let is_gone = departed(scope, member).is_some();
        let members = u32::try_from(scope.view.table_count()).unwrap_or(u32::MAX);
        if is_gone && (members <= SENDERS || scope.ctx.random.below(members) < SENDERS) {
            self.send_obituary(scope, member);
        }
        is_gone
    }

    pub(super) fn send_obituary(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let Some(known) = departed(scope, member) else { return };
        if !self.may_challenge() {
            return;
        }
        let fact = scope.ctx.roster.fact(known.fact);
        let (to, incarnation): (SocketAddr, _) = (fact.socket_addr(), fact.incarnation);
        let name = scope.ctx.roster.name(member).to_owned();
        let dead = Dead { incarnation, node: &name, from: &name };
        scope.send_bare(to, |out| dead.encode(out));
    }
}

/// What is known of a member that is neither alive nor suspected.
fn departed(scope: &Scope<'_>, member: MemberIndex) -> Option<Known> {
    let known = scope.view.get(member)?;
    (!matches!(known.swim, SwimState::Alive | SwimState::Suspect)).then_some(known)
}

/// The members of a joiner's list, if it is short, that are alive there and departed here before: with the answer, the
/// joiner hears of its own tombstone.
pub(crate) fn departed_in(scope: &Scope<'_>, frame: &PushPullFrame) -> Vec<(MemberIndex, Known)> {
    let mut departed = Vec::new();
    let mut offset = 0;
    while frame.nodes_count <= CHALLENGES_MAX
        && let Some(state) = frame.next_node(&mut offset)
    {
        if state.state == WireState::Alive
            && let Some((member, known)) = scope.view.by_name(&scope.ctx.roster, state.name)
            && is_older_than_tombstone(scope, known, &announced(state))
        {
            departed.push((member, Known { swim: SwimState::Left, ..known }));
        }
    }
    departed
}

/// Whether a member that left or was erased, and that SWIM has dropped since, is announced as it was before.
/// Under another address it is a new member.
pub(super) fn is_older_than_tombstone(scope: &Scope<'_>, known: Known, alive: &Alive<'_>) -> bool {
    let departed = matches!(known.status, MemberStatus::Left | MemberStatus::None);
    let fact = scope.ctx.roster.fact(known.fact);
    known.swim == SwimState::Absent
        && departed
        && alive.incarnation <= fact.incarnation
        && fact.socket_addr() == socket_addr_of(alive)
}
