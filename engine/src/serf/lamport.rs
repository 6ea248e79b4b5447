//! Lamport clocks (PROTOCOL 5.10).

use crate::wire::LamportTime;

/// Times from here on are refused: a clock that took one could not be incremented, and a single message would stop all
/// events of the cluster for good. At a million events a second this time is reached after 292,000 years.
const TIME_MAX: u64 = u64::MAX / 2;

/// A Lamport clock. It starts at 1 and never falls.
#[derive(Copy, Clone, Debug)]
pub(crate) struct LamportClock(u64);

impl LamportClock {
    /// A clock that saw `newest` in an earlier run; 0 if there was none.
    pub(crate) fn restored(newest: u64) -> LamportClock {
        let mut clock = LamportClock(1);
        clock.witness(LamportTime(newest));
        clock
    }

    /// The time of this node's next message.
    pub(crate) fn time(self) -> LamportTime {
        LamportTime(self.0)
    }

    /// Counts a message of this node.
    pub(crate) fn increment(&mut self) {
        self.0 += 1;
    }

    /// Witnesses the time of a message: the clock is later afterwards. Returns false if the time is refused;
    /// the clock is unchanged then.
    pub(crate) fn witness(&mut self, seen: LamportTime) -> bool {
        if seen.0 >= TIME_MAX {
            return false;
        }
        self.0 = self.0.max(seen.0 + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witnessed_time_is_past_and_the_clock_never_falls() {
        let mut clock = LamportClock::restored(0);
        assert_eq!(clock.time(), LamportTime(1));
        assert!(clock.witness(LamportTime(41)));
        assert_eq!(clock.time(), LamportTime(42));
        assert!(clock.witness(LamportTime(7)));
        clock.increment();
        assert_eq!(clock.time(), LamportTime(43));
        assert!(!clock.witness(LamportTime(u64::MAX)));
        assert_eq!(clock.time(), LamportTime(43));
    }
}
