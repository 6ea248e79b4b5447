//! What runs on top of SWIM: the serf layer, or nothing but the program's delegate. The rest of the node does
//! not know which of the two it is.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::command::CommandError;
use crate::config::Config;
use crate::context::Context;
use crate::deferred::{Acked, Change};
use crate::delegate::Onward;
use crate::dissemination::{BroadcastId, Class, Source};
use crate::drop_reason::DropReason;
use crate::event::{Event, MemberEventKind, MemberRef, Members};
use crate::held::HeldMessages;
use crate::roster::{MemberIndex, Roster};
use crate::scope::Scope;
use crate::serf::coordinate::Coordinates;
use crate::serf::{OwnJoin, Serf};
use crate::timers::{TimerKey, TimerKind};
use crate::view::{Known, MemberStatus, SwimState};
use crate::wire::LamportTime;
use crate::wire::limits::{UDP_PACKET_BYTES_MAX, USER_STATE_BYTES_MAX};
use crate::wire::stream::PushPullFrame;

/// What runs on top of SWIM.
#[expect(clippy::large_enum_variant, reason = "nearly all nodes run the large one")]
pub(crate) enum TopLayer {
    /// Serf: intents, user events, queries, coordinates.
    Serf(Serf),
    /// Memberships from SWIM alone; messages and state are the delegate's.
    Plain,
}

impl TopLayer {
    pub(crate) fn new(config: &Config) -> TopLayer {
        if config.serf { TopLayer::Serf(Serf::new(config)) } else { TopLayer::Plain }
    }

    /// The serf layer, for commands that only it knows.
    pub(crate) fn serf(&mut self) -> Result<&mut Serf, CommandError> {
        match self {
            TopLayer::Serf(serf) => Ok(serf),
            TopLayer::Plain => Err(CommandError::NotSupported),
        }
    }

    /// Arms the timers.
    pub(crate) fn start(&mut self, scope: &mut Scope<'_>) {
        match self {
            TopLayer::Serf(serf) => serf.start(scope),
            TopLayer::Plain => {
                let first = scope.ctx.random.duration(scope.config.reap_interval);
                scope.schedule(scope.now() + first, TimerKind::Reap, 0, 0);
            }
        }
    }

    /// Releases its references to the roster; the node ends.
    pub(crate) fn clear(&mut self, roster: &mut Roster) {
        if let TopLayer::Serf(serf) = self {
            serf.clear(roster);
        }
    }

    /// A timer of this layer is due.
    pub(crate) fn on_timeout(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let TopLayer::Serf(serf) = self else { return reap_forgotten(scope) };
        match key.kind {
            TimerKind::Reap => serf.reap(scope),
            TimerKind::QueryEnd => serf.on_query_end(scope, key),
            TimerKind::Votes => serf.on_votes_timer(scope),
            TimerKind::Coalesce => serf.on_coalesce_timer(scope, key),
            TimerKind::QueueCheck => serf.check_queues(scope),
            TimerKind::Reconnect => serf.on_reconnect_timer(scope),
            _ => unreachable!("the node hands in this layer's timers"),
        }
    }

    /// SWIM's picture of a member changed.
    pub(crate) fn on_change(&mut self, scope: &mut Scope<'_>, change: Change) {
        let (kind, member) = match (self, change) {
            (TopLayer::Serf(serf), change) => return serf.on_change(scope, change),
            (TopLayer::Plain, Change::Joined(member)) => (MemberEventKind::Join, member),
            (TopLayer::Plain, Change::Updated(member)) => (MemberEventKind::Update, member),
            (TopLayer::Plain, Change::Gone(member)) => match scope.view.get(member).map(|known| known.swim) {
                Some(SwimState::Left) => (MemberEventKind::Leave, member),
                _ => (MemberEventKind::Failed, member),
            },
            (TopLayer::Plain, Change::Conflict) => return,
        };
        let status = match kind {
            MemberEventKind::Leave => MemberStatus::Left,
            MemberEventKind::Failed => MemberStatus::Failed,
            _ => MemberStatus::Alive,
        };
        scope.view.set_status(&scope.ctx.roster, member, status, scope.ctx.now);
        emit(scope, kind, member);
    }

    /// A user message arrived in a datagram. Events and queries wait until the datagram is read.
    pub(crate) fn on_datagram_message(&mut self, scope: &mut Scope<'_>, from: SocketAddr, bytes: &[u8]) {
        match self {
            TopLayer::Serf(_) if HeldMessages::takes(bytes) => scope.ctx.held.hold(bytes),
            _ => self.on_message(scope, Some(from), bytes),
        }
    }

    /// A datagram is read: its events and queries are handled in order.
    pub(crate) fn on_datagram_end(&mut self, scope: &mut Scope<'_>, from: SocketAddr) {
        if scope.ctx.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut scope.ctx.held);
        held.in_order().for_each(|message| self.on_message(scope, Some(from), message));
        held.clear();
        scope.ctx.held = held;
    }

    /// A user message arrived.
    pub(crate) fn on_message(&mut self, scope: &mut Scope<'_>, from: Option<SocketAddr>, bytes: &[u8]) {
        if let TopLayer::Serf(serf) = self {
            return serf.on_message(scope, from, bytes);
        }
        let Some(delegate) = scope.delegate else {
            return scope.drop_input(DropReason::Unhandled, from);
        };
        if delegate.on_message(bytes) == Onward::Gossip
            && gossip_message(scope, Bytes::copy_from_slice(bytes), Source::Gossip).is_err()
        {
            scope.drop_input(DropReason::QueueFull, from);
        }
    }

    /// It is known which address a member's name belongs to.
    pub(crate) fn send_votes(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        if let TopLayer::Serf(serf) = self {
            serf.send_votes(scope, member);
        }
    }

    /// Appends this node's part of a push/pull, with user events of at most so many bytes.
    pub(crate) fn encode_state(
        &self,
        scope: &mut Scope<'_>,
        join: bool,
        events_bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        match (self, &mut *scope.delegate) {
            (TopLayer::Serf(serf), _) => serf.encode_state(scope, events_bytes_max, out),
            (TopLayer::Plain, None) => {}
            (TopLayer::Plain, Some(delegate)) => {
                let state = delegate.local_state(join);
                if scope.fits("local_state", state.len(), USER_STATE_BYTES_MAX as usize) {
                    out.extend_from_slice(&state);
                }
            }
        }
    }

    /// Bytes that the user events take at least in a push/pull.
    pub(crate) fn events_bytes(&self) -> usize {
        match self {
            TopLayer::Serf(serf) => serf.events.encoded_bytes(),
            TopLayer::Plain => 0,
        }
    }

    /// Appends this node's part of an answer that names these members alone.
    pub(crate) fn encode_referral(
        &self,
        scope: &Scope<'_>,
        members: &[(MemberIndex, Known)],
        out: &mut Vec<u8>,
    ) {
        if let TopLayer::Serf(serf) = self {
            serf.encode_referral(scope, members, out);
        }
    }

    /// Merges the other side's part, which is not empty. `join`: it answers this node's own join.
    pub(crate) fn merge_state(
        &mut self,
        scope: &mut Scope<'_>,
        frame: &PushPullFrame,
        join: Option<OwnJoin>,
    ) {
        match (self, &mut *scope.delegate) {
            (TopLayer::Serf(serf), _) => serf.merge_state(scope, frame, join),
            (TopLayer::Plain, Some(delegate)) => delegate.merge_state(frame.user_state(), frame.join),
            (TopLayer::Plain, None) => scope.drop_input(DropReason::Unhandled, None),
        }
    }

    /// This node's join is through.
    pub(crate) fn announce_join(&mut self, scope: &mut Scope<'_>) {
        if let TopLayer::Serf(serf) = self {
            serf.announce_join(scope);
        }
    }

    /// This node's leave begins. Returns the broadcast that must be out before the departure, if there is one.
    pub(crate) fn announce_leave(&mut self, scope: &mut Scope<'_>) -> Option<BroadcastId> {
        match self {
            TopLayer::Serf(serf) => Some(serf.announce_leave(scope)),
            TopLayer::Plain => None,
        }
    }

    /// A member acked a direct ping and added something.
    pub(crate) fn on_acked(&mut self, scope: &mut Scope<'_>, acked: &Acked) {
        if let TopLayer::Serf(serf) = self {
            serf.on_acked(scope, acked);
        }
    }

    /// The member of the snapshot that was tried last answered or did not.
    pub(crate) fn on_rejoined(&mut self, scope: &mut Scope<'_>, answered: bool) {
        if let TopLayer::Serf(serf) = self {
            serf.on_rejoined(scope, answered);
        }
    }

    /// Writes the member clock to the snapshot if it advanced.
    pub(crate) fn record_clock(&mut self, scope: &mut Scope<'_>) {
        if let TopLayer::Serf(serf) = self {
            serf.record_clock(scope);
        }
    }

    /// A sum over the recent messages that this node has seen.
    pub(crate) fn messages_digest(&self) -> u64 {
        match self {
            TopLayer::Serf(serf) => serf.messages_digest(),
            TopLayer::Plain => 0,
        }
    }

    /// The member, event and query clocks; zeros if there are none.
    pub(crate) fn clocks(&self) -> [LamportTime; 3] {
        match self {
            TopLayer::Serf(serf) => [serf.clock.time(), serf.event_clock.time(), serf.query_clock.time()],
            TopLayer::Plain => [LamportTime(0); 3],
        }
    }

    /// The coordinates, if this node learns them.
    pub(crate) fn coordinates(&self, config: &Config) -> Option<&Coordinates> {
        match self {
            TopLayer::Serf(serf) if config.coordinates => Some(&serf.coordinates),
            _ => None,
        }
    }
}

/// Longest message of the program that every packet has room for: what is left of a packet beside the
/// largest seal, the longest label and a compound's lengths.
pub(crate) const MESSAGE_BYTES_MAX: usize = UDP_PACKET_BYTES_MAX - 376;

/// Queues a message of the program for gossip.
///
/// # Errors
/// If it is too long, or too many wait. Nothing was queued.
pub(crate) fn gossip_message(
    scope: &mut Scope<'_>,
    message: Bytes,
    source: Source,
) -> Result<(), CommandError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(CommandError::MessageTooLong(MESSAGE_BYTES_MAX));
    }
    if scope.dissemination.user_len(Class::Event) >= scope.config.queue_depth_max {
        return Err(CommandError::Busy("broadcasts"));
    }
    scope.broadcast(Class::Event, message, source);
    Ok(())
}

/// Erases members that SWIM has dropped.
fn reap_forgotten(scope: &mut Scope<'_>) {
    for member in scope.view.departed() {
        if scope.view.get(member).is_some_and(|known| known.swim == SwimState::Absent) {
            emit(scope, MemberEventKind::Reap, member);
            scope.dissemination.forget_member(scope.ctx, member);
            scope.view.remove(&mut scope.ctx.roster, member);
        }
    }
    scope.schedule(scope.now() + scope.config.reap_interval, TimerKind::Reap, 0, 0);
}

/// Reports a change of a member to the application and the log.
fn emit(scope: &mut Scope<'_>, kind: MemberEventKind, member: MemberIndex) {
    let Some(known) = scope.view.get(member) else { return };
    let Context { roster, out, .. } = &mut *scope.ctx;
    let record = MemberRef::of(roster, known.fact, known.status);
    out.note_member(scope.node, (kind, false), &record);
    out.events.push((scope.node, Event::Member { kind, members: Members::from_iter([record]) }));
}
