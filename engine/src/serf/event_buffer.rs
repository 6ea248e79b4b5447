//! The user events of the last 512 Lamport times: known events are recognised by it, and every push/pull carries
//! it, so that a member which missed an event gets it.

use bytes::Bytes;

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
        let slot = &mut self.slots[(ltime.0 % EVENT_SLOTS as u64) as usize];
        match slot {
            Some((at, events)) if *at == ltime => {
                if events.iter().any(|(known, bytes)| known == name && bytes == payload) {
                    return false;
                }
                if events.len() < SLOT_EVENTS_MAX {
                    events.push((name.to_owned(), payload.clone()));
                }
            }
            _ => *slot = Some((ltime, vec![(name.to_owned(), payload.clone())])),
        }
        true
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
        assert!(!buffer.is_too_old(LamportTime(512), LamportTime(1)));
        assert!(buffer.is_too_old(LamportTime(600), LamportTime(87)));
    }
}
