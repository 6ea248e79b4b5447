//! A broadcast ring from a shard to any number of readers on other threads: one writer, which never waits. Each
//! reader has its own place; one that lags by more than the ring loses the oldest values and is told how many.
//!
//! Values are exchanged without locks. Only waking readers that sleep takes a short one, when some do.

use std::sync::Arc;

use super::sync::{ArcSwapOption, AtomicBool, AtomicU64, AtomicUsize, Notify, Ordering, fence};
use crate::event::Event;

/// Events of one shard that readers may lag behind.
const WATCH_DEPTH: usize = 8192;

/// An event of one of a shard's nodes.
#[derive(Clone, Debug)]
pub struct NodeEvent {
    /// Which node.
    pub node: Arc<str>,
    /// What.
    pub event: Event,
}

/// Reads the events of all nodes of one shard, from when it was made.
pub type Watch = RingReader<NodeEvent>;

/// Where a shard's events go while anybody watches.
pub(crate) type WatchRing = Ring<NodeEvent>;

impl WatchRing {
    pub(crate) fn for_shard() -> Arc<WatchRing> {
        Ring::new(WATCH_DEPTH)
    }
}

/// The ring. Slots get memory when they are first written.
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

    /// Whether anybody reads; else nothing needs to be written.
    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Writes a value. Only one thread may: values written at the same moment by another would be lost.
    pub(crate) fn write(&self, value: T) {
        let number = self.written.load(Ordering::Relaxed);
        self.slots[self.slot(number)].store(Some(Arc::new((number, value))));
        self.written.store(number + 1, Ordering::Release);
        self.arrived.notify_waiters();
    }

    /// No more values will come.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_waiters();
    }

    /// A reader that gets what is written from now on.
    pub(crate) fn reader(self: &Arc<Self>) -> RingReader<T> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        RingReader { ring: Arc::clone(self), at: self.written.load(Ordering::Acquire), lost: 0 }
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }
}

/// One reader's place in a ring.
pub struct RingReader<T> {
    ring: Arc<Ring<T>>,
    at: u64,
    lost: u64,
}

impl<T> RingReader<T> {
    /// The next value, if there is one. The number with it counts all values of the ring.
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
            // The writer has just put a newer value there, so this one is lost.
            self.lost += 1;
            self.at += 1;
        }
    }

    /// Waits for the next value. None once the writer has ended and all values were read.
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

    /// Values that were lost because this reader lagged.
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
