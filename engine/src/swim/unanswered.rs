//! Members that were heard of and never answered. Anybody can invent members: of those that gossip and exchanges
//! bring, a node takes so many, and more the more members it knows otherwise.

use std::time::Duration;

use crate::roster::MemberIndex;
use crate::time::Time;
use crate::view::{SwimState, View};

/// Members that never answered and are taken in any case. A fleet of 30,000 that starts at once is heard of within
/// seconds, long before a node has pinged more than a few of them.
pub(crate) const UNANSWERED_MIN: usize = 32_768;
/// Beyond that, so many for each member that answered or that the answer to this node's own join named.
const PER_ANSWERED: usize = 4;
/// Members that are gone are looked for this often at most.
const CLEANED_EVERY: Duration = Duration::from_secs(1);

/// One bit for each member that was heard of and never answered.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    bits: Vec<u64>,
    count: usize,
    cleaned: Option<Time>,
}

impl Unanswered {
    /// Whether one more may be added.
    pub(super) fn has_room(&mut self, view: &View, now: Time) -> bool {
        if self.count < UNANSWERED_MIN {
            return true;
        }
        if self.cleaned.is_none_or(|last| now.since(last) >= CLEANED_EVERY) {
            self.cleaned = Some(now);
            self.clean(view);
        }
        self.count < self.max(view)
    }

    /// A member was heard of.
    pub(super) fn add(&mut self, member: MemberIndex) {
        let place = member.0 as usize / 64;
        if self.bits.len() <= place {
            self.bits.resize(place + 1, 0);
        }
        let bit = 1 << (member.0 % 64);
        self.count += usize::from(self.bits[place] & bit == 0);
        self.bits[place] |= bit;
    }

    /// A member answered.
    pub(super) fn answered(&mut self, member: MemberIndex) {
        let Some(bits) = self.bits.get_mut(member.0 as usize / 64) else { return };
        let bit = 1 << (member.0 % 64);
        self.count -= usize::from(*bits & bit != 0);
        *bits &= !bit;
    }

    fn max(&self, view: &View) -> usize {
        let others = view.table_count().saturating_sub(self.count);
        UNANSWERED_MIN.max(PER_ANSWERED.saturating_mul(others))
    }

    /// Forgets members that are not in the table any more.
    fn clean(&mut self, view: &View) {
        for (place, bits) in self.bits.iter_mut().enumerate() {
            let mut rest = *bits;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                let member = MemberIndex(place as u32 * 64 + bit);
                if view.get(member).is_none_or(|known| known.swim == SwimState::Absent) {
                    *bits &= !(1 << bit);
                    self.count -= 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_count_once_until_they_answer() {
        let mut unanswered = Unanswered::default();
        for n in [0, 63, 64, 5000, 64] {
            unanswered.add(MemberIndex(n));
        }
        assert_eq!(unanswered.count, 4);
        for n in [64, 64, 1, 90_000] {
            unanswered.answered(MemberIndex(n));
        }
        assert_eq!(unanswered.count, 3);
        // Nobody is in the table.
        unanswered.clean(&View::default());
        assert_eq!(unanswered.count, 0);
    }
}
