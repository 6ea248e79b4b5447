//! Votes: the members say which of two nodes keeps a name (PROTOCOL 9.8).

use std::collections::BTreeSet;

use crate::deferred::Deferred;
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::internal::CONFLICT;
use crate::serf::query::{Asker, Question, ReplyTo};
use crate::serf::{Serf, member_record};
use crate::timers::TimerKind;
use crate::view::MemberStatus;
use crate::wire::serf::MemberRecord;
use crate::wire::{DecodeError, SerfMessage, ip_to_bytes};

/// Votes of this node that wait because it still finds out who has the name.
const WAITING_MAX: usize = 64;

/// The votes about this node's name so far.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Votes {
    all: u32,
    /// For this node's address.
    for_me: u32,
}

impl Serf {
    /// A node asks who has a name.
    pub(super) fn asked_for_vote(&mut self, scope: &mut Scope<'_>, reply_to: &ReplyTo, name: &str) {
        if name == scope.config.node_name {
            // The two nodes that claim the name have no vote.
            return;
        }
        let Some(member) = scope.ctx.roster.member(name) else {
            return self.send_response(scope, reply_to, &vote(scope, name));
        };
        if self.votes_waiting.len() >= WAITING_MAX {
            return scope.drop_input(DropReason::QueueFull, None);
        }
        self.votes_waiting.push((name.to_owned(), reply_to.clone()));
        if scope.view.socket_addr(&scope.ctx.roster, member) == Some(reply_to.addr) {
            return scope.defer(Deferred::VoteAsked(member));
        }
        // It asks from elsewhere: its announcement, which this node judges, may come after its question.
        scope.schedule(scope.now() + scope.config.probe_timeout, TimerKind::Votes, 0, 0);
    }

    /// Announcements had time to arrive: what is not disputed is voted on.
    pub(crate) fn on_votes_timer(&mut self, scope: &mut Scope<'_>) {
        let names: BTreeSet<String> = self.votes_waiting.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(member) = scope.ctx.roster.member(&name) {
                scope.defer(Deferred::VoteAsked(member));
            } else {
                self.send_votes_about(scope, &name);
            }
        }
    }

    /// This node knows who has the name: sends the votes about it that wait.
    pub(crate) fn send_votes(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let name = scope.ctx.roster.name(member).to_owned();
        self.send_votes_about(scope, &name);
    }

    fn send_votes_about(&mut self, scope: &mut Scope<'_>, name: &str) {
        let is_due = |(waiting, _): &mut (String, ReplyTo)| *waiting == *name;
        let due: Vec<(String, ReplyTo)> = self.votes_waiting.extract_if(.., is_due).collect();
        for (_, reply_to) in due {
            self.send_response(scope, &reply_to, &vote(scope, name));
        }
    }

    /// Another node claims this node's name: starts a vote, unless one is under way.
    pub(super) fn defend_name(&mut self, scope: &mut Scope<'_>) {
        if !scope.config.resolve_name_conflicts || self.defending {
            return;
        }
        let name = scope.config.node_name.clone();
        let question = Question { name: CONFLICT, payload: name.as_bytes(), ..Question::default() };
        self.defending = self.ask(scope, Asker::NameVote(Votes::default()), &question).is_ok();
    }

    /// The vote is over: without a majority for its address this node asks the other one.
    pub(super) fn count_votes(&mut self, scope: &mut Scope<'_>, votes: Votes) {
        self.defending = false;
        let Votes { all, for_me } = votes;
        let majority = all / 2 + 1;
        if for_me < majority {
            scope.defer(Deferred::VoteLost(all, for_me));
        } else {
            scope.notice(Notice::NameVote { all, for_me, kept: true });
        }
    }
}

impl Votes {
    /// Counts an answer.
    pub(super) fn add(&mut self, scope: &mut Scope<'_>, payload: &[u8]) {
        match SerfMessage::decode(payload) {
            Ok(SerfMessage::ConflictResponse(Some(record))) => {
                let me = scope.config.advertise;
                let ip = crate::wire::ip_from_bytes(&record.addr);
                self.all += 1;
                self.for_me += u32::from(ip == Some(me.ip()) && record.port == me.port());
            }
            Ok(SerfMessage::ConflictResponse(None)) => self.all += 1,
            Ok(_) => scope.drop_input(DecodeError::MisplacedType, None),
            Err(reason) => scope.drop_input(reason, None),
        }
    }
}

/// This node's vote: the member that it lists under the name.
fn vote(scope: &Scope<'_>, name: &str) -> Vec<u8> {
    let known = scope.view.by_name(&scope.ctx.roster, name);
    let known = known.filter(|(_, known)| known.status != MemberStatus::None);
    let record = known.and_then(|(member, _)| member_record(scope.view, &scope.ctx.roster, member));
    let mut out = Vec::new();
    let encoded = record.map(|record| MemberRecord {
        name,
        addr: ip_to_bytes(record.addr).into(),
        port: record.port,
        tags: record.tags,
        status: record.status as u8,
        versions: record.versions.0,
    });
    MemberRecord::encode_vote(encoded.as_ref(), &mut out);
    out
}
