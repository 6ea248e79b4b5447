//! Suspicion timeouts that shrink as independent members confirm them (Lifeguard section 4.2).

use std::time::Duration;

use crate::roster::MemberIndex;
use crate::time::Time;

/// Accusers kept per suspicion. Serf's suspicion_mult - 2 stays far below it.
const ACCUSERS_MAX: usize = 16;

/// With fast detection: the timeout of a suspicion with all wanted confirmations, in probe intervals. News takes
/// milliseconds to everybody, so that it does not grow with the cluster.
const FAST_INTERVALS: u32 = 2;
/// A suspicion whose timer runs late is postponed at most so many times.
const POSTPONED_MAX: u32 = 3;

/// One running suspicion.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    /// Timers armed for an earlier state of this suspicion are stale.
    pub(crate) generation: u32,
    started: Time,
    min: Duration,
    max: Duration,
    /// Confirmations after which the timeout is at its minimum; 0: it starts there.
    wanted: u32,
    /// Comes on top of the timeout.
    delay: Duration,
    postponed: u32,
    due: Time,
    /// The first accuser, then those that confirmed. The suspicion holds a reference to each name.
    accusers: Vec<MemberIndex>,
}

impl Suspicion {
    /// A suspicion raised now by `from` in a cluster of `n` (PROTOCOL 9.1).
    pub(crate) fn new(
        from: MemberIndex,
        generation: u32,
        now: Time,
        n: usize,
        config: &crate::config::Config,
    ) -> Suspicion {
        let mut min = timeout_min(config.suspicion_mult, n, config.probe_interval);
        let max = min * config.suspicion_max_timeout_mult;
        let mut wanted = config.suspicion_mult.saturating_sub(2).min(ACCUSERS_MAX as u32 - 1);
        // Too few other members to confirm: the timeout is the minimum from the start.
        if n < 2 + wanted as usize {
            wanted = 0;
        }
        if config.fast_detection && wanted > 0 {
            min = config.probe_interval * FAST_INTERVALS;
        }
        let (delay, postponed) = (Duration::ZERO, 0);
        let accusers = vec![from];
        Suspicion { generation, started: now, min, max, wanted, delay, postponed, due: now, accusers }
    }

    /// Makes it last longer by that much. Where all members' suspicions end at one time, all would announce the death.
    pub(crate) fn delay(&mut self, by: Duration) {
        self.delay += by;
    }

    /// Makes it last longer by that much, unless that was done too often: false.
    pub(crate) fn postpone(&mut self, by: Duration) -> bool {
        let may = self.postponed < POSTPONED_MAX;
        if may {
            (self.postponed, self.delay) = (self.postponed + 1, self.delay + by);
        }
        may
    }

    /// Adds a confirmation. Returns true if it was new and wanted: then the suspicion takes over the caller's
    /// reference to the name, and the caller passes the accusation on.
    pub(crate) fn confirm(&mut self, from: MemberIndex) -> bool {
        if !self.wants_more() || self.accusers.contains(&from) {
            return false;
        }
        self.accusers.push(from);
        true
    }

    /// Accusers other than the first.
    pub(crate) fn confirmations(&self) -> u32 {
        self.accusers.len() as u32 - 1
    }

    /// Whether fewer members than wanted have confirmed it.
    pub(crate) fn wants_more(&self) -> bool {
        self.confirmations() < self.wanted
    }

    /// All accusers.
    pub(crate) fn accusers(&self) -> &[MemberIndex] {
        &self.accusers
    }

    /// When it runs out, as seen now: at once if a confirmation takes the deadline before this moment.
    pub(crate) fn arm(&mut self, now: Time) -> Time {
        self.due = self.deadline().max(now);
        self.due
    }

    /// For when it was armed last.
    pub(crate) fn due(&self) -> Time {
        self.due
    }

    fn deadline(&self) -> Time {
        self.started + self.delay + timeout(self.confirmations(), self.wanted, self.min, self.max)
    }
}

/// mult * max(1, log10(max(1, n))) * interval, the logarithm cut to thousandths as memberlist does.
/// With mult 4 and 1 s: n = 10: 4 s, n = 200: 9.204 s, n = 1000: 12 s.
pub(crate) fn timeout_min(mult: u32, n: usize, interval: Duration) -> Duration {
    let scale = libm::log10(n.max(1) as f64).max(1.0);
    let thousandths = (scale * 1000.0) as u32;
    interval * mult * thousandths / 1000
}

/// max - log(c + 1) / log(k + 1) * (max - min), cut to milliseconds and not below min; min at once where
/// no confirmation is wanted.
fn timeout(confirmations: u32, wanted: u32, min: Duration, max: Duration) -> Duration {
    if wanted == 0 {
        return min;
    }
    let share = libm::log(f64::from(confirmations) + 1.0) / libm::log(f64::from(wanted) + 1.0);
    let seconds = max.as_secs_f64() - share * (max.as_secs_f64() - min.as_secs_f64());
    Duration::from_millis((seconds.max(0.0) * 1000.0) as u64).max(min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifeguard_4_2_timeout_falls_logarithmically() {
        let (min, max) = (Duration::from_secs(2), Duration::from_secs(30));
        // Worked values of the formula with k = 3: 30 - log(c+1)/log(4) * 28.
        let expected = [30_000, 16_000, 7_810, 2_000];
        for (c, ms) in expected.into_iter().enumerate() {
            assert_eq!(timeout(c as u32, 3, min, max), Duration::from_millis(ms), "c = {c}");
        }
        assert_eq!(timeout(0, 0, min, max), min);
    }

    #[test]
    fn the_minimum_grows_with_the_logarithm_of_the_cluster() {
        let second = Duration::from_secs(1);
        assert_eq!(timeout_min(4, 5, second), Duration::from_secs(4));
        assert_eq!(timeout_min(4, 10, second), Duration::from_secs(4));
        assert_eq!(timeout_min(4, 200, second), Duration::from_millis(9_204));
        assert_eq!(timeout_min(4, 1000, second), Duration::from_millis(12_000));
    }
}
