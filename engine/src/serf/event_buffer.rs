//! The user events of the last 512 Lamport times: known events are recognised by it, and every push/pull carries
//! it, so that a member which missed an event gets it.
//!
//! What others send can't make it large: beyond [`EVENT_BYTES_MAX`] the oldest events are recognised still, but not
//! carried any more.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use bytes::Bytes;

use super::messages::event_point;
use crate::digest::share;
use crate::wire::LamportTime;
use crate::wire::limits::EVENT_SLOTS;
use crate::wire::serf::SlotRef;

/// Events of one Lamport time that are carried. More of them are only possible if that many nodes send at the
/// same moment; further ones are recognised, but not carried.
const SLOT_EVENTS_MAX: usize = 256;
/// Events of one time that are compared byte by byte with one that arrives; further ones are recognised by their hash.
const COMPARED_MAX: usize = 4;
/// Bytes of the events that are carried, each with [`EVENT_EXTRA_BYTES`]: room for 512 events of the largest size
/// that Serf lets a user send, and with the members of a large cluster less than any peer takes.
pub(crate) const EVENT_BYTES_MAX: usize = 6 * 1024 * 1024;
/// What an event takes in memory beside its name and payload, and at least in a push/pull.
const EVENT_EXTRA_BYTES: usize = 64;
const EVENT_ENCODED_BYTES: usize = 16;
/// Events that are recognised. Beyond it the events of the oldest times are forgotten, and that late they count as too
/// old.
const RECOGNISED_MAX: usize = 64 * 1024;

/// The last user events. Takes memory from the first one on.
#[derive(Default)]
pub(crate) struct EventBuffer {
    slots: Vec<Option<Slot>>,
    /// Bytes of the events that are carried.
    bytes: usize,
    /// Times with events that are carried, oldest first.
    carried: VecDeque<LamportTime>,
    /// Events that are recognised.
    recognised: usize,
    /// Events before this time were forgotten early.
    min: LamportTime,
    /// The shares of the events that are carried.
    sum: u64,
    /// Up to which clock what is too old was forgotten.
    advanced_to: LamportTime,
}

#[derive(Clone)]
struct Slot {
    ltime: LamportTime,
    /// A hash of each event.
    seen: Vec<u64>,
    /// Those that are carried.
    events: Vec<(String, Bytes)>,
}

impl Slot {
    fn knows(&self, name: &str, payload: &[u8]) -> bool {
        // Mostly a time has one event or two, and comparing them takes less than a hash.
        let compared = self.events.iter().take(COMPARED_MAX);
        compared.into_iter().any(|(known, data)| known == name && data[..] == *payload)
            || self.events.len().min(COMPARED_MAX) < self.seen.len()
                && self.seen.contains(&hash(name, payload))
    }

    fn encoded_bytes(&self) -> usize {
        self.events.iter().map(|(name, payload)| name.len() + payload.len() + EVENT_ENCODED_BYTES).sum()
    }
}

impl EventBuffer {
    /// Whether an event lies further back than the buffer remembers.
    pub(crate) fn is_too_old(&self, clock: LamportTime, ltime: LamportTime) -> bool {
        ltime < self.min || clock.0 > EVENT_SLOTS as u64 && ltime.0 < clock.0 - EVENT_SLOTS as u64
    }

    /// Whether an event is remembered.
    pub(crate) fn knows(&self, ltime: LamportTime, name: &str, payload: &[u8]) -> bool {
        let slot = self.slots.get(place(ltime)).and_then(Option::as_ref);
        slot.is_some_and(|slot| slot.ltime == ltime && slot.knows(name, payload))
    }

    /// Remembers an event. Returns false if it is known.
    pub(crate) fn insert(&mut self, ltime: LamportTime, name: &str, payload: &Bytes) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(EVENT_SLOTS, None);
        }
        if self.slots[place(ltime)].as_ref().is_some_and(|slot| slot.ltime != ltime) {
            self.forget(place(ltime));
        }
        let slot = self.slots[place(ltime)].get_or_insert_with(|| Slot {
            ltime,
            seen: Vec::new(),
            events: Vec::new(),
        });
        let hash = hash(name, payload);
        if slot.seen.contains(&hash) {
            return false;
        }
        slot.seen.push(hash);
        self.recognised += 1;
        if slot.events.len() < SLOT_EVENTS_MAX {
            if slot.events.is_empty() {
                let after = self.carried.partition_point(|&other| other < ltime);
                self.carried.insert(after, ltime);
            }
            slot.events.push((name.to_owned(), payload.clone()));
            self.bytes += bytes(name, payload);
            self.sum = self.sum.wrapping_add(share(event_point(ltime, name, payload), 0));
        }
        while self.bytes > EVENT_BYTES_MAX {
            let oldest = self.carried.pop_front().expect("bytes belong to carried events");
            if let Some(slot) = &mut self.slots[place(oldest)] {
                let events = std::mem::take(&mut slot.events);
                self.drop_carried(oldest, &events);
            }
        }
        while self.recognised > RECOGNISED_MAX {
            let times = self.slots.iter().flatten().map(|slot| slot.ltime);
            let oldest = times.min().expect("events that are recognised are in a slot");
            self.forget(place(oldest));
            self.min = self.min.max(LamportTime(oldest.0 + 1));
        }
        true
    }

    /// Bytes that the events take at least in a push/pull.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.slots.iter().flatten().map(Slot::encoded_bytes).sum()
    }

    /// The slots in order, with the events that are carried.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotRef<'_>> {
        self.slots.iter().map(|slot| {
            let slot = slot.as_ref().filter(|slot| !slot.events.is_empty())?;
            Some((slot.ltime, slot.events.as_slice()))
        })
    }

    /// The same for a push/pull: the newest events of at most so many bytes as
    /// [`encoded_bytes`](Self::encoded_bytes) counts, all events of one time or none.
    pub(crate) fn newest(&self, bytes_max: usize) -> impl Iterator<Item = SlotRef<'_>> {
        let mut room = bytes_max;
        let carried = self.carried.iter().rev().take_while(|&&ltime| {
            let bytes = self.slots[place(ltime)].as_ref().map_or(0, Slot::encoded_bytes);
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        });
        let oldest = carried.last().copied().unwrap_or(LamportTime(u64::MAX));
        self.slots().map(move |slot| slot.filter(|(ltime, _)| *ltime >= oldest))
    }

    /// The clock moved on: forgets what became too old.
    #[inline]
    pub(crate) fn advance(&mut self, clock: LamportTime) {
        if clock > self.advanced_to && !self.slots.is_empty() {
            self.advance_to(clock);
        }
    }

    fn advance_to(&mut self, clock: LamportTime) {
        let steps = clock.0 - self.advanced_to.0;
        self.advanced_to = clock;
        let slots = EVENT_SLOTS as u64;
        // At each step one time becomes too old: that of the slot before the clock's own.
        let first = if steps < slots { clock.0 - steps } else { 0 };
        let count = steps.min(slots);
        for place in (first..first + count).map(|time| (time % slots) as usize) {
            if self.slots[place].as_ref().is_some_and(|slot| self.is_too_old(clock, slot.ltime)) {
                self.forget(place);
            }
        }
    }

    /// A sum over the events that are carried.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// These events of one time are not carried any more.
    fn drop_carried(&mut self, ltime: LamportTime, events: &[(String, Bytes)]) {
        for (name, payload) in events {
            self.bytes -= bytes(name, payload);
            self.sum = self.sum.wrapping_sub(share(event_point(ltime, name, payload), 0));
        }
    }

    fn forget(&mut self, place: usize) {
        let Some(slot) = self.slots[place].take() else { return };
        self.recognised -= slot.seen.len();
        self.drop_carried(slot.ltime, &slot.events);
        self.carried.retain(|&ltime| ltime != slot.ltime);
    }
}

fn place(ltime: LamportTime) -> usize {
    (ltime.0 % EVENT_SLOTS as u64) as usize
}

fn bytes(name: &str, payload: &[u8]) -> usize {
    name.len() + payload.len() + EVENT_EXTRA_BYTES
}

/// Two events with the same hash would be taken for one; who makes such a pair hides an event of its own only.
fn hash(name: &str, payload: &[u8]) -> u64 {
    foldhash::quality::FixedState::default().hash_one((name, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn times(buffer: &EventBuffer, bytes_max: usize) -> Vec<u64> {
        let mut times: Vec<u64> = buffer.newest(bytes_max).flatten().map(|(ltime, _)| ltime.0).collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn an_event_is_known_by_time_name_and_payload() {
        let mut buffer = EventBuffer::default();
        let payload = Bytes::from_static(b"v1");
        assert!(buffer.insert(LamportTime(5), "deploy", &payload));
        assert!(!buffer.insert(LamportTime(5), "deploy", &payload));
        assert!(buffer.insert(LamportTime(5), "deploy", &Bytes::new()));
        assert!(buffer.insert(LamportTime(5 + 512), "deploy", &payload), "a newer time takes the slot");
        assert_eq!(times(&buffer, ALL), [517]);
        let sum = buffer.sum();
        assert!(buffer.insert(LamportTime(6), "deploy", &payload));
        buffer.advance(LamportTime(5 + 513));
        assert_ne!(buffer.sum(), sum, "6 is 512 before the clock: not too old");
        buffer.advance(LamportTime(5 + 514));
        assert_eq!(buffer.sum(), sum, "6 is too old");
        buffer.advance(LamportTime(9_000));
        assert_eq!((buffer.sum(), buffer.slots().flatten().count()), (0, 0));
        assert!(!buffer.is_too_old(LamportTime(512), LamportTime(1)));
        assert!(buffer.is_too_old(LamportTime(600), LamportTime(87)));
    }

    #[test]
    fn beyond_the_budget_the_oldest_are_recognised_but_not_carried() {
        let mut buffer = EventBuffer::default();
        let payload = Bytes::from(vec![b'x'; 9000]);
        for n in 0..5000_u64 {
            let name = format!("e{n}");
            assert!(buffer.insert(LamportTime(1 + n % 512), &name, &payload));
            assert!(buffer.bytes <= EVENT_BYTES_MAX);
        }
        let carried = times(&buffer, ALL);
        assert!(carried.len() < 512 && carried[0] > 1 && carried.contains(&512), "{carried:?}");
        for n in 0..5000_u64 {
            assert!(buffer.knows(LamportTime(1 + n % 512), &format!("e{n}"), &payload), "{n}");
            assert!(!buffer.insert(LamportTime(1 + n % 512), &format!("e{n}"), &payload), "{n}");
        }
        let counted: usize = buffer.slots().flatten().flat_map(|(_, events)| events).count();
        assert_eq!(buffer.bytes, counted * (9000 + EVENT_EXTRA_BYTES + 5) - short_names(&buffer));
    }

    /// How many bytes names of less than five letters save.
    fn short_names(buffer: &EventBuffer) -> usize {
        buffer.slots().flatten().flat_map(|(_, events)| events).map(|(name, _)| 5 - name.len()).sum()
    }

    #[test]
    fn a_push_pull_with_little_room_gets_the_newest_events() {
        let mut buffer = EventBuffer::default();
        for n in 1..=10 {
            buffer.insert(LamportTime(n), "e", &Bytes::from(vec![b'x'; 1000]));
        }
        assert_eq!(buffer.encoded_bytes(), 10 * (1001 + EVENT_ENCODED_BYTES));
        let one = 1001 + EVENT_ENCODED_BYTES;
        assert_eq!(times(&buffer, 3 * one), [8, 9, 10]);
        assert_eq!(times(&buffer, 3 * one - 1), [9, 10]);
        assert!(times(&buffer, 0).is_empty());
    }

    #[test]
    fn what_is_forgotten_early_counts_as_too_old() {
        let mut buffer = EventBuffer::default();
        for n in 0..=RECOGNISED_MAX as u64 {
            assert!(buffer.insert(LamportTime(1 + n / 1000), &format!("e{n}"), &Bytes::new()));
        }
        assert_eq!(buffer.recognised, RECOGNISED_MAX + 1 - 1000);
        assert!(buffer.is_too_old(LamportTime(66), LamportTime(1)));
        assert!(!buffer.is_too_old(LamportTime(66), LamportTime(2)));
        let slots = buffer.slots.iter().flatten();
        assert!(slots.clone().all(|slot| slot.events.len() <= SLOT_EVENTS_MAX));
    }
}
