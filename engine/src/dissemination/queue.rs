//! The transmit-limited queue (memberlist's queue; SWIM 4.1 bounds the transmissions by O(log n)).
//!
//! An entry leaves after the transmit limit, which is evaluated when it is sent. A packet is filled from
//! the entries sent least often; among those, with the longest that still fits; among equals, with the
//! newest (PROTOCOL 9.7).
//!
//! Entries lie in a slab and never move. Their order is kept beside them: a tier for each transmit count in
//! use, in it a bucket for each length in use, in it a heap by age. All three are few or logarithmic, so that a
//! packet costs about the same with a hundred and with a hundred thousand entries. An entry that is taken out
//! leaves its mark in the heap behind; marks are swept when they outnumber the entries.

use std::collections::BinaryHeap;

use slab::Slab;

use crate::ids::BroadcastId;

/// The kinds of serf broadcasts. Packets take intents before queries before events (PROTOCOL 9.6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Join and leave intents.
    Intent = 0,
    /// Queries.
    Query = 1,
    /// User events.
    Event = 2,
    /// This node's own leave intent: before all others, so that long queues don't delay it.
    OwnLeave = 3,
}

impl Class {
    /// The classes of messages that are passed on, in the order in which packets take them.
    pub const ALL: [Class; 3] = [Class::Intent, Class::Query, Class::Event];

    /// Serf's word for the queue.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Intent => "Intent",
            Class::Query => "Query",
            Class::Event => "Event",
            Class::OwnLeave => "Leave",
        }
    }
}

/// Finds an entry from its push until it is finished or taken out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// A queue of `T`s. The caller chooses the ids, which rise over time.
#[derive(Debug)]
pub(crate) struct BroadcastQueue<T> {
    entries: Slab<Entry<T>>,
    /// Fewest transmits first; none is empty.
    tiers: Vec<Tier>,
    /// Taken for the packet that is being filled: back in their order when it is full, so that no packet holds
    /// a broadcast twice.
    parked: Vec<Mark>,
    /// Marks in the heaps whose entry is gone.
    dead: usize,
    /// Emptied heaps and tiers, kept so that a steady flow allocates nothing.
    spare_heaps: Vec<BinaryHeap<Mark>>,
    spare_tiers: Vec<Vec<Bucket>>,
}

#[derive(Debug)]
struct Entry<T> {
    id: BroadcastId,
    bytes: u32,
    transmits: u32,
    broadcast: T,
}

/// An entry in a heap: the newest is on top.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    id: BroadcastId,
    slot: u32,
}

/// Entries with the same number of transmits.
#[derive(Debug)]
struct Tier {
    transmits: u32,
    /// Shortest first; none is empty.
    buckets: Vec<Bucket>,
}

/// Entries that are also of the same length.
#[derive(Debug)]
struct Bucket {
    bytes: u32,
    heap: BinaryHeap<Mark>,
}

/// Emptied heaps that are kept, and how many entries each may have room for.
const SPARE_MAX: usize = 32;
/// Room for entries that an empty queue keeps.
const KEPT_ENTRIES: usize = 256;
/// Marks without an entry that are not worth sweeping.
const DEAD_MIN: usize = 64;

impl<T> Default for BroadcastQueue<T> {
    fn default() -> BroadcastQueue<T> {
        BroadcastQueue {
            entries: Slab::new(),
            tiers: Vec::new(),
            parked: Vec::new(),
            dead: 0,
            spare_heaps: Vec::new(),
            spare_tiers: Vec::new(),
        }
    }
}

impl<T> BroadcastQueue<T> {
    /// Adds an entry of `bytes` encoded bytes.
    pub(crate) fn push(&mut self, id: BroadcastId, bytes: usize, broadcast: T) -> Place {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let slot = self.entries.insert(Entry { id, bytes, transmits: 0, broadcast });
        let slot = u32::try_from(slot).expect("fewer than 4 billion entries fit in memory");
        self.file(Mark { id, slot }, 0, bytes);
        Place(slot)
    }

    /// All that is queued, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.broadcast)
    }

    /// Takes an entry out. Not while a packet is being filled.
    pub(crate) fn remove(&mut self, place: Place) -> T {
        assert!(self.parked.is_empty(), "a packet is finished before its queue changes");
        let entry = self.entries.remove(place.0 as usize);
        self.dead += 1;
        self.tidy();
        entry.broadcast
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the best entry that has at most `room` bytes for the packet that is being filled. It is out of
    /// the order until [`unpark`](Self::unpark).
    pub(crate) fn take_best(&mut self, room: usize) -> Option<&T> {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let mut at = 0;
        while at < self.tiers.len() {
            let fitting = self.tiers[at].buckets.partition_point(|bucket| bucket.bytes <= room);
            let Some(bucket) = fitting.checked_sub(1) else {
                at += 1;
                continue;
            };
            let heap = &mut self.tiers[at].buckets[bucket].heap;
            let mark = heap.pop().expect("no bucket is empty");
            if heap.is_empty() {
                self.close_bucket(at, bucket);
            }
            if is_of(&self.entries, mark) {
                self.parked.push(mark);
                let entry = &self.entries[mark.slot as usize];
                return Some(&entry.broadcast);
            }
            self.dead -= 1;
        }
        None
    }

    /// Takes that entry instead of the best one, if it has at most `room` bytes. It gets a new `id`, so that it
    /// counts as the newest from now on.
    pub(crate) fn take(&mut self, place: Place, room: usize, id: BroadcastId) -> Option<&T> {
        let entry = &mut self.entries[place.0 as usize];
        if entry.bytes as usize > room {
            return None;
        }
        // Its old mark is dead from now on.
        entry.id = id;
        self.dead += 1;
        self.parked.push(Mark { id, slot: place.0 });
        Some(&entry.broadcast)
    }

    /// Counts one transmission of the entry that was taken last. Returns id and broadcast if it was the
    /// last one that `limit` allows.
    pub(crate) fn sent(&mut self, limit: u32) -> Option<(BroadcastId, T)> {
        let mark = self.parked.last().expect("one was just taken");
        let entry = &mut self.entries[mark.slot as usize];
        entry.transmits += 1;
        if entry.transmits < limit {
            return None;
        }
        let slot = mark.slot as usize;
        self.parked.pop();
        let Entry { id, broadcast, .. } = self.entries.remove(slot);
        Some((id, broadcast))
    }

    /// Puts what was taken back: the packet is full.
    pub(crate) fn unpark(&mut self) {
        let mut parked = std::mem::take(&mut self.parked);
        for mark in parked.drain(..) {
            let Entry { transmits, bytes, .. } = self.entries[mark.slot as usize];
            self.file(mark, transmits, bytes);
        }
        self.parked = parked;
        self.tidy();
    }

    /// The entry, from its push until it is finished or taken out; afterwards that of a later push, or none.
    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        self.entries.get(place.0 as usize).map(|entry| &entry.broadcast)
    }

    /// Counts `times` transmissions that went out beside this queue, or are not needed any more. Takes the entry out
    /// if no more are left of those that `limit` allows. Else it gets a new `id`, so that it counts as the newest. Not
    /// while a packet is being filled.
    pub(crate) fn advance(&mut self, place: Place, times: u32, limit: u32, id: BroadcastId) -> Option<T> {
        assert!(self.parked.is_empty(), "a packet is finished before its queue changes");
        let entry = &mut self.entries[place.0 as usize];
        let (bytes, transmits) = (entry.bytes, entry.transmits.saturating_add(times));
        if transmits >= limit {
            return Some(self.remove(place));
        }
        if times > 0 {
            // Its old mark is dead from now on.
            (entry.id, entry.transmits) = (id, transmits);
            self.dead += 1;
            self.file(Mark { id, slot: place.0 }, transmits, bytes);
            self.tidy();
        }
        None
    }

    /// Drops entries until `max` are left: those that were sent most often first, the shortest and oldest
    /// among equals. Calls `dropped` for each.
    pub(crate) fn prune(&mut self, max: usize, mut dropped: impl FnMut(BroadcastId, T)) {
        if self.len() <= max {
            return;
        }
        self.sweep();
        while self.len() > max
            && let Some(tier) = self.tiers.len().checked_sub(1)
        {
            let surplus = self.len() - max;
            let heap = std::mem::take(&mut self.tiers[tier].buckets[0].heap);
            let mut marks = heap.into_sorted_vec();
            for mark in marks.drain(..surplus.min(marks.len())) {
                dropped(mark.id, self.entries.remove(mark.slot as usize).broadcast);
            }
            self.tiers[tier].buckets[0].heap = marks.into();
            if self.tiers[tier].buckets[0].heap.is_empty() {
                self.close_bucket(tier, 0);
            }
        }
        self.tidy();
    }

    /// Takes everything out, in no order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).entries.into_iter().map(|(_, entry)| entry.broadcast)
    }

    /// Puts a mark where it belongs.
    fn file(&mut self, mark: Mark, transmits: u32, bytes: u32) {
        let tier = match self.tiers.binary_search_by_key(&transmits, |tier| tier.transmits) {
            Ok(tier) => tier,
            Err(tier) => {
                let buckets = self.spare_tiers.pop().unwrap_or_default();
                self.tiers.insert(tier, Tier { transmits, buckets });
                tier
            }
        };
        let buckets = &mut self.tiers[tier].buckets;
        let bucket = match buckets.binary_search_by_key(&bytes, |bucket| bucket.bytes) {
            Ok(bucket) => bucket,
            Err(bucket) => {
                let heap = self.spare_heaps.pop().unwrap_or_default();
                buckets.insert(bucket, Bucket { bytes, heap });
                bucket
            }
        };
        buckets[bucket].heap.push(mark);
    }

    /// Takes an empty bucket away, and its tier if that was its last one.
    fn close_bucket(&mut self, tier: usize, bucket: usize) {
        let heap = self.tiers[tier].buckets.remove(bucket).heap;
        if self.spare_heaps.len() < SPARE_MAX && heap.capacity() <= SPARE_MAX {
            self.spare_heaps.push(heap);
        }
        if self.tiers[tier].buckets.is_empty() {
            let buckets = self.tiers.remove(tier).buckets;
            if self.spare_tiers.len() < SPARE_MAX && buckets.capacity() <= SPARE_MAX {
                self.spare_tiers.push(buckets);
            }
        }
    }

    /// Sweeps when more marks are dead than alive; frees memory that an empty queue does not need.
    fn tidy(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            *self = BroadcastQueue::default();
        } else if self.dead > self.entries.len() + DEAD_MIN {
            self.sweep();
        }
    }

    /// Takes marks out whose entry is gone.
    fn sweep(&mut self) {
        for tier in &mut self.tiers {
            for bucket in &mut tier.buckets {
                bucket.heap.retain(|&mark| is_of(&self.entries, mark));
            }
            tier.buckets.retain(|bucket| !bucket.heap.is_empty());
        }
        self.tiers.retain(|tier| !tier.buckets.is_empty());
        self.dead = 0;
    }
}

/// Whether the entry that a mark was made for is still there. Ids are never used twice.
fn is_of<T>(entries: &Slab<Entry<T>>, mark: Mark) -> bool {
    entries.get(mark.slot as usize).is_some_and(|entry| entry.id == mark.id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cmp::Reverse;

    use super::*;
    use crate::random::Random;

    /// What goes into a packet with that room for one message.
    fn one<T: Copy>(queue: &mut BroadcastQueue<T>, room: usize, limit: u32) -> Option<T> {
        let best = queue.take_best(room).copied();
        if best.is_some() {
            queue.sent(limit);
        }
        queue.unpark();
        best
    }

    #[test]
    fn takes_fewest_transmits_then_longest_then_newest() {
        let mut queue = BroadcastQueue::default();
        let old = queue.push(BroadcastId(1), 10, "old");
        queue.push(BroadcastId(2), 10, "new");
        queue.push(BroadcastId(3), 50, "long");
        assert_eq!(one(&mut queue, 9, 4), None);
        assert_eq!(one(&mut queue, 100, 4), Some("long"));
        assert_eq!(one(&mut queue, 100, 4), Some("new"));
        assert_eq!(one(&mut queue, 49, 4), Some("old"));
        assert_eq!(queue.remove(old), "old");
        assert_eq!(one(&mut queue, 49, 4), Some("new"));
        assert_eq!(one(&mut queue, 49, 4), Some("new"));
    }

    #[test]
    fn one_that_is_asked_for_goes_first_and_only_once() {
        let mut queue = BroadcastQueue::default();
        let asked = queue.push(BroadcastId(1), 10, "asked");
        queue.push(BroadcastId(2), 50, "best");
        for round in 0..3 {
            assert_eq!(queue.take(asked, 9, BroadcastId(10 + round)), None);
            assert_eq!(queue.take(asked, 10, BroadcastId(10 + round)), Some(&"asked"));
            assert_eq!(queue.sent(4), None);
            assert_eq!(queue.take_best(100), Some(&"best"));
            assert_eq!(queue.sent(9), None);
            assert_eq!(queue.take_best(100), None);
            queue.unpark();
        }
        assert!(queue.take(asked, 10, BroadcastId(20)).is_some());
        assert_eq!(queue.sent(4), Some((BroadcastId(20), "asked")));
        assert_eq!(queue.take_best(100), Some(&"best"));
    }

    #[test]
    fn leaves_at_the_limit_and_is_in_no_packet_twice() {
        let mut queue = BroadcastQueue::default();
        queue.push(BroadcastId(1), 10, "x");
        assert!(queue.take_best(100).is_some());
        assert_eq!(queue.sent(2), None);
        assert!(queue.take_best(100).is_none(), "no packet holds it twice");
        queue.unpark();
        assert!(queue.take_best(100).is_some());
        assert_eq!(queue.sent(2), Some((BroadcastId(1), "x")));
        assert!(queue.is_empty());
    }

    #[test]
    fn transmissions_elsewhere_count_like_those_in_packets() {
        let mut queue = BroadcastQueue::default();
        let place = queue.push(BroadcastId(1), 10, "advanced");
        queue.push(BroadcastId(2), 10, "other");
        assert_eq!(queue.advance(place, 2, 4, BroadcastId(3)), None);
        assert_eq!(queue.get(place), Some(&"advanced"));
        assert_eq!(one(&mut queue, 100, 4), Some("other"));
        assert_eq!(one(&mut queue, 100, 4), Some("other"));
        assert_eq!(one(&mut queue, 100, 4), Some("advanced"), "it counts as the newer of those sent twice");
        assert_eq!(one(&mut queue, 100, 4), Some("other"), "the third time");
        assert_eq!(queue.advance(place, 1, 4, BroadcastId(4)), Some("advanced"));
        assert_eq!((queue.get(place), queue.len()), (None, 1));
        assert_eq!(one(&mut queue, 100, 4), Some("other"));
        assert!(queue.is_empty());
    }

    /// Transmits, bytes, id.
    type Naive = Vec<(u32, u32, u64)>;

    fn naive_best(naive: &Naive, room: u32, packed: &[u64]) -> Option<usize> {
        let fits = |entry: &(u32, u32, u64)| entry.1 <= room && !packed.contains(&entry.2);
        let candidates = naive.iter().enumerate().filter(|(_, entry)| fits(entry));
        candidates
            .min_by_key(|(_, entry)| (entry.0, Reverse(entry.1), Reverse(entry.2)))
            .map(|(place, _)| place)
    }

    #[test]
    fn agrees_with_a_naive_twin() {
        let mut random = Random::new(5);
        let mut queue = BroadcastQueue::default();
        let (mut naive, mut places) = (Naive::new(), Vec::new());
        for id in 0..3_000u64 {
            let bytes = 1 + random.below(40);
            places.push((id, queue.push(BroadcastId(id), bytes as usize, id)));
            naive.push((0, bytes, id));
            if random.below(3) == 0 {
                let (id, place) = places.swap_remove(random.below(places.len() as u32) as usize);
                assert_eq!(queue.remove(place), id);
                naive.retain(|entry| entry.2 != id);
            }
            let (mut room, mut packed, limit) = (random.below(100), Vec::new(), 2 + random.below(3));
            while let Some(expected) = naive_best(&naive, room, &packed) {
                let entry = &mut naive[expected];
                assert_eq!(queue.take_best(room as usize).copied(), Some(entry.2));
                entry.0 += 1;
                (room, _) = (room - entry.1, packed.push(entry.2));
                let finished = (entry.0 >= limit).then_some((BroadcastId(entry.2), entry.2));
                assert_eq!(queue.sent(limit), finished);
                if let Some((_, id)) = finished {
                    naive.remove(expected);
                    places.retain(|place| place.0 != id);
                }
            }
            assert!(queue.take_best(room as usize).is_none());
            queue.unpark();
            assert_eq!(queue.len(), naive.len());
            if id % 500 == 499 {
                prune_both(&mut queue, &mut naive);
                places.retain(|place| naive.iter().any(|entry| entry.2 == place.0));
            }
        }
    }

    fn prune_both(queue: &mut BroadcastQueue<u64>, naive: &mut Naive) {
        naive.sort_by_key(|entry| (entry.0, Reverse(entry.1), Reverse(entry.2)));
        let mut expected: Vec<u64> = naive.drain(naive.len() / 2..).map(|entry| entry.2).collect();
        let mut dropped = Vec::new();
        queue.prune(naive.len(), |id, _| dropped.push(id.0));
        expected.reverse();
        assert_eq!(dropped, expected);
    }

    #[test]
    fn entries_that_are_replaced_again_and_again_leave_nothing_behind() {
        let mut queue = BroadcastQueue::default();
        let mut place = queue.push(BroadcastId(0), 10, ());
        for id in 1..10_000 {
            queue.remove(place);
            place = queue.push(BroadcastId(id), 10, ());
        }
        let marks: usize = queue.tiers[0].buckets.iter().map(|bucket| bucket.heap.len()).sum();
        assert!(marks <= 2 * DEAD_MIN, "{marks}");
        assert_eq!(one(&mut queue, 10, 1), Some(()));
        assert!(queue.is_empty());
    }
}
