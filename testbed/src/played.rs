//! One run of one scenario on one kind of cluster.

use clap::ValueEnum;

use crate::judge::Verdict;
use crate::outcome::Outcome;
use crate::scenario::Scenario;

/// A kind of cluster.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Against {
    /// All Serf.
    Serf,
    /// All Thane, disseminating as it does by default.
    Thane,
    /// All Thane, disseminating as Serf does.
    Classic,
    /// All Thane, disseminating eagerly.
    Eager,
    /// Thane and Serf.
    Mixed,
}

/// One run of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) scenario: Scenario,
    pub(crate) against: Against,
    pub(crate) nodes: u32,
    pub(crate) outcome: Outcome,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Against {
    /// The dissemination policy that its Thane agents are configured with; none is their default.
    pub(crate) fn dissemination(self) -> Option<&'static str> {
        match self {
            Against::Classic => Some("classic"),
            Against::Eager => Some("eager"),
            Against::Serf | Against::Thane | Against::Mixed => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Against::Serf => "serf",
            Against::Thane => "thane",
            Against::Classic => "classic",
            Against::Eager => "eager",
            Against::Mixed => "mixed",
        }
    }

    /// Share of its Serf agents, where a mixed cluster has `mixed`.
    pub(crate) fn serf_share(self, mixed: f64) -> f64 {
        match self {
            Against::Serf => 1.0,
            Against::Thane | Against::Classic | Against::Eager => 0.0,
            Against::Mixed => mixed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_shares() {
        let shares = [Against::Serf, Against::Eager, Against::Mixed].map(|kind| kind.serf_share(0.25));
        assert_eq!(shares, [1.0, 0.0, 0.25]);
    }
}
