//! The streams of one node: push/pull in both directions, probes over a stream, and merges that go on in
//! slices (PROTOCOL section 4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::accepted::{AcceptedStreams, Admission, FIRST_BYTE};
use super::joins::Joins;
use super::layers::TopLayer;
use super::states::{self, Referrals};
use super::steps::{abort, close, send, send_error};
use crate::context::{StreamId, StreamInput, StreamOperation};
use crate::deferred::{Deferred, StreamPing};
use crate::delegate::Announcements;
use crate::dissemination::Source;
use crate::drop_reason::DropReason;
use crate::event::Notice;
use crate::roster::MemberIndex;
use crate::scope::Scope;
use crate::serf::OwnJoin;
use crate::swim::{Swim, departed_in, verify_versions};
use crate::timers::{TimerKey, TimerKind};
use crate::wire::layer::{Layer, Step};
use crate::wire::limits::{STREAM_FRAME_BYTES_MAX, STREAM_FRAME_BYTES_WARNING};
use crate::wire::message::{Ack, Ping};
use crate::wire::reconcile::ReconcileSet;
use crate::wire::stream::{PushPullFrame, Role, StreamDecoder, StreamMessage, refusal_text};
use crate::wire::{DecodeError, SeqNo};
use hashbrown::HashMap;

/// Streams that a node may have opened at one time, beside those of its peers.
const OPENED_MAX: usize = 256;
/// Bytes of messages that are not whole yet and of states that are being merged, of one node together. Several
/// states of the largest clusters fit; one message alone has at most
/// [`STREAM_PLAIN_BYTES_MAX`](crate::wire::limits::STREAM_PLAIN_BYTES_MAX).
pub(crate) const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Merges under way at one time. Beyond it the other side gets this node's state, and its state is dropped.
const MERGES_MAX: usize = 128;

/// The streams of one node.
#[derive(Default)]
pub(crate) struct Streams {
    pub(super) open: StreamMap<Stream>,
    accepted: AcceptedStreams,
    next_opened: u64,
    pub(super) joins: Joins,
    merges: BTreeMap<u32, Merge>,
    next_merge: u32,
    referrals: Referrals,
}

/// Streams by id. The hash has a fixed seed: peers do not choose the ids.
pub(super) type StreamMap<T> = HashMap<StreamId, T, foldhash::fast::FixedState>;

pub(super) struct Stream {
    pub(super) decoder: StreamDecoder,
    pub(super) purpose: Purpose,
    /// What arrived on it was sealed.
    pub(super) sealed: bool,
    /// The address of the other side.
    pub(super) peer: SocketAddr,
}

pub(super) enum Purpose {
    /// The other side opened it.
    Serve,
    /// A push/pull this node asked for; one target of a join if there is one.
    PushPull { addr: SocketAddr, cause: Cause },
    /// A probe.
    Ping { seq: SeqNo, node: String },
    /// A reconciliation that this node began.
    Reconcile(ReconcileSet),
    /// One that the other side began, and that goes on.
    Answer,
}

/// Why a push/pull is made.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The other side asked for it.
    Asked,
    /// The periodic timer.
    Periodic,
    /// A failed member is tried.
    Reconnect,
    /// The snapshot names this member.
    Rejoin,
    /// The old address of this member, whose name is claimed, is to say what it is.
    Confirm(MemberIndex),
    /// The target at that place of the join in that slot.
    Join(u32, usize),
}

impl Cause {
    /// Whether it carries the join flag.
    fn joins(self) -> bool {
        matches!(self, Cause::Reconnect | Cause::Rejoin | Cause::Join(..))
    }
}

struct Merge {
    frame: PushPullFrame,
    offset: usize,
    source: Source,
    cause: Cause,
}

impl Streams {
    /// Opens a periodic push/pull.
    pub(crate) fn push_pull(&mut self, scope: &mut Scope<'_>, addr: SocketAddr) {
        self.exchange(scope, addr, Cause::Periodic);
    }

    /// Tries a failed member.
    pub(crate) fn reconnect(&mut self, scope: &mut Scope<'_>, addr: SocketAddr) {
        self.exchange(scope, addr, Cause::Reconnect);
    }

    /// Tries a member of the snapshot; [`Deferred::Rejoined`] reports the outcome.
    pub(crate) fn rejoin(&mut self, scope: &mut Scope<'_>, addr: SocketAddr) {
        self.exchange(scope, addr, Cause::Rejoin);
    }

    /// Exchanges states with the old address of a member whose name is claimed.
    pub(crate) fn confirm(&mut self, scope: &mut Scope<'_>, member: MemberIndex, addr: SocketAddr) {
        self.exchange(scope, addr, Cause::Confirm(member));
    }

    /// Opens a probe.
    pub(crate) fn ping(&mut self, scope: &mut Scope<'_>, ping: StreamPing) {
        let node = scope.ctx.roster.name(ping.member).to_owned();
        self.open(scope, ping.addr, Purpose::Ping { seq: ping.seq, node });
    }

    /// Something happened to a stream.
    pub(crate) fn on_input(
        &mut self,
        scope: &mut Scope<'_>,
        swim: &mut Swim,
        top: &mut TopLayer,
        id: StreamId,
        input: StreamInput<'_>,
    ) {
        match input {
            StreamInput::Accepted(from) => self.accept(scope, id, from),
            StreamInput::Opened => self.send_request(scope, top, id),
            StreamInput::Bytes(bytes) => self.on_bytes(scope, swim, top, id, bytes),
            StreamInput::Finished => {
                if self.ends_here(scope, id) {
                    return;
                }
                let silent = self.accepted.begun(id).is_none() && id.is_accepted();
                if silent && self.open.remove(&id).is_some() {
                    // A look whether the port is open.
                    scope.stats.count_drop(DropReason::StreamIdle);
                    close(scope, id);
                }
                if self.open.contains_key(&id) {
                    self.refuse(scope, id, DecodeError::StreamCut.into());
                }
            }
            StreamInput::Refused(reason) => {
                if let Some(stream) = self.open.remove(&id) {
                    scope.drop_stream(reason, stream.peer);
                    self.fail(scope, stream.purpose, reason.words().to_owned());
                }
            }
            StreamInput::Failed(reason) => {
                if let Some(stream) = self.open.remove(&id) {
                    self.fail(scope, stream.purpose, reason.to_owned());
                }
            }
        }
    }

    /// A stream took too long.
    pub(crate) fn on_deadline(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let id = StreamId(u64::from(key.generation) << 32 | u64::from(key.subject));
        let whole = self.accepted.begun(id).map(|since| since + scope.config.tcp_timeout);
        if let Some(whole) = whole.filter(|&whole| scope.now() < whole && self.open.contains_key(&id)) {
            // The first byte came in time.
            return scope.schedule(whole, key.kind, key.subject, key.generation);
        }
        if let Some(stream) = self.open.remove(&id) {
            let silent = id.is_accepted() && whole.is_none();
            let reason = if silent { DropReason::StreamIdle } else { DropReason::StreamTimeout };
            scope.stats.count_drop(reason);
            scope.ctx.out.streams.push((scope.node, id, StreamOperation::Abort));
            self.fail(scope, stream.purpose, "i/o timeout".to_owned());
        }
    }

    /// The next slice of a merge.
    pub(crate) fn on_merge(&mut self, scope: &mut Scope<'_>, swim: &mut Swim, key: TimerKey) {
        let Some(merge) = self.merges.get_mut(&key.subject) else { return };
        if swim.merge_slice(scope, &merge.frame, &mut merge.offset, merge.source) {
            // The layer above sees the members before the state that names them.
            scope.defer(Deferred::Merged(key.subject));
        } else {
            scope.schedule(scope.now(), TimerKind::Merge, key.subject, 0);
        }
    }

    /// The members of the merge in that slot are merged: the rest of it.
    pub(crate) fn finish_merge(&mut self, scope: &mut Scope<'_>, top: &mut TopLayer, slot: u32) {
        scope.stats.push_pulls += 1;
        if let Some(merge) = self.merges.remove(&slot) {
            let own_join = match merge.cause {
                Cause::Join(slot, _) => self.joins.ignores_old(slot),
                Cause::Rejoin => Some(false),
                _ => None,
            };
            let own_join = own_join.map(|ignore_old| OwnJoin { ignore_old });
            if !merge.frame.user_state().is_empty() {
                top.merge_state(scope, &merge.frame, own_join);
            }
            if matches!(merge.cause, Cause::Join(..)) && own_join.is_some() {
                top.announce_join(scope);
            }
            match merge.cause {
                Cause::Join(slot, place) => self.end_join(scope, slot, place, &merge.frame),
                cause => self.end_exchange(scope, cause, Ok(())),
            }
            scope.ctx.spare.give(merge.frame.into_bytes());
        }
    }

    /// Opens a push/pull.
    pub(super) fn exchange(&mut self, scope: &mut Scope<'_>, addr: SocketAddr, cause: Cause) {
        if self.open(scope, addr, Purpose::PushPull { addr, cause }).is_none() {
            scope.stats.count_drop(DropReason::TooManyStreams);
            self.end_exchange(scope, cause, Err("too many streams".to_owned()));
        }
    }

    pub(super) fn open(
        &mut self,
        scope: &mut Scope<'_>,
        addr: SocketAddr,
        purpose: Purpose,
    ) -> Option<StreamId> {
        let id = StreamId::opened(self.next_opened);
        self.next_opened += 1;
        let is_push_pull = matches!(purpose, Purpose::PushPull { .. });
        self.add(scope, id, Role::Dialler, purpose, addr)?;
        scope.stats.serfs.streams_connected += u64::from(is_push_pull);
        scope.ctx.out.streams.push((scope.node, id, StreamOperation::Open(addr)));
        Some(id)
    }

    fn accept(&mut self, scope: &mut Scope<'_>, id: StreamId, from: SocketAddr) {
        if !scope.config.allows(from.ip()) {
            return abort(scope, id, from, DropReason::AddressNotAllowed);
        }
        match self.accepted.admit(id, from, scope.now(), |id| self.open.contains_key(&id)) {
            Admission::Free => {}
            Admission::InsteadOf(idle, of) => {
                self.open.remove(&idle);
                abort(scope, idle, of, DropReason::StreamIdle);
            }
            Admission::Refused => return abort(scope, id, from, DropReason::TooManyStreams),
        }
        scope.stats.serfs.streams_accepted += 1;
        self.add(scope, id, Role::Listener, Purpose::Serve, from);
    }

    /// Adds a stream; `None` if the node has opened too many.
    fn add(
        &mut self,
        scope: &mut Scope<'_>,
        id: StreamId,
        role: Role,
        purpose: Purpose,
        peer: SocketAddr,
    ) -> Option<()> {
        let mut within = scope.config.tcp_timeout;
        if id.is_accepted() {
            within = within.min(FIRST_BYTE);
        } else if self.open.keys().filter(|id| !id.is_accepted()).count() >= OPENED_MAX {
            return None;
        }
        let deadline = scope.now() + within;
        scope.schedule(deadline, TimerKind::StreamDeadline, id.0 as u32, (id.0 >> 32) as u32);
        self.open.insert(id, Stream { decoder: StreamDecoder::new(role), purpose, sealed: false, peer });
        Some(())
    }

    fn send_request(&mut self, scope: &mut Scope<'_>, top: &TopLayer, id: StreamId) {
        let Some(stream) = self.open.get(&id) else { return };
        match &stream.purpose {
            Purpose::Serve | Purpose::Answer => {}
            Purpose::Reconcile(set) => scope.defer(Deferred::ReconcileOpened(id, *set)),
            Purpose::PushPull { cause, .. } => {
                if let Cause::Join(slot, place) = *cause {
                    self.joins.tell(scope, slot, place);
                }
                states::send(scope, top, id, Role::Dialler, cause.joins(), &[]);
            }
            Purpose::Ping { seq, node } => {
                let config = scope.config;
                let ping = Ping {
                    seq: *seq,
                    node,
                    source_addr: config.advertised_ip().into(),
                    source_port: config.advertise.port(),
                    source_node: &config.node_name,
                    extension: None,
                };
                let mut raw = Vec::new();
                ping.encode(&mut raw);
                send(scope, id, Role::Dialler, raw);
            }
        }
    }

    fn on_bytes(
        &mut self,
        scope: &mut Scope<'_>,
        swim: &mut Swim,
        top: &mut TopLayer,
        id: StreamId,
        bytes: Cow<'_, [u8]>,
    ) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        self.accepted.add_bytes(id, bytes.len());
        let received = stream.decoder.buffered() + bytes.len();
        let decoded = stream.decoder.feed(bytes).and_then(|()| {
            stream.decoder.poll_traced(scope.envelope, |step| {
                stream.sealed |= matches!(step, Step::Enter(Layer::Sealed { .. }));
            })
        });
        scope.ctx.arrived_plain = !stream.sealed;
        match decoded {
            Ok(None) => self.make_room(scope),
            Ok(Some(message)) => {
                if scope.envelope.seals() && received > STREAM_FRAME_BYTES_WARNING {
                    let bytes_max = STREAM_FRAME_BYTES_MAX;
                    scope.notice(Notice::LargeState { bytes: received, bytes_max });
                }
                self.on_message(scope, swim, top, id, message);
            }
            Err(error) => self.refuse(scope, id, error.into()),
        }
    }

    /// Bytes that streams and merges hold.
    fn held(&self) -> usize {
        let collected: usize = self.open.values().map(|stream| stream.decoder.buffered()).sum();
        collected + self.merges.values().map(|merge| merge.frame.len()).sum::<usize>()
    }

    /// Ends the longest stream while all of them together hold too much: so the peer that fills the memory with
    /// messages that it never completes is refused, and not the next peer that connects.
    fn make_room(&mut self, scope: &mut Scope<'_>) {
        while self.held() > HELD_BYTES_MAX {
            let collected = |(&id, stream): (&StreamId, &Stream)| (stream.decoder.buffered(), id);
            let Some((_, longest)) = self.open.iter().map(collected).max() else { return };
            self.refuse(scope, longest, DropReason::StreamsFull);
        }
    }

    fn on_message(
        &mut self,
        scope: &mut Scope<'_>,
        swim: &mut Swim,
        top: &mut TopLayer,
        id: StreamId,
        message: StreamMessage,
    ) {
        let Some(mut stream) = self.open.remove(&id) else { return };
        let peer = stream.peer;
        match (stream.purpose, message) {
            (
                purpose @ (Purpose::Serve | Purpose::Answer | Purpose::Reconcile(_)),
                StreamMessage::Reconcile(step),
            ) if scope.config.extensions => {
                stream.decoder.go_on();
                let purpose = if matches!(purpose, Purpose::Serve) { Purpose::Answer } else { purpose };
                self.open.insert(id, Stream { purpose, ..stream });
                scope.defer(Deferred::ReconcileStep(id, step));
            }
            (Purpose::Serve, StreamMessage::PushPull(frame)) => {
                let admitted = admit(scope, &frame, peer);
                let departed = if frame.join { departed_in(scope, &frame) } else { Vec::new() };
                match &admitted {
                    // A joiner that is not taken is not to believe that it joined.
                    Err(reason) if frame.join => send_error(scope, id, reason),
                    Ok(()) if frame.join && self.referrals.refers(scope) => {
                        states::send_referral(scope, top, id, &departed);
                    }
                    _ => states::send(scope, top, id, Role::Listener, frame.join, &departed),
                }
                close(scope, id);
                if admitted.is_ok() {
                    self.merge(scope, frame, Source::Exchange, Cause::Asked, peer);
                }
            }
            (Purpose::Serve, StreamMessage::Ping { seq, node }) => {
                if node.is_empty() || node == scope.config.node_name {
                    let mut raw = Vec::new();
                    Ack { seq, ..Ack::default() }.encode(&mut raw);
                    send(scope, id, Role::Listener, raw);
                } else {
                    scope.drop_stream(DropReason::WrongNodeName, peer);
                }
                close(scope, id);
            }
            (Purpose::PushPull { cause, .. }, StreamMessage::PushPull(frame)) => {
                close(scope, id);
                if let Cause::Confirm(member) = cause {
                    confirm(scope, swim, member, &frame);
                }
                // Two clusters that merge have news for each other; a lone joiner has none.
                let lone_joiner = matches!(cause, Cause::Join(..) | Cause::Rejoin) && !scope.others_alive();
                let source = if lone_joiner { Source::JoinAnswer } else { Source::Exchange };
                match admit(scope, &frame, peer) {
                    Ok(()) => self.merge(scope, frame, source, cause, peer),
                    Err(reason) => self.end_exchange(scope, cause, Err(reason)),
                }
            }
            (Purpose::Ping { seq, .. }, StreamMessage::Ack { seq: acked }) => {
                close(scope, id);
                if seq == acked {
                    swim.on_stream_ack(seq);
                }
            }
            (Purpose::Serve, StreamMessage::User(bytes)) => {
                close(scope, id);
                top.on_message(scope, None, &bytes);
            }
            (purpose, StreamMessage::Err(text)) => {
                scope.stats.count_drop(DropReason::RemoteError);
                close(scope, id);
                self.fail(scope, purpose, format!("remote error: {text}"));
            }
            (purpose, _) => {
                scope.drop_stream(DecodeError::MisplacedType, peer);
                close(scope, id);
                self.fail(scope, purpose, "unexpected message".to_owned());
            }
        }
    }

    /// Merges a push/pull that was admitted, in slices.
    fn merge(
        &mut self,
        scope: &mut Scope<'_>,
        frame: PushPullFrame,
        source: Source,
        cause: Cause,
        peer: SocketAddr,
    ) {
        if self.merges.len() >= MERGES_MAX || self.held() + frame.len() > HELD_BYTES_MAX {
            scope.drop_stream(DropReason::QueueFull, peer);
            return self.end_exchange(scope, cause, Err("too many merges under way".to_owned()));
        }
        self.next_merge = self.next_merge.wrapping_add(1);
        self.merges.insert(self.next_merge, Merge { frame, offset: 0, source, cause });
        scope.schedule(scope.now(), TimerKind::Merge, self.next_merge, 0);
    }

    /// Ends a stream whose bytes are refused; sends the reason to the other side where Serf does.
    fn refuse(&mut self, scope: &mut Scope<'_>, id: StreamId, reason: DropReason) {
        let Some(stream) = self.open.remove(&id) else { return };
        scope.drop_stream(reason, stream.peer);
        let text = match reason {
            DropReason::Undecodable(error) => refusal_text(error),
            _ => None,
        };
        if let (Purpose::Serve, Some(error)) = (&stream.purpose, text) {
            send_error(scope, id, error);
        }
        close(scope, id);
        let text = text.unwrap_or(reason.words()).to_owned();
        self.fail(scope, stream.purpose, text);
    }

    fn fail(&mut self, scope: &mut Scope<'_>, purpose: Purpose, reason: String) {
        match purpose {
            Purpose::PushPull { addr, cause } => {
                if !matches!(cause, Cause::Join(..)) {
                    scope.notice(Notice::PushPullFailed { addr, reason: reason.clone() });
                }
                self.end_exchange(scope, cause, Err(reason));
            }
            Purpose::Serve | Purpose::Ping { .. } | Purpose::Reconcile(_) | Purpose::Answer => {}
        }
    }
}

/// Checks the whole push/pull, as Serf does: an error says why it is not merged.
fn admit(scope: &mut Scope<'_>, frame: &PushPullFrame, peer: SocketAddr) -> Result<(), String> {
    if let Err(text) = verify_versions(scope.view, &scope.ctx.roster, frame) {
        scope.drop_stream(DropReason::IncompatibleVersions, peer);
        return Err(text);
    }
    if frame.join
        && let Some(delegate) = scope.delegate
        && let Err(veto) = delegate.admit_merge(Announcements::new(frame))
    {
        let reason = veto.to_string();
        scope.stats.count_drop(DropReason::MergeVetoed);
        scope.notice(Notice::MergeVetoed { reason: reason.clone() });
        return Err(reason);
    }
    Ok(())
}

/// Finds what a state says of a member whose name is claimed.
fn confirm(scope: &mut Scope<'_>, swim: &mut Swim, member: MemberIndex, frame: &PushPullFrame) {
    let mut offset = 0;
    while let Some(state) = frame.next_node(&mut offset) {
        if scope.ctx.roster.member(state.name) == Some(member) {
            return swim.on_confirmation(scope, member, &state);
        }
    }
}
