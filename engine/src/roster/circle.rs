//! The circle: all member names of a roster in the order of a fixed hash, for dissemination over a segment
//! graph and for range reconciliation.
//!
//! Each member is the point [`point_of`] of its name on a circle of 2^64. The index is a table of 4-byte member
//! indices with linear probing from `point * slots / 2^64`. Entries stay sorted by point (the ordered form of
//! Robin Hood hashing), so that a look-up starts where the point would lie and a walk in hash order reads the
//! table from one end to the other. At most three quarters of the slots are taken and a rebuilt table takes one and
//! a half slots per member, so that a member costs 5.3 to 8 bytes.
//!
//! Insertion is lazy: a new member is noted, and gets its slot when somebody asks for an order. A join of 50,000
//! members then sorts them once. One circle serves all nodes of a Context; a node filters by what its own view knows.

/// The point of a member on the circle.
///
/// The hash is fixed, without a key, and part of the protocol: every node of a cluster, whatever its version and
/// machine, must place a name at the same point. It reads the name in little-endian words of 8 bytes, the last one
/// padded with zeros, and ends with the finalizer of SplitMix64. Worked values: `point_of("")` is 0,
/// `point_of("n1")` is `0xe05dad6232806424`.
///
/// ```text
/// h = length * 0x9e3779b97f4a7c15
/// for each word w:  h = (h ^ w) * 0xd6e8feb86659fd93;  h = h ^ (h >> 32)
/// point = finish(h)
/// ```
pub fn point_of(name: &str) -> u64 {
    point_of_bytes(name.as_bytes())
}

#[inline]
pub(crate) fn point_of_bytes(name: &[u8]) -> u64 {
    let (words, rest) = name.as_chunks::<8>();
    let mut hash = (name.len() as u64).wrapping_mul(LENGTH_FACTOR);
    for word in words {
        hash = absorb(hash, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = absorb(hash, u64::from_le_bytes(word));
    }
    finish(hash)
}

const LENGTH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

#[inline]
fn absorb(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(WORD_FACTOR);
    hash ^ hash >> 32
}

/// SplitMix64's finalizer: every bit of the input changes half of the bits of the output.
#[inline]
pub(crate) fn finish(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// A slot that holds nobody.
const EMPTY: u32 = u32::MAX;
/// Longest way from a member's home slot to its slot, and the most slots one insertion moves. Honest names stay
/// below 400 at a million members; names that were made to share a point would make every step long.
const REACH_MAX: usize = 1024;
/// Fewest slots of a table, without those behind its end.
const SLOTS_MIN: usize = 16;

/// Members by index, in the order of their points. The roster that owns it looks the points up.
#[derive(Debug, Default)]
pub(crate) struct Circle {
    /// In order of points; [`REACH_MAX`] more than there are homes, for what is displaced at the end.
    slots: Vec<u32>,
    /// Members in `slots`.
    placed: usize,
    /// Members that have no slot yet.
    noted: Vec<u32>,
    /// Members that found no slot within reach: they share their place with too many others.
    outside: Vec<u32>,
}

impl Circle {
    /// Notes a new member.
    pub(crate) fn insert(&mut self, member: u32) {
        self.noted.push(member);
    }

    /// Takes a member out. `points` gives the point of any member that was inserted, this one included.
    pub(crate) fn remove(&mut self, member: u32, points: impl Fn(u32) -> u64) {
        if let Some(place) = self.noted.iter().rev().take(REACH_MAX).position(|&noted| noted == member) {
            self.noted.swap_remove(self.noted.len() - 1 - place);
            return;
        }
        self.settle(&points);
        match self.find(member, &points) {
            Some(place) => self.close_gap(place, &points),
            None => self.outside.retain(|&outside| outside != member),
        }
        if (self.placed + self.outside.len()) * 2 < self.homes() && self.homes() > SLOTS_MIN {
            self.rebuild(&points);
        } else if !self.outside.is_empty() {
            // One of those outside may find a slot now.
            let waiting = self.outside.swap_remove(0);
            self.place(waiting, &points);
        }
    }

    /// Frees a slot.
    fn close_gap(&mut self, mut place: usize, points: impl Fn(u32) -> u64) {
        // What lies behind moves back, up to the first that lies at home.
        while let Some(&next) = self.slots.get(place + 1)
            && next != EMPTY
            && self.home(points(next)) <= place
        {
            self.slots[place] = next;
            place += 1;
        }
        self.slots[place] = EMPTY;
        self.placed -= 1;
    }

    /// Gives everybody noted a slot. Before any look-up.
    pub(crate) fn settle(&mut self, points: impl Fn(u32) -> u64) {
        if self.noted.is_empty() {
            return;
        }
        if (self.placed + self.noted.len()) * 4 > self.homes() * 3 {
            return self.rebuild(points);
        }
        for member in std::mem::take(&mut self.noted) {
            self.place(member, &points);
        }
    }

    /// The slot of the first member whose point is not below `point`; the number of slots if there is none.
    pub(crate) fn first_at(&self, point: u64, points: impl Fn(u32) -> u64) -> usize {
        if self.placed == 0 {
            return self.slots.len();
        }
        let mut place = self.home(point);
        while let Some(&member) = self.slots.get(place) {
            if member != EMPTY && points(member) >= point {
                return place;
            }
            place += 1;
        }
        place
    }

    /// Members from a slot on to the end of the circle, in the order of their points.
    pub(crate) fn from(&self, place: usize) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.slots[place..].iter().copied().filter(|&member| member != EMPTY)
    }

    /// Members before a slot, in the order of their points.
    pub(crate) fn before(&self, place: usize) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.slots[..place].iter().copied().filter(|&member| member != EMPTY)
    }

    /// Members that have a slot.
    pub(crate) fn len(&self) -> usize {
        self.placed
    }

    /// Bytes that the table takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        (self.slots.capacity() + self.noted.capacity() + self.outside.capacity()) * size_of::<u32>()
    }

    fn homes(&self) -> usize {
        self.slots.len().saturating_sub(REACH_MAX)
    }

    #[inline]
    fn home(&self, point: u64) -> usize {
        ((u128::from(point) * self.homes() as u128) >> 64) as usize
    }

    fn find(&self, member: u32, points: impl Fn(u32) -> u64) -> Option<usize> {
        let point = points(member);
        let mut place = self.first_at(point, &points);
        // Equal points are rare, and bounded by the reach.
        while let Some(&other) = self.slots.get(place)
            && other != EMPTY
            && points(other) == point
        {
            if other == member {
                return Some(place);
            }
            place += 1;
        }
        None
    }

    /// Gives one member a slot; puts it outside if none is free within reach.
    fn place(&mut self, member: u32, points: impl Fn(u32) -> u64) {
        let point = points(member);
        let home = self.home(point);
        let mut place = home;
        while let Some(&other) = self.slots.get(place)
            && other != EMPTY
            && points(other) <= point
        {
            place += 1;
            if place - home >= REACH_MAX {
                return self.outside.push(member);
            }
        }
        let reach = place + REACH_MAX;
        let Some(free) = (place..reach.min(self.slots.len())).find(|&free| self.slots[free] == EMPTY) else {
            return self.outside.push(member);
        };
        self.slots.copy_within(place..free, place + 1);
        self.slots[place] = member;
        self.placed += 1;
    }

    /// Sorts everybody into a table of the right size.
    fn rebuild(&mut self, points: impl Fn(u32) -> u64) {
        let placed = self.slots.iter().copied().filter(|&member| member != EMPTY);
        let waiting = self.noted.drain(..).chain(self.outside.drain(..));
        let mut order: Vec<(u64, u32)> =
            placed.chain(waiting).map(|member| (points(member), member)).collect();
        order.sort_unstable();
        (self.noted, self.outside) = (Vec::new(), Vec::new());
        let homes = (order.len() + order.len() / 2).max(SLOTS_MIN);
        self.slots = Vec::new();
        self.slots.reserve_exact(homes + REACH_MAX);
        self.slots.resize(homes + REACH_MAX, EMPTY);
        self.placed = 0;
        let mut next = 0;
        for (point, member) in order {
            let home = self.home(point);
            let place = home.max(next);
            if place - home >= REACH_MAX {
                self.outside.push(member);
                continue;
            }
            self.slots[place] = member;
            self.placed += 1;
            next = place + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::random::Random;

    /// A circle beside what it must equal: members by point.
    struct Twin {
        circle: Circle,
        points: BTreeMap<u32, u64>,
        order: BTreeSet<(u64, u32)>,
    }

    impl Twin {
        fn new() -> Twin {
            Twin { circle: Circle::default(), points: BTreeMap::new(), order: BTreeSet::new() }
        }

        fn insert(&mut self, member: u32, point: u64) {
            self.points.insert(member, point);
            self.order.insert((point, member));
            self.circle.insert(member);
        }

        fn remove(&mut self, member: u32) {
            let points = &self.points;
            self.circle.remove(member, |member| points[&member]);
            if let Some(point) = self.points.remove(&member) {
                self.order.remove(&(point, member));
            }
        }

        fn check(&mut self, random: &mut Random) {
            let Twin { circle, points, order } = self;
            circle.settle(|member| points[&member]);
            let all: Vec<u64> = circle.from(0).map(|member| points[&member]).collect();
            assert!(all.iter().eq(order.iter().map(|(point, _)| point)), "not in order");
            let members: BTreeSet<u32> = circle.from(0).collect();
            assert!(members.iter().eq(points.keys()), "somebody is missing");
            for _ in 0..20 {
                let point = random.u64();
                let place = circle.first_at(point, |member| points[&member]);
                let next = order.range((point, 0)..).next();
                assert_eq!(circle.from(place).next().map(|member| points[&member]), next.map(|next| next.0));
                let before = order.range(..(point, 0)).next_back();
                let found = circle.before(place).next_back().map(|member| points[&member]);
                assert_eq!(found, before.map(|before| before.0));
            }
        }
    }

    #[test]
    fn keeps_the_order_of_points_through_any_insertions_and_removals() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut twin = Twin::new();
            let mut next = 0;
            for _ in 0..60 {
                let (inserted, removed) = (random.below(80), random.below(60));
                for _ in 0..inserted {
                    // Some points are shared by several members, some lie at the very ends.
                    let point = match random.below(10) {
                        0 => 7 << 60,
                        1 => u64::MAX - u64::from(random.below(3)),
                        2 => u64::from(random.below(3)),
                        _ => random.u64(),
                    };
                    twin.insert(next, point);
                    next += 1;
                    if random.below(30) == 0 {
                        twin.check(&mut random);
                    }
                }
                for _ in 0..removed.min(twin.points.len() as u32) {
                    let place = random.below(twin.points.len() as u32) as usize;
                    let member = twin.points.keys().copied().nth(place).expect("the place exists");
                    twin.remove(member);
                }
                twin.check(&mut random);
            }
        }
    }

    #[test]
    fn a_member_costs_at_most_8_bytes_beside_the_reach() {
        let mut random = Random::new(5);
        let mut twin = Twin::new();
        for member in 0..20_000 {
            twin.insert(member, random.u64());
            if member % 1000 == 999 {
                let points = &twin.points;
                twin.circle.settle(|member| points[&member]);
                let bytes = twin.circle.bytes() - REACH_MAX * size_of::<u32>();
                assert!(bytes <= 8 * (member as usize + 1), "{bytes} bytes for {member} members");
            }
        }
        for member in 0..19_000 {
            twin.remove(member);
            let bytes = twin.circle.bytes() - REACH_MAX * size_of::<u32>();
            assert!(bytes <= 8 * twin.points.len() + 64, "{bytes} bytes for {} members", twin.points.len());
        }
        twin.check(&mut random);
    }

    #[test]
    fn names_that_share_a_point_cost_bounded_work_and_displace_few_others() {
        let mut random = Random::new(6);
        let mut twin = Twin::new();
        for member in 0..3_000 {
            twin.insert(member, random.u64());
        }
        let points = std::cell::Cell::new(0u64);
        for member in 3_000..8_000 {
            twin.insert(member, 1 << 63);
            if member % 500 == 0 {
                let known = &twin.points;
                twin.circle.settle(|member| {
                    points.set(points.get() + 1);
                    known[&member]
                });
            }
        }
        let looked = points.replace(0);
        assert!(looked < 5_000 * 3 * REACH_MAX as u64, "{looked} points looked at by 5,000 insertions");
        let listed: BTreeSet<u32> = twin.circle.from(0).collect();
        // Those whose homes lie in the reach behind the shared point.
        let others = (0..3_000).filter(|member| !listed.contains(member)).count();
        assert!(others < 30, "{others} of 3,000 honest members have no slot");
        for member in 3_000..8_000 {
            let known = &twin.points;
            twin.circle.remove(member, |member| {
                points.set(points.get() + 1);
                known[&member]
            });
            twin.points.remove(&member);
            twin.order.remove(&(1 << 63, member));
        }
        let looked = points.get();
        assert!(looked < 5_000 * 5 * REACH_MAX as u64, "{looked} points looked at by 5,000 removals");
        twin.check(&mut random);
    }

    #[test]
    fn points_are_part_of_the_protocol() {
        assert_eq!(point_of(""), 0);
        assert_eq!(point_of("n1"), 0xe05d_ad62_3280_6424);
        assert_eq!(point_of("n2"), 0xf0e2_19f1_d877_bdd8);
        assert_eq!(point_of("web-17.example.com"), 0x2423_f50b_1d8b_4721);
    }

    #[test]
    fn names_with_numbers_spread_evenly() {
        // Worst of 256 equal ranges: 10,000 uniform points put 39 into each on average, hardly ever above 75.
        let mut ranges = [0; 256];
        for number in 0..10_000 {
            ranges[(point_of(&format!("node-{number:05}.cluster")) >> 56) as usize] += 1;
        }
        assert!(ranges.iter().all(|&count| (10..80).contains(&count)), "{ranges:?}");
    }
}
