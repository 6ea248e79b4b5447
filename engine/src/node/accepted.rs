//! Which streams of peers a node serves at one time: so many in all and from one source, and idle ones make room
//! for further ones, so that connections which nobody uses keep no member out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::context::StreamId;
use crate::time::Time;

/// Streams that peers may have open to one node at one time; memberlist accepts 128 push/pulls, and pings beside
/// them.
const ACCEPTED_MAX: usize = 256;
/// Streams of one source. The rest is a reserve for other sources. Agents of one machine share a source if they are
/// bound to loopback addresses, so that a demo of 200 agents may join one of them at once.
const SOURCE_MAX: usize = 192;
/// A stream on which no byte came for this time is closed. An honest peer has its message ready when it connects.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(3);
/// After this time without a byte a stream is idle: it makes room for a further one.
const IDLE_SILENT: Duration = Duration::from_millis(250);
/// After this time with fewer than [`IDLE_SLOW_BYTES`] a stream is idle too.
const IDLE_SLOW: Duration = Duration::from_secs(2);
const IDLE_SLOW_BYTES: usize = 1024;

/// Where streams come from: an IPv4 address, or the 64 bits of an IPv6 address that name a network, because one
/// host may have all addresses of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source(IpAddr);

impl Source {
    fn of(ip: IpAddr) -> Source {
        Source(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        })
    }
}

/// The streams that peers opened to one node.
#[derive(Debug, Default)]
pub(super) struct AcceptedStreams(Vec<Accepted>);

/// One of them.
#[derive(Copy, Clone, Debug)]
struct Accepted {
    id: StreamId,
    from: SocketAddr,
    source: Source,
    since: Time,
    /// Bytes that arrived on it.
    bytes: usize,
}

impl Accepted {
    fn is_idle(&self, now: Time) -> bool {
        let waited = now.since(self.since);
        self.bytes == 0 && waited >= IDLE_SILENT || self.bytes < IDLE_SLOW_BYTES && waited >= IDLE_SLOW
    }
}

/// Whether a further stream is served.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room.
    Free,
    /// That stream, of that peer, is to be closed for it.
    InsteadOf(StreamId, SocketAddr),
    /// Too many streams are busy.
    Refused,
}

impl AcceptedStreams {
    /// Decides about a stream from `from` beside those that are open still, and remembers it if it is served.
    pub(super) fn admit(
        &mut self,
        id: StreamId,
        from: SocketAddr,
        now: Time,
        is_open: impl Fn(StreamId) -> bool,
    ) -> Admission {
        self.0.retain(|stream| is_open(stream.id));
        let source = Source::of(from.ip());
        let decided = self.decide(source, now);
        if let Admission::InsteadOf(idle, _) = decided {
            self.0.retain(|stream| stream.id != idle);
        }
        if decided != Admission::Refused {
            self.0.push(Accepted { id, from, source, since: now, bytes: 0 });
        }
        decided
    }

    /// Bytes arrived on a stream.
    pub(super) fn add_bytes(&mut self, id: StreamId, bytes: usize) {
        if let Some(stream) = self.0.iter_mut().find(|stream| stream.id == id) {
            stream.bytes += bytes;
        }
    }

    /// When a stream was accepted, if a byte arrived on it.
    pub(super) fn begun(&self, id: StreamId) -> Option<Time> {
        let of_id = self.0.iter().find(|stream| stream.id == id);
        of_id.filter(|stream| stream.bytes > 0).map(|stream| stream.since)
    }

    fn decide(&self, source: Source, now: Time) -> Admission {
        let of = |source: Source| self.0.iter().filter(move |stream| stream.source == source);
        let own = of(source).count();
        if own >= SOURCE_MAX {
            return instead_of(of(source).filter(|stream| stream.is_idle(now)));
        }
        if self.0.len() < ACCEPTED_MAX {
            return Admission::Free;
        }
        let mut sources: Vec<Source> = self.0.iter().map(|stream| stream.source).collect();
        sources.sort_unstable();
        let of_one = sources.chunk_by(Source::eq).max_by_key(|same| same.len());
        // Fair shares: a source with fewer streams takes one from the source with the most. Idle ones go first.
        match (instead_of(self.0.iter().filter(|stream| stream.is_idle(now))), of_one) {
            (Admission::Refused, Some(most)) if most.len() > own + 1 => instead_of(of(most[0])),
            (decided, _) => decided,
        }
    }
}

/// The oldest of these streams goes.
fn instead_of<'a>(streams: impl Iterator<Item = &'a Accepted>) -> Admission {
    streams
        .min_by_key(|stream| (stream.since, stream.id))
        .map_or(Admission::Refused, |stream| Admission::InsteadOf(stream.id, stream.from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    /// So many streams from one source, opened one millisecond after the other.
    fn add(streams: &mut AcceptedStreams, ip: &str, ids: std::ops::Range<u64>, bytes: usize) {
        let from = SocketAddr::new(ip.parse().unwrap(), 7);
        for id in ids {
            streams.0.push(Accepted {
                id: StreamId::accepted(id),
                from,
                source: source(ip),
                since: at(id),
                bytes,
            });
        }
    }

    fn many(ip: &str, count: u64, bytes: usize) -> AcceptedStreams {
        let mut streams = AcceptedStreams::default();
        add(&mut streams, ip, 0..count, bytes);
        streams
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn instead(decided: Admission) -> Option<StreamId> {
        match decided {
            Admission::InsteadOf(id, _) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn idle_streams_make_room_oldest_first_and_busy_ones_do_not() {
        let full = SOURCE_MAX as u64;
        let (me, other) = (source("10.0.0.1"), source("10.0.0.2"));
        let silent = many("10.0.0.1", full, 0);
        assert_eq!(silent.decide(me, at(200)), Admission::Refused, "all are fresh");
        assert_eq!(silent.decide(other, at(200)), Admission::Free, "the rest is for others");
        let oldest = Some(StreamId::accepted(0));
        assert_eq!(instead(silent.decide(me, at(250))), oldest);
        let trickling = many("10.0.0.1", full, 1);
        assert_eq!(trickling.decide(me, at(1999)), Admission::Refused);
        assert_eq!(instead(trickling.decide(me, at(2000))), oldest);
        let busy = many("10.0.0.1", full, 1024);
        assert_eq!(busy.decide(me, at(9000)), Admission::Refused);
    }

    #[test]
    fn a_source_with_few_streams_takes_one_from_the_source_with_most() {
        let mut busy = many("10.0.0.1", 150, 5000);
        add(&mut busy, "10.0.0.2", 150..256, 5000);
        let decide = |from| busy.decide(source(from), at(9000));
        assert_eq!(instead(decide("10.0.0.3")), Some(StreamId::accepted(0)));
        assert_eq!(decide("10.0.0.1"), Admission::Refused);
        // One stream from each of very many sources: the oldest idle one goes, busy ones stay.
        let mut spread = AcceptedStreams::default();
        for n in 0..ACCEPTED_MAX as u64 {
            add(&mut spread, &format!("10.1.0.{n}"), n..n + 1, 5000);
        }
        let newcomer = source("10.0.0.3");
        assert_eq!(spread.decide(newcomer, at(9000)), Admission::Refused);
        spread.0[7].bytes = 0;
        assert_eq!(instead(spread.decide(newcomer, at(9000))), Some(StreamId::accepted(7)));
    }

    #[test]
    fn streams_that_have_ended_take_no_room() {
        let mut streams = many("10.0.0.1", SOURCE_MAX as u64, 5000);
        let from = "10.0.0.1:9".parse().unwrap();
        let id = StreamId::accepted(1000);
        assert_eq!(streams.admit(id, from, at(9000), |_| true), Admission::Refused);
        assert_eq!(streams.admit(id, from, at(9000), |_| false), Admission::Free);
        assert_eq!((streams.0.len(), streams.begun(id)), (1, None));
        streams.add_bytes(id, 1);
        assert_eq!(streams.begun(id), Some(at(9000)));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_address() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }
}
