//! A broadcast ring from a shard to any number of readers on other threads. The one writer never waits. Each
//! reader has its own position; a reader that lags by more than the ring's depth loses the oldest values and
//! counts them.
//!
//! Values are exchanged without locks. Only waking sleeping readers takes a short lock.

use std::sync::Arc;

use super::sync::{ArcSwapOption, AtomicBool, AtomicU64, AtomicUsize, Notify, Ordering, fence};
use crate::event::Event;

/// Depth of a shard's ring, events.
const WATCH_DEPTH: usize = 8192;

/// An event of one of a shard's nodes.
#[derive(Clone, Debug)]
pub struct NodeEvent {
    /// The node's name.
    pub node: Arc<str>,
    /// The event, after coalescing.
    pub event: Event,
}

/// Reads the events of all nodes of one shard, beginning with the first after it was made.
pub type Watch = RingReader<NodeEvent>;

/// A shard's events, while there is a reader.
pub(crate) type WatchRing = Ring<NodeEvent>;

impl WatchRing {
    pub(crate) fn for_shard() -> Arc<WatchRing> {
        Ring::new(WATCH_DEPTH)
    }
}

/// The ring. A slot allocates when it is first written.
pub(crate) struct Ring<T> {
    slots: Box<[ArcSwapOption<(u64, T)>]>,
    /// Values written so far.
    written: AtomicU64,
    readers: AtomicUsize,
    closed: AtomicBool,
    arrived: Notify,
}

impl<T> Ring<T> {
    pub(crate) fn new(depth: usize) -> Arc<Ring<T>> {
        Arc::new(Ring {
            slots: (0..depth).map(|_| ArcSwapOption::empty()).collect(),
            written: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            arrived: Notify::new(),
        })
    }

    /// Whether there is a reader; otherwise nothing needs to be written.
    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Writes a value. Only one thread may write: concurrent writers would overwrite each other's values.
    pub(crate) fn write(&self, value: T) {
        let number = self.written.load(Ordering::Relaxed);
        self.slots[self.slot(number)].store(Some(Arc::new((number, value))));
        self.written.store(number + 1, Ordering::Release);
        self.arrived.notify_waiters();
    }

    /// Marks the end: readers return `None` after the last value.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_waiters();
    }

    /// A reader of the values written from now on.
    pub(crate) fn reader(self: &Arc<Self>) -> RingReader<T> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        RingReader { ring: Arc::clone(self), at: self.written.load(Ordering::Acquire), lost: 0 }
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }
}

/// A reader of a ring, with its own position.
pub struct RingReader<T> {
    ring: Arc<Ring<T>>,
    at: u64,
    lost: u64,
}

impl<T> RingReader<T> {
    /// The next value with its number, counted from the ring's first value; `None` if there is none yet.
    pub fn try_next(&mut self) -> Option<Arc<(u64, T)>> {
        let depth = self.ring.slots.len() as u64;
        loop {
            let written = self.ring.written.load(Ordering::Acquire);
            if self.at == written {
                return None;
            }
            let oldest = written.saturating_sub(depth);
            if self.at < oldest {
                self.lost += oldest - self.at;
                self.at = oldest;
            }
            let found = self.ring.slots[self.ring.slot(self.at)].load_full();
            if let Some(value) = found.filter(|value| value.0 == self.at) {
                self.at += 1;
                return Some(value);
            }
            // The writer has just overwritten this value.
            self.lost += 1;
            self.at += 1;
        }
    }

    /// Waits for the next value; `None` once the writer has ended and all values were read. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<(u64, T)>> {
        let ring = Arc::clone(&self.ring);
        loop {
            let arrived = ring.arrived.notified();
            let closed = ring.closed.load(Ordering::Acquire);
            if let Some(value) = self.try_next() {
                return Some(value);
            }
            if closed {
                return None;
            }
            arrived.await;
        }
    }

    /// The number of values that this reader lost because it lagged.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl<T> Drop for RingReader<T> {
    fn drop(&mut self) {
        self.ring.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> std::fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} written)", self.written.load(Ordering::Relaxed))
    }
}

impl<T> std::fmt::Debug for RingReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RingReader(at {}, {} lost)", self.at, self.lost)
    }
}
