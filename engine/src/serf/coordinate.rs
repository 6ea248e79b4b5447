//! Network coordinates: from the round trips of its probes a node computes its place relative to others, and
//! estimates the round trip between any two members (Vivaldi, Dabek et al. 2004, with the heights of its
//! section 5.4; adjustment and gravity after Ledlie et al. 2007; the parameters are Serf's, PROTOCOL 5.9).
//!
//! A coordinate travels in the ack to a direct ping. Takes memory from the first such ack on.

use std::time::Duration;

use hashbrown::HashMap;

use crate::random::Random;
use crate::roster::MemberIndex;
use crate::wire::coordinate::{Coordinate, DIMENSIONS, magnitude};

/// Largest relative error of an estimate that is kept.
const ERROR_MAX: f64 = 1.5;
/// How fast the error follows what is measured (the paper's c_e).
const ERROR_RATE: f64 = 0.25;
/// How far a measurement moves the coordinate (the paper's c_c).
const MOVE_RATE: f64 = 0.25;
/// Measurements that the adjustment averages.
const ADJUSTMENT_WINDOW: usize = 20;
/// Least height, seconds.
const HEIGHT_MIN: f64 = 1e-5;
/// Round trips per member whose median counts.
const FILTER_SAMPLES: usize = 3;
/// Distance from the origin, seconds, at which gravity pulls with one second.
const GRAVITY_RHO: f64 = 150.0;
/// Below this a distance is none, seconds.
const ZERO: f64 = 1e-6;
/// Longer round trips are no measurements.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// The coordinate of a node, and those that it received of others.
#[derive(Default)]
pub(crate) struct Coordinates {
    own: Coordinate,
    seen: HashMap<MemberIndex, Seen, foldhash::fast::FixedState>,
    adjustments: [f64; ADJUSTMENT_WINDOW],
    next_adjustment: usize,
    /// How often this node's coordinate got a number that is not finite and started again.
    resets: u64,
}

/// What is kept of another member: single precision is a tenth of a microsecond in a second.
#[derive(Copy, Clone, Default)]
struct Seen {
    vec: [f32; DIMENSIONS],
    error: f32,
    adjustment: f32,
    height: f32,
    round_trips: [f32; FILTER_SAMPLES],
    samples: u8,
}

impl Coordinates {
    /// This node's coordinate.
    pub(crate) fn own(&self) -> &Coordinate {
        &self.own
    }

    /// How often this node's coordinate started again.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// The coordinate of a member as of its last ack.
    pub(crate) fn of(&self, member: MemberIndex) -> Option<Coordinate> {
        self.seen.get(&member).map(|seen| Coordinate {
            vec: seen.vec.map(f64::from),
            error: f64::from(seen.error),
            adjustment: f64::from(seen.adjustment),
            height: f64::from(seen.height),
        })
    }

    /// Forgets a member.
    pub(crate) fn forget(&mut self, member: MemberIndex) {
        self.seen.remove(&member);
    }

    /// A member acked a direct ping. Returns false if the round trip is too long to count.
    pub(crate) fn observe(
        &mut self,
        member: MemberIndex,
        other: &Coordinate,
        round_trip: Duration,
        random: &mut Random,
    ) -> bool {
        if round_trip > ROUND_TRIP_MAX {
            return false;
        }
        let seen = self.seen.entry(member).or_default();
        seen.vec = other.vec.map(|place| place as f32);
        seen.error = other.error as f32;
        seen.adjustment = other.adjustment as f32;
        seen.height = other.height as f32;
        let seconds = seen.filter(round_trip.as_secs_f64()).max(ZERO);
        self.follow(other, seconds, random);
        self.adjust(other, seconds);
        let pull = Coordinate::default().round_trip_to(&self.own) / GRAVITY_RHO;
        push(&mut self.own, -pull * pull, &Coordinate::default(), random);
        if !is_finite(&self.own) {
            self.own = Coordinate::default();
            self.resets += 1;
        }
        true
    }

    fn follow(&mut self, other: &Coordinate, seconds: f64, random: &mut Random) {
        let estimate = self.own.round_trip_to(other);
        let wrong = (estimate - seconds).abs() / seconds;
        let weight = self.own.error / (self.own.error + other.error).max(ZERO);
        let error = ERROR_RATE * weight * wrong + self.own.error * (1.0 - ERROR_RATE * weight);
        self.own.error = error.min(ERROR_MAX);
        push(&mut self.own, MOVE_RATE * weight * (seconds - estimate), other, random);
    }

    fn adjust(&mut self, other: &Coordinate, seconds: f64) {
        self.adjustments[self.next_adjustment] = seconds - self.own.plain_round_trip_to(other);
        self.next_adjustment = (self.next_adjustment + 1) % ADJUSTMENT_WINDOW;
        self.own.adjustment = self.adjustments.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }
}

impl Seen {
    /// Adds a round trip. Returns the median of the last three: a single slow packet changes nothing.
    fn filter(&mut self, seconds: f64) -> f64 {
        if usize::from(self.samples) == FILTER_SAMPLES {
            self.round_trips.rotate_left(1);
            self.samples -= 1;
        }
        self.round_trips[usize::from(self.samples)] = seconds as f32;
        self.samples += 1;
        let mut sorted = self.round_trips;
        let sorted = &mut sorted[..usize::from(self.samples)];
        sorted.sort_unstable_by(f32::total_cmp);
        f64::from(sorted[sorted.len() / 2])
    }
}

/// Moves a coordinate away from another one (a negative force: towards it), into a random direction if they
/// are at the same place.
fn push(moved: &mut Coordinate, force: f64, from: &Coordinate, random: &mut Random) {
    let mut direction = moved.difference(from);
    let mut apart = magnitude(&direction);
    if apart <= ZERO {
        direction = std::array::from_fn(|_| random.unit() - 0.5);
        apart = 0.0;
    }
    let length = magnitude(&direction).max(f64::MIN_POSITIVE);
    for (place, towards) in moved.vec.iter_mut().zip(direction) {
        *place += towards / length * force;
    }
    if apart > ZERO {
        moved.height = ((moved.height + from.height) * force / apart + moved.height).max(HEIGHT_MIN);
    }
}

fn is_finite(coordinate: &Coordinate) -> bool {
    let Coordinate { vec, error, adjustment, height } = coordinate;
    vec.iter().chain([error, adjustment, height]).all(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: f64 = 1e-3;

    /// Lets nodes with known round trips measure each other at random. Returns the relative errors of all
    /// estimates, smallest first.
    fn errors_after(rounds: u32, round_trip: impl Fn(usize, usize) -> f64, nodes: usize) -> Vec<f64> {
        let mut random = Random::new(3);
        let mut all: Vec<Coordinates> = (0..nodes).map(|_| Coordinates::default()).collect();
        for _ in 0..rounds {
            for a in 0..nodes {
                let b = (a + 1 + random.below(nodes as u32 - 1) as usize) % nodes;
                let other = *all[b].own();
                let measured = Duration::from_secs_f64(round_trip(a, b));
                assert!(all[a].observe(MemberIndex(b as u32), &other, measured, &mut random));
            }
        }
        let mut errors = Vec::new();
        for a in 0..nodes {
            for b in 0..a {
                let estimate = all[a].own().round_trip_to(all[b].own());
                errors.push((estimate - round_trip(a, b)).abs() / round_trip(a, b));
            }
        }
        errors.sort_unstable_by(f64::total_cmp);
        errors
    }

    #[test]
    fn estimates_of_a_line_of_nodes_come_close() {
        let line = |a: usize, b: usize| (2.0 + 10.0 * a.abs_diff(b) as f64) * MILLI;
        let errors = errors_after(500, line, 12);
        let median = errors[errors.len() / 2];
        assert!(median < 0.05, "{median}");
        assert!(errors[errors.len() - 1] < 0.5, "{errors:?}");
    }

    #[test]
    fn two_sites_are_told_apart() {
        let sites = |a: usize, b: usize| if a % 2 == b % 2 { MILLI } else { 80.0 * MILLI };
        let errors = errors_after(1000, sites, 10);
        assert!(errors[errors.len() * 9 / 10] < 0.5, "{errors:?}");
    }

    /// CRD-1 and CRD-4: towards the origin by (distance / 150 s) squared, whatever was measured.
    #[test]
    fn gravity_pulls_to_the_origin_with_the_square_of_the_distance() {
        for (place, pull) in [(1.5, 1e-4), (15.0, 1e-2), (0.0, 0.0)] {
            let at = |place: f64| {
                let mut vec = [0.0; DIMENSIONS];
                vec[0] = place;
                Coordinate { vec, ..Coordinate::default() }
            };
            let mut coordinates = Coordinates { own: at(place), ..Coordinates::default() };
            // The round trip is what the estimate says, so the measurement itself moves nothing.
            let other = at(place + 0.1);
            let measured = Duration::from_secs_f64(coordinates.own().round_trip_to(&other));
            assert!(coordinates.observe(MemberIndex(1), &other, measured, &mut Random::new(1)));
            let moved = place - coordinates.own().vec[0];
            assert!((moved - pull).abs() <= 1e-4 * pull + 1e-8, "{moved} from {place}");
        }
    }

    #[test]
    fn one_slow_packet_counts_for_nothing() {
        let mut seen = Seen::default();
        assert_eq!(seen.filter(1.0), 1.0);
        seen.filter(1.0);
        assert_eq!(seen.filter(9.0), 1.0);
        assert_eq!(seen.filter(1.0), 1.0);
    }

    #[test]
    fn a_round_trip_of_over_ten_seconds_is_none() {
        let mut random = Random::new(1);
        let mut coordinates = Coordinates::default();
        let other = Coordinate::default();
        assert!(!coordinates.observe(MemberIndex(1), &other, Duration::from_secs(11), &mut random));
        assert!(coordinates.of(MemberIndex(1)).is_none());
    }

    #[test]
    fn extreme_coordinates_of_others_end_in_a_fresh_start() {
        let mut random = Random::new(1);
        let mut coordinates = Coordinates::default();
        let other = Coordinate { height: f64::MAX, error: f64::MIN_POSITIVE, ..Coordinate::default() };
        for _ in 0..100 {
            coordinates.observe(MemberIndex(1), &other, Duration::from_millis(1), &mut random);
            assert!(is_finite(coordinates.own()));
        }
    }
}
