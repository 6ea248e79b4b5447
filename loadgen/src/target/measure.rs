//! The measurements of one agent under a steady load, in their order, and the table of several agents.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::bare;
use super::emulated::{Members, Wrapping};
use super::load::{self, ALIVE_IN_PACKET, BURST, Kind, Outcome, Pace};
use super::options::Options;
use crate::agent::{Agent, Launch};
use crate::progress::{Progress, Step};
use crate::spread::Spread;
use crate::stop::Stop;

/// Time for the agent to come to rest before the next measurement.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// Time between two looks while the agent rests.
const LOOK: Duration = Duration::from_millis(250);
/// Repetitions of short measurements; the median counts.
const REPEAT: usize = 5;

/// Rows of the table: name with unit, value. A value below zero was not measured.
pub(crate) type Measured = Vec<(&'static str, f64)>;

/// A value that could not be measured.
pub(crate) const UNKNOWN: f64 = -1.0;

/// The work at one agent: what it is called on the progress line, and whether the user wants an end.
pub(crate) struct Watch<'a> {
    /// The agent's name in reports.
    pub(crate) title: &'a str,
    pub(crate) stop: &'a Stop,
    pub(crate) progress: &'a Progress,
}

impl Watch<'_> {
    /// Begins a phase.
    ///
    /// # Errors
    /// An end is wanted.
    pub(crate) fn phase(&self, name: &str) -> Result<(), String> {
        self.progress.phase(&format!("{}: {name}", self.title));
        self.stop.check()
    }

    /// Waits, and shows how long.
    ///
    /// # Errors
    /// An end is wanted.
    pub(crate) fn rest(&self, span: Duration) -> Result<(), String> {
        let start = Instant::now();
        while let Some(left) = span.checked_sub(start.elapsed()) {
            let (done, total) = ((span - left).as_secs_f64(), span.as_secs_f64());
            self.progress.step(Step { done, total, unit: "s", detail: "" });
            self.stop.sleep(left.min(LOOK))?;
        }
        self.stop.check()
    }
}

/// Starts an agent and emulated members, lets it join them and come to rest.
///
/// # Errors
/// One can't be started, the agent does not join, or an end is wanted.
pub(crate) fn start_joined(
    launch: &Launch,
    wrapping: Wrapping,
    options: &Options,
    watch: &Watch<'_>,
) -> Result<(Agent, Members), String> {
    watch.phase("join")?;
    let agent = Agent::start(&wrapping.launched(launch))?;
    let members = options.members(wrapping)?;
    agent.join(members.addr())?;
    watch.rest(SETTLE)?;
    Ok((agent, members))
}

/// Measures everything at one agent.
///
/// # Errors
/// The agent refuses or has ended, or an end is wanted; `rows` has everything up to then.
pub(crate) fn measure(
    agent: &Agent,
    options: &Options,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    watch.phase("alone")?;
    watch.rest(SETTLE)?;
    rows.push(("alone: RSS, MB", megabytes(agent.rss_kb())));
    let idle = idle(agent, options.idle, watch)?;
    rows.push(("alone: CPU, ms per minute", idle * 60.0 * 1e3));
    let ping = Kind::Ping(agent.node.clone());
    let load = Load { agent, options, watch, idle };
    load.pings(&ping, ALONE, rows)?;
    load.one_way(&Kind::DuplicateEvent, EVENTS, rows)?;

    watch.phase("join")?;
    let members = options.members(Wrapping::Plain)?;
    merge(agent, &members, idle, watch, rows)?;
    watch.rest(SETTLE)?;
    rows.push(("with members: RSS, MB", megabytes(agent.rss_kb())));
    let answered = members.answered();
    let idle = self::idle(agent, options.idle, watch)?;
    rows.push(("with members: CPU, ms per minute", idle * 60.0 * 1e3));
    rows.push(("with members: own probes answered", (members.answered() - answered) as f64));
    watch.phase("list and exchange")?;
    list(agent, options, rows)?;
    exchange(agent, &members, watch, rows)?;
    let alive = Kind::KnownAlive(options.nodes(), members.addr());
    let load = Load { agent, options, watch, idle };
    load.one_way(&alive, ALIVES, rows)?;
    load.pings(&ping, AMONG, rows)?;
    rows.push(("at the end: RSS, MB", megabytes(agent.rss_kb())));
    rows.push(("at the end: peak RSS, MB", megabytes(agent.peak_rss_kb())));
    Ok(())
}

/// Measures the loop that only answers: the rows that it has in common with an agent.
///
/// # Errors
/// A load can't be sent, or an end is wanted; `rows` has everything up to then.
pub(crate) fn bare(
    agent: &Agent,
    options: &Options,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    watch.phase("alone")?;
    watch.rest(SETTLE)?;
    rows.push(("alone: RSS, MB", megabytes(agent.rss_kb())));
    let load = Load { agent, options, watch, idle: 0.0 };
    load.pings(&Kind::Ping(agent.node.clone()), ALONE, rows)?;
    load.one_way(&Kind::DuplicateEvent, EVENTS, rows)?;
    load.one_way(&Kind::KnownAlive(options.nodes(), agent.gossip), ALIVES, rows)
}

/// Seconds of processor time per second, while the agent gets no requests.
fn idle(agent: &Agent, span: Duration, watch: &Watch<'_>) -> Result<f64, String> {
    watch.phase("idle")?;
    let before = agent.cpu();
    watch.rest(span)?;
    Ok((agent.cpu() - before).as_secs_f64() / span.as_secs_f64().max(0.001))
}

/// Names of a ping load's rows.
type PingRows = [&'static str; 6];

const ALONE: PingRows = [
    "alone: ping to ack, CPU us",
    "alone: acked, %",
    "alone: p50, us",
    "alone: p99, us",
    "alone: p99.9, us",
    "alone: ping to ack in bursts of 32, CPU us",
];
const AMONG: PingRows = [
    "with members: ping to ack, CPU us",
    "with members: acked, %",
    "with members: p50, us",
    "with members: p99, us",
    "with members: p99.9, us",
    "with members: ping to ack in bursts of 32, CPU us",
];
/// One packet at a time, in bursts, and the datagrams that the kernel dropped in both.
type OneWayRows = [&'static str; 3];

const EVENTS: OneWayRows =
    ["duplicate event, CPU us", "duplicate event in bursts of 32, CPU us", "duplicate event: kernel drops"];
const ALIVES: OneWayRows = [
    "known alive in a packet of ten, CPU us",
    "known alive in bursts of 32 packets, CPU us",
    "known alive: kernel drops",
];

/// Loads for one agent.
struct Load<'a> {
    agent: &'a Agent,
    options: &'a Options,
    watch: &'a Watch<'a>,
    /// Seconds of processor time per second that the agent needs without a load.
    idle: f64,
}

impl Load<'_> {
    fn pings(&self, kind: &Kind, names: PingRows, rows: &mut Measured) -> Result<(), String> {
        let (outcome, cpu) = self.run(kind, 1)?;
        let each = |cpu: f64, answered: u64| known(self.agent, cpu * 1e6 / answered.max(1) as f64);
        let Outcome { sent, answered, latency } = outcome;
        let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        rows.push((names[0], each(cpu, answered)));
        rows.push((names[1], 100.0 * answered as f64 / sent.max(1) as f64));
        rows.extend([(names[2], us(0.5)), (names[3], us(0.99)), (names[4], us(0.999))]);
        let (outcome, cpu) = self.run(kind, BURST)?;
        rows.push((names[5], each(cpu, outcome.answered)));
        Ok(())
    }

    fn one_way(&self, kind: &Kind, names: OneWayRows, rows: &mut Measured) -> Result<(), String> {
        let messages = if matches!(kind, Kind::KnownAlive(..)) { ALIVE_IN_PACKET as u64 } else { 1 };
        let mut all_drops = 0;
        for (name, burst) in [(names[0], 1), (names[1], BURST)] {
            let before = self.agent.kernel_drops();
            let (outcome, cpu) = self.run(kind, burst)?;
            let drops = self.agent.kernel_drops() - before;
            let taken = (outcome.sent.saturating_sub(drops) * messages).max(1);
            rows.push((name, known(self.agent, cpu * 1e6 / taken as f64)));
            all_drops += drops;
        }
        rows.push((names[2], all_drops as f64));
        Ok(())
    }

    /// Sends a load. Returns its outcome and the processor seconds that it cost beyond idling.
    fn run(&self, kind: &Kind, burst: u32) -> Result<(Outcome, f64), String> {
        let &Load { agent, options, watch, idle } = self;
        watch.phase(&format!("{} in bursts of {burst}", kind.as_str()))?;
        let (before, start) = (agent.cpu(), Instant::now());
        let pace = Pace { rate: options.rate, span: options.span, burst };
        let outcome = load::run(kind, Wrapping::Plain, options.from, agent.gossip, pace)
            .map_err(|error| format!("can't send from {}: {error}", options.from))?;
        let used = (agent.cpu() - before).as_secs_f64();
        Ok((outcome, (used - idle * start.elapsed().as_secs_f64()).max(0.0)))
    }
}

fn merge(
    agent: &Agent,
    members: &Members,
    idle: f64,
    watch: &Watch<'_>,
    rows: &mut Measured,
) -> Result<(), String> {
    let (before, start) = (agent.cpu(), Instant::now());
    let used = || (agent.cpu() - before).as_secs_f64() - idle * start.elapsed().as_secs_f64();
    let took = agent.join(members.addr())?;
    rows.push(("join: wall, ms", millis(took)));
    rows.push(("join: CPU until it is answered, ms", known(agent, used() * 1e3)));
    watch.rest(SETTLE)?;
    rows.push(("join: CPU until 2 s later, ms", known(agent, used() * 1e3)));
    rows.push(("join: exchanges until 2 s later", members.exchanged() as f64));
    Ok(())
}

fn list(agent: &Agent, options: &Options, rows: &mut Measured) -> Result<(), String> {
    let (mut walls, mut commands) = (Vec::new(), Vec::new());
    let before = agent.cpu();
    for _ in 0..REPEAT {
        let (wall, count) = agent.members()?;
        if count != options.nodes() + 1 {
            return Err(format!("{} lists {count} members, not {}", agent.title, options.nodes() + 1));
        }
        walls.push(millis(wall));
    }
    let cpu = (agent.cpu() - before).as_secs_f64() * 1e3 / REPEAT as f64;
    commands.extend((0..REPEAT).filter_map(|_| agent.members_command().map(millis)));
    rows.push(("members over RPC: wall, ms", median(walls)));
    rows.push(("members over RPC: CPU, ms", known(agent, cpu)));
    rows.push(("members command: wall, ms", median(commands)));
    Ok(())
}

fn exchange(agent: &Agent, members: &Members, watch: &Watch<'_>, rows: &mut Measured) -> Result<(), String> {
    let (mut walls, before) = (Vec::new(), agent.cpu());
    for _ in 0..REPEAT {
        walls.push(millis(members.push_pull(agent.gossip)?.0));
    }
    watch.rest(SETTLE)?;
    let cpu = (agent.cpu() - before).as_secs_f64() * 1e3 / REPEAT as f64;
    rows.push(("push/pull, all known: wall, ms", median(walls)));
    rows.push(("push/pull, all known: CPU, ms", known(agent, cpu)));
    Ok(())
}

pub(crate) fn known(agent: &Agent, value: f64) -> f64 {
    if agent.pid.is_some() { value } else { UNKNOWN }
}

pub(crate) fn megabytes(kb: u64) -> f64 {
    if kb == 0 { UNKNOWN } else { kb as f64 / 1024.0 }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn median(values: Vec<f64>) -> f64 {
    Spread::of(values).range().map_or(UNKNOWN, |range| range.median)
}

/// The heading of the table.
pub(crate) fn heading(options: &Options) -> String {
    let Options { rate, span, .. } = options;
    format!("{} members, loads of {rate} packets a second for {} s", options.nodes(), span.as_secs())
}

/// The columns side by side. Two agents have the ratio of the first to the second behind them; with the bare loop
/// among the columns follows the difference between the last agent and the loop.
pub(crate) fn table(heading: &str, columns: &[(String, Measured)]) -> String {
    let mut out = format!("{heading}\n");
    // An agent has all rows, the bare loop some of them.
    let rows = columns.iter().map(|(_, rows)| rows).max_by_key(|rows| rows.len());
    let names: Vec<&str> = rows.into_iter().flatten().map(|row| row.0).collect();
    let name_width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let width = columns.iter().map(|(title, _)| title.len()).max().unwrap_or(0).max(12);
    let (bare, agents): (Vec<_>, Vec<_>) = columns.iter().partition(|(title, _)| title == bare::COMMAND);
    let _ = write!(out, "{:name_width$}", "");
    for (title, _) in columns {
        let _ = write!(out, "  {title:>width$}");
    }
    let times = if agents.len() == 2 { "times" } else { "" };
    let over = if bare.is_empty() || agents.is_empty() { "" } else { "over bare" };
    let _ = writeln!(out, "  {times:>9}  {over:>9}");
    for name in names {
        let value = |column: &(String, Measured)| {
            let row = column.1.iter().find(|row| row.0 == name);
            row.map_or(UNKNOWN, |row| row.1)
        };
        let _ = write!(out, "{name:name_width$}");
        for column in columns {
            let _ = write!(out, "  {:>width$}", shown(value(column)));
        }
        let times = match agents.as_slice() {
            [first, second] if value(first) > 0.0 && value(second) > 0.0 => {
                format!("{:.1}", value(first) / value(second))
            }
            _ => String::new(),
        };
        let over = match (agents.last(), bare.first()) {
            (Some(agent), Some(bare)) if value(agent) > 0.0 && value(bare) > 0.0 => {
                format!("{:.2}", value(agent) - value(bare))
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "  {times:>9}  {over:>9}");
    }
    // A missing cell at the end of a line leaves blanks.
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// About three digits.
fn shown(value: f64) -> String {
    match value {
        value if value < 0.0 => "-".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_shows_what_was_measured_and_ratios() {
        let heading = "5000 members";
        let columns = [
            ("serf".to_owned(), vec![("ping", 120.0), ("drops", 0.0), ("CLI", UNKNOWN)]),
            ("thane".to_owned(), vec![("ping", 8.0), ("drops", 0.0), ("CLI", 1.5)]),
            (bare::COMMAND.to_owned(), vec![("ping", 5.0)]),
        ];
        let expected = "5000 members\n\
            \x20              serf         thane          bare      times  over bare\n\
            ping            120          8.00          5.00       15.0       3.00\n\
            drops          0.00          0.00             -\n\
            CLI               -          1.50             -\n";
        assert_eq!(table(heading, &columns), expected);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 100.0, 1.0]), 3.0);
        assert_eq!(median(Vec::new()), UNKNOWN);
    }
}
