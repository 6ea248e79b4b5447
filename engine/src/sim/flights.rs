//! What is under way between nodes, in order of arrival. The heap holds small keys; loads lie in a slab and
//! the buffers of delivered datagrams are used again, so that an idle cluster allocates nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use slab::Slab;

use crate::context::{NodeId, StreamId};
use crate::time::Time;

/// Buffers kept for later datagrams: more than an idle cluster of 30,000 has under way at once.
const SPARE_MAX: usize = 4096;

/// Something on its way to a node.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) to: NodeId,
    pub(super) load: Load,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Load {
    Datagram(SocketAddr, Vec<u8>),
    Accepted(StreamId, SocketAddr),
    Opened(StreamId),
    Bytes(StreamId, Vec<u8>),
    Finished(StreamId),
    Failed(StreamId, &'static str),
}

/// Everything under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// Arrival, order of departure (breaks ties), place in the slab.
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    loads: Slab<Flight>,
    departures: u64,
    spare: Vec<Vec<u8>>,
}

impl Flights {
    /// Sends a load on its way.
    pub(super) fn depart(&mut self, at: Time, to: NodeId, load: Load) {
        self.departures += 1;
        let place = self.loads.insert(Flight { to, load });
        self.queue.push(Reverse((at, self.departures, place)));
    }

    /// When the next one arrives.
    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next one.
    pub(super) fn arrive(&mut self) -> Option<Flight> {
        let Reverse((_, _, place)) = self.queue.pop()?;
        Some(self.loads.remove(place))
    }

    /// A buffer that holds these bytes.
    pub(super) fn buffer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Takes a delivered datagram's buffer back.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_in_order_of_time_then_departure() {
        let mut flights = Flights::default();
        for (at, to) in [(20, 1), (10, 2), (10, 3), (5, 4)] {
            flights.depart(Time::from_nanos(at), NodeId(to), Load::Opened(StreamId(0)));
        }
        assert_eq!(flights.next_arrival(), Some(Time::from_nanos(5)));
        let order: Vec<u32> = std::iter::from_fn(|| flights.arrive()).map(|flight| flight.to.0).collect();
        assert_eq!(order, [4, 2, 3, 1]);
        assert_eq!(flights.next_arrival(), None);
    }

    #[test]
    fn buffers_come_back_empty() {
        let mut flights = Flights::default();
        let first = flights.buffer(b"long datagram");
        flights.give_back(first);
        assert_eq!(flights.buffer(b"x"), b"x");
    }
}
