//! The machine's clock as the core sees it.

use std::time::{Duration, Instant};

use crate::time::Time;

/// A monotonic clock. Its origin is one hour before it was made, so that subtracting from a time does not reach
/// below zero.
#[derive(Copy, Clone, Debug)]
pub(crate) struct MonotonicClock {
    started: Instant,
}

const HEAD_START: Duration = Duration::from_secs(3600);

impl MonotonicClock {
    pub(crate) fn start() -> MonotonicClock {
        MonotonicClock { started: Instant::now() }
    }

    /// The current time.
    pub(crate) fn now(self) -> Time {
        Time::ZERO + HEAD_START + self.started.elapsed()
    }

    /// The same time on the machine's clock.
    pub(crate) fn instant(self, at: Time) -> Instant {
        self.started + at.since(Time::ZERO + HEAD_START)
    }
}
