//! Pushes counters to statsd (UDP) and statsite (TCP) under the names of Serf's agent.
//! Names that Serf does not have begin with `thane.`.
//!
//! Once a second all counters are sent in as few packets as possible. A sink that can't be reached loses the counts
//! of that time; the agent never waits for a sink.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use thane_engine::api::{Handle, NodeStats};
use thane_engine::event::{Event, MemberEventKind};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::level::Level;
use super::log::Log;

const PREFIX: &str = "serf-agent";
const PUSHED_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a name lookup, for the connection to statsite, and for each write.
const SINK_WITHIN: Duration = Duration::from_secs(5);
/// Longest packet, bytes; fits into an Ethernet frame (go-metrics' value).
const PACKET_BYTES_MAX: usize = 1400;
/// Names counted between two pushes: peers choose the names of events. Further names count in their totals only.
const NAMES_MAX: usize = 1024;

/// Counts since the last push, by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Option<Rc<RefCell<BTreeMap<String, u64>>>>);

impl Counters {
    /// Counters; without a sink (`wanted` is false) nothing is counted.
    pub(crate) fn new(wanted: bool) -> Counters {
        Counters(wanted.then(Rc::default))
    }

    /// Counts one.
    pub(crate) fn count(&self, name: &str) {
        self.add(name, 1);
    }

    fn add(&self, name: &str, more: u64) {
        let Some(counts) = &self.0 else { return };
        let mut counts = counts.borrow_mut();
        if let Some(count) = counts.get_mut(name) {
            *count += more;
        } else if counts.len() < NAMES_MAX {
            counts.insert(name.to_owned(), more);
        }
    }

    /// Counts an event that reached the agent.
    pub(crate) fn event(&self, event: &Event) {
        let (total, name) = match event {
            Event::Member { .. } => return,
            Event::User { name, .. } => ("serf.events", name),
            Event::Query { name, .. } => ("serf.queries", name),
        };
        self.count(total);
        if self.0.is_some() {
            self.count(&format!("{total}.{name}"));
        }
    }

    /// Counts member events, one per member.
    pub(crate) fn members(&self, kind: MemberEventKind, count: usize) {
        let name = match kind {
            MemberEventKind::Join => "serf.member.join",
            MemberEventKind::Leave => "serf.member.left",
            MemberEventKind::Failed => "serf.member.failed",
            MemberEventKind::Update => "serf.member.update",
            MemberEventKind::Reap => return,
        };
        self.add(name, count as u64);
    }

    fn take(&self) -> BTreeMap<String, u64> {
        self.0.as_ref().map(|counts| counts.take()).unwrap_or_default()
    }
}

/// Checks the form of a sink's address; the name is resolved when it is used.
///
/// # Errors
/// One line with the text and the form it must have.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(()),
        _ => Err(format!("{text:?} must be an address with a port, such as 127.0.0.1:8125")),
    }
}

/// Pushes until the node stops. An empty address means no such sink; without sinks it returns at once.
pub(crate) async fn push(statsd: String, statsite: String, node: Handle, counters: Counters, log: Log) {
    let sinks = [Sink::Statsd(statsd, None), Sink::Statsite(statsite, None)];
    let mut sinks: Vec<(Sink, bool)> =
        sinks.into_iter().filter(|sink| !sink.addr().is_empty()).map(|sink| (sink, true)).collect();
    if sinks.is_empty() {
        return;
    }
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let mut before = NodeStats::default();
    let mut ticks = interval(PUSHED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(now) = node.stats().await else { return };
        let lines = report(&host, &before, &now, &counters.take());
        before = now;
        for (sink, works) in &mut sinks {
            let sent = sink.send(&packets(&lines)).await;
            if let (Err(error), true) = (&sent, *works) {
                let text = format!("can't send metrics to {}, retrying every second: {error}", sink.addr());
                log.add(Level::Warn, "agent", text);
            }
            *works = sent.is_ok();
        }
    }
}

/// A sink: its address and, while it works, the connection.
enum Sink {
    Statsd(String, Option<UdpSocket>),
    Statsite(String, Option<TcpStream>),
}

impl Sink {
    fn addr(&self) -> &str {
        let (Sink::Statsd(addr, _) | Sink::Statsite(addr, _)) = self;
        addr
    }

    async fn send(&mut self, packets: &[String]) -> io::Result<()> {
        match self {
            Sink::Statsd(addr, kept) => {
                let socket = match kept.take() {
                    Some(socket) => socket,
                    None => udp(addr).await?,
                };
                for packet in packets {
                    socket.send(packet.as_bytes()).await?;
                }
                *kept = Some(socket);
            }
            Sink::Statsite(addr, kept) => {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => timeout(SINK_WITHIN, TcpStream::connect(&*addr)).await??,
                };
                timeout(SINK_WITHIN, stream.write_all(packets.concat().as_bytes())).await??;
                *kept = Some(stream);
            }
        }
        Ok(())
    }
}

/// A socket of the sink's address family. The name is resolved again after every failure.
async fn udp(addr: &str) -> io::Result<UdpSocket> {
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "no such host");
    let to = timeout(SINK_WITHIN, tokio::net::lookup_host(addr)).await??.next().ok_or_else(nowhere)?;
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// The lines of one push: counters for events, gauges (with the host in their names) for states, samples where Serf
/// has samples.
fn report(host: &str, before: &NodeStats, now: &NodeStats, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let mut lines: Vec<String> = counted.iter().map(|(name, count)| counter(name, *count)).collect();
    let grown = |name: &str, now: u64, before: u64| match now.saturating_sub(before) {
        0 => None,
        count => Some(counter(name, count)),
    };
    let known = serfs(before);
    lines.extend(
        serfs(now).into_iter().zip(known).filter_map(|((name, now), (_, before))| grown(name, now, before)),
    );
    for &(reason, count) in &now.drops {
        let known = before.drops.iter().find(|(known, _)| *known == reason).map_or(0, |&(_, count)| count);
        lines.extend(grown(&format!("thane.drops.{reason}"), count, known));
    }
    let queues = [
        ("serf.queue.Intent", now.intent_queue),
        ("serf.queue.Event", now.event_queue),
        ("serf.queue.Query", now.query_queue),
        ("memberlist.queue.broadcasts", now.member_queue),
    ];
    lines.extend(queues.map(|(name, depth)| line(name, depth as f64, "ms")));
    let alive = now.members.saturating_sub(now.failed + now.left);
    // go-metrics appends a label's value to the name, here that of node_state.
    let instances = [
        ("memberlist.node.instances.alive", alive.saturating_sub(now.suspected)),
        ("memberlist.node.instances.suspect", now.suspected),
        ("memberlist.node.instances.dead", now.failed),
        ("memberlist.node.instances.left", now.left),
    ];
    let gauge = |name: &str, value: f64| line(&format!("{host}.{name}"), value, "g");
    lines.extend(instances.map(|(name, count)| gauge(name, count as f64)));
    if now.protocol.serfs.state_bytes > 0 {
        lines.push(gauge("memberlist.size.local", now.protocol.serfs.state_bytes as f64));
    }
    let gauges = [
        ("memberlist.health.score", f64::from(now.health_score)),
        ("thane.members.alive", alive as f64),
        ("thane.members.failed", now.failed as f64),
        ("thane.members.left", now.left as f64),
    ];
    lines.extend(gauges.map(|(name, value)| gauge(name, value)));
    lines
}

/// The node's counters under Serf's names.
fn serfs(of: &NodeStats) -> [(&'static str, u64); 15] {
    let (received, sent) = of.datagram_bytes;
    let serfs = &of.protocol.serfs;
    [
        ("memberlist.udp.received", received),
        ("memberlist.udp.sent", sent),
        ("memberlist.tcp.accept", serfs.streams_accepted),
        ("memberlist.tcp.connect", serfs.streams_connected),
        ("memberlist.tcp.sent", serfs.stream_bytes_sent),
        ("memberlist.msg.alive", serfs.alive),
        ("memberlist.msg.suspect", serfs.suspect),
        ("memberlist.msg.dead", serfs.dead),
        ("memberlist.degraded.probe", serfs.probes_degraded),
        ("memberlist.degraded.timeout", serfs.timeouts_degraded),
        ("serf.query_acks", serfs.query_acks),
        ("serf.query_responses", serfs.query_responses),
        ("serf.query_duplicate_acks", serfs.query_acks_repeated),
        ("serf.query_duplicate_responses", serfs.query_responses_repeated),
        ("serf.member.flap", serfs.flaps),
    ]
}

fn counter(name: &str, count: u64) -> String {
    line(name, count as f64, "c")
}

fn line(name: &str, value: f64, kind: &str) -> String {
    let plain = |c: char| if c == ':' || c == '|' || c.is_whitespace() || c.is_control() { '_' } else { c };
    let name: String = name.chars().map(plain).collect();
    format!("{PREFIX}.{name}:{value:.6}|{kind}\n")
}

/// Joins lines to packets. A line is never cut; one longer than a packet is a packet of its own.
fn packets(lines: &[String]) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        match packets.last_mut().filter(|packet| packet.len() + line.len() <= PACKET_BYTES_MAX) {
            Some(packet) => packet.push_str(line),
            None => packets.push(line.clone()),
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thane_engine::stats::{SerfsCounters, Stats};

    use super::*;

    #[test]
    fn lines_have_serfs_names_and_statsds_form() {
        let counters = Counters::new(true);
        counters.members(MemberEventKind::Join, 1);
        for _ in 0..2 {
            counters.event(&Event::User {
                ltime: thane_engine::wire::LamportTime(1),
                name: "de ploy:x|y".to_owned(),
                payload: bytes::Bytes::new(),
                coalesce: false,
            });
        }
        let before = NodeStats { datagram_bytes: (100, 50), ..NodeStats::default() };
        let mut protocol = Stats::default();
        protocol.serfs =
            SerfsCounters { dead: 1, query_acks: 4, state_bytes: 99, ..SerfsCounters::default() };
        let now = NodeStats {
            members: 5,
            failed: 1,
            datagram_bytes: (350, 50),
            drops: vec![("wrong_key", 3)],
            event_queue: 7,
            member_queue: 2,
            suspected: 1,
            protocol,
            ..NodeStats::default()
        };
        let expected = "serf-agent.serf.events:2.000000|c
serf-agent.serf.events.de_ploy_x_y:2.000000|c
serf-agent.serf.member.join:1.000000|c
serf-agent.memberlist.udp.received:250.000000|c
serf-agent.memberlist.msg.dead:1.000000|c
serf-agent.serf.query_acks:4.000000|c
serf-agent.thane.drops.wrong_key:3.000000|c
serf-agent.serf.queue.Intent:0.000000|ms
serf-agent.serf.queue.Event:7.000000|ms
serf-agent.serf.queue.Query:0.000000|ms
serf-agent.memberlist.queue.broadcasts:2.000000|ms
serf-agent.box.memberlist.node.instances.alive:3.000000|g
serf-agent.box.memberlist.node.instances.suspect:1.000000|g
serf-agent.box.memberlist.node.instances.dead:1.000000|g
serf-agent.box.memberlist.node.instances.left:0.000000|g
serf-agent.box.memberlist.size.local:99.000000|g
serf-agent.box.memberlist.health.score:0.000000|g
serf-agent.box.thane.members.alive:4.000000|g
serf-agent.box.thane.members.failed:1.000000|g
serf-agent.box.thane.members.left:0.000000|g
";
        assert_eq!(report("box", &before, &now, &counters.take()).concat(), expected);
        assert!(counters.take().is_empty(), "each count is taken once");
    }

    #[test]
    fn without_a_sink_nothing_is_counted_and_names_are_bounded() {
        let off = Counters::new(false);
        off.count("x");
        assert!(off.take().is_empty());
        let on = Counters::new(true);
        (0..5000).for_each(|n| on.count(&format!("serf.events.{n}")));
        assert_eq!(on.take().len(), NAMES_MAX);
    }

    #[test]
    fn packets_fit_a_frame_and_cut_no_line() {
        let lines: Vec<String> = (0..200).map(|n| counter(&format!("serf.events.{n}"), n)).collect();
        let packets = packets(&lines);
        assert!(packets.len() > 2 && packets.iter().all(|packet| packet.len() <= PACKET_BYTES_MAX));
        assert_eq!(packets.concat(), lines.concat());
    }

    #[test]
    fn addresses_have_a_port() {
        assert!(check_address("localhost:8125").is_ok() && check_address("[::1]:8125").is_ok());
        for bad in ["localhost", ":8125", "x:", "x:0", "x:70000"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
