//! The digest of a view: what two peers compare in order to see whether their views are equal.
//!
//! It is a sum, so that it is kept up to date in O(1) and does not depend on the order of changes. Sums of 128
//! equal ranges of the circle are kept beside it: a reconciliation then looks at none but the ranges that differ.

use crate::roster::circle::finish;
use crate::wire::Incarnation;
use crate::wire::reconcile::PointRange;

/// Ranges whose sums are kept, as a power of two.
pub(crate) const KEPT_BITS: u8 = 7;
const KEPT: usize = 1 << KEPT_BITS;

/// An element's share of a sum: 64 bits that depend on all bits of its point and version. The hash has no key
/// and is part of the protocol. Worked value: point 1 and version 4 give `0xb4a0472e578069ae`.
#[inline]
pub(crate) fn share(point: u64, version: u64) -> u64 {
    finish(point ^ version.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The version of a member that is alive: the higher incarnation is newer; of one incarnation, one that has
/// announced its leave differs from one that has not.
#[inline]
pub(crate) fn member_version(incarnation: Incarnation, leaving: bool) -> u64 {
    u64::from(incarnation.0) << 2 | u64::from(leaving)
}

/// A sum of shares and how many they are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) sum: u64,
    pub(crate) count: u32,
}

impl Fingerprint {
    #[inline]
    pub(crate) fn add(&mut self, share: u64) {
        self.sum = self.sum.wrapping_add(share);
        self.count += 1;
    }

    #[inline]
    fn subtract(&mut self, share: u64) {
        self.sum = self.sum.wrapping_sub(share);
        self.count -= 1;
    }

    /// What travels of the sum in an exchange with that salt.
    pub(crate) fn salted(self, salt: u32) -> u32 {
        (finish(self.sum ^ u64::from(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32) as u32
    }
}

/// The digest of one view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest {
    alive: Fingerprint,
    /// Members that failed or left, with the time of the newest intent about them.
    gone: u64,
    ranges: Option<Box<[Fingerprint; KEPT]>>,
}

impl Digest {
    /// All members that are alive.
    pub(crate) fn alive(&self) -> Fingerprint {
        self.alive
    }

    /// A sum over those that failed or left. Nodes that joined at different times don't know the same of them.
    pub(crate) fn gone(&self) -> u64 {
        self.gone
    }

    /// A member is alive from now on, with that version.
    #[inline]
    pub(crate) fn enter(&mut self, point: u64, version: u64) {
        let share = share(point, version);
        self.alive.add(share);
        self.range_of(point).add(share);
    }

    /// A member of that version is not alive any more, or has another version from now on.
    #[inline]
    pub(crate) fn depart(&mut self, point: u64, version: u64) {
        let share = share(point, version);
        self.alive.subtract(share);
        self.range_of(point).subtract(share);
    }

    /// A member failed or left; `fact` says which, and when.
    pub(crate) fn enter_gone(&mut self, point: u64, fact: u64) {
        self.gone = self.gone.wrapping_add(share(point, fact));
    }

    /// That is so no more.
    pub(crate) fn depart_gone(&mut self, point: u64, fact: u64) {
        self.gone = self.gone.wrapping_sub(share(point, fact));
    }

    /// The fingerprint of a range as far as it follows from the sums that are kept.
    pub(crate) fn range(&self, range: PointRange) -> Option<Fingerprint> {
        let narrower = KEPT_BITS.checked_sub(range.bits())?;
        let Some(ranges) = &self.ranges else { return Some(Fingerprint::default()) };
        let first = (range.prefix() as usize) << narrower;
        let mut whole = Fingerprint::default();
        for part in &ranges[first..first + (1 << narrower)] {
            whole.sum = whole.sum.wrapping_add(part.sum);
            whole.count += part.count;
        }
        Some(whole)
    }

    #[inline]
    fn range_of(&mut self, point: u64) -> &mut Fingerprint {
        let ranges = self.ranges.get_or_insert_with(|| Box::new([Fingerprint::default(); KEPT]));
        &mut ranges[(point >> (64 - KEPT_BITS)) as usize]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    #[test]
    fn shares_are_part_of_the_protocol() {
        assert_eq!(share(1, 4), 0xb4a0_472e_5780_69ae);
        assert_eq!(member_version(Incarnation(7), true), 29);
    }

    #[test]
    fn a_digest_depends_on_what_is_in_and_not_on_how_it_came() {
        let mut random = Random::new(3);
        let elements: Vec<(u64, u64)> = (0..500).map(|n| (random.u64(), n % 9)).collect();
        let (mut one, mut two) = (Digest::default(), Digest::default());
        elements.iter().for_each(|&(point, version)| one.enter(point, version));
        for &(point, version) in elements.iter().rev() {
            two.enter(point, version + 1);
            two.depart(point, version + 1);
            two.enter(point, version);
        }
        assert_eq!(one.alive(), two.alive());
        assert_eq!(one.alive().count, 500);
        for (bits, prefix) in [(0, 0), (1, 1), (4, 9), (7, 0), (7, 127)] {
            let range = PointRange::new(bits, prefix).unwrap();
            let mut expected = Fingerprint::default();
            let inside = elements.iter().filter(|(point, _)| (range.first()..=range.last()).contains(point));
            inside.for_each(|&(point, version)| expected.add(share(point, version)));
            assert_eq!(one.range(range), Some(expected), "{range:?}");
            assert_eq!(two.range(range), Some(expected), "{range:?}");
        }
        assert_eq!(one.range(PointRange::new(8, 3).unwrap()), None);
        two.depart(elements[7].0, elements[7].1);
        assert_ne!(one.alive(), two.alive());
    }
}
