//! The machine's clock as the core sees it.

use std::time::{Duration, Instant};

use crate::time::Time;

/// A monotonic clock with its origin one hour before it was made, so that no protocol time is near zero.
#[derive(Copy, Clone, Debug)]
pub(crate) struct MonotonicClock {
    started: Instant,
}

const HEAD_START: Duration = Duration::from_secs(3600);

impl MonotonicClock {
    pub(crate) fn start() -> MonotonicClock {
        MonotonicClock { started: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(self) -> Time {
        Time::ZERO + HEAD_START + self.started.elapsed()
    }

    /// When that time is on the machine's clock.
    pub(crate) fn instant(self, at: Time) -> Instant {
        self.started + at.since(Time::ZERO + HEAD_START)
    }
}
