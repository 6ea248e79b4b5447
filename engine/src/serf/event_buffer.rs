//! The user events of the last 512 Lamport times: known events are recognised by it, and every push/pull carries
//! it, so that a member which missed an event gets it.

use bytes::Bytes;

use super::messages::event_point;
use crate::digest::share;
use crate::wire::LamportTime;
use crate::wire::limits::EVENT_SLOTS;
use crate::wire::serf::SlotRef;

/// Events of one Lamport time that are kept. More of them are only possible if that many nodes send at the
/// same moment; beyond it they are delivered, but not remembered or replayed.
const SLOT_EVENTS_MAX: usize = 256;

type Slot = Option<(LamportTime, Vec<(String, Bytes)>)>;

/// The last user events. Takes memory from the first one on.
#[derive(Default)]
pub(crate) struct EventBuffer {
    slots: Vec<Slot>,
    /// The shares of the events in the slots.
    sum: u64,
    /// Up to which clock what is too old was forgotten.
    advanced_to: LamportTime,
}

impl EventBuffer {
    /// Whether an event lies further back than the buffer remembers.
    pub(crate) fn is_too_old(&self, clock: LamportTime, ltime: LamportTime) -> bool {
        clock.0 > EVENT_SLOTS as u64 && ltime.0 < clock.0 - EVENT_SLOTS as u64
    }

    /// Whether an event is remembered.
    pub(crate) fn knows(&self, ltime: LamportTime, name: &str, payload: &[u8]) -> bool {
        let slot = self.slots.get((ltime.0 % EVENT_SLOTS as u64) as usize);
        let Some(Some((at, events))) = slot else { return false };
        *at == ltime && events.iter().any(|(known, bytes)| known == name && bytes == payload)
    }

    /// Remembers an event. Returns false if it is known.
    pub(crate) fn insert(&mut self, ltime: LamportTime, name: &str, payload: &Bytes) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(EVENT_SLOTS, None);
        }
        let place = (ltime.0 % EVENT_SLOTS as u64) as usize;
        if self.slots[place].as_ref().is_some_and(|(at, _)| *at != ltime) {
            self.forget(place);
        }
        let (_, events) = self.slots[place].get_or_insert_with(|| (ltime, Vec::new()));
        if events.iter().any(|(known, bytes)| known == name && bytes == payload) {
            return false;
        }
        if events.len() < SLOT_EVENTS_MAX {
            events.push((name.to_owned(), payload.clone()));
            self.sum = self.sum.wrapping_add(share(event_point(ltime, name, payload), 0));
        }
        true
    }

    /// The clock moved on: forgets what became too old.
    pub(crate) fn advance(&mut self, clock: LamportTime) {
        if self.slots.is_empty() || clock <= self.advanced_to {
            return;
        }
        let steps = clock.0 - self.advanced_to.0;
        self.advanced_to = clock;
        let slots = EVENT_SLOTS as u64;
        // At each step one time becomes too old: that of the slot before the clock's own.
        let first = if steps < slots { clock.0 - steps } else { 0 };
        let count = steps.min(slots);
        for place in (first..first + count).map(|time| (time % slots) as usize) {
            if self.slots[place].as_ref().is_some_and(|(at, _)| self.is_too_old(clock, *at)) {
                self.forget(place);
            }
        }
    }

    /// A sum over the events in the slots.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    fn forget(&mut self, place: usize) {
        let Some((ltime, events)) = self.slots[place].take() else { return };
        for (name, payload) in events {
            self.sum = self.sum.wrapping_sub(share(event_point(ltime, &name, &payload), 0));
        }
    }

    /// The slots in order, for a push/pull.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotRef<'_>> {
        self.slots.iter().map(|slot| slot.as_ref().map(|(ltime, events)| (*ltime, events.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_time_name_and_payload() {
        let mut buffer = EventBuffer::default();
        let payload = Bytes::from_static(b"v1");
        assert!(buffer.insert(LamportTime(5), "deploy", &payload));
        assert!(!buffer.insert(LamportTime(5), "deploy", &payload));
        assert!(buffer.insert(LamportTime(5), "deploy", &Bytes::new()));
        assert!(buffer.insert(LamportTime(5 + 512), "deploy", &payload), "a newer time takes the slot");
        assert_eq!(buffer.slots().flatten().count(), 1);
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
}
