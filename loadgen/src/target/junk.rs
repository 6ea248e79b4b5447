//! `target --junk`: one agent among packets and streams that no honest member sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::deck::Deck;
use super::emulated::{Members, Wrapping};
use super::load::{self, Kind, Pace};
use super::measure::{Measured, SETTLE, UNKNOWN, Watch, megabytes, start_joined};
use super::options::Options;
use super::sender::{Flood, Sent};
use super::streams::Hostile;
use crate::agent::{Agent, Launch};
use crate::process;

/// Addresses that junk comes from.
const SOURCES: u32 = 250;
/// Pings a second beside the junk, each timed.
const PROBE_RATE: u32 = 200;
/// Time between two looks at the agent's memory.
const LOOK: Duration = Duration::from_millis(50);

/// Rows of one kind of junk: sent, lost, counted, acked, latency.
type Names = [&'static str; 5];

/// As [`Deck::JUNK`].
const NAMES: [Names; Deck::JUNK.len()] = [
    [
        "garbage: packets/s",
        "garbage: dropped by the kernel, %",
        "garbage: counted by the agent, %",
        "garbage: pings acked, %",
        "garbage: ping p99, us",
    ],
    [
        "cut short: packets/s",
        "cut short: dropped by the kernel, %",
        "cut short: counted by the agent, %",
        "cut short: pings acked, %",
        "cut short: ping p99, us",
    ],
    [
        "not sealed: packets/s",
        "not sealed: dropped by the kernel, %",
        "not sealed: counted by the agent, %",
        "not sealed: pings acked, %",
        "not sealed: ping p99, us",
    ],
    [
        "wrong key: packets/s",
        "wrong key: dropped by the kernel, %",
        "wrong key: counted by the agent, %",
        "wrong key: pings acked, %",
        "wrong key: ping p99, us",
    ],
    [
        "replayed: packets/s",
        "replayed: dropped by the kernel, %",
        "replayed: counted by the agent, %",
        "replayed: pings acked, %",
        "replayed: ping p99, us",
    ],
];

/// The heading of the table.
pub(crate) fn heading(options: &Options) -> String {
    format!(
        "{} members, encrypted; junk from {SOURCES} addresses as fast as one process can, {} s each; then {} \
         streams that stall, drip, announce too much or read nothing",
        options.nodes(),
        options.span.as_secs(),
        Hostile::COUNT
    )
}

/// Sends an agent with a key every kind of junk.
///
/// # Errors
/// The agent or the sender fails, or an end is wanted; `rows` has everything up to then.
pub(crate) fn measure(
    launch: &Launch,
    options: &Options,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    let (agent, members) = start_joined(launch, Wrapping::Sealed, options, watch)?;
    let rss_before = agent.rss_kb();
    let answered = members.answered();
    let memory = Memory::watch(&agent);
    for (deck, names) in Deck::JUNK.into_iter().zip(NAMES) {
        watch.phase(deck.as_str())?;
        packets(&agent, options, &members, (deck, names), rows)?;
    }
    let peak = memory.peak_kb();
    rows.push(("before: RSS, MB", megabytes(rss_before)));
    rows.push(("packets: peak RSS over that, MB", megabytes(peak.saturating_sub(rss_before).max(1))));

    watch.phase("hostile streams")?;
    let memory = Memory::watch(&agent);
    let hostile = Hostile::open(agent.gossip)?;
    let (acked, p99) = pings(&agent, options, Hostile::SPAN)?;
    rows.push(("streams: cut by the agent, %", hostile.cut() * 100.0));
    rows.push(("streams: pings acked, %", acked));
    rows.push(("streams: ping p99, us", p99));
    rows.push(("streams: peak RSS, MB", megabytes(memory.peak_kb())));
    drop(hostile);
    watch.rest(SETTLE)?;
    rows.push(("after: RSS, MB", megabytes(agent.rss_kb())));
    rows.push(("own probes answered", (members.answered() - answered) as f64));
    let not_alive = (options.nodes() + 1).saturating_sub(agent.alive()?);
    rows.push(("members not alive", not_alive as f64));
    Ok(())
}

/// One kind of junk.
fn packets(
    agent: &Agent,
    options: &Options,
    members: &Members,
    (deck, names): (Deck, Names),
    rows: &mut Measured,
) -> Result<(), String> {
    let flood = Flood {
        deck,
        wrapping: Wrapping::Sealed,
        to: agent.gossip,
        node: agent.node.clone(),
        from: options.flood_from(),
        sources: SOURCES,
        rate: 0,
        span: options.span + SETTLE / 2,
        members: options.nodes(),
        members_at: members.addr(),
    };
    let (refused, lost) = (agent.drops()?, agent.kernel_drops());
    let sending = flood.start()?;
    std::thread::sleep(SETTLE / 4);
    let pinged = pings(agent, options, options.span);
    let Sent { packets, took, .. } = sending.finish()?;
    let (acked, p99) = pinged?;
    let lost = agent.kernel_drops() - lost;
    let taken = packets.saturating_sub(lost).max(1) as f64;
    let counted = agent.drops()?.map(|now| grown(&refused.unwrap_or_default(), now));
    let (reasons, share) = match counted {
        None => ("not counted".to_owned(), UNKNOWN),
        Some(counted) => {
            let total: u64 = counted.values().sum();
            let reasons = counted.iter().map(|(reason, count)| format!("{count} {reason}"));
            (format!("counted: {}", reasons.collect::<Vec<_>>().join(", ")), 100.0 * total as f64 / taken)
        }
    };
    eprintln!("{}: {}: {packets} sent, {lost} lost, {reasons}", agent.title, deck.as_str());
    rows.push((names[0], packets as f64 / took.as_secs_f64()));
    rows.push((names[1], 100.0 * lost as f64 / packets.max(1) as f64));
    rows.push((names[2], share));
    rows.extend([(names[3], acked), (names[4], p99)]);
    Ok(())
}

/// The growth of each number that grew.
fn grown(before: &BTreeMap<String, u64>, now: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let growth = |(reason, count): (String, u64)| {
        let count = count - before.get(&reason).copied().unwrap_or(0);
        (count > 0).then_some((reason, count))
    };
    now.into_iter().filter_map(growth).collect()
}

/// Pings the agent as a member with the key. Returns the acked share in percent and the 99th percentile of the latency
/// in microseconds.
fn pings(agent: &Agent, options: &Options, span: Duration) -> Result<(f64, f64), String> {
    let ping = Kind::Ping(agent.node.clone());
    let outcome = load::run(
        &ping,
        Wrapping::Sealed,
        options.from,
        agent.gossip,
        Pace { rate: PROBE_RATE, span, burst: 1 },
    )
    .map_err(|error| format!("can't send from {}: {error}", options.from))?;
    let acked = 100.0 * outcome.answered as f64 / outcome.sent.max(1) as f64;
    Ok((acked, outcome.latency.value_at_quantile(0.99) as f64 / 1e3))
}

/// Samples an agent's memory.
struct Memory {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<u64>,
}

impl Memory {
    fn watch(agent: &Agent) -> Memory {
        let (stop, pid) = (Arc::new(AtomicBool::new(false)), agent.pid);
        let stopped = Arc::clone(&stop);
        let watching = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(pid.and_then(|pid| process::status_kb(pid, "VmRSS:")).unwrap_or(0));
                std::thread::sleep(LOOK);
            }
            peak
        });
        Memory { stop, watching }
    }

    /// The largest sample.
    fn peak_kb(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.join().expect("the watching thread has nothing to panic about")
    }
}
