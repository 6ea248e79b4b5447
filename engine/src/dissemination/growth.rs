//! Whether a node's view grows fast: then everybody's differ, and there is more news than forwarding is good for.

use std::time::Duration;

use crate::time::Time;

/// How often the size of the view is compared with the last one.
const INTERVAL: Duration = Duration::from_secs(1);
/// Fewer new members are no fast growth.
const MEMBERS_MIN: usize = 16;

/// Growth of a view over the last second or two.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Members at the last comparison, and when the next one is due. None before the first.
    compared: Option<(usize, Time)>,
    /// It grew fast between the last two comparisons.
    grew: bool,
    fast: bool,
}

impl Growth {
    /// Takes the present size of the view, after each input.
    pub(super) fn update(&mut self, now: Time, members: usize) {
        match self.compared {
            Some((before, due)) if now < due => self.fast = self.grew || grows_fast(before, members),
            last => {
                self.grew = last.is_some_and(|(before, _)| grows_fast(before, members));
                self.fast = self.grew;
                self.compared = Some((members, now + INTERVAL));
            }
        }
    }

    /// Whether the view grew by more than a fourth within a second, in this second or the one before.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }
}

/// With 100 members before: from 142 on.
fn grows_fast(before: usize, members: usize) -> bool {
    members > before + before / 4 + MEMBERS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_fast_from_a_fourth_a_second_on_and_for_one_second_more() {
        let mut growth = Growth::default();
        let at = |millis| Time::ZERO + Duration::from_millis(millis);
        for (millis, members, fast) in [
            (0, 100, false),
            (500, 141, false),
            (600, 142, true),
            (999, 200, true),
            (1_000, 200, true),
            (1_999, 200, true),
            (2_000, 200, false),
            (2_500, 267, true),
        ] {
            growth.update(at(millis), members);
            assert_eq!(growth.is_fast(), fast, "after {millis} ms, {members} members");
        }
        assert!(!Growth::default().is_fast(), "nothing to compare with yet");
    }
}
