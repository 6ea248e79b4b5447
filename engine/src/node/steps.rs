//! What goes out over streams, and the streams of reconciliations, whose steps go both ways over one stream until a
//! side has nothing to add.

use std::net::SocketAddr;

use super::streams::{Purpose, Stream, Streams};
use crate::context::{StreamId, StreamOperation};
use crate::drop_reason::DropReason;
use crate::scope::Scope;
use crate::wire::message::ErrMessage;
use crate::wire::reconcile::ReconcileSet;
use crate::wire::stream::{Role, encode_stream, frame_reconcile, wraps};

impl Streams {
    /// Opens a stream for a reconciliation, unless one is under way.
    pub(crate) fn reconcile(&mut self, scope: &mut Scope<'_>, addr: SocketAddr, set: ReconcileSet) {
        let under_way = |stream: &Stream| matches!(stream.purpose, Purpose::Reconcile(other) if other == set);
        if !self.open.values().any(under_way) && self.open(scope, addr, Purpose::Reconcile(set)).is_none() {
            scope.stats.count_drop(DropReason::TooManyStreams);
        }
    }

    /// Sends the next step of a reconciliation over its stream, or ends it.
    pub(crate) fn send_step(&mut self, scope: &mut Scope<'_>, id: StreamId, step: Option<Vec<u8>>) {
        let Some(stream) = self.open.get(&id) else { return };
        let role =
            if matches!(stream.purpose, Purpose::Reconcile(_)) { Role::Dialler } else { Role::Listener };
        match step {
            Some(mut step) => {
                frame_reconcile(&mut step);
                send(scope, id, role, step);
            }
            None => {
                self.open.remove(&id);
                close(scope, id);
            }
        }
    }

    /// The other side of a reconciliation has nothing to add.
    pub(super) fn ends_here(&mut self, scope: &mut Scope<'_>, id: StreamId) -> bool {
        let ends = self.open.get(&id).is_some_and(|stream| {
            matches!(stream.purpose, Purpose::Reconcile(_) | Purpose::Answer)
                && stream.decoder.buffered() == 0
        });
        if ends {
            self.open.remove(&id);
            close(scope, id);
        }
        ends
    }
}

pub(super) fn send(scope: &mut Scope<'_>, id: StreamId, role: Role, raw: Vec<u8>) {
    let envelope = &*scope.envelope;
    let nonce = if envelope.seals() { scope.ctx.nonces.take() } else { [0; 12] };
    let bytes = if wraps(envelope, role) {
        let mut bytes = Vec::with_capacity(raw.len() + 64);
        encode_stream(&raw, envelope, role, nonce, &mut bytes);
        scope.ctx.spare.give(raw);
        bytes
    } else {
        raw
    };
    scope.stats.serfs.stream_bytes_sent += bytes.len() as u64;
    scope.ctx.out.streams.push((scope.node, id, StreamOperation::Write(bytes)));
}

/// Tells the other side why it is refused.
pub(super) fn send_error(scope: &mut Scope<'_>, id: StreamId, error: &str) {
    let mut raw = Vec::new();
    ErrMessage { error }.encode(&mut raw);
    send(scope, id, Role::Listener, raw);
}

pub(super) fn close(scope: &mut Scope<'_>, id: StreamId) {
    scope.ctx.out.streams.push((scope.node, id, StreamOperation::Close));
}

/// Ends a stream of a peer without an answer; counts and reports why.
pub(super) fn abort(scope: &mut Scope<'_>, id: StreamId, from: SocketAddr, reason: DropReason) {
    scope.drop_input(reason, Some(from));
    scope.ctx.out.streams.push((scope.node, id, StreamOperation::Abort));
}
