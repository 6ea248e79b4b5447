//! One timer wheel for all nodes of a Context.
//!
//! Entries are keyed by node, kind, subject and generation. Scheduling is O(1). Timers are not cancelled: a node
//! raises its generation and ignores timers of an older one.
//! Deadlines are rounded up to [`TICK`], entries of one tick fire in the order they were scheduled
//! (a cascade keeps it), so a run is reproducible.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::NodeId;
use crate::time::Time;

/// Resolution of the wheel. A timer fires at most this much late, never early.
pub const TICK: Duration = Duration::from_millis(1);

const TICK_NANOS: u64 = TICK.as_nanos() as u64;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^6 ms is two years; what is scheduled later than that fires then.
const LEVELS: usize = 6;

/// What a timer is about. The subject's meaning depends on the kind (a member, a sequence number, a
/// stream), and so does the generation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    /// What is due.
    pub kind: TimerKind,
    /// What it is due for; 0 where the kind needs none.
    pub subject: u32,
    /// Compared with the owner's current generation; a stale one is a no-op.
    pub generation: u32,
}

/// What a Node waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TimerKind {
    /// Start the next probe (SWIM 3.1).
    Probe,
    /// The direct ping was not acked in time: ask others (SWIM 3.1). Subject: sequence number.
    ProbeTimeout,
    /// The probe's protocol period is over. Subject: sequence number.
    ProbeEnd,
    /// Send queued broadcasts.
    Gossip,
    /// Exchange full state with a random member.
    PushPull,
    /// Exchange full state soon after a join.
    EarlyPushPull,
    /// A suspicion ran out (Lifeguard, dynamic suspicion). Subject: member index.
    Suspicion,
    /// A relayed ping got no ack: send the nack. Subject: this node's sequence number.
    RelayTimeout,
    /// The next step of a claim on a member's name. Subject: the claim's number.
    Claim,
    /// The next step of finding out who has this node's name. Subject: the step.
    Former,
    /// A stream's deadline. Subject: the stream's slot in the node.
    StreamDeadline,
    /// Go on merging a push/pull. Subject: the merge's slot.
    Merge,
    /// The next step of this node's graceful leave.
    Leave,
    /// A tags update or force-leave waited long enough for its broadcast. Subject: waiter slot.
    BroadcastTimeout,
    /// Erase members and intents that are old enough.
    Reap,
    /// A query of this node is over. Subject and generation: low and high half of its Lamport time.
    QueryEnd,
    /// Votes about names that waited for news of another address may be due.
    Votes,
    /// Events held back may be due. Subject: 0 member events, 1 user events.
    Coalesce,
    /// Try a failed member, or not: by chance.
    Reconnect,
    /// Check the lengths of the broadcast queues.
    QueueCheck,
    /// A member that was asked for its digest had time to answer. Subject: sequence number.
    InquiryEnd,
    /// Compare views with a random member while the own view grows.
    Growth,
    /// Go on applying what came by a reconciliation over a stream.
    Reconcile,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    tick: u64,
    node: NodeId,
    key: TimerKey,
}

/// The wheel.
#[derive(Debug)]
pub struct Timers {
    /// Everything up to and including this tick has been moved to `due`.
    tick: u64,
    levels: Vec<Level>,
    /// The entries of all slots, chained; those that are free are chained too, so that a steady flow of timers
    /// allocates nothing.
    entries: Vec<Chained>,
    free: u32,
    due: VecDeque<Entry>,
    len: usize,
}

#[derive(Debug)]
struct Level {
    /// Bit i is set if slot i holds anything.
    occupied: u64,
    slots: Vec<Slot>,
}

/// First and last of a slot's entries; [`NONE`] if there are none.
#[derive(Copy, Clone, Debug)]
struct Slot {
    first: u32,
    last: u32,
}

#[derive(Copy, Clone, Debug)]
struct Chained {
    entry: Entry,
    next: u32,
}

impl Level {
    /// When the first of its slots begins that holds anything, after `tick`, if this is the level of that index.
    fn next_occupied_tick(&self, index: usize, tick: u64) -> Option<u64> {
        if self.occupied == 0 {
            return None;
        }
        let current = slot_number(tick, index);
        let start = (current + 1) % SLOTS as u64;
        let ahead = u64::from(self.occupied.rotate_right(start as u32).trailing_zeros());
        Some((current + 1 + ahead) << (SLOT_BITS * index as u32))
    }
}

/// Entries of a coarse slot that [`Timers::next_deadline`] looks at.
const LOOKED_AT: usize = 16;
/// The end of a chain.
const NONE: u32 = u32::MAX;

impl Default for Timers {
    fn default() -> Timers {
        let level = || Level { occupied: 0, slots: vec![Slot { first: NONE, last: NONE }; SLOTS] };
        let levels = (0..LEVELS).map(|_| level()).collect();
        Timers { tick: 0, levels, entries: Vec::new(), free: NONE, due: VecDeque::new(), len: 0 }
    }
}

impl Timers {
    /// Arms a timer for `node` at `at`, or at the next tick if that has passed.
    pub fn schedule(&mut self, at: Time, node: NodeId, key: TimerKey) {
        self.len += 1;
        let tick = at.as_nanos().div_ceil(TICK_NANOS).max(self.tick + 1);
        self.place(Entry { tick, node, key });
    }

    /// Entries that have not fired, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When `pop_due` should be called next. Never later than the earliest deadline; it may be earlier
    /// (when a coarse slot must be spread over finer ones), in which case `pop_due` yields nothing.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.due.is_empty() {
            return Some(Time::from_nanos(self.tick * TICK_NANOS));
        }
        let slots = self.levels.iter().enumerate().filter_map(|(index, level)| {
            let tick = level.next_occupied_tick(index, self.tick)?;
            Some(if index == 0 { tick } else { self.earliest_in(index, tick) })
        });
        slots.min().map(|tick| Time::from_nanos(tick.saturating_mul(TICK_NANOS)))
    }

    /// The earliest deadline in a coarse slot that begins at that tick; its beginning, if it holds many. A node
    /// with few timers is not woken only to spread them.
    fn earliest_in(&self, level: usize, begin: u64) -> u64 {
        let slot = self.levels[level].slots[(slot_number(begin, level) % SLOTS as u64) as usize];
        let (mut place, mut earliest) = (slot.first, u64::MAX);
        for _ in 0..LOOKED_AT {
            if place == NONE {
                return earliest.max(begin);
            }
            let Chained { entry, next } = &self.entries[place as usize];
            earliest = earliest.min(entry.tick);
            place = *next;
        }
        begin
    }

    /// The next timer whose deadline is at or before `now`, in deadline order.
    pub fn pop_due(&mut self, now: Time) -> Option<(NodeId, TimerKey)> {
        let now_tick = now.as_nanos() / TICK_NANOS;
        while self.due.is_empty() {
            match self.next_occupied_tick() {
                Some(tick) if tick <= now_tick => self.advance_to(tick),
                _ => {
                    // Nothing lies between, so the wheel may jump.
                    if self.len == 0 {
                        self.tick = self.tick.max(now_tick);
                    }
                    return None;
                }
            }
        }
        let entry = self.due.pop_front()?;
        self.len -= 1;
        Some((entry.node, entry.key))
    }

    fn place(&mut self, entry: Entry) {
        let distance = entry.tick - self.tick;
        let highest = 63 - distance.max(1).leading_zeros();
        let mut level = (highest / SLOT_BITS) as usize;
        // A slot of an upper level covers 64^level ticks aligned to that; the entry must not land in the
        // slot that the wheel currently stands in, which would only come round a whole turn later.
        let mut tick = entry.tick;
        if level >= LEVELS {
            level = LEVELS - 1;
            tick = self.tick + (1 << (SLOT_BITS * LEVELS as u32)) - 1;
        }
        if level + 1 < LEVELS && slot_number(tick, level) - slot_number(self.tick, level) >= SLOTS as u64 {
            level += 1;
        }
        let slot = (slot_number(tick, level) % SLOTS as u64) as usize;
        let place = self.chain(entry);
        let Level { occupied, slots } = &mut self.levels[level];
        *occupied |= 1 << slot;
        let Slot { first, last } = &mut slots[slot];
        match std::mem::replace(last, place) {
            NONE => *first = place,
            before => self.entries[before as usize].next = place,
        }
    }

    /// Puts an entry into a free place, as the end of a chain.
    fn chain(&mut self, entry: Entry) -> u32 {
        let chained = Chained { entry, next: NONE };
        if self.free == NONE {
            self.entries.push(chained);
            return u32::try_from(self.entries.len() - 1).expect("fewer than 4 billion timers fit in memory");
        }
        let place = self.free;
        self.free = std::mem::replace(&mut self.entries[place as usize], chained).next;
        place
    }

    /// Frees a place. Returns its entry and the next place of its chain.
    fn unchain(&mut self, place: u32) -> (Entry, u32) {
        let chained = &mut self.entries[place as usize];
        let next = std::mem::replace(&mut chained.next, self.free);
        self.free = place;
        (chained.entry, next)
    }

    /// The first tick after the current one at which a slot must be looked at.
    fn next_occupied_tick(&self) -> Option<u64> {
        let levels = self.levels.iter().enumerate();
        levels.filter_map(|(index, level)| level.next_occupied_tick(index, self.tick)).min()
    }

    fn advance_to(&mut self, tick: u64) {
        self.tick = tick;
        // Coarse levels first: what they spread out lies in front of this tick's slot.
        for index in (0..LEVELS).rev() {
            if !tick.is_multiple_of(1 << (SLOT_BITS * index as u32)) {
                continue;
            }
            let mut place = self.take_slot(index, tick);
            while place != NONE {
                let (entry, next) = self.unchain(place);
                if entry.tick <= tick {
                    self.due.push_back(entry)
                } else {
                    self.place(entry)
                }
                place = next;
            }
        }
    }

    /// Empties a slot. Returns the first place of its chain.
    fn take_slot(&mut self, level: usize, tick: u64) -> u32 {
        let slot = (slot_number(tick, level) % SLOTS as u64) as usize;
        let Level { occupied, slots } = &mut self.levels[level];
        *occupied &= !(1 << slot);
        std::mem::replace(&mut slots[slot], Slot { first: NONE, last: NONE }).first
    }
}

fn slot_number(tick: u64, level: usize) -> u64 {
    tick >> (SLOT_BITS * level as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn key(subject: u32) -> TimerKey {
        TimerKey { kind: TimerKind::Probe, subject, generation: 0 }
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut random = Random::new(3);
        let mut timers = Timers::default();
        let mut naive: Vec<(u64, u32)> = Vec::new();
        let mut now = 0u64;
        let mut subject = 0;
        for _ in 0..20_000 {
            for _ in 0..random.below(4) {
                let spans = [50, 5_000, 400_000, 90_000_000];
                let span = spans[random.below(4) as usize];
                let ms = now + 1 + u64::from(random.below(span));
                timers.schedule(Time::from_nanos(ms * TICK_NANOS), NodeId(0), key(subject));
                naive.push((ms, subject));
                subject += 1;
            }
            now += u64::from(random.below(300));
            let mut fired = Vec::new();
            while let Some((_, key)) = timers.pop_due(Time::from_nanos(now * TICK_NANOS)) {
                fired.push(key.subject);
            }
            let mut expected: Vec<(u64, u32)> = naive.iter().copied().filter(|&(at, _)| at <= now).collect();
            naive.retain(|&(at, _)| at > now);
            expected.sort_unstable();
            let mut fired_with_time: Vec<(u64, u32)> = fired
                .iter()
                .map(|s| *expected.iter().find(|(_, subject)| subject == s).expect("fired early"))
                .collect();
            assert!(fired_with_time.is_sorted_by_key(|&(at, _)| at));
            fired_with_time.sort_unstable();
            assert_eq!(fired_with_time, expected);
            assert_eq!(timers.len(), naive.len());
            if let Some(&(earliest, _)) = naive.iter().min() {
                let next = timers.next_deadline().expect("something is scheduled");
                assert!(next.as_nanos() <= earliest * TICK_NANOS);
                assert!(next.as_nanos() > now * TICK_NANOS);
            }
        }
    }

    #[test]
    fn the_next_deadline_of_few_timers_is_exact_and_that_of_many_not_late() {
        let (at, mut timers) = (|ms: u64| Time::from_nanos(ms * TICK_NANOS), Timers::default());
        for ms in [90_000, 1_000, 70] {
            timers.schedule(at(ms), NodeId(0), key(0));
            assert_eq!(timers.next_deadline(), Some(at(ms)));
        }
        for ms in [70, 1_000, 90_000] {
            assert_eq!(timers.next_deadline(), Some(at(ms)));
            assert!(timers.pop_due(at(ms - 1)).is_none());
            assert!(timers.pop_due(at(ms)).is_some());
        }
        (0..=LOOKED_AT).for_each(|_| timers.schedule(at(91_000), NodeId(0), key(0)));
        assert!(timers.next_deadline() < Some(at(91_000)));
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let mut timers = Timers::default();
        timers.schedule(Time::from_nanos(10 * TICK_NANOS), NodeId(1), key(1));
        assert!(timers.pop_due(Time::from_nanos(10 * TICK_NANOS)).is_some());
        timers.schedule(Time::ZERO, NodeId(1), key(2));
        assert!(timers.pop_due(Time::from_nanos(10 * TICK_NANOS)).is_none());
        assert!(timers.pop_due(Time::from_nanos(11 * TICK_NANOS)).is_some());
    }

    #[test]
    fn beyond_the_wheels_reach_it_fires_at_its_end() {
        let mut timers = Timers::default();
        timers.schedule(Time::from_nanos(u64::MAX), NodeId(0), key(1));
        assert!(timers.next_deadline().is_some());
    }
}
