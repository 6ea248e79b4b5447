//! Models of the types that threads share, made of loom's atomics. Each gives the order between threads that the
//! real type promises, and no more, so that loom shows where the engine's code relies on more than that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use loom::thread::yield_now;

/// Values that a slot held, by number. Its lock adds no order between threads: loom does not know it and switches
/// threads only at its own types.
type Kept<T> = std::sync::Mutex<Vec<T>>;

fn keep<T>(kept: &Kept<T>, value: T) -> usize {
    let mut kept = kept.lock().unwrap();
    kept.push(value);
    kept.len() - 1
}

/// arc_swap's type: a pointer that is exchanged and followed. Allocated on first use, since a shard's ring has
/// many.
pub(crate) struct ArcSwapOption<T> {
    place: std::sync::OnceLock<AtomicUsize>,
    kept: Kept<Option<Arc<T>>>,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> ArcSwapOption<T> {
        ArcSwapOption { place: std::sync::OnceLock::new(), kept: Kept::new(vec![None]) }
    }

    fn place(&self) -> &AtomicUsize {
        self.place.get_or_init(|| AtomicUsize::new(0))
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        self.place().store(keep(&self.kept, value), Ordering::Release);
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        let place = self.place().load(Ordering::Acquire);
        self.kept.lock().unwrap()[place].clone()
    }
}

/// Capacity of a modelled queue, whatever capacity is asked for, so that the full queue is tested too.
pub(crate) const QUEUE_DEPTH: usize = 2;

/// crossbeam's type: slots are claimed by exchanging head and tail, and handed over by a stamp in each. The real
/// queue has fences where it finds itself empty or full; it does not promise them, so this one has none.
pub(crate) struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    stamps: [AtomicUsize; QUEUE_DEPTH],
    values: [std::sync::Mutex<Option<T>>; QUEUE_DEPTH],
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(_depth: usize) -> ArrayQueue<T> {
        ArrayQueue {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            stamps: std::array::from_fn(AtomicUsize::new),
            values: std::array::from_fn(|_| std::sync::Mutex::new(None)),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let stamp = self.stamps[tail % QUEUE_DEPTH].load(Ordering::Acquire);
            if stamp == tail {
                let claimed = self.tail.compare_exchange(tail, tail + 1, Ordering::SeqCst, Ordering::Relaxed);
                if claimed.is_ok() {
                    *self.values[tail % QUEUE_DEPTH].lock().unwrap() = Some(value);
                    self.stamps[tail % QUEUE_DEPTH].store(tail + 1, Ordering::Release);
                    return Ok(());
                }
            } else if stamp + QUEUE_DEPTH == tail + 1 {
                if self.head.load(Ordering::Relaxed) + QUEUE_DEPTH == tail {
                    return Err(value);
                }
                yield_now();
            } else {
                yield_now();
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let stamp = self.stamps[head % QUEUE_DEPTH].load(Ordering::Acquire);
            if stamp == head + 1 {
                let claimed = self.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
                if claimed.is_ok() {
                    let value = self.values[head % QUEUE_DEPTH].lock().unwrap().take();
                    self.stamps[head % QUEUE_DEPTH].store(head + QUEUE_DEPTH, Ordering::Release);
                    return Some(value.expect("a stamp stands for a value"));
                }
            } else if stamp == head {
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
                yield_now();
            } else {
                yield_now();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tail.load(Ordering::SeqCst) - self.head.load(Ordering::SeqCst)
    }
}

/// tokio's type: `notify_one` stores one permit; a future sees each `notify_waiters` since it was made.
pub(crate) struct Notify {
    calls: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    permit: bool,
    wakers: Vec<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Notify {
        Notify { calls: AtomicUsize::new(0), waiting: Mutex::new(Waiting::default()) }
    }

    /// At most one waiter waits where this is used.
    pub(crate) fn notify_one(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.permit = true;
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn notify_waiters(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        self.calls.fetch_add(1, Ordering::AcqRel);
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, calls: self.calls.load(Ordering::Acquire) }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    calls: usize,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.notify.waiting.lock().unwrap();
        let called = self.notify.calls.load(Ordering::Acquire) != self.calls;
        if called || std::mem::take(&mut waiting.permit) {
            return Poll::Ready(());
        }
        waiting.wakers.push(ctx.waker().clone());
        Poll::Pending
    }
}

/// std's type: the first caller makes the value, the others wait for it.
pub(crate) struct OnceLock<T> {
    made: AtomicBool,
    making: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { made: AtomicBool::new(false), making: Mutex::new(()), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.made.load(Ordering::Acquire).then(|| self.value.get().expect("it was made"))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if !self.made.load(Ordering::Acquire) {
            let _making = self.making.lock().unwrap();
            self.value.get_or_init(make);
            self.made.store(true, Ordering::Release);
        }
        self.value.get().expect("it was made")
    }
}
