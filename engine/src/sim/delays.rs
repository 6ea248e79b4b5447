//! How long things took: counts by millisecond.

use std::time::Duration;

/// Longest delay that is resolved: an hour.
const MILLIS_MAX: usize = 3_600_000;

/// Delays, exact to the millisecond.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    counts: Vec<u64>,
    total: u64,
}

impl Delays {
    /// One more.
    pub fn add(&mut self, delay: Duration) {
        let millis = (delay.as_micros().div_ceil(1000) as usize).min(MILLIS_MAX);
        if millis >= self.counts.len() {
            self.counts.resize(millis + 1, 0);
        }
        self.counts[millis] += 1;
        self.total += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The delay that this share of them does not exceed; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (millis, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_millis(millis as u64));
            }
        }
        None
    }

    /// The longest.
    pub fn max(&self) -> Option<Duration> {
        self.quantile(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        for millis in (1..=1000).rev() {
            delays.add(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            assert_eq!(delays.quantile(share), Some(Duration::from_millis(millis)), "{share}");
        }
        delays.add(Duration::from_secs(10_000));
        assert_eq!(delays.max(), Some(Duration::from_secs(3600)));
    }
}
