//! Local health awareness (Lifeguard section 4.1): a node that misses acks lowers its own pace before it accuses
//! others.

use std::time::Duration;

/// The local health score: 0 is healthy; a score of h makes the probe interval h + 1 times as long.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Awareness {
    score: u32,
    /// The score stays below this (Lifeguard's S).
    multiplier_max: u32,
}

impl Awareness {
    /// Healthy.
    pub(crate) fn new(multiplier_max: u32) -> Awareness {
        Awareness { score: 0, multiplier_max }
    }

    /// The score, 0 to S - 1.
    pub(crate) fn score(self) -> u32 {
        self.score
    }

    /// Raises (or with a negative delta lowers) the score within its bounds.
    pub(crate) fn apply(&mut self, delta: i32) {
        self.score = self.score.saturating_add_signed(delta).min(self.multiplier_max - 1);
    }

    /// A duration stretched by the score.
    pub(crate) fn scale(self, duration: Duration) -> Duration {
        duration * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifeguard_4_1_score_stays_within_zero_and_the_maximum() {
        let mut awareness = Awareness::new(8);
        awareness.apply(-1);
        assert_eq!(awareness.score(), 0);
        awareness.apply(3);
        assert_eq!(awareness.scale(Duration::from_secs(1)), Duration::from_secs(4));
        awareness.apply(100);
        assert_eq!(awareness.score(), 7);
    }
}
