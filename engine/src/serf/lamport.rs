//! Lamport clocks (PROTOCOL 5.10), and how far a message may move one.
//!
//! In Serf one message with the largest time silences a cluster for good: every clock takes it, and no later message
//! is newer. Here a time above [`TIME_MAX`] is refused from anybody, and one message moves a clock by at most
//! [`STEP_MAX`]. Only the answer to this node's own join may move it further, because a new node has to reach the
//! cluster's time. All nodes refuse by the same rule, so no clock runs ahead of what the others accept.

use crate::time::Time;
use crate::wire::LamportTime;

/// The largest time that is accepted: a quarter of the range. At a million messages a second a cluster reaches it
/// after 146,000 years.
const TIME_MAX: u64 = u64::MAX / 4;
/// The farthest that one message moves a clock. A node that was away for 49 days misses that many messages at a
/// thousand a second.
const STEP_MAX: u64 = 1 << 32;
/// A step beyond this is a large one, of which [`LARGE_STEPS_MAX`] are accepted in a second: `TIME_MAX` is then
/// three years of such messages away.
const LARGE_STEP: u64 = 1 << 20;
const LARGE_STEPS_MAX: u8 = 10;

/// A Lamport clock. It starts at 1 and never falls.
#[derive(Copy, Clone, Debug)]
pub(crate) struct LamportClock {
    time: u64,
    /// Large steps in the second `second`.
    large_steps: u8,
    second: u32,
}

impl LamportClock {
    /// A clock that saw `newest` in an earlier run; 0 if there was none. A time that no peer would accept is not
    /// taken: a snapshot that holds one heals.
    pub(crate) fn restored(newest: u64) -> LamportClock {
        let time = if is_valid(newest) { newest + 1 } else { 1 };
        LamportClock { time, large_steps: 0, second: 0 }
    }

    /// The time that this node's next message carries.
    pub(crate) fn time(self) -> LamportTime {
        LamportTime(self.time)
    }

    /// Whether other nodes would refuse this node's next message.
    pub(crate) fn is_exhausted(self) -> bool {
        !is_valid(self.time)
    }

    /// Counts a message of this node.
    pub(crate) fn increment(&mut self) {
        self.time += 1;
    }

    /// Takes note of the time of a message: the clock is then later. False if the time is refused; the clock is
    /// then unchanged.
    #[inline]
    pub(crate) fn witness(&mut self, seen: LamportTime, now: Time) -> bool {
        seen.0 < self.time && is_valid(seen.0) || self.advance(seen, now)
    }

    fn advance(&mut self, seen: LamportTime, now: Time) -> bool {
        let step = seen.0.saturating_sub(self.time);
        if !is_valid(seen.0) || step > STEP_MAX || step > LARGE_STEP && !self.takes_large_step(now) {
            return false;
        }
        self.time = self.time.max(seen.0 + 1);
        true
    }

    /// Takes note of the time of the cluster that this node joins: any valid time. False if the time is refused.
    pub(crate) fn witness_joined(&mut self, seen: LamportTime) -> bool {
        if is_valid(seen.0) {
            self.time = self.time.max(seen.0 + 1);
        }
        is_valid(seen.0)
    }

    fn takes_large_step(&mut self, now: Time) -> bool {
        let second = (now.as_nanos() / 1_000_000_000) as u32;
        if self.second != second {
            (self.second, self.large_steps) = (second, 0);
        }
        let takes = self.large_steps < LARGE_STEPS_MAX;
        self.large_steps += u8::from(takes);
        takes
    }
}

/// Whether nodes accept the time.
pub(crate) fn is_valid(time: u64) -> bool {
    time <= TIME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;

    #[test]
    fn a_witnessed_time_is_past_and_the_clock_never_falls() {
        let mut clock = LamportClock::restored(0);
        assert_eq!(clock.time(), LamportTime(1));
        assert!(clock.witness(LamportTime(41), NOW));
        assert_eq!(clock.time(), LamportTime(42));
        assert!(clock.witness(LamportTime(7), NOW));
        clock.increment();
        assert_eq!(clock.time(), LamportTime(43));
    }

    #[test]
    fn one_message_moves_a_clock_by_a_bounded_step_only() {
        let mut clock = LamportClock::restored(0);
        for seen in [u64::MAX, u64::MAX - 1, i64::MAX as u64 - 1, TIME_MAX + 1, TIME_MAX, STEP_MAX + 2] {
            assert!(!clock.witness(LamportTime(seen), NOW), "{seen}");
            assert_eq!(clock.time(), LamportTime(1), "a refused time changes nothing");
        }
        assert!(clock.witness(LamportTime(STEP_MAX + 1), NOW));
        assert_eq!(clock.time(), LamportTime(STEP_MAX + 2));
    }

    #[test]
    fn large_steps_are_few_in_a_second() {
        let mut clock = LamportClock::restored(0);
        let large = |clock: LamportClock| LamportTime(clock.time().0 + LARGE_STEP + 1);
        let taken = (0..100).filter(|_| clock.witness(large(clock), NOW)).count();
        assert_eq!(taken, usize::from(LARGE_STEPS_MAX));
        assert!(clock.witness(LamportTime(clock.time().0 + LARGE_STEP), NOW), "ordinary steps go on");
        assert!(clock.witness(large(clock), Time::from_nanos(1_000_000_000)));
    }

    #[test]
    fn a_join_may_take_the_clusters_time_but_none_that_is_invalid() {
        let mut clock = LamportClock::restored(0);
        assert!(!clock.witness_joined(LamportTime(TIME_MAX + 1)));
        assert!(clock.witness_joined(LamportTime(TIME_MAX)));
        assert!(clock.is_exhausted(), "what this node would send now is refused by others");
    }

    #[test]
    fn a_poisoned_snapshot_heals() {
        assert_eq!(LamportClock::restored(i64::MAX as u64 - 1).time(), LamportTime(1));
        assert_eq!(LamportClock::restored(TIME_MAX - 1).time(), LamportTime(TIME_MAX));
        assert!(!LamportClock::restored(TIME_MAX - 1).is_exhausted());
    }
}
