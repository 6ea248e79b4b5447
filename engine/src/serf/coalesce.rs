//! Coalescing: a burst of events reaches the application as few events (PROTOCOL 5.10; Serf's agent: 3 s at the
//! longest, after 1 s of quiet).
//!
//! Of each member only the last event counts, and if that is an update, also what it came after: a join and an update
//! are two events. One that repeats the kind reported last is dropped unless it is an update. Of user events that allow it, only those of the newest Lamport time of each name count; they are reported by
//! Lamport time, equal times as they came.
//! Queries and other user events pass at once.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::context::Context;
use crate::event::{Event, MemberEventKind, MemberRef, Members};
use crate::roster::{FactIndex, MemberIndex, Roster};
use crate::scope::Scope;
use crate::time::Time;
use crate::timers::{TimerKey, TimerKind};
use crate::view::{Known, MemberStatus};
use crate::wire::LamportTime;

/// Subject of the timers for member events and for user events.
const MEMBERS: u32 = 0;
const USERS: u32 = 1;

/// The order in which one flush reports the kinds.
const KINDS: [MemberEventKind; 5] = [
    MemberEventKind::Join,
    MemberEventKind::Leave,
    MemberEventKind::Failed,
    MemberEventKind::Update,
    MemberEventKind::Reap,
];

/// Events that wait to be reported.
#[derive(Default)]
pub(super) struct Coalescer {
    members_window: Window,
    users_window: Window,
    /// In the order in which something first happened to them.
    members: Vec<Waiting>,
    /// Where in that list a member is.
    places: HashMap<MemberIndex, u32, foldhash::fast::FixedState>,
    /// The kind that was reported last of each member.
    reported: HashMap<MemberIndex, MemberEventKind, foldhash::fast::FixedState>,
    users: BTreeMap<String, Users>,
    /// User events that came since the last flush.
    users_came: u64,
}

/// The user events of one name that wait.
struct Users {
    newest: LamportTime,
    /// Those of that time, each with its place among all that came.
    events: Vec<(u64, Event)>,
}

/// The last event of a member. The fact is held, so it and the index stay what they are.
struct Waiting {
    member: MemberIndex,
    kind: MemberEventKind,
    /// An update came after that event.
    updated: bool,
    status: MemberStatus,
    fact: FactIndex,
}

/// When the next flush is due.
#[derive(Default)]
struct Window {
    started: Option<Time>,
    due: Time,
}

impl Window {
    /// Counts an event. Returns when a timer is to be armed, if none is armed.
    fn extend(&mut self, now: Time, (longest, quiet): (Duration, Duration)) -> Option<Time> {
        let first = self.started.is_none();
        let started = *self.started.get_or_insert(now);
        self.due = (now + quiet).min(started + longest);
        first.then_some(self.due)
    }
}

impl Coalescer {
    /// Reports a member event, now or later.
    pub(super) fn member(&mut self, scope: &mut Scope<'_>, kind: MemberEventKind, known: Known) {
        let Context { roster, out, .. } = &mut *scope.ctx;
        let times = scope.config.coalesce_members;
        if times.0.is_zero() {
            let members = Members::from_iter([MemberRef::of(roster, known.fact, known.status)]);
            return out.events.push((scope.node, Event::Member { kind, members }));
        }
        let Known { fact, status, .. } = known;
        let member = roster.fact(fact).member;
        if kind == MemberEventKind::Reap {
            // The index may name another member from now on.
            self.reported.remove(&member);
        }
        roster.retain_fact(fact);
        let waiting = Waiting { member, kind, updated: false, status, fact };
        match self.places.entry(member) {
            Entry::Occupied(place) => {
                let place = &mut self.members[*place.get() as usize];
                let before = std::mem::replace(place, waiting);
                if kind == MemberEventKind::Update {
                    (place.kind, place.updated) = (before.kind, before.kind != kind);
                }
                roster.release_fact(before.fact);
            }
            Entry::Vacant(place) => {
                place.insert(self.members.len() as u32);
                self.members.push(waiting);
            }
        }
        if let Some(due) = self.members_window.extend(scope.now(), times) {
            scope.schedule(due, TimerKind::Coalesce, MEMBERS, 0);
        }
    }

    /// Reports a user event, now or later.
    pub(super) fn user(&mut self, scope: &mut Scope<'_>, event: Event) {
        let times = scope.config.coalesce_users;
        let Event::User { ltime, name, coalesce: true, .. } = &event else { return push(scope, event) };
        if times.0.is_zero() {
            return push(scope, event);
        }
        let (ltime, name) = (*ltime, name.clone());
        let empty = Users { newest: ltime, events: Vec::new() };
        let users = self.users.entry(name).or_insert(empty);
        if ltime > users.newest {
            *users = Users { newest: ltime, events: Vec::new() };
        }
        if ltime == users.newest {
            users.events.push((self.users_came, event));
            self.users_came += 1;
        }
        if let Some(due) = self.users_window.extend(scope.now(), times) {
            scope.schedule(due, TimerKind::Coalesce, USERS, 0);
        }
    }

    /// A window may be over.
    pub(super) fn on_timer(&mut self, scope: &mut Scope<'_>, key: TimerKey) {
        let window = if key.subject == MEMBERS { &mut self.members_window } else { &mut self.users_window };
        if scope.ctx.now < window.due {
            return scope.schedule(window.due, TimerKind::Coalesce, key.subject, 0);
        }
        window.started = None;
        if key.subject == MEMBERS {
            self.flush_members(scope);
        } else {
            self.flush_users(scope);
        }
    }

    /// Releases its references to facts.
    pub(super) fn clear(&mut self, roster: &mut Roster) {
        self.places.clear();
        self.members.drain(..).for_each(|waiting| roster.release_fact(waiting.fact));
    }

    fn flush_users(&mut self, scope: &mut Scope<'_>) {
        self.users_came = 0;
        let mut all = Vec::new();
        for Users { newest, events } in std::mem::take(&mut self.users).into_values() {
            all.extend(events.into_iter().map(|(place, event)| (newest, place, event)));
        }
        all.sort_unstable_by_key(|&(ltime, place, _)| (ltime, place));
        all.into_iter().for_each(|(_, _, event)| push(scope, event));
    }

    fn flush_members(&mut self, scope: &mut Scope<'_>) {
        let mut by_kind: [Members; KINDS.len()] = Default::default();
        // Both are freed: a burst may have made them large.
        self.places = HashMap::default();
        for Waiting { member, kind, updated, status, fact } in std::mem::take(&mut self.members) {
            let roster = &mut scope.ctx.roster;
            let update = updated.then_some(MemberEventKind::Update);
            for kind in [kind].into_iter().chain(update) {
                let place = KINDS.iter().position(|&k| k == kind).expect("all kinds are listed");
                let repeats = match kind {
                    MemberEventKind::Reap => false,
                    _ => self.reported.insert(member, kind) == Some(kind) && kind != MemberEventKind::Update,
                };
                if !repeats {
                    by_kind[place].push(&MemberRef::of(roster, fact, status));
                }
            }
            roster.release_fact(fact);
        }
        for (kind, members) in KINDS.into_iter().zip(by_kind) {
            if !members.is_empty() {
                push(scope, Event::Member { kind, members });
            }
        }
    }
}

fn push(scope: &mut Scope<'_>, event: Event) {
    scope.ctx.out.events.push((scope.node, event));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_after_quiet_and_at_the_longest() {
        let times = (Duration::from_secs(3), Duration::from_secs(1));
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        let mut window = Window::default();
        assert_eq!(window.extend(at(0), times), Some(at(1000)));
        assert_eq!(window.extend(at(900), times), None, "one timer is enough");
        assert_eq!(window.due, at(1900));
        window.extend(at(1800), times);
        window.extend(at(2700), times);
        assert_eq!(window.due, at(3000));
    }
}
