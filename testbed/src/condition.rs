//! What was wrong with each agent when, as far as the testbed itself did it: the yardstick for what agents report.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Reports that come so soon after a fault's end are still about the fault.
const GRACE: Duration = Duration::from_secs(15);
/// A report that was under way when the agent started again.
const RESTART_GRACE: Duration = Duration::from_secs(2);

/// How an agent is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) runs: bool,
    /// It stands still, is starved, or has no network.
    pub(crate) impaired: bool,
    /// Agents of different groups do not reach each other.
    pub(crate) group: u8,
    /// Its address in the cluster.
    pub(crate) ip: Option<IpAddr>,
}

/// The conditions that one agent was in, in the order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<(Instant, Condition)>);

impl Condition {
    pub(crate) const ABSENT: Condition = Condition { runs: false, impaired: false, group: 0, ip: None };
}

impl History {
    /// From now on it is like that.
    pub(crate) fn becomes(&mut self, at: Instant, condition: Condition) {
        if self.now() != condition {
            self.0.push((at, condition));
        }
    }

    pub(crate) fn now(&self) -> Condition {
        self.0.last().map_or(Condition::ABSENT, |(_, condition)| *condition)
    }

    pub(crate) fn at(&self, at: Instant) -> Condition {
        let before = self.0.iter().rfind(|(since, _)| *since <= at);
        before.map_or(Condition::ABSENT, |(_, condition)| *condition)
    }

    /// Whether it ran all the time from `from` to `to`, at one address.
    pub(crate) fn ran(&self, from: Instant, to: Instant) -> bool {
        let start = self.at(from);
        let same = |condition: &Condition| condition.runs && condition.ip == start.ip;
        same(&start)
            && self.0.iter().filter(|(at, _)| (from..=to).contains(at)).all(|(_, condition)| same(condition))
    }

    /// Whether it ran and could reach `other` all the time from `from` to `to`.
    pub(crate) fn reaches(&self, other: &History, from: Instant, to: Instant) -> bool {
        self.moments(from, to).chain(other.moments(from, to)).all(|at| {
            let (mine, theirs) = (self.at(at), other.at(at));
            mine.runs && theirs.runs && !mine.impaired && !theirs.impaired && mine.group == theirs.group
        })
    }

    /// Whether its group changed in the 15 seconds before: after a partition heals, what one side believed of the other
    /// travels for a moment, also to third members.
    pub(crate) fn regrouped_before(&self, at: Instant) -> bool {
        let changes = self.0.windows(2).filter(|pair| pair[0].1.group != pair[1].1.group);
        changes.map(|pair| pair[1].0).any(|change| change <= at && at - change <= GRACE)
    }

    fn moments(&self, from: Instant, to: Instant) -> impl Iterator<Item = Instant> {
        let changes = self.0.iter().map(|(at, _)| *at).filter(move |at| (from..=to).contains(at));
        [from, to].into_iter().chain(changes)
    }

    /// Whether a report by `observer` at `at` that this agent, at `addr`, has failed is false: it runs there, and no
    /// fault of this or the last 15 seconds lies between the two.
    pub(crate) fn is_false_failure(&self, observer: &History, at: Instant, addr: Option<IpAddr>) -> bool {
        let now = self.at(at);
        let is_here = now.runs && (addr.is_none() || addr == now.ip);
        let settled = |span| at.checked_sub(span).unwrap_or(at);
        is_here && self.ran(settled(RESTART_GRACE), at) && self.is_well_since(observer, settled(GRACE), at)
    }

    /// No impairment of either and no partition between them while both ran.
    fn is_well_since(&self, other: &History, from: Instant, to: Instant) -> bool {
        self.moments(from, to).chain(other.moments(from, to)).all(|at| {
            let (mine, theirs) = (self.at(at), other.at(at));
            let both = mine.runs && theirs.runs;
            !both || !mine.impaired && !theirs.impaired && mine.group == theirs.group
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(zero: Instant, seconds: u64) -> Instant {
        zero + Duration::from_secs(seconds)
    }

    fn well(ip: &str) -> Condition {
        Condition { runs: true, impaired: false, group: 0, ip: Some(ip.parse().unwrap()) }
    }

    #[test]
    fn a_report_about_a_running_reachable_member_is_false() {
        let zero = Instant::now() + Duration::from_secs(1000);
        let (mut subject, mut observer) = (History::default(), History::default());
        subject.becomes(zero, well("10.0.0.1"));
        observer.becomes(zero, well("10.0.0.2"));
        let here = "10.0.0.1".parse().ok();
        assert!(subject.is_false_failure(&observer, at(zero, 30), here));
        assert!(
            !subject.is_false_failure(&observer, at(zero, 30), "10.0.0.9".parse().ok()),
            "its former address"
        );
        subject.becomes(at(zero, 40), Condition { impaired: true, ..well("10.0.0.1") });
        assert!(!subject.is_false_failure(&observer, at(zero, 50), here), "it stood still");
        subject.becomes(at(zero, 60), well("10.0.0.1"));
        assert!(!subject.is_false_failure(&observer, at(zero, 70), here), "just before");
        assert!(subject.is_false_failure(&observer, at(zero, 80), here));
        observer.becomes(at(zero, 90), Condition { group: 1, ..well("10.0.0.2") });
        assert!(!subject.is_false_failure(&observer, at(zero, 100), here), "it was cut off");
        assert!(!observer.regrouped_before(at(zero, 89)) && observer.regrouped_before(at(zero, 91)));
        assert!(!observer.regrouped_before(at(zero, 106)));
    }

    #[test]
    fn a_restarted_member_is_there_again_after_two_seconds() {
        let zero = Instant::now() + Duration::from_secs(1000);
        let (mut subject, mut observer) = (History::default(), History::default());
        observer.becomes(zero, well("10.0.0.2"));
        subject.becomes(zero, well("10.0.0.1"));
        subject.becomes(at(zero, 20), Condition { runs: false, ..well("10.0.0.1") });
        assert!(!subject.is_false_failure(&observer, at(zero, 21), None), "it is down");
        subject.becomes(at(zero, 22), well("10.0.0.1"));
        assert!(!subject.is_false_failure(&observer, at(zero, 23), None), "the report was under way");
        assert!(subject.is_false_failure(&observer, at(zero, 26), None), "it runs again");
        assert!(!subject.ran(at(zero, 10), at(zero, 30)));
        assert!(subject.ran(at(zero, 23), at(zero, 30)));
        assert!(subject.reaches(&observer, at(zero, 23), at(zero, 30)));
        assert!(!subject.reaches(&observer, at(zero, 10), at(zero, 30)));
    }
}
