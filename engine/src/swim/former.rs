//! This node's own name, held by another address: by its former self, if it was started again elsewhere, or by another
//! node that has the same name.
//!
//! A newcomer learns of it by the answer to its join, and pings the other address under the name. A node of a cluster
//! has the members vote first (`serf/internal.rs`), and asks when it lost. If the other address answers, the name is
//! taken: the node ends. If not, the name is this node's: it tells all members that its former self has left, which is
//! a departure in its own name, and then announces itself. Serf takes another address after a departure only, and
//! handles an alive message before a departure that comes soon after it, so these are sent one after the other.

use std::net::SocketAddr;
use std::time::Duration;

use crate::context::Context;
use crate::deferred::{Change, Deferred};
use crate::dissemination::Source;
use crate::event::Notice;
use crate::roster::{FactIndex, MemberIndex};
use crate::scope::Scope;
use crate::swim::Swim;
use crate::swim::claims::{ASKS, report_conflict};
use crate::swim::probe::{ask_for_name, is_late};
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::SwimState;
use crate::wire::{Alive, Dead, Incarnation, SeqNo};

/// Members that are told straight; in larger clusters gossip tells the others.
const TOLD_MAX: usize = 512;
/// Between a lost vote and the question: a rival that lost its vote too needs time to end.
const AFTER_VOTE: Duration = Duration::from_secs(1);

/// The steps that a timer starts, beside asking again (`1` to [`ASKS`] - 1).
const ASK: u32 = 0;
const RECLAIM: u32 = ASKS;
const DEPART: u32 = ASKS + 1;
const ANNOUNCE: u32 = ASKS + 2;

/// Another address that has this node's name.
#[derive(Debug)]
struct Rival {
    /// What the other side is announced as; holds a reference.
    fact: FactIndex,
    /// Members list it as failed, or suspect it.
    accused: bool,
}

/// The question whether a rival answers, and what follows.
#[derive(Debug)]
struct Inquest {
    generation: u32,
    seq: SeqNo,
    /// Until when the other address may answer.
    answers_until: Time,
    /// An ack changes nothing any more: it came too late, or the other address is this node's, too.
    decided: bool,
    /// The vote that was lost: answers, and those for this node.
    votes: Option<(u32, u32)>,
    /// The incarnation of the former self's departure.
    departs_at: Incarnation,
}

/// What a node knows of those that have its name.
#[derive(Debug, Default)]
pub(super) struct Former {
    rival: Option<Rival>,
    inquest: Option<Inquest>,
    generation: u32,
}

impl Former {
    /// Forgets the other address, and releases the reference to its fact.
    pub(super) fn clear(&mut self, ctx: &mut Context) {
        self.inquest = None;
        if let Some(rival) = self.rival.take() {
            ctx.roster.release_fact(rival.fact);
        }
    }

    /// A ping that this node sent to the other address came back to itself.
    pub(super) fn is_own_ping(&mut self, seq: SeqNo) -> bool {
        let Some(inquest) = self.inquest.as_mut().filter(|inquest| inquest.seq == seq) else { return false };
        inquest.decided = true;
        true
    }
}

impl Swim {
    /// This node's name is announced at another address, alive or `accused` of not answering.
    pub(super) fn on_rival(
        &mut self,
        scope: &mut Scope<'_>,
        alive: &Alive<'_>,
        source: Source,
        accused: bool,
        from: Option<SocketAddr>,
    ) {
        report_conflict(scope, scope.me, alive, from);
        if self.former.inquest.is_some() || self.leaving {
            return;
        }
        let fact = scope.ctx.roster.intern_fact_of(Some(scope.me), alive);
        if let Some(earlier) = self.former.rival.replace(Rival { fact, accused }) {
            scope.ctx.roster.release_fact(earlier.fact);
        }
        if source == Source::JoinAnswer {
            self.begin_inquest(scope, None, ASK);
        } else {
            scope.defer(Deferred::Change(Change::Conflict));
        }
    }

    /// The members voted for another address under this node's name.
    pub(crate) fn on_vote_lost(&mut self, scope: &mut Scope<'_>, votes: (u32, u32)) {
        if self.former.inquest.is_none() && self.former.rival.is_some() && !self.leaving {
            self.begin_inquest(scope, Some(votes), ASK);
        }
    }

    fn begin_inquest(&mut self, scope: &mut Scope<'_>, votes: Option<(u32, u32)>, step: u32) {
        self.former.generation = self.former.generation.wrapping_add(1);
        let (generation, seq) = (self.former.generation, self.fresh_seq(scope));
        let (answers_until, departs_at) = (scope.now(), Incarnation(0));
        self.former.inquest =
            Some(Inquest { generation, seq, answers_until, decided: false, votes, departs_at });
        let wait = if votes.is_some() { AFTER_VOTE } else { Duration::ZERO };
        self.step_after(scope, wait, step);
    }

    fn step_after(&self, scope: &mut Scope<'_>, wait: Duration, step: u32) {
        scope.schedule(scope.now() + wait, TimerKind::Former, step, self.former.generation);
    }

    /// The next step is due.
    pub(crate) fn on_former_timer(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let is_under_way = |inquest: &Inquest| inquest.generation == key.generation;
        if !self.former.inquest.as_ref().is_some_and(is_under_way) || self.leaving {
            return;
        }
        // If this node stood still, the answer may wait unread.
        let asks_again = |inquest: &Inquest| is_late(scope, inquest.answers_until) && !inquest.decided;
        match key.subject {
            ASK => self.ask_other(scope),
            RECLAIM if self.former.inquest.as_ref().is_some_and(asks_again) => self.ask_other(scope),
            RECLAIM => self.reclaim(scope),
            DEPART => self.declare_former_departed(scope),
            ANNOUNCE => {
                self.introduce_to_all(scope);
                scope.broadcast_member(scope.me, scope.me, Source::Own);
                self.former.clear(scope.ctx);
            }
            _ => self.ask_rival(scope),
        }
    }

    /// Pings the other address, and arms the timers for the further pings and for what follows.
    fn ask_other(&mut self, scope: &mut Scope<'_>) {
        let step = scope.config.probe_timeout / ASKS;
        (1..ASKS).for_each(|turn| self.step_after(scope, step * turn, turn));
        self.step_after(scope, scope.config.probe_timeout, RECLAIM);
        if let Some(inquest) = &mut self.former.inquest {
            inquest.answers_until = scope.now() + scope.config.probe_timeout;
        }
        self.ask_rival(scope);
    }

    fn ask_rival(&self, scope: &mut Scope<'_>) {
        let (Some(rival), Some(inquest)) = (&self.former.rival, &self.former.inquest) else { return };
        let to = scope.ctx.roster.fact(rival.fact).socket_addr();
        ask_for_name(scope, to, &scope.config.node_name, inquest.seq);
    }

    /// An ack came. Returns whether it is the other address's: then the name is taken, and this node ends unless it is
    /// configured not to resolve such conflicts.
    pub(super) fn answers_inquest(&mut self, scope: &mut Scope<'_>, seq: SeqNo) -> bool {
        if self.former.inquest.as_ref().is_none_or(|inquest| inquest.seq != seq) {
            return false;
        }
        let Some(inquest) = self.former.inquest.take_if(|inquest| !inquest.decided) else { return true };
        if scope.config.resolve_name_conflicts
            && let Some(rival) = &self.former.rival
        {
            if let Some((all, for_me)) = inquest.votes {
                scope.notice(Notice::NameVote { all, for_me, kept: false });
            }
            let addr = scope.ctx.roster.fact(rival.fact).socket_addr();
            scope.notice(Notice::NameTaken { name: scope.config.node_name.clone(), addr });
            scope.ctx.out.ended.push(scope.node);
        }
        true
    }

    /// The other address does not answer: the name is this node's.
    fn reclaim(&mut self, scope: &mut Scope<'_>) {
        let Some(rival) = &self.former.rival else { return };
        let (former, accused) = (rival.fact, rival.accused);
        let fact = scope.ctx.roster.fact(former);
        let addr = fact.socket_addr();
        let departs_at = Incarnation(fact.incarnation.0 + u32::from(accused));
        // Members that have this node at its address already ignore the departure.
        self.incarnation = Incarnation(departs_at.max(self.incarnation).0 + 1);
        self.take_incarnation(scope, scope.me, self.incarnation);
        scope.broadcast_member(scope.me, scope.me, Source::Own);
        scope.notice(Notice::NameReclaimed { name: scope.config.node_name.clone(), addr });
        if let Some(inquest) = &mut self.former.inquest {
            (inquest.departs_at, inquest.decided) = (departs_at, true);
        }
        self.introduce_to_all(scope);
        if accused {
            // In Serf only who is alive can leave.
            self.tell_all(scope, former, departs_at);
        }
        self.step_after(scope, scope.config.gossip_interval / 2, DEPART);
    }

    /// Tells all members that this node's former self has left.
    fn declare_former_departed(&mut self, scope: &mut Scope<'_>) {
        let Some(inquest) = &self.former.inquest else { return };
        let name = scope.config.node_name.as_str();
        let dead = Dead { incarnation: inquest.departs_at, node: name, from: name };
        let mut message = Vec::new();
        dead.encode(&mut message);
        send_to_all(scope, &message);
        // Where members have to learn of it by gossip, they get a few rounds for it.
        let rounds = 1 + (scope.view.table_count() / TOLD_MAX).checked_ilog2().map_or(0, |log| log + 2);
        self.step_after(scope, scope.config.gossip_interval * rounds, ANNOUNCE);
    }

    /// Sends an alive message of this node, made from the fact, to all members.
    fn tell_all(&self, scope: &mut Scope<'_>, fact: FactIndex, incarnation: Incarnation) {
        let alive = scope.ctx.roster.fact(fact).alive(&scope.config.node_name);
        let mut message = Vec::new();
        Alive { incarnation, ..alive }.encode(&mut message);
        send_to_all(scope, &message);
    }

    /// Sends this node's state to all members.
    fn introduce_to_all(&self, scope: &mut Scope<'_>) {
        if let Some(known) = scope.view.get(scope.me) {
            self.tell_all(scope, known.fact, self.incarnation);
        }
    }
}

fn send_to_all(scope: &mut Scope<'_>, message: &[u8]) {
    for member in told(scope) {
        if let Some(to) = scope.view.socket_addr(&scope.ctx.roster, member) {
            scope.send_message(to, |out| out.extend_from_slice(message));
        }
    }
}

/// The members that are told: all that are not gone, or in a large cluster some.
fn told(scope: &mut Scope<'_>) -> Vec<MemberIndex> {
    let me = scope.me;
    let here = |swim| matches!(swim, SwimState::Alive | SwimState::Suspect);
    let others = scope.view.iter().filter(|&(member, known)| member != me && here(known.swim));
    let mut members: Vec<MemberIndex> = others.map(|(member, _)| member).collect();
    if members.len() > TOLD_MAX {
        scope.ctx.random.shuffle(&mut members);
        members.truncate(TOLD_MAX);
    }
    members
}
