//! The serf layer: intents, user events, queries, and whether a member left or failed (PROTOCOL section 5).
//!
//! SWIM finds out which members answer; from Lamport-timed intents this layer decides whether one that is gone has
//! left or failed.

mod coalesce;
pub(crate) mod coordinate;
mod earlier;
mod event_buffer;
mod filters;
mod intent;
mod internal;
mod key_changes;
mod lamport;
mod messages;
mod name_votes;
mod query;
mod reconnect;
mod reminder;
mod seen_queries;
mod state;

pub(crate) use self::state::OwnJoin;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::event_buffer::EVENT_BYTES_MAX;

use crate::command::CommandError;
use crate::config::Config;
use crate::context::Context;
use crate::deferred::{Acked, Change, Deferred};
use crate::dissemination::{Class, Source};
use crate::drop_reason::DropReason;
use crate::event::{Event, Member, MemberEventKind, MemberRef, Notice, SnapshotRecord};
use crate::roster::{MemberIndex, Roster};
use crate::scope::{Scope, breaks};
use crate::serf::coalesce::Coalescer;
use crate::serf::coordinate::Coordinates;
use crate::serf::earlier::Earlier;
use crate::serf::event_buffer::EventBuffer;
use crate::serf::intent::Intents;
use crate::serf::key_changes::KeyChanges;
use crate::serf::lamport::{LamportClock, is_valid};
use crate::serf::query::{Queries, ReplyTo};
use crate::timers::{TimerKey, TimerKind};
use crate::view::{MemberStatus, SwimState, View};
use crate::wire::coordinate::Coordinate;
use crate::wire::limits::USER_EVENT_BYTES_HARD_MAX;
use crate::wire::serf::UserEvent;
use crate::wire::{DecodeError, LamportTime, SerfMessage};

/// A member that comes back within this time of its failure flaps: Serf's value, for its counter only.
const FLAP_WITHIN: Duration = Duration::from_secs(60);

/// The serf state of one node, apart from its view.
pub(crate) struct Serf {
    pub(crate) clock: LamportClock,
    pub(crate) event_clock: LamportClock,
    pub(crate) query_clock: LamportClock,
    /// User events older than this are not delivered.
    event_min: LamportTime,
    /// What another program delivered before this node began is not fully known yet.
    earlier: Earlier,
    pub(crate) events: EventBuffer,
    intents: Intents,
    queries: Queries,
    key_changes: KeyChanges,
    coalescer: Coalescer,
    pub(crate) coordinates: Coordinates,
    /// Members of the snapshot that are still to be tried in this round, the next one last.
    rejoin: Vec<(String, SocketAddr)>,
    /// Members to be erased as soon as they have left.
    prune_when_gone: BTreeSet<MemberIndex>,
    /// The newest Lamport times in the snapshot.
    recorded: Recorded,
    /// A vote about this node's name is under way.
    defending: bool,
    /// Votes about other nodes' names that wait until this node knows who has the name.
    votes_waiting: Vec<(String, ReplyTo)>,
    /// This node's tags if they don't travel: at protocol 2 others see only the role, but filters match all tags.
    pub(crate) hidden_tags: BTreeMap<String, String>,
    /// This node's graceful leave has begun: intents about it are not refuted.
    leaving: bool,
}

/// The newest Lamport time of each kind that was written to the snapshot.
struct Recorded {
    clock: LamportTime,
    events: LamportTime,
    queries: LamportTime,
}

impl Serf {
    pub(crate) fn new(config: &Config) -> Serf {
        let restored = &config.restored;
        let after = |newest: u64| LamportTime(if newest == 0 || !is_valid(newest) { 0 } else { newest + 1 });
        let recorded = |newest: u64| LamportTime(if is_valid(newest) { newest } else { 0 });
        Serf {
            clock: LamportClock::restored(restored.clock),
            event_clock: LamportClock::restored(restored.event_clock),
            query_clock: LamportClock::restored(restored.query_clock),
            event_min: after(restored.event_clock),
            earlier: if restored.lags { Earlier::Unknown } else { Earlier::Known },
            events: EventBuffer::default(),
            intents: Intents::default(),
            queries: Queries::new(after(restored.query_clock)),
            key_changes: KeyChanges::default(),
            coalescer: Coalescer::default(),
            coordinates: Coordinates::default(),
            rejoin: Vec::new(),
            prune_when_gone: BTreeSet::new(),
            recorded: Recorded {
                clock: recorded(restored.clock),
                events: recorded(restored.event_clock),
                queries: recorded(restored.query_clock),
            },
            defending: false,
            votes_waiting: Vec::new(),
            hidden_tags: if config.protocol < 3 { config.tags.clone() } else { BTreeMap::new() },
            leaving: false,
        }
    }

    /// Arms the timers and plans the rejoin.
    pub(crate) fn start(&mut self, scope: &mut Scope<'_>) {
        self.earlier.begin(scope.now());
        let config = scope.config;
        for (interval, kind) in [
            (config.reap_interval, TimerKind::Reap),
            (config.queue_check_interval, TimerKind::QueueCheck),
            (config.reconnect_interval, TimerKind::Reconnect),
        ] {
            if !interval.is_zero() {
                let first = scope.ctx.random.duration(interval);
                scope.schedule(scope.now() + first, kind, 0, 0);
            }
        }
        if config.coordinates {
            self.coordinates.own().encode(scope.ack_payload);
        }
        self.plan_rejoin(scope);
        self.next_rejoin(scope);
    }

    /// A member acked a direct ping and sent its coordinate.
    pub(crate) fn on_acked(&mut self, scope: &mut Scope<'_>, acked: &Acked) {
        if !scope.config.coordinates {
            return;
        }
        let other = match Coordinate::decode(&acked.payload) {
            Ok(other) => other,
            Err(reason) => return scope.drop_input(reason, None),
        };
        let random = &mut scope.ctx.random;
        if self.coordinates.observe(acked.member, &other, acked.round_trip, random) {
            scope.ack_payload.clear();
            self.coordinates.own().encode(scope.ack_payload);
        }
    }

    /// SWIM's picture of a member changed.
    pub(crate) fn on_change(&mut self, scope: &mut Scope<'_>, change: Change) {
        match change {
            Change::Joined(member) => self.on_joined_member(scope, member),
            Change::Gone(member) => self.on_gone_member(scope, member),
            Change::Updated(member) => self.emit(scope, MemberEventKind::Update, member, false),
            Change::Conflict => self.defend_name(scope),
        }
    }

    /// A serf message arrived.
    pub(crate) fn on_message(&mut self, scope: &mut Scope<'_>, from: Option<SocketAddr>, bytes: &[u8]) {
        match SerfMessage::decode(bytes) {
            Ok(SerfMessage::Leave(leave)) if leave.prune && breaks!(scope, IgnoresPrunes) => {}
            Ok(SerfMessage::Leave(leave)) => {
                let sight = self.on_leave_intent(scope, &leave);
                pass_on(scope, Class::Intent, bytes, sight);
            }
            Ok(SerfMessage::Join(join)) => {
                let sight = self.on_join_intent(scope, &join);
                if !(sight == Sight::First && scope.dissemination.is_quiet_about(Source::Gossip)) {
                    pass_on(scope, Class::Intent, bytes, sight);
                }
            }
            Ok(SerfMessage::UserEvent(_) | SerfMessage::Query(_)) if self.earlier.covers(scope.now()) => {}
            Ok(SerfMessage::UserEvent(event)) => {
                let sight = self.on_user_event(scope, &event);
                pass_on(scope, Class::Event, bytes, sight);
            }
            Ok(SerfMessage::Query(query)) => {
                let sight = self.on_query(scope, &query);
                pass_on(scope, Class::Query, bytes, sight);
            }
            Ok(SerfMessage::QueryResponse(response)) => self.on_query_response(scope, &response, from),
            Ok(SerfMessage::Relay(relay)) => self.on_relay(scope, &relay),
            Ok(
                SerfMessage::PushPull(_)
                | SerfMessage::ConflictResponse(_)
                | SerfMessage::KeyRequest(_)
                | SerfMessage::KeyResponse(_),
            ) => scope.drop_input(DecodeError::MisplacedType, from),
            Err(reason) => scope.drop_input(reason, from),
        }
    }

    /// Sends a user event: delivers it on this node and queues it for the others. Returns whether gossip carries it;
    /// if not, it is not queued, and push/pulls have to carry it.
    pub(crate) fn user_event(
        &mut self,
        scope: &mut Scope<'_>,
        name: &str,
        payload: &Bytes,
        coalesce: bool,
    ) -> Result<bool, CommandError> {
        if self.event_clock.is_exhausted() {
            return Err(CommandError::ClockExhausted("event"));
        }
        let limit = scope.config.user_event_size_limit;
        if name.len() + payload.len() > limit {
            return Err(CommandError::EventTooLong(limit));
        }
        let event = UserEvent { ltime: self.event_clock.time(), name, payload: payload[..].into(), coalesce };
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        if bytes.len() > limit.min(USER_EVENT_BYTES_HARD_MAX) {
            return Err(CommandError::EncodedEventTooLong(limit));
        }
        self.event_clock.increment();
        self.on_user_event(scope, &event);
        let carried = bytes.len() <= scope.gossip_bytes_max();
        if carried {
            scope.broadcast(Class::Event, bytes.into(), Source::Own);
        }
        Ok(carried)
    }

    /// A user event (PROTOCOL 5.10).
    fn on_user_event(&mut self, scope: &mut Scope<'_>, event: &UserEvent<'_>) -> Sight {
        if event.name.len() + event.payload.len() > USER_EVENT_BYTES_HARD_MAX {
            scope.drop_input(DropReason::EventTooLong, None);
            return Sight::Ignored;
        }
        if !self.event_clock.witness(event.ltime, scope.now()) {
            scope.drop_input(DropReason::LamportTimeRefused, None);
            return Sight::Ignored;
        }
        if breaks!(scope, SetsItsClockBack) {
            self.event_clock = LamportClock::restored(event.ltime.0);
        }
        self.events.advance(self.event_clock.time());
        if self.events.is_too_old(self.event_clock.time(), event.ltime) {
            scope.stats.count_drop(DropReason::EventTooOld);
            let (name, ltime) = (event.name.to_owned(), event.ltime);
            scope.notice(Notice::TooOld { what: "event", name, ltime });
            return Sight::Ignored;
        }
        if event.ltime < self.event_min {
            // From before this node's time: remembered, so that peers see that it is known, and not delivered.
            self.events.insert(event.ltime, event.name, &Bytes::copy_from_slice(&event.payload));
            return Sight::Ignored;
        }
        let known = self.events.knows(event.ltime, event.name, &event.payload);
        let sight = if known { Sight::Repeated } else { Sight::First };
        if known && !breaks!(scope, ForgetsEvents) {
            return sight;
        }
        let payload = Bytes::copy_from_slice(&event.payload);
        self.events.insert(event.ltime, event.name, &payload);
        record(scope, &mut self.recorded.events, event.ltime, SnapshotRecord::EventClock);
        let delivered = Event::User {
            ltime: event.ltime,
            name: event.name.to_owned(),
            payload,
            coalesce: event.coalesce,
        };
        self.coalescer.user(scope, delivered);
        sight
    }

    fn on_joined_member(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let was_failed = scope.view.get(member).is_some_and(|known| known.status == MemberStatus::Failed);
        let since = scope.view.status_since(member).filter(|_| was_failed);
        let flaps = since.is_some_and(|since| scope.ctx.now.since(since) < FLAP_WITHIN);
        scope.stats.serfs.flaps += u64::from(flaps);
        let status = self.apply_buffered(scope, member);
        scope.view.set_status(&scope.ctx.roster, member, status, scope.ctx.now);
        self.emit(scope, MemberEventKind::Join, member, false);
        self.ask_for_earlier(scope, member);
    }

    /// A member that announced its leave has left; any other failed. The departure may overtake the intent:
    /// a member that declares itself dead has left, too (Serf shows it as failed until the intent comes).
    fn on_gone_member(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let Some(known) = scope.view.get(member) else { return };
        let (status, kind) = match (known.status, known.swim) {
            (MemberStatus::Leaving, _) if breaks!(scope, ForgetsLeaves) => {
                (MemberStatus::Failed, MemberEventKind::Failed)
            }
            (MemberStatus::Leaving, _) | (MemberStatus::Alive, SwimState::Left) => {
                (MemberStatus::Left, MemberEventKind::Leave)
            }
            (MemberStatus::Alive, _) => (MemberStatus::Failed, MemberEventKind::Failed),
            _ => return,
        };
        scope.view.set_status(&scope.ctx.roster, member, status, scope.ctx.now);
        self.emit(scope, kind, member, false);
        if self.prune_when_gone.remove(&member) {
            self.erase(scope, member, true);
        }
    }

    /// Releases its references to facts.
    pub(crate) fn clear(&mut self, roster: &mut Roster) {
        self.coalescer.clear(roster);
    }

    /// Events that were held back may be due.
    pub(crate) fn on_coalesce_timer(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        self.coalescer.on_timer(scope, key);
    }

    /// Reports long queues, and how many broadcasts were dropped from those that were too long.
    pub(crate) fn check_queues(&mut self, scope: &mut Scope<'_>) {
        for class in Class::ALL {
            let depth = scope.dissemination.user_len(class);
            let dropped = scope.dissemination.take_dropped(class);
            if depth >= scope.config.queue_depth_warning || dropped > 0 {
                scope.notice(Notice::QueueDepth { queue: class.as_str(), depth, dropped });
            }
        }
        scope.schedule(scope.now() + scope.config.queue_check_interval, TimerKind::QueueCheck, 0, 0);
    }

    /// Writes the member clock to the snapshot if it advanced: the time of the last message seen, which is one less
    /// than the clock.
    pub(crate) fn record_clock(&mut self, scope: &mut Scope<'_>) {
        let newest = LamportTime(self.clock.time().0 - 1);
        record(scope, &mut self.recorded.clock, newest, SnapshotRecord::Clock);
    }

    /// Erases members that are gone for long enough, and old intents; sends reminders.
    pub(crate) fn reap(&mut self, scope: &mut Scope<'_>) {
        let now = scope.ctx.now;
        for member in scope.view.departed() {
            let (Some(known), Some(since)) = (scope.view.get(member), scope.view.status_since(member)) else {
                continue;
            };
            let limit = match known.status {
                MemberStatus::Failed => scope.config.reconnect_timeout,
                _ => scope.config.tombstone_timeout,
            };
            let record =
                scope.delegate.is_some().then(|| member_record(scope.view, &scope.ctx.roster, member));
            let limit = match (&mut *scope.delegate, record.flatten()) {
                (Some(delegate), Some(record)) => delegate.reconnect_timeout(&record, limit),
                _ => limit,
            };
            match known.status {
                _ if now.since(since) <= limit || member == scope.me => {}
                MemberStatus::None if known.swim != SwimState::Absent => {}
                MemberStatus::None => scope.view.remove(&mut scope.ctx.roster, member),
                _ => self.erase(scope, member, false),
            }
        }
        self.remind_leaving(scope);
        self.intents.expire(now, scope.config.recent_intent_timeout);
        self.queries.expire(now);
        scope.schedule(now + scope.config.reap_interval, TimerKind::Reap, 0, 0);
    }

    /// Removes a member from the list. Its entry stays as a tombstone for the tombstone timeout, so that a node
    /// which was away and still has news from before the departure does not bring the member back.
    fn erase(&mut self, scope: &mut Scope<'_>, member: MemberIndex, forced: bool) {
        self.emit(scope, MemberEventKind::Reap, member, forced);
        self.prune_when_gone.remove(&member);
        self.coordinates.forget(member);
        scope.view.set_status(&scope.ctx.roster, member, MemberStatus::None, scope.ctx.now);
        if forced {
            scope.defer(Deferred::Erased(member));
        }
    }

    /// Reports a change of a member to the application, the log and the snapshot.
    fn emit(&mut self, scope: &mut Scope<'_>, kind: MemberEventKind, member: MemberIndex, forced: bool) {
        let Some(known) = scope.view.get(member) else { return };
        let Context { roster, out, .. } = &mut *scope.ctx;
        let record = MemberRef::of(roster, known.fact, known.status);
        out.note_member(scope.node, (kind, forced), &record);
        if scope.config.snapshot {
            let (name, addr) = (record.name.to_owned(), SocketAddr::new(record.addr, record.port));
            let written = match kind {
                MemberEventKind::Join => Some(SnapshotRecord::Alive { name, addr }),
                MemberEventKind::Failed => Some(SnapshotRecord::Failed { name, addr }),
                MemberEventKind::Leave | MemberEventKind::Reap => Some(SnapshotRecord::NotAlive { name }),
                MemberEventKind::Update => None,
            };
            out.records.extend(written.map(|record| (scope.node, record)));
        }
        self.coalescer.member(scope, kind, known);
    }
}

/// Writes a Lamport time to the snapshot if it is newer than what is `recorded` there. A message that arrives late is
/// older: after a restart its time would let messages in that this node has handled.
fn record(
    scope: &mut Scope<'_>,
    recorded: &mut LamportTime,
    newest: LamportTime,
    record: fn(LamportTime) -> SnapshotRecord,
) {
    if scope.config.snapshot && newest > *recorded {
        *recorded = newest;
        scope.ctx.out.records.push((scope.node, record(newest)));
    }
}

/// What a message that is passed from node to node was to this node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Sight {
    /// It is new, and is passed on.
    First,
    /// It, or something newer, is known.
    Repeated,
    /// It is refused, or not meant to be passed on.
    Ignored,
}

/// Passes a message on that was seen for the first time.
#[inline]
fn pass_on(scope: &mut Scope<'_>, class: Class, message: &[u8], sight: Sight) {
    match sight {
        // No packet has room for a longer one: it would wait for ever.
        Sight::First if message.len() > scope.gossip_bytes_max() => {}
        Sight::First => {
            scope.broadcast(class, Bytes::copy_from_slice(message), Source::Gossip);
        }
        Sight::Repeated => scope.message_repeated(message),
        Sight::Ignored => {}
    }
}

/// The record of a member for the application. Tags that can't be decoded are left out.
pub(crate) fn member_record(view: &View, roster: &Roster, member: MemberIndex) -> Option<Member> {
    let known = view.get(member)?;
    Some(MemberRef::of(roster, known.fact, known.status).to_owned())
}
