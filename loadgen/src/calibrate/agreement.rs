//! Whether two samples agree: their medians are equal within a tolerance, or a rank test finds no difference that it
//! has the power to find.

use std::fmt;

use crate::spread::{Spread, short};

/// Medians that differ by less are called equal, whatever a test says of samples that hardly vary.
const TOLERANCE: f64 = 0.02;
/// Of equal distributions one in a hundred pairs of samples is called different.
const SIGNIFICANCE: f64 = 0.01;
/// The quantiles of the normal distribution for that, two-sided, and for a power of 80 %.
const Z_SIGNIFICANCE: f64 = 2.576;
const Z_POWER: f64 = 0.842;
/// A test counts if with 80 % probability it notices that one side's value is the larger one in so many of a hundred
/// pairs; beyond it the samples are too small to call that agreement.
const NOTICED_MAX: f64 = 0.9;

/// What a comparison of two samples says.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Agreement {
    /// The medians differ by at most [`TOLERANCE`].
    EqualMedians,
    /// The rank test finds no difference at [`SIGNIFICANCE`]. With 80 % probability it would notice that one side's
    /// value is the larger one in this share of pairs.
    SameRanks { p: f64, noticed: f64 },
    /// The test finds a difference.
    Differs { p: f64, real: f64, simulated: f64 },
    /// Medians differ, and the samples are too small for the test.
    Undecided { real: f64, simulated: f64 },
}

impl Agreement {
    /// Compares the values of a real side and the simulated ones; none if one side has no values.
    pub(crate) fn of(real: &Spread, simulated: &Spread) -> Option<Agreement> {
        let (a, b) = (real.range()?.median, simulated.range()?.median);
        if (b - a).abs() <= a.abs() * TOLERANCE {
            return Some(Agreement::EqualMedians);
        }
        let noticed = noticed(real.values().len(), simulated.values().len());
        let p = rank_test(real.values(), simulated.values());
        Some(if p < SIGNIFICANCE {
            Agreement::Differs { p, real: a, simulated: b }
        } else if noticed > NOTICED_MAX {
            Agreement::Undecided { real: a, simulated: b }
        } else {
            Agreement::SameRanks { p, noticed }
        })
    }

    /// Whether they agree; none if the samples are too small to say so.
    pub(crate) fn agrees(self) -> Option<bool> {
        match self {
            Agreement::EqualMedians | Agreement::SameRanks { .. } => Some(true),
            Agreement::Differs { .. } => Some(false),
            Agreement::Undecided { .. } => None,
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Agreement::EqualMedians => write!(f, "agree: medians within {:.0} %", TOLERANCE * 100.0),
            Agreement::SameRanks { p, noticed } => {
                write!(f, "agree: p = {p:.2}, would notice {:.0} of 100", noticed * 100.0)
            }
            Agreement::Differs { p, real, simulated } => {
                write!(f, "differ: simulated {}, p = {p:.4}", apart(real, simulated))
            }
            Agreement::Undecided { real, simulated } => {
                write!(f, "undecided: simulated {}, too few values", apart(real, simulated))
            }
        }
    }
}

fn apart(real: f64, simulated: f64) -> String {
    let apart = simulated - real;
    if real == 0.0 { format!("{} more", short(apart)) } else { format!("{:+.0} %", apart / real * 100.0) }
}

/// The probability that samples of one distribution differ as much: Mann and Whitney's test, two-sided, with the
/// normal approximation, corrected for ties and for continuity.
fn rank_test(one: &[f64], other: &[f64]) -> f64 {
    let (n, m) = (one.len() as f64, other.len() as f64);
    let mut all: Vec<(f64, bool)> = one.iter().map(|&value| (value, true)).collect();
    all.extend(other.iter().map(|&value| (value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut before) = (0.0, 0.0, 0.0);
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let count = same.len() as f64;
        let rank = before + (count + 1.0) / 2.0;
        rank_sum += rank * same.iter().filter(|(_, of_one)| *of_one).count() as f64;
        ties += count.powi(3) - count;
        before += count;
    }
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    libm::erfc(z / std::f64::consts::SQRT_2)
}

/// In which share of pairs one side's value has to be the larger one, so that the test notices it with 80 %
/// probability (Noether's formula). Above 1 it notices nothing.
fn noticed(n: usize, m: usize) -> f64 {
    let (total, share) = ((n + m) as f64, n as f64 / (n + m) as f64);
    let z = Z_SIGNIFICANCE + Z_POWER;
    0.5 + z / (12.0 * share * (1.0 - share) * total).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
        Spread::of(values.into_iter().collect())
    }

    #[test]
    fn the_rank_test_has_its_worked_values() {
        let first: Vec<f64> = (1..=5).map(f64::from).collect();
        let second: Vec<f64> = (6..=10).map(f64::from).collect();
        // U = 0, mean 12.5, variance 25 * 11 / 12: z = 12 / 4.787
        assert!((rank_test(&first, &second) - 0.0122).abs() < 0.0001, "{}", rank_test(&first, &second));
        assert_eq!(rank_test(&first, &first), 1.0);
        assert_eq!(rank_test(&[3.0; 5], &[3.0; 9]), 1.0, "nothing but ties");
        assert!((noticed(25, 25) - 0.779).abs() < 0.001, "{}", noticed(25, 25));
    }

    #[test]
    fn equal_medians_and_equal_ranks_agree_and_a_shift_does_not() {
        let real = spread((0..25).map(|n| 1.0 + f64::from(n * 7 % 25) / 25.0));
        let shifted = |by: f64| spread((0..25).map(|n| 1.0 + by + f64::from(n) / 25.0));
        let verdict = |by: f64| Agreement::of(&real, &shifted(by)).unwrap();
        assert_eq!(verdict(0.01), Agreement::EqualMedians);
        assert!(matches!(verdict(0.1), Agreement::SameRanks { .. }), "{}", verdict(0.1));
        assert!(matches!(verdict(0.4), Agreement::Differs { .. }), "{}", verdict(0.4));
        assert_eq!(verdict(0.4).agrees(), Some(false));
        assert!(verdict(0.1).to_string().starts_with("agree: p = 0."), "{}", verdict(0.1));
        assert!(verdict(0.1).to_string().ends_with("would notice 78 of 100"), "{}", verdict(0.1));
        assert!(
            verdict(0.4).to_string().starts_with("differ: simulated +27 %, p = 0.00"),
            "{}",
            verdict(0.4)
        );
    }

    #[test]
    fn ranges_that_overlap_do_not_agree_for_that_alone() {
        // One outlier on each side: all but one of the values differ.
        let real = spread([1.0; 24].into_iter().chain([9.0]));
        let simulated = spread([2.0; 24].into_iter().chain([0.5]));
        assert_eq!(Agreement::of(&real, &simulated).unwrap().agrees(), Some(false));
    }

    #[test]
    fn few_values_decide_nothing_unless_their_medians_are_equal() {
        let few = |values: [f64; 3]| spread(values);
        let undecided = Agreement::of(&few([1.0, 2.0, 3.0]), &few([4.0, 5.0, 6.0])).unwrap();
        assert_eq!(undecided.agrees(), None);
        assert_eq!(undecided.to_string(), "undecided: simulated +150 %, too few values");
        let zero = Agreement::of(&few([0.0; 3]), &few([2.0, 3.0, 4.0])).unwrap();
        assert_eq!(zero.to_string(), "undecided: simulated 3 more, too few values");
        assert_eq!(Agreement::of(&few([0.0; 3]), &few([0.0; 3])).unwrap().agrees(), Some(true));
        assert_eq!(Agreement::of(&Spread::default(), &few([1.0; 3])), None);
    }
}
