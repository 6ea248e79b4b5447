//! How long an ack may take, from the round trips that this node measured (the estimator of RFC 6298).

use std::time::Duration;

/// The shortest timeout: a receiver may run this late without being at fault.
const TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// A new round trip counts one of so many parts of the mean, ...
const MEAN_PARTS: u32 = 8;
/// ... and its distance from the mean one of so many parts of the deviation.
const DEVIATION_PARTS: u32 = 4;
/// The timeout is the mean and so many deviations.
const DEVIATIONS: u32 = 4;

/// Mean and deviation of the round trips to all members.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct RoundTrips {
    /// None before the first ack.
    mean: Option<Duration>,
    deviation: Duration,
}

impl RoundTrips {
    /// A direct ping was answered after that time.
    pub(super) fn add(&mut self, round_trip: Duration) {
        let Some(mean) = self.mean else {
            (self.mean, self.deviation) = (Some(round_trip), round_trip / 2);
            return;
        };
        let distance = mean.abs_diff(round_trip);
        self.deviation = self.deviation - self.deviation / DEVIATION_PARTS + distance / DEVIATION_PARTS;
        self.mean = Some(mean - mean / MEAN_PARTS + round_trip / MEAN_PARTS);
    }

    /// How long to wait for an ack, 50 ms to `max`; `max` before the first ack.
    pub(super) fn timeout(&self, max: Duration) -> Duration {
        let Some(mean) = self.mean else { return max };
        (mean + self.deviation * DEVIATIONS).max(TIMEOUT_MIN).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(250);

    #[test]
    fn the_timeout_is_the_mean_and_four_deviations_within_its_bounds() {
        let millis = Duration::from_millis;
        let mut trips = RoundTrips::default();
        assert_eq!(trips.timeout(MAX), MAX, "nothing was measured yet");
        trips.add(millis(40));
        // The first: 40 + 4 * 20.
        assert_eq!(trips.timeout(MAX), millis(120));
        trips.add(millis(48));
        // Mean 40 * 7/8 + 48/8 = 41, deviation 20 * 3/4 + 8/4 = 17.
        assert_eq!(trips.timeout(MAX), millis(109));
        (0..100).for_each(|_| trips.add(Duration::from_micros(300)));
        assert_eq!(trips.timeout(MAX), TIMEOUT_MIN);
        (0..100).for_each(|n| trips.add(millis(if n % 2 == 0 { 1 } else { 200 })));
        assert_eq!(trips.timeout(MAX), MAX);
    }
}
