//! What forwarding may send: how many bytes, to one member and to all, and how soon again.

use std::time::Duration;

use hashbrown::HashMap;

use crate::roster::MemberIndex;
use crate::time::Time;

/// Bytes within a gossip interval to one member. With 200 ms: 160 kB/s. A Go peer drops what waits beyond 1,024
/// messages, which have at least 32 bytes or so.
const MEMBER_BYTES_MAX: u64 = 32 * 1024;
/// Bytes within a gossip interval to all members. With 200 ms: 1.3 MB/s.
const TOTAL_BYTES_MAX: u64 = 256 * 1024;

/// The bytes of the running gossip interval. It may be exceeded by one packet.
#[derive(Debug, Default)]
pub(super) struct Budget {
    interval: u64,
    total: u64,
    members: HashMap<MemberIndex, u64, foldhash::fast::FixedState>,
}

impl Budget {
    /// Begins a new account if the gossip interval is over.
    pub(super) fn update(&mut self, now: Time, gossip_interval: Duration) {
        let interval = now.as_nanos() / (gossip_interval.as_nanos() as u64).max(1);
        if interval != self.interval {
            self.interval = interval;
            self.total = 0;
            self.members.clear();
        }
    }

    /// Whether there are bytes left, for any member.
    pub(super) fn has_rest(&self) -> bool {
        self.total < TOTAL_BYTES_MAX
    }

    /// Whether there are bytes left for that member.
    pub(super) fn admits(&self, member: MemberIndex) -> bool {
        self.has_rest() && self.members.get(&member).is_none_or(|&spent| spent < MEMBER_BYTES_MAX)
    }

    /// A packet went to a member.
    pub(super) fn spend(&mut self, member: MemberIndex, bytes: u64) {
        self.total += bytes;
        *self.members.entry(member).or_default() += bytes;
    }
}

/// So many turns come at once, ...
const TURNS_MAX: u32 = 8;
/// ... and one more each time this has passed. News that arrives in between shares packets.
const HOLD: Duration = Duration::from_millis(10);

/// How soon a node forwards again.
#[derive(Debug)]
pub(super) struct Pace {
    turns: u32,
    /// When the last turn was gained.
    gained: Time,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { turns: TURNS_MAX, gained: Time::ZERO }
    }
}

impl Pace {
    /// Takes a turn; or returns when there will be one.
    pub(super) fn take(&mut self, now: Time) -> Result<(), Time> {
        let gained = now.since(self.gained).as_nanos() / HOLD.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.turns = self.turns.saturating_add(gained).min(TURNS_MAX);
        if gained > 0 {
            self.gained = if self.turns == TURNS_MAX { now } else { self.gained + HOLD * gained };
        }
        match self.turns.checked_sub(1) {
            Some(rest) => {
                self.turns = rest;
                Ok(())
            }
            None => Err(self.gained + HOLD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_member_and_all_members_have_their_limits_within_an_interval() {
        let interval = Duration::from_millis(200);
        let mut budget = Budget::default();
        let (a, b) = (MemberIndex(1), MemberIndex(2));
        budget.update(at(10), interval);
        (0..32).for_each(|_| budget.spend(a, 1024));
        assert!(!budget.admits(a) && budget.admits(b));
        budget.update(at(199), interval);
        assert!(!budget.admits(a), "the interval is not over");
        (0..224).for_each(|n| budget.spend(MemberIndex(10 + n % 16), 1024));
        assert!(!budget.admits(b) && !budget.has_rest());
        budget.update(at(200), interval);
        assert!(budget.admits(a) && budget.has_rest());
    }

    #[test]
    fn a_few_turns_come_at_once_and_the_others_ten_milliseconds_apart() {
        let mut pace = Pace::default();
        for _ in 0..TURNS_MAX {
            assert_eq!(pace.take(at(1_003)), Ok(()));
        }
        assert_eq!(pace.take(at(1_003)), Err(at(1_013)));
        assert_eq!(pace.take(at(1_012)), Err(at(1_013)));
        assert_eq!(pace.take(at(1_013)), Ok(()));
        assert_eq!(pace.take(at(1_014)), Err(at(1_023)));
        assert_eq!(pace.take(at(1_043)), Ok(()));
        assert_eq!(pace.take(at(1_043)), Ok(()));
        assert_eq!(pace.take(at(1_043)), Ok(()));
        assert_eq!(pace.take(at(1_043)), Err(at(1_053)));
    }
}
