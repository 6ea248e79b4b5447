//! What members say: intents, user events, and who is left rather than failed (PROTOCOL section 5).
//!
//! SWIM tells who answers; Serf decides from Lamport-timed intents whether somebody gone has left or failed.

mod event_buffer;
mod intent;
mod lamport;
mod state;

use std::net::SocketAddr;

use bytes::Bytes;

use crate::command::CommandError;
use crate::config::Config;
use crate::egress::Scope;
use crate::event::{Event, Member, MemberEventKind, Notice, SnapshotRecord};
use crate::roster::MemberIndex;
use crate::serf::event_buffer::EventBuffer;
use crate::serf::intent::Intents;
use crate::serf::lamport::LamportClock;
use crate::swim::Change;
use crate::swim::broadcast::Class;
use crate::timers::TimerKind;
use crate::view::{MemberStatus, View};
use crate::wire::limits::USER_EVENT_BYTES_HARD_MAX;
use crate::wire::serf::UserEvent;
use crate::wire::{DropReason, LamportTime, SerfMessage, decode_tags};

/// The serf state of one node, apart from its view.
pub(crate) struct Serf {
    pub(crate) clock: LamportClock,
    pub(crate) event_clock: LamportClock,
    pub(crate) query_clock: LamportClock,
    /// User events older than this are not delivered.
    event_min: LamportTime,
    events: EventBuffer,
    intents: Intents,
    /// The own graceful leave has begun: intents about it are not refuted.
    leaving: bool,
}

impl Serf {
    pub(crate) fn new(config: &Config) -> Serf {
        let restored = &config.restored;
        let after = |newest: u64| LamportTime(if newest == 0 { 0 } else { newest.saturating_add(1) });
        Serf {
            clock: LamportClock::restored(restored.clock),
            event_clock: LamportClock::restored(restored.event_clock),
            query_clock: LamportClock::restored(restored.query_clock),
            event_min: after(restored.event_clock),
            events: EventBuffer::default(),
            intents: Intents::default(),
            leaving: false,
        }
    }

    /// Arms the reaper.
    pub(crate) fn start(&mut self, scope: &mut Scope<'_>) {
        let first = scope.ctx.random.duration(scope.config.reap_interval);
        scope.schedule(scope.now() + first, TimerKind::Reap, 0, 0);
    }

    /// SWIM's picture of a member changed.
    pub(crate) fn on_change(&mut self, scope: &mut Scope<'_>, change: Change) {
        match change {
            Change::Joined(member) => self.on_joined_member(scope, member),
            Change::Gone(member) => self.on_gone_member(scope, member),
            Change::Updated(member) => self.emit(scope, MemberEventKind::Update, member, false),
            Change::Conflict { .. } => {}
        }
    }

    /// A serf message arrived.
    pub(crate) fn on_message(&mut self, scope: &mut Scope<'_>, from: Option<SocketAddr>, bytes: &[u8]) {
        match SerfMessage::decode(bytes) {
            Ok(SerfMessage::Leave(leave)) => {
                if self.on_leave_intent(scope, &leave) {
                    scope.broadcast(Class::Intent, Bytes::copy_from_slice(bytes));
                }
            }
            Ok(SerfMessage::Join(join)) => {
                if self.on_join_intent(scope, &join) {
                    scope.broadcast(Class::Intent, Bytes::copy_from_slice(bytes));
                }
            }
            Ok(SerfMessage::UserEvent(event)) => {
                if self.on_user_event(scope, &event) {
                    scope.broadcast(Class::Event, Bytes::copy_from_slice(bytes));
                }
            }
            // Queries come with the next step; until then they are counted like anything unknown.
            Ok(_) => scope.stats.count_drop(DropReason::UnknownSerfType),
            Err(reason) => scope.drop_input(reason, from),
        }
    }

    /// Sends a user event: delivers it here and queues it for the others.
    pub(crate) fn user_event(
        &mut self,
        scope: &mut Scope<'_>,
        name: &str,
        payload: &Bytes,
        coalesce: bool,
    ) -> Result<(), CommandError> {
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
        scope.broadcast(Class::Event, bytes.into());
        Ok(())
    }

    /// A user event; true if it is new and goes on to others (PROTOCOL 5.10).
    fn on_user_event(&mut self, scope: &mut Scope<'_>, event: &UserEvent<'_>) -> bool {
        if !self.event_clock.witness(event.ltime) {
            scope.drop_input(DropReason::LamportTimeExhausted, None);
            return false;
        }
        if event.ltime < self.event_min {
            return false;
        }
        if self.events.is_too_old(self.event_clock.time(), event.ltime) {
            scope.stats.count_drop(DropReason::EventTooOld);
            let (name, ltime) = (event.name.to_owned(), event.ltime);
            scope.notice(Notice::TooOld { what: "event", name, ltime });
            return false;
        }
        let payload = Bytes::copy_from_slice(&event.payload);
        if !self.events.insert(event.ltime, event.name, &payload) {
            return false;
        }
        if scope.config.snapshot {
            let record = SnapshotRecord::EventClock(event.ltime);
            scope.ctx.out.records.push((scope.node, record));
        }
        let delivered = Event::User {
            ltime: event.ltime,
            name: event.name.to_owned(),
            payload,
            coalesce: event.coalesce,
        };
        scope.ctx.out.events.push((scope.node, delivered));
        true
    }

    fn on_joined_member(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let status = self.apply_buffered(scope, member);
        scope.view.set_status(member, status, scope.ctx.now);
        self.emit(scope, MemberEventKind::Join, member, false);
    }

    /// Whoever said that it leaves has left; everybody else failed.
    fn on_gone_member(&mut self, scope: &mut Scope<'_>, member: MemberIndex) {
        let Some(known) = scope.view.get(member) else { return };
        let (status, kind) = match known.status {
            MemberStatus::Leaving => (MemberStatus::Left, MemberEventKind::Leave),
            MemberStatus::Alive => (MemberStatus::Failed, MemberEventKind::Failed),
            _ => return,
        };
        scope.view.set_status(member, status, scope.ctx.now);
        self.emit(scope, kind, member, false);
    }

    /// Erases who is gone for long enough, and old intents.
    pub(crate) fn reap(&mut self, scope: &mut Scope<'_>) {
        let now = scope.ctx.now;
        for member in scope.view.departed() {
            let (Some(known), Some(since)) = (scope.view.get(member), scope.view.status_since(member)) else {
                continue;
            };
            let limit = match known.status {
                MemberStatus::Left => scope.config.tombstone_timeout,
                _ => scope.config.reconnect_timeout,
            };
            if now.since(since) > limit && member != scope.me {
                self.erase(scope, member, false);
            }
        }
        self.intents.expire(now, scope.config.recent_intent_timeout);
        scope.schedule(now + scope.config.reap_interval, TimerKind::Reap, 0, 0);
    }

    fn erase(&mut self, scope: &mut Scope<'_>, member: MemberIndex, forced: bool) {
        self.emit(scope, MemberEventKind::Reap, member, forced);
        scope.egress.dissemination.forget_member(&mut scope.ctx.roster, member);
        scope.view.remove(&mut scope.ctx.roster, member);
    }

    /// Tells application, log and snapshot about a member.
    fn emit(&mut self, scope: &mut Scope<'_>, kind: MemberEventKind, member: MemberIndex, forced: bool) {
        let Some(record) = member_record(scope.view, &scope.ctx.roster, member) else { return };
        let (name, addr) = (record.name.clone(), SocketAddr::new(record.addr, record.port));
        scope.notice(Notice::Member { kind, name: name.clone(), addr: record.addr, forced });
        if scope.config.snapshot {
            let written = match kind {
                MemberEventKind::Join => Some(SnapshotRecord::Alive { name, addr }),
                MemberEventKind::Leave | MemberEventKind::Failed => Some(SnapshotRecord::NotAlive { name }),
                MemberEventKind::Update | MemberEventKind::Reap => None,
            };
            let clock = SnapshotRecord::Clock(LamportTime(self.clock.time().0 - 1));
            let records = written.into_iter().chain([clock]).map(|record| (scope.node, record));
            scope.ctx.out.records.extend(records);
        }
        scope.ctx.out.events.push((scope.node, Event::Member { kind, members: vec![record] }));
    }
}

/// A member as the application sees it. Tags that can't be decoded are shown as none.
pub(crate) fn member_record(
    view: &View,
    roster: &crate::roster::Roster,
    member: MemberIndex,
) -> Option<Member> {
    let known = view.get(member)?;
    let fact = roster.fact(known.fact);
    Some(Member {
        name: roster.name(member).to_owned(),
        addr: fact.ip(),
        port: fact.port,
        tags: decode_tags(fact.meta()).unwrap_or_default(),
        status: known.status,
        versions: fact.versions(),
    })
}
