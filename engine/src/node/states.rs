//! This node's state on its way to a peer: the members and the part of the layer above (PROTOCOL 4.3).

use super::layers::TopLayer;
use super::streams;
use crate::context::StreamId;
use crate::scope::Scope;
use crate::swim::encode_local_states;
use crate::wire::stream::{Role, encode_push_pull_header};

/// What a record takes with a short name and few tags: the first guess of a state's size.
const RECORD_BYTES_GUESS: usize = 128;

pub(super) fn send(scope: &mut Scope<'_>, top: &TopLayer, id: StreamId, role: Role, join: bool) {
    let mut user_state = scope.ctx.spare.take(0);
    top.encode_state(scope, join, &mut user_state);
    let count = scope.view.table_count();
    let mut raw = scope.ctx.spare.take(count * RECORD_BYTES_GUESS + user_state.len());
    encode_push_pull_header(count, user_state.len(), join, &mut raw);
    let encoded = encode_local_states(scope.view, &scope.ctx.roster, &mut raw);
    assert_eq!(encoded, count, "the table's count is kept with every change");
    raw.extend_from_slice(&user_state);
    scope.ctx.spare.give(user_state);
    streams::send(scope, id, role, raw);
}
