//! The last events of the node, numbered, so that a reader that was away continues where it was.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use thane_engine::event::Event;
use tokio::sync::{broadcast, watch};

/// Events kept.
pub(super) const EVENTS_MAX: usize = 1024;
/// Bytes of events kept, about.
const BYTES_MAX: usize = 4 << 20;
/// Events that a reader takes at one time.
const TAKEN_MAX: usize = 32;
/// A reader takes no further event after those with so many bytes.
const TAKEN_BYTES_MAX: usize = 64 << 10;

/// The last events.
pub(super) struct Ring {
    /// Names this run of the port: a later run counts from 1 again.
    run: String,
    kept: RefCell<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Numbered>,
    bytes: usize,
    /// The number of the newest event.
    last: u64,
}

struct Numbered {
    number: u64,
    event: Arc<Event>,
    bytes: usize,
    /// Its text as long as a reader holds it: an event about 10,000 members has 2 MB, and readers may be stuck.
    text: Weak<String>,
}

/// Where a reader is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// After the event with that number.
    After(u64),
    /// The reader's last event is of an earlier run: what it missed is not known.
    Unknown,
}

/// What comes next for a reader.
pub(super) struct Taken {
    /// Events that are no longer kept.
    pub(super) missed: u64,
    /// Their texts, with their numbers.
    pub(super) events: Vec<(u64, Arc<String>)>,
}

impl Ring {
    pub(super) fn new() -> Ring {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ring {
            run: format!("{:x}", now.as_millis()),
            kept: RefCell::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Keeps the events that come, until their source ends.
    pub(super) async fn record(&self, mut events: broadcast::Receiver<Arc<Event>>) {
        loop {
            match events.recv().await {
                Ok(event) => self.keep(event),
                // They have numbers, so that readers see that they are missing.
                Err(broadcast::error::RecvError::Lagged(lost)) => self.kept.borrow_mut().last += lost,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn keep(&self, event: Arc<Event>) {
        let mut kept = self.kept.borrow_mut();
        kept.last += 1;
        let (number, bytes) = (kept.last, size(&event));
        kept.bytes += bytes;
        kept.events.push_back(Numbered { number, event, bytes, text: Weak::new() });
        while kept.events.len() > EVENTS_MAX || (kept.bytes > BYTES_MAX && kept.events.len() > 1) {
            let oldest = kept.events.pop_front().map_or(0, |oldest| oldest.bytes);
            kept.bytes -= oldest;
        }
        self.newest.send_replace(number);
    }

    /// The number of the newest event, whenever there is one.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The text that names a position for a client.
    pub(super) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The position that a client names; without one, after the newest event.
    pub(super) fn position(&self, id: Option<&str>) -> Position {
        let last = self.kept.borrow().last;
        let Some(id) = id else { return Position::After(last) };
        match id.split_once('-') {
            Some((run, number)) if run == self.run => match number.parse() {
                Ok(number) if number <= last => Position::After(number),
                _ => Position::Unknown,
            },
            _ => Position::Unknown,
        }
    }

    /// The next events after a number. All readers share the text that `tell` makes of an event.
    pub(super) fn after(&self, number: u64, tell: impl Fn(&str, &Event) -> String) -> Taken {
        let mut kept = self.kept.borrow_mut();
        let start = kept.events.partition_point(|event| event.number <= number);
        let mut bytes = 0;
        let events: Vec<(u64, Arc<String>)> = kept
            .events
            .range_mut(start..)
            .take(TAKEN_MAX)
            .take_while(|event| {
                let is_room = bytes < TAKEN_BYTES_MAX;
                bytes += event.bytes;
                is_room
            })
            .map(|kept| {
                let id = self.id(kept.number);
                (kept.number, kept.text(|event| tell(&id, event)))
            })
            .collect();
        let next = events.first().map_or(kept.last + 1, |(number, _)| *number);
        Taken { missed: next.saturating_sub(number + 1), events }
    }

    /// The number before the oldest event that is kept.
    pub(super) fn start(&self) -> u64 {
        let kept = self.kept.borrow();
        kept.events.front().map_or(kept.last, |oldest| oldest.number - 1)
    }
}

impl Numbered {
    fn text(&mut self, tell: impl FnOnce(&Event) -> String) -> Arc<String> {
        self.text.upgrade().unwrap_or_else(|| {
            let text = Arc::new(tell(&self.event));
            self.text = Arc::downgrade(&text);
            text
        })
    }
}

/// About what an event occupies.
fn size(event: &Event) -> usize {
    const OF_MEMBER: usize = 128;
    std::mem::size_of::<Event>()
        + match event {
            Event::Member { members, .. } => members.len() * OF_MEMBER,
            Event::User { name, payload, .. } => name.len() + payload.len(),
            Event::Query { name, payload, source_node, .. } => name.len() + payload.len() + source_node.len(),
        }
}

#[cfg(test)]
mod tests {
    use thane_engine::wire::LamportTime;

    use super::*;

    fn event(bytes: usize) -> Arc<Event> {
        Arc::new(Event::User {
            ltime: LamportTime(1),
            name: "n".to_owned(),
            payload: vec![0; bytes].into(),
            coalesce: false,
        })
    }

    fn told(id: &str, _: &Event) -> String {
        id.to_owned()
    }

    fn numbers(taken: &Taken) -> Vec<u64> {
        taken.events.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_is_told_what_it_missed() {
        let ring = Ring::new();
        for _ in 0..EVENTS_MAX + 10 {
            ring.keep(event(0));
        }
        let taken = ring.after(4, told);
        assert_eq!(taken.missed, 6);
        assert_eq!(numbers(&taken), (11..11 + TAKEN_MAX as u64).collect::<Vec<_>>());
        let newest = (EVENTS_MAX + 10) as u64;
        let taken = ring.after(newest - 2, told);
        assert_eq!((taken.missed, numbers(&taken)), (0, vec![newest - 1, newest]));
        let taken = ring.after(newest, told);
        assert_eq!((taken.missed, numbers(&taken)), (0, vec![]));
        assert_eq!(ring.start(), 10);
    }

    #[test]
    fn readers_share_texts_and_take_few_long_events_at_a_time() {
        let ring = Ring::new();
        for _ in 0..3 {
            ring.keep(event(TAKEN_BYTES_MAX));
        }
        let (one, other) = (ring.after(0, told), ring.after(0, told));
        assert_eq!(numbers(&one), [1]);
        assert!(Arc::ptr_eq(&one.events[0].1, &other.events[0].1));
        drop((one, other));
        assert!(ring.kept.borrow().events[0].text.upgrade().is_none(), "no reader, no text");
    }

    #[test]
    fn ids_of_another_run_and_of_the_future_are_unknown() {
        let ring = Ring::new();
        ring.keep(event(0));
        ring.keep(event(0));
        assert_eq!(ring.position(Some(&ring.id(1))), Position::After(1));
        assert_eq!(ring.position(None), Position::After(2));
        for unknown in [ring.id(3).as_str(), "0-1", "", "x", &format!("{}-x", ring.run)] {
            assert_eq!(ring.position(Some(unknown)), Position::Unknown, "{unknown}");
        }
    }

    #[test]
    fn long_events_are_bounded_by_their_bytes() {
        let ring = Ring::new();
        for _ in 0..20 {
            ring.keep(event(1 << 20));
        }
        assert_eq!(ring.start(), 17);
        ring.keep(event(BYTES_MAX * 2));
        assert_eq!(numbers(&ring.after(0, told)), [21], "the newest one is always kept");
    }

    #[test]
    fn events_that_came_too_fast_count_as_missed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let ring = Ring::new();
            let (source, events) = broadcast::channel(2);
            for _ in 0..5 {
                assert!(source.send(event(0)).is_ok());
            }
            drop(source);
            ring.record(events).await;
            let taken = ring.after(0, told);
            assert_eq!((taken.missed, numbers(&taken)), (3, vec![4, 5]));
        });
    }
}
