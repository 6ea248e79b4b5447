//! What a push/pull says of this node's view: everything, or to a joiner among many a few members to go on with.

use std::time::Duration;

use super::layers::TopLayer;
use super::steps::send as send_bytes;
use crate::context::StreamId;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::swim::encode_local_states;
use crate::time::Time;
use crate::view::{Known, SwimState};
use crate::wire::limits::PUSH_PULL_SENT_BYTES_MAX;
use crate::wire::stream::{Role, encode_push_pull_header};

/// What a record takes with a short name and few tags: the first guess of a state's size.
const RECORD_BYTES_GUESS: usize = 128;
/// Joins answered with the whole state in one span; further ones get a referral.
const JOINS_MAX: u32 = 16;
const JOINS_SPAN: Duration = Duration::from_millis(100);
/// Members that a referral names beside this node.
const REFERRED: usize = 32;

/// Counts joins, so that a thousand at once don't cost a thousand whole states.
#[derive(Debug, Default)]
pub(super) struct Referrals {
    span: u64,
    joins: u32,
}

impl Referrals {
    /// Counts a join. Whether it is answered with a referral: too many come at once, and the state is long.
    pub(super) fn refers(&mut self, scope: &Scope<'_>) -> bool {
        let span = (scope.now().since(Time::ZERO).as_nanos() / JOINS_SPAN.as_nanos()) as u64;
        if span != self.span {
            *self = Referrals { span, joins: 0 };
        }
        self.joins = self.joins.saturating_add(1);
        scope.config.extensions
            && scope.config.serf
            && self.joins > JOINS_MAX
            && scope.view.table_count() > 2 * REFERRED
    }
}

/// Sends the whole state, and `departed` as left.
pub(super) fn send(
    scope: &mut Scope<'_>,
    top: &TopLayer,
    id: StreamId,
    role: Role,
    join: bool,
    departed: &[(MemberIndex, Known)],
) {
    let raw = encode(scope, top, join, departed, usize::MAX);
    let raw = match raw.len().checked_sub(PUSH_PULL_SENT_BYTES_MAX) {
        None | Some(0) => raw,
        // No peer takes that much: the oldest events are left out.
        Some(excess) => encode(scope, top, join, departed, top.events_bytes().saturating_sub(excess)),
    };
    scope.stats.serfs.state_bytes = raw.len() as u64;
    send_bytes(scope, id, role, raw);
}

fn encode(
    scope: &mut Scope<'_>,
    top: &TopLayer,
    join: bool,
    departed: &[(MemberIndex, Known)],
    events_bytes_max: usize,
) -> Vec<u8> {
    let mut user_state = scope.ctx.spare.take(0);
    top.encode_state(scope, join, events_bytes_max, &mut user_state);
    let count = scope.view.table_count() + departed.len();
    let mut raw = scope.ctx.spare.take(count * RECORD_BYTES_GUESS + user_state.len());
    encode_push_pull_header(count, user_state.len(), join, &mut raw);
    let members = scope.view.iter().chain(departed.iter().copied());
    let encoded = encode_local_states(members, &scope.ctx.roster, &mut raw);
    assert_eq!(encoded, count, "the table's count is kept with every change");
    raw.extend_from_slice(&user_state);
    scope.ctx.spare.give(user_state);
    raw
}

/// Answers a join with this node and some random members that are alive: a whole push/pull by its form, which any
/// joiner understands, Serf's too. The joiner learns the others from those.
pub(super) fn send_referral(
    scope: &mut Scope<'_>,
    top: &TopLayer,
    id: StreamId,
    departed: &[(MemberIndex, Known)],
) {
    scope.stats.referrals += 1;
    let mut members: Vec<(MemberIndex, Known)> = Vec::with_capacity(REFERRED + 1);
    members.extend(scope.view.get(scope.me).map(|known| (scope.me, known)));
    for _ in 0..REFERRED {
        let picked = scope.view.random_member(&mut scope.ctx.random, |member, known| {
            known.swim == SwimState::Alive && !members.iter().any(|(other, _)| *other == member)
        });
        let Some(member) = picked else { break };
        members.extend(scope.view.get(member).map(|known| (member, known)));
    }
    let mut user_state = Vec::new();
    top.encode_referral(scope, &members, &mut user_state);
    members.extend_from_slice(departed);
    let mut raw = Vec::new();
    let in_table = members.iter().filter(|(_, known)| known.swim != SwimState::Absent).count();
    encode_push_pull_header(in_table, user_state.len(), true, &mut raw);
    encode_local_states(members.into_iter(), &scope.ctx.roster, &mut raw);
    raw.extend_from_slice(&user_state);
    send_bytes(scope, id, Role::Listener, raw);
}
