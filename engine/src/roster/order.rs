//! Members in the order of their points on the circle.

use super::{MemberIndex, Roster};

/// The members of a roster in the order of their points ([`super::circle::point_of`]).
#[derive(Copy, Clone)]
pub struct Order<'r> {
    pub(super) roster: &'r Roster,
}

impl<'r> Order<'r> {
    /// Members from the first whose point is not below `point`, once round the circle, with their points.
    pub fn successors(self, point: u64) -> impl Iterator<Item = (u64, MemberIndex)> + 'r {
        let place = self.first_at(point);
        self.with_points(self.roster.circle.from(place).chain(self.roster.circle.before(place)))
    }

    /// Members from the last whose point is below `point` backwards, once round the circle.
    pub fn predecessors(self, point: u64) -> impl Iterator<Item = (u64, MemberIndex)> + 'r {
        let place = self.first_at(point);
        let circle = &self.roster.circle;
        self.with_points(circle.before(place).rev().chain(circle.from(place).rev()))
    }

    /// Members with points from `first` to `last`, both included, in ascending order.
    pub fn range(self, first: u64, last: u64) -> impl Iterator<Item = (u64, MemberIndex)> + 'r {
        let place = self.first_at(first);
        self.with_points(self.roster.circle.from(place)).take_while(move |&(point, _)| point <= last)
    }

    /// The roster that it is an order of.
    pub(crate) fn roster(self) -> &'r Roster {
        self.roster
    }

    /// Members that have a place in the order. Those left out share a point with hundreds of others.
    pub fn len(self) -> usize {
        self.roster.circle.len()
    }

    /// Whether nobody has one.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn first_at(self, point: u64) -> usize {
        self.roster.circle.first_at(point, |member| self.roster.point(MemberIndex(member)))
    }

    fn with_points(
        self,
        members: impl Iterator<Item = u32> + 'r,
    ) -> impl Iterator<Item = (u64, MemberIndex)> + 'r {
        members.map(move |member| (self.roster.point(MemberIndex(member)), MemberIndex(member)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_order_follows_the_points_of_those_who_are_referred_to() {
        let mut roster = Roster::new(&mut Random::new(1));
        let members: Vec<MemberIndex> = (0..300).map(|n| roster.intern_name(&format!("n{n}"))).collect();
        members[..100].iter().for_each(|&gone| roster.release_name(gone));
        let mut expected: Vec<(u64, MemberIndex)> =
            members[100..].iter().map(|&member| (roster.point(member), member)).collect();
        expected.sort_unstable_by_key(|&(point, _)| point);
        let order = roster.order();
        assert_eq!(order.len(), 200);
        assert!(order.range(0, u64::MAX).eq(expected.iter().copied()));
        let (middle, _) = expected[77];
        let around: Vec<_> = order.successors(middle).collect();
        assert_eq!((around[0], around[199], around.len()), (expected[77], expected[76], 200));
        let back: Vec<_> = order.predecessors(middle).collect();
        assert_eq!((back[0], back[199], back.len()), (expected[76], expected[77], 200));
        assert!(order.range(middle, expected[80].0).eq(expected[77..=80].iter().copied()));
    }
}
