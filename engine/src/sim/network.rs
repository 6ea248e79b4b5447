//! The simulated network: what becomes of a datagram or a stream between two nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::context::NodeId;
use crate::random::Random;
use crate::time::Time;

/// How the network treats what is sent, the same for all links.
#[derive(Clone, Debug)]
pub struct Network {
    /// Shortest one-way delay.
    pub delay_min: Duration,
    /// Longest one-way delay, but for the tail. Delays are uniform between the two, so that datagrams
    /// overtake each other.
    pub delay_max: Duration,
    /// Share of packets that are delayed further, 0 to 1.
    pub tail_share: f64,
    /// Mean of the exponential delay that those packets get on top.
    pub tail_mean: Duration,
    /// Share of datagrams lost, 0 to 1. Streams lose nothing.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplication: f64,
    /// Bytes per second that each node can send; 0: no limit. Datagrams that would wait more than half a
    /// second are lost, streams wait.
    pub bytes_per_second: u64,
    /// Share of stream writes of which only a part arrives before the connection breaks, 0 to 1.
    pub stream_cuts: f64,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            delay_min: Duration::from_micros(200),
            delay_max: Duration::from_micros(600),
            tail_share: 0.0,
            tail_mean: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            bytes_per_second: 0,
            stream_cuts: 0.0,
        }
    }
}

/// The longest time that a datagram waits for a node's uplink.
const UPLINK_WAIT_MAX: Duration = Duration::from_millis(500);
/// With this share of packets lost in one direction, a stream makes no progress.
const STREAM_LOSS_MAX: f64 = 0.5;

/// What is wrong with one node's link, on top of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Share of what comes in that is lost, 0 to 1. From one half on streams get stuck too.
    pub inbound_loss: f64,
    /// Share of what goes out that is lost, 0 to 1. From one half on streams get stuck too.
    pub outbound_loss: f64,
    /// The losses apply for the first span, then not for the second, and so on. None: always.
    pub flip_flop: Option<(Duration, Duration)>,
}

impl Link {
    /// Whether the losses apply at that time.
    fn is_bad(&self, now: Time) -> bool {
        let Some((bad, good)) = self.flip_flop else { return true };
        let period = (bad + good).as_nanos().max(1);
        u128::from(now.as_nanos()) % period < bad.as_nanos()
    }
}

/// The state of all links.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) network: Network,
    chance: Random,
    /// Where nodes are; only nodes with the same number reach each other.
    islands: Vec<u32>,
    /// Islands that are heard by the mainland, although they hear nothing.
    deaf: BTreeSet<u32>,
    links: Vec<Option<Box<Link>>>,
    /// Directions in which nothing passes.
    blocked: BTreeSet<(NodeId, NodeId)>,
    /// Until when each node's uplink is busy.
    uplinks: Vec<Time>,
}

impl Links {
    pub(super) fn new(network: Network, chance: Random) -> Links {
        Links {
            network,
            chance,
            islands: Vec::new(),
            deaf: BTreeSet::new(),
            links: Vec::new(),
            blocked: BTreeSet::new(),
            uplinks: Vec::new(),
        }
    }

    /// One more node, on island 0.
    pub(super) fn add(&mut self) {
        self.islands.push(0);
        self.links.push(None);
        self.uplinks.push(Time::ZERO);
    }

    pub(super) fn move_to_island(&mut self, id: NodeId, island: u32) {
        self.islands[id.0 as usize] = island;
    }

    pub(super) fn deafen(&mut self, island: u32) {
        self.deaf.insert(island);
    }

    pub(super) fn set_link(&mut self, id: NodeId, link: Option<Link>) {
        self.links[id.0 as usize] = link.map(Box::new);
    }

    pub(super) fn block(&mut self, from: NodeId, to: NodeId) {
        self.blocked.insert((from, to));
    }

    /// Ends islands, bad links and blocks.
    pub(super) fn heal(&mut self) {
        self.islands.fill(0);
        self.deaf.clear();
        self.links.fill(None);
        self.blocked.clear();
    }

    /// When a datagram of that many bytes arrives; none if it is lost.
    pub(super) fn datagram(&mut self, now: Time, from: NodeId, to: NodeId, bytes: usize) -> Option<Time> {
        let lost = 1.0 - (1.0 - self.network.loss) * (1.0 - self.link_loss(now, from, to));
        if lost > 0.0 && (lost >= 1.0 || self.chance.unit() < lost) {
            return None;
        }
        let sent = self.uplink(now, from, bytes);
        if sent.since(now) > UPLINK_WAIT_MAX {
            return None;
        }
        Some(sent + self.delay())
    }

    /// Whether the datagram that was just sent arrives once more.
    pub(super) fn duplicates(&mut self) -> bool {
        self.network.duplication > 0.0 && self.chance.unit() < self.network.duplication
    }

    /// When stream bytes arrive; none if nothing gets through.
    pub(super) fn stream(&mut self, now: Time, from: NodeId, to: NodeId, bytes: usize) -> Option<Time> {
        if self.link_loss(now, from, to).max(self.link_loss(now, to, from)) >= STREAM_LOSS_MAX {
            return None;
        }
        Some(self.uplink(now, from, bytes) + self.delay())
    }

    /// How much of a stream write of that many bytes arrives before the connection breaks; none: it holds.
    pub(super) fn cut(&mut self, bytes: usize) -> Option<usize> {
        let cuts = self.network.stream_cuts;
        if cuts > 0.0 && self.chance.unit() < cuts {
            return Some(self.chance.below(u32::try_from(bytes).unwrap_or(u32::MAX).max(1)) as usize);
        }
        None
    }

    /// A one-way delay.
    pub(super) fn delay(&mut self) -> Duration {
        let Network { delay_min, delay_max, tail_share, tail_mean, .. } = self.network;
        let mut delay = delay_min + self.chance.duration(delay_max.saturating_sub(delay_min));
        if tail_share > 0.0 && self.chance.unit() < tail_share {
            // 1 - u lies in (0, 1]: the logarithm is finite. libm: the same digits on every machine.
            let stretched = -libm::log(1.0 - self.chance.unit());
            delay += Duration::from_nanos((tail_mean.as_nanos() as f64 * stretched) as u64);
        }
        delay
    }

    /// Share of packets that the two nodes' links lose in that direction, without the loss of the network.
    fn link_loss(&self, now: Time, from: NodeId, to: NodeId) -> f64 {
        let (a, b) = (from.0 as usize, to.0 as usize);
        let heard = self.islands[b] == 0 && self.deaf.contains(&self.islands[a]);
        if self.islands[a] != self.islands[b] && !heard {
            return 1.0;
        }
        if !self.blocked.is_empty() && self.blocked.contains(&(from, to)) {
            return 1.0;
        }
        let mut kept = 1.0;
        if let Some(link) = self.links[a].as_ref().filter(|link| link.is_bad(now)) {
            kept *= 1.0 - link.outbound_loss;
        }
        if let Some(link) = self.links[b].as_ref().filter(|link| link.is_bad(now)) {
            kept *= 1.0 - link.inbound_loss;
        }
        1.0 - kept
    }

    /// When the uplink has sent that many bytes more.
    fn uplink(&mut self, now: Time, from: NodeId, bytes: usize) -> Time {
        let rate = self.network.bytes_per_second;
        if rate == 0 {
            return now;
        }
        let busy = &mut self.uplinks[from.0 as usize];
        let span = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate);
        let sent = now.max(*busy) + span;
        if sent.since(now) <= UPLINK_WAIT_MAX {
            *busy = sent;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);

    fn links(network: Network) -> Links {
        let mut links = Links::new(network, Random::new(5));
        links.add();
        links.add();
        links
    }

    fn arrivals(links: &mut Links, now: Time, from: NodeId, to: NodeId) -> usize {
        (0..10_000).filter(|_| links.datagram(now, from, to, 100).is_some()).count()
    }

    #[test]
    fn losses_of_network_and_link_multiply() {
        let mut links = links(Network { loss: 0.5, ..Network::default() });
        links.set_link(B, Some(Link { inbound_loss: 0.5, ..Link::default() }));
        let (there, back) = (arrivals(&mut links, Time::ZERO, A, B), arrivals(&mut links, Time::ZERO, B, A));
        assert!((2_300..2_700).contains(&there), "{there}");
        assert!((4_700..5_300).contains(&back), "{back}");
    }

    #[test]
    fn a_one_way_block_stops_datagrams_one_way_and_streams_both_ways() {
        let mut links = links(Network::default());
        links.block(A, B);
        assert_eq!(arrivals(&mut links, Time::ZERO, A, B), 0);
        assert_eq!(arrivals(&mut links, Time::ZERO, B, A), 10_000);
        assert!(links.stream(Time::ZERO, A, B, 10).is_none());
        assert!(links.stream(Time::ZERO, B, A, 10).is_none());
        links.heal();
        assert!(links.stream(Time::ZERO, A, B, 10).is_some());
    }

    #[test]
    fn a_deaf_island_is_heard_and_hears_nothing() {
        let mut links = links(Network::default());
        links.move_to_island(A, 1);
        links.deafen(1);
        assert_eq!(arrivals(&mut links, Time::ZERO, A, B), 10_000);
        assert_eq!(arrivals(&mut links, Time::ZERO, B, A), 0);
        assert!(links.stream(Time::ZERO, A, B, 10).is_none(), "a stream needs both directions");
        links.heal();
        assert_eq!(arrivals(&mut links, Time::ZERO, B, A), 10_000);
    }

    #[test]
    fn a_link_that_flips_is_bad_in_its_first_span() {
        let seconds = Duration::from_secs;
        let mut links = links(Network::default());
        let flip_flop = Some((seconds(20), seconds(10)));
        links.set_link(A, Some(Link { outbound_loss: 1.0, flip_flop, ..Link::default() }));
        for (at, passes) in [(0, false), (19, false), (20, true), (29, true), (30, false)] {
            let got = links.datagram(Time::ZERO + seconds(at), A, B, 1).is_some();
            assert_eq!(got, passes, "second {at}");
        }
    }

    #[test]
    fn a_slow_uplink_delays_then_drops() {
        let mut links = links(Network { bytes_per_second: 1_000, ..Network::default() });
        let mut last = Time::ZERO;
        for _ in 0..5 {
            let at = links.datagram(Time::ZERO, A, B, 100).expect("half a second of bytes fits");
            assert!(at > last);
            last = at;
        }
        assert!(last.since(Time::ZERO) >= Duration::from_millis(500));
        assert!(links.datagram(Time::ZERO, A, B, 100).is_none());
        assert!(links.datagram(Time::ZERO, B, A, 100).is_some(), "the other's uplink is free");
    }

    #[test]
    fn the_tail_has_the_mean_it_should_have() {
        let tail_mean = Duration::from_millis(100);
        let mut links = links(Network { tail_share: 1.0, tail_mean, ..Network::default() });
        let total: Duration = (0..20_000).map(|_| links.delay()).sum();
        let mean = total / 20_000;
        assert!((Duration::from_millis(97)..Duration::from_millis(104)).contains(&mean), "{mean:?}");
    }
}
