//! The transmit-limited queue (memberlist's queue; SWIM 4.1 bounds the transmissions by O(log n)).
//!
//! An entry leaves after the transmit limit, which is evaluated when it is sent. A packet is filled from
//! the entries sent least often; among those, with the longest that still fits; among equals, with the
//! newest (PROTOCOL 9.7).

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Names one queued broadcast of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(pub u64);

/// What serf's broadcasts are about. Packets take intents before queries before events (PROTOCOL 9.6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Join and leave intents.
    Intent = 0,
    /// Queries.
    Query = 1,
    /// User events.
    Event = 2,
    /// That this node itself leaves: before everything else, so that busy queues don't hold it back.
    OwnLeave = 3,
}

impl Class {
    /// Those that others' messages are in, in the order packets take them.
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

/// Sort key: transmits up, bytes down, newest first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    transmits: u32,
    bytes: Reverse<u32>,
    id: Reverse<BroadcastId>,
}

impl Rank {
    /// Which entry it is.
    pub(crate) fn id(self) -> BroadcastId {
        self.id.0
    }
}

/// A queue of `T`s. The caller gives ids, which rise over time.
#[derive(Debug)]
pub(crate) struct BroadcastQueue<T> {
    entries: BTreeMap<Rank, T>,
    /// Sent in the packet that is being filled: back in the queue when it is full, so that no packet holds
    /// a broadcast twice.
    parked: Vec<(Rank, T)>,
}

impl<T> Default for BroadcastQueue<T> {
    fn default() -> BroadcastQueue<T> {
        BroadcastQueue { entries: BTreeMap::new(), parked: Vec::new() }
    }
}

impl<T> BroadcastQueue<T> {
    /// Adds an entry of `bytes` encoded bytes. The rank returned finds it until it is sent next.
    pub(crate) fn push(&mut self, id: BroadcastId, bytes: usize, broadcast: T) -> Rank {
        let bytes = Reverse(u32::try_from(bytes).unwrap_or(u32::MAX));
        let rank = Rank { transmits: 0, bytes, id: Reverse(id) };
        self.entries.insert(rank, broadcast);
        rank
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, rank: Rank) -> Option<T> {
        self.entries.remove(&rank)
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The best entry at or after `after` (`None`: from the start) that has at most `room` bytes.
    pub(crate) fn best_fit(&self, after: Option<Rank>, room: usize) -> Option<(Rank, &T)> {
        let room = Reverse(u32::try_from(room).unwrap_or(u32::MAX));
        let newest = Reverse(BroadcastId(u64::MAX));
        let mut from = match after {
            None => Rank { transmits: 0, bytes: room, id: newest },
            Some(rank) if rank.bytes < room => Rank { bytes: room, id: newest, ..rank },
            Some(rank) => rank,
        };
        // One step per transmit count at the most: each look starts where an entry could fit.
        loop {
            let (&rank, broadcast) = self.entries.range(from..).next()?;
            if rank.bytes >= room {
                return Some((rank, broadcast));
            }
            from = Rank { transmits: rank.transmits, bytes: room, id: newest };
            if from <= rank {
                from = Rank { transmits: rank.transmits + 1, bytes: room, id: newest };
            }
        }
    }

    /// Counts one transmission and parks the entry until [`unpark`](Self::unpark). Gives the entry's new rank, or the entry itself once it reached `limit`.
    pub(crate) fn sent(&mut self, rank: Rank, limit: u32) -> Result<Rank, T> {
        let broadcast = self.entries.remove(&rank).expect("the caller just saw it");
        if rank.transmits + 1 >= limit {
            return Err(broadcast);
        }
        let rank = Rank { transmits: rank.transmits + 1, ..rank };
        self.parked.push((rank, broadcast));
        Ok(rank)
    }

    /// Puts what was sent back: the packet is full.
    pub(crate) fn unpark(&mut self) {
        self.entries.extend(self.parked.drain(..));
    }

    /// Takes the entry that was sent most often out, the shortest and oldest among equals.
    pub(crate) fn pop_worst(&mut self) -> Option<(Rank, T)> {
        self.entries.pop_last()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    #[test]
    fn takes_fewest_transmits_then_longest_then_newest() {
        let mut queue = BroadcastQueue::default();
        let old = queue.push(BroadcastId(1), 10, "old");
        queue.push(BroadcastId(2), 10, "new");
        queue.push(BroadcastId(3), 50, "long");
        assert_eq!(queue.best_fit(None, 100).unwrap().1, &"long");
        assert_eq!(queue.best_fit(None, 49).unwrap().1, &"new");
        assert!(queue.best_fit(None, 9).is_none());
        let (rank, _) = queue.best_fit(None, 49).unwrap();
        queue.sent(rank, 4).unwrap();
        queue.unpark();
        assert_eq!(queue.best_fit(None, 49).unwrap().1, &"old");
        queue.remove(old);
        assert_eq!(queue.best_fit(None, 49).unwrap().1, &"new");
    }

    #[test]
    fn leaves_at_the_limit() {
        let mut queue = BroadcastQueue::default();
        let rank = queue.push(BroadcastId(1), 10, "x");
        let rank = queue.sent(rank, 2).unwrap();
        assert!(queue.best_fit(None, 100).is_none(), "no packet holds it twice");
        queue.unpark();
        assert_eq!(queue.sent(rank, 2), Err("x"));
        assert!(queue.is_empty());
    }

    #[test]
    fn agrees_with_a_naive_twin() {
        let mut random = Random::new(5);
        let mut queue = BroadcastQueue::default();
        let mut naive: Vec<(u32, u32, u64)> = Vec::new();
        for id in 0..5_000u64 {
            let bytes = 1 + random.below(200);
            queue.push(BroadcastId(id), bytes as usize, ());
            naive.push((0, bytes, id));
            let room = random.below(250);
            let expected = naive
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.1 <= room)
                .min_by_key(|(_, entry)| (entry.0, Reverse(entry.1), Reverse(entry.2)))
                .map(|(place, _)| place);
            let got = queue.best_fit(None, room as usize).map(|(rank, ())| rank);
            assert_eq!(got.map(|rank| rank.id().0), expected.map(|place| naive[place].2));
            if let (Some(rank), Some(place)) = (got, expected) {
                naive[place].0 += 1;
                if queue.sent(rank, 5).is_err() {
                    naive.remove(place);
                }
                queue.unpark();
            }
        }
        assert_eq!(queue.len(), naive.len());
    }
}
