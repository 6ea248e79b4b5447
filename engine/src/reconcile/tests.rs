//! Exchanges between two naive sets, compared with what their union must be.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::answer::{Head, Held, Holdings, Limits, Presence, answer, open};
use crate::digest::{Fingerprint, share};
use crate::random::Random;
use crate::wire::message::RECONCILE;
use crate::wire::reconcile::{PointRange, Reconcile, ReconcileSet, STEPS_MAX, Section};

const ALIVE: u8 = 0;
const LEAVING: u8 = 1;
const FAILED: u8 = 2;
const LEFT: u8 = 3;

/// A view as a map from point to incarnation and state; the larger pair wins, as in SWIM.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive {
    members: BTreeMap<u64, (u32, u8)>,
    /// Bytes of a record.
    record_bytes: usize,
}

impl Naive {
    fn alive(&self) -> BTreeMap<u64, (u32, u8)> {
        self.members
            .iter()
            .map(|(&point, &member)| (point, member))
            .filter(|(_, (_, state))| *state < FAILED)
            .collect()
    }

    fn apply(&mut self, record: &[u8]) {
        let point = u64::from_be_bytes(record[..8].try_into().unwrap());
        let incarnation = u32::from_be_bytes(record[8..12].try_into().unwrap());
        let (told, state) = ((incarnation, record[12]), record[12]);
        match self.members.get_mut(&point) {
            Some(known) => *known = told.max(*known),
            // Whoever never knew a member learns nothing from its departure.
            None if state < FAILED => drop(self.members.insert(point, told)),
            None => {}
        }
    }
}

impl Holdings for Naive {
    fn fingerprints(
        &self,
        range: PointRange,
        split: u8,
        work: &mut usize,
        into: &mut Vec<Fingerprint>,
    ) -> bool {
        let mut parts = vec![Fingerprint::default(); 1 << split];
        for (&point, &(incarnation, state)) in self.members.range(range.first()..=range.last()) {
            // A view keeps the sums of ranges of 7 bits.
            if range.bits() + split > 7 {
                let Some(left) = work.checked_sub(1) else { return false };
                *work = left;
            }
            if state < FAILED {
                parts[range.place_of(point, split)]
                    .add(share(point, u64::from(incarnation) << 2 | u64::from(state)));
            }
        }
        into.extend(parts);
        true
    }

    fn list(&self, first: u64, last: u64, work: &mut usize, into: &mut Vec<Held>) -> bool {
        for (&point, &(incarnation, state)) in self.members.range(first..=last) {
            let Some(left) = work.checked_sub(1) else { return false };
            *work = left;
            let (presence, standing) = match state {
                FAILED => (Presence::Gone, 0),
                LEFT => (Presence::Departed, 0),
                state => (Presence::Here, state),
            };
            let version = u64::from(incarnation) << 2 | u64::from(standing);
            into.push(Held { point, version, presence, handle: 0 });
        }
        true
    }

    fn record(&self, held: &Held, out: &mut Vec<u8>) {
        let (incarnation, state) = self.members[&held.point];
        out.extend_from_slice(&held.point.to_be_bytes());
        out.extend_from_slice(&incarnation.to_be_bytes());
        out.push(state);
        out.resize(out.len() + self.record_bytes.saturating_sub(13), 0);
    }

    fn rebuts(&self, record: &[u8]) -> Option<Held> {
        let (point, rest) = record.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (point, incarnation) = (u64::from_be_bytes(*point), u32::from_be_bytes(*incarnation));
        let &(known, state) = self.members.get(&point)?;
        let better = state >= FAILED && known >= incarnation && *rest.first()? < FAILED;
        better.then_some(Held { point, version: 0, presence: Presence::Gone, handle: 0 })
    }
}

fn head(salt: u32) -> Head<'static> {
    Head { set: ReconcileSet::Members, salt, from: "node-00001.example", clocks: [0; 2] }
}

/// One exchange. Returns the bytes of its messages.
fn exchange(sides: &mut [Naive; 2], salt: u32, limits: Limits) -> Vec<usize> {
    let mut bytes = open(&sides[0], head(salt), limits, Vec::new());
    let mut sizes = Vec::new();
    let mut to = 1;
    loop {
        assert!(bytes.len() <= limits.bytes, "{} bytes", bytes.len());
        assert_eq!(bytes[0], RECONCILE);
        sizes.push(bytes.len());
        let message = Reconcile::decode(&bytes[1..]).unwrap();
        assert_eq!(usize::from(message.step) + 1, sizes.len());
        let answered = answer(&message, &sides[to], head(salt), limits, Vec::new());
        for section in message.sections() {
            if let Section::Record(record) = section {
                sides[to].apply(record);
            }
        }
        match answered {
            Some(next) => bytes = next,
            None => return sizes,
        }
        to = 1 - to;
    }
}

fn datagram() -> Limits {
    Limits::datagram(1300)
}

/// Exchanges until both are alike; the side that begins changes.
fn settle(sides: &mut [Naive; 2], limits: Limits) -> usize {
    for round in 0..400 {
        if sides[0].alive() == sides[1].alive() {
            return round;
        }
        exchange(sides, round as u32 * 77 + 5, limits);
        sides.reverse();
    }
    panic!("not alike after 400 exchanges");
}

fn views(members: u32) -> [Naive; 2] {
    let mut random = Random::new(9);
    let all: BTreeMap<u64, (u32, u8)> = (0..members).map(|_| (random.u64(), (1, ALIVE))).collect();
    let naive = Naive { members: all, record_bytes: 70 };
    [naive.clone(), naive]
}

#[test]
fn one_difference_in_10_000_takes_4_messages_and_1_200_bytes_at_the_most() {
    let [whole, _] = views(10_000);
    let points: Vec<u64> = whole.members.keys().copied().collect();
    let mut worst = (0, 0);
    for place in [0, 17, 4_999, 7_777, 9_999] {
        let point = points[place];
        let mut missing = whole.clone();
        missing.members.remove(&point);
        let mut newer = whole.clone();
        newer.members.insert(point, (2, ALIVE));
        let mut gone = whole.clone();
        gone.members.insert(point, (1, FAILED));
        for other in [missing, newer, gone] {
            for mut sides in [[whole.clone(), other.clone()], [other.clone(), whole.clone()]] {
                let sizes = exchange(&mut sides, place as u32, datagram());
                assert!(sides[0].alive() == sides[1].alive(), "not alike");
                worst = (worst.0.max(sizes.len()), worst.1.max(sizes.iter().sum()));
            }
        }
    }
    assert!(worst.0 <= 4 && worst.1 <= 1200, "{} messages, {} bytes", worst.0, worst.1);
}

#[test]
fn equal_sets_are_found_equal_with_one_message() {
    let mut sides = views(5_000);
    assert_eq!(exchange(&mut sides, 1, datagram()).len(), 1);
}

#[test]
fn two_strangers_are_alike_after_one_exchange_over_a_stream() {
    let mut random = Random::new(4);
    let mut half = || {
        let members = (0..4_000).map(|_| (random.u64(), (1, ALIVE))).collect();
        Naive { members, record_bytes: 40 }
    };
    let mut sides = [half(), half()];
    let sizes = exchange(&mut sides, 3, Limits::stream());
    assert!(sides[0].alive() == sides[1].alive(), "not alike");
    assert_eq!(sides[0].members.len(), 8_000);
    assert_eq!(sizes.len(), 3, "list, records and wants, records");
    let records = 8_000 * 42;
    let rest = sizes.iter().sum::<usize>() - records;
    assert!(rest < 8_000 * 6, "{rest} bytes beside the records");
}

#[test]
fn an_exchange_ends_after_its_last_step() {
    let [side, _] = views(300);
    let mut bytes = open(&side, head(1), datagram(), Vec::new());
    bytes[3] = STEPS_MAX;
    let empty = Naive::default();
    let message = Reconcile::decode(&bytes[1..]).unwrap();
    assert!(answer(&message, &empty, head(1), datagram(), Vec::new()).is_none());
    bytes[3] = STEPS_MAX + 1;
    assert!(Reconcile::decode(&bytes[1..]).is_err());
}

#[test]
fn elements_that_share_all_their_bits_but_the_last_are_found() {
    let [mut one, mut two] = views(100);
    for low in 0..200u64 {
        one.members.insert(7 << 60 | low, (1, ALIVE));
        if low != 99 {
            two.members.insert(7 << 60 | low, (1, ALIVE));
        }
    }
    let mut sides = [one, two];
    settle(&mut sides, datagram());
}

/// A member as one of two views may know it: absent, or an incarnation and a state.
fn entry() -> impl Strategy<Value = Option<(u32, u8)>> {
    prop_oneof![
        3 => Just(None),
        12 => (1u32..4, prop_oneof![9 => Just(ALIVE), 1 => Just(LEAVING), 1 => Just(FAILED), 1 => Just(LEFT)])
            .prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_two_views_end_equal_and_nobody_gone_comes_back(
        same in 0usize..1500,
        differing in proptest::collection::vec((any::<u64>(), entry(), entry()), 0..120),
        over_stream in any::<bool>(),
    ) {
        let [mut one, mut two] = views(same as u32);
        for &(point, first, second) in &differing {
            for (side, member) in [(&mut one, first), (&mut two, second)] {
                side.members.extend(member.map(|member| (point, member)));
            }
        }
        let before = [one.clone(), two.clone()];
        let mut sides = [one, two];
        let limits = if over_stream { Limits::stream() } else { datagram() };
        let rounds = settle(&mut sides, limits);
        if rounds % 2 == 1 {
            sides.reverse();
        }
        let points = before.iter().flat_map(|side| side.members.keys().copied());
        for point in points.collect::<std::collections::BTreeSet<u64>>() {
            let known = [0, 1].map(|side| before[side].members.get(&point).copied());
            let newest = known.into_iter().flatten().max().unwrap();
            for side in [0, 1] {
                let held = sides[side].members.get(&point).copied();
                if newest.1 < FAILED {
                    prop_assert_eq!(held, Some(newest), "the newest news wins");
                } else {
                    prop_assert!(held.is_none_or(|held| held.1 >= FAILED), "a member that is gone came back");
                    prop_assert_eq!(held.is_none(), known[side].is_none(), "a departure made a member known");
                }
            }
        }
    }

    #[test]
    fn no_message_makes_an_answer_longer_than_allowed(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        kinds in proptest::collection::vec((0u8..7, 0u8..34, 0u32..300, 0u8..10), 0..40),
        seed in any::<u64>(),
    ) {
        // A head that is right, then sections that may be wrong.
        let mut random = Random::new(seed);
        let mut message = vec![1, 0, random.below(10) as u8, 1, 2, 3, 4, 1, b'x'];
        for (kind, bits, prefix, extra) in kinds {
            message.extend([kind, bits]);
            crate::wire::reconcile::write_number(&mut message, u64::from(prefix));
            message.push(extra);
            let fill = if kind == 1 { 4 << (extra & 7) } else { usize::from(extra) * 2 };
            message.extend((0..fill).map(|_| random.u64() as u8 & 0x3f));
        }
        let [side, _] = views(2_000);
        for candidate in [&message[..], &bytes[..]] {
            if let Ok(decoded) = Reconcile::decode(candidate) {
                let limits = Limits { work: 3_000, ..datagram() };
                let answered = answer(&decoded, &side, head(1), limits, Vec::new());
                prop_assert!(answered.is_none_or(|answered| answered.len() <= limits.bytes));
            }
        }
    }
}
