//! The queries of the last 512 Lamport times: tells new ones from known ones, and holds those that can still be
//! answered for peers that missed them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::messages::query_point;
use crate::digest::share;
use crate::time::Time;
use crate::wire::LamportTime;
use crate::wire::limits::EVENT_SLOTS;
use crate::wire::serf::Query;

/// Queries of one Lamport time that are told apart; with more of them the rest is taken for known.
const SLOT_IDS_MAX: usize = 256;
/// Queries kept whole at one time. Beyond it the oldest is not repaired any more.
const KEPT_MAX: usize = 64;
/// Longest time that a query is kept, whatever its timeout.
const KEPT_FOR_MAX: Duration = Duration::from_secs(60);

/// The ids seen at one Lamport time, each with whether the query is passed on.
type Slot = Option<(LamportTime, Vec<(u32, bool)>)>;

/// The last queries. Takes memory from the first one on.
#[derive(Default)]
pub(super) struct SeenQueries {
    slots: Vec<Slot>,
    /// The shares of the queries that are passed on.
    sum: u64,
    advanced_to: LamportTime,
    kept: VecDeque<Kept>,
}

struct Kept {
    ltime: LamportTime,
    id: u32,
    until: Time,
    bytes: Bytes,
}

impl SeenQueries {
    /// Remembers a query. False if it is known.
    pub(super) fn insert(&mut self, ltime: LamportTime, id: u32, passed_on: bool) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(EVENT_SLOTS, None);
        }
        let place = (ltime.0 % EVENT_SLOTS as u64) as usize;
        if self.slots[place].as_ref().is_some_and(|(at, _)| *at != ltime) {
            self.forget(place);
        }
        let (_, ids) = self.slots[place].get_or_insert_with(|| (ltime, Vec::new()));
        if ids.iter().any(|&(known, _)| known == id) || ids.len() >= SLOT_IDS_MAX {
            return false;
        }
        ids.push((id, passed_on));
        if passed_on {
            self.sum = self.sum.wrapping_add(share(query_point(ltime, id), 0));
        }
        true
    }

    /// Remembers a query that is over, and that this node never heard.
    pub(super) fn note(&mut self, clock: LamportTime, ltime: LamportTime, id: u32) {
        if !is_too_old(clock, ltime) && ltime < clock {
            self.insert(ltime, id, true);
        }
    }

    /// Keeps a query whole as long as it can be answered.
    pub(super) fn keep(&mut self, query: &Query<'_>, now: Time) {
        let timeout = Duration::from_nanos(u64::try_from(query.timeout).unwrap_or(0)).min(KEPT_FOR_MAX);
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        let mut bytes = Vec::new();
        query.encode(&mut bytes);
        let (ltime, id) = (query.ltime, query.id);
        self.kept.push_back(Kept { ltime, id, until: now + timeout, bytes: bytes.into() });
    }

    /// Forgets the text of queries that can't be answered any more.
    pub(super) fn expire(&mut self, now: Time) {
        self.kept.retain(|kept| kept.until > now);
    }

    /// The query as it was sent, type byte first, if it can still be answered.
    pub(super) fn bytes_of(&self, ltime: LamportTime, id: u32) -> Option<&[u8]> {
        let kept = self.kept.iter().find(|kept| (kept.ltime, kept.id) == (ltime, id))?;
        Some(&kept.bytes)
    }

    /// The clock moved on: forgets what became too old.
    pub(super) fn advance(&mut self, clock: LamportTime) {
        if self.slots.is_empty() || clock <= self.advanced_to {
            return;
        }
        let steps = (clock.0 - self.advanced_to.0).min(EVENT_SLOTS as u64);
        self.advanced_to = clock;
        for time in clock.0 - steps..clock.0 {
            let place = (time % EVENT_SLOTS as u64) as usize;
            if self.slots[place].as_ref().is_some_and(|(at, _)| is_too_old(clock, *at)) {
                self.forget(place);
            }
        }
    }

    /// A sum over the queries that are passed on.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// The queries that are passed on.
    pub(super) fn passed_on(&self) -> impl Iterator<Item = (LamportTime, u32)> + '_ {
        let slots = self.slots.iter().flatten();
        slots.flat_map(|(ltime, ids)| {
            ids.iter().filter(|(_, passed_on)| *passed_on).map(|&(id, _)| (*ltime, id))
        })
    }

    fn forget(&mut self, place: usize) {
        let Some((ltime, ids)) = self.slots[place].take() else { return };
        for (id, _) in ids.into_iter().filter(|&(_, passed_on)| passed_on) {
            self.sum = self.sum.wrapping_sub(share(query_point(ltime, id), 0));
        }
    }
}

pub(super) fn is_too_old(clock: LamportTime, ltime: LamportTime) -> bool {
    clock.0 > EVENT_SLOTS as u64 && ltime.0 < clock.0 - EVENT_SLOTS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_queries_within_the_window_however_they_came() {
        let (mut one, mut two) = (SeenQueries::default(), SeenQueries::default());
        for time in 1..=600 {
            assert!(one.insert(LamportTime(time), time as u32, true));
            one.advance(LamportTime(time + 1));
        }
        assert!(one.insert(LamportTime(600), 7, false), "not passed on: not in the sum");
        two.advance(LamportTime(1));
        for time in (1..=600).rev() {
            two.note(LamportTime(601), LamportTime(time), time as u32);
        }
        two.advance(LamportTime(601));
        assert_eq!(one.sum(), two.sum());
        assert_eq!(one.passed_on().count(), 512);
        assert!(!two.insert(LamportTime(300), 300, true), "known");
    }
}
