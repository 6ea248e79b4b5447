//! The measures of a fleet while it runs, and its report.

use std::time::{Duration, Instant};

use thane_engine::api::{NodeCensus, ShardCensus};

use super::options::Options;
use crate::process;
use crate::report::kinds::{self, MeasureKind};
use crate::report::{Agents, Ended, Line, Made, Mark, Medium, Policy, Report, Run, Subject};

/// Shortest time between two samples.
const APART: Duration = Duration::from_millis(100);
/// Kilobytes as /proc counts them in a megabyte.
const KB_IN_MB: f64 = 1e6 / 1024.0;

/// The sums over all nodes and the cost of the process, so far.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Sums {
    /// Nodes that run.
    pub(super) running: u64,
    /// Members known as alive, all views together.
    pub(super) known: u64,
    /// Members listed as failed at the node that lists most.
    pub(super) failed_max: usize,
    pub(super) sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) kernel_drops: u64,
    pub(super) unsent: u64,
    pub(super) refused: u64,
    pub(super) cpu: Duration,
    pub(super) run_queue: Duration,
}

impl Sums {
    pub(super) fn of(shards: &[ShardCensus]) -> Sums {
        let nodes = || shards.iter().flat_map(|shard| &shard.nodes);
        let sum = |value: fn(&NodeCensus) -> u64| nodes().map(value).sum();
        let me = std::process::id();
        Sums {
            running: sum(|_| 1),
            known: sum(|node| node.alive as u64),
            failed_max: nodes().map(|node| node.failed).max().unwrap_or(0),
            sent: sum(|node| node.datagrams.1),
            bytes_sent: sum(|node| node.datagram_bytes.1),
            kernel_drops: shards.iter().map(|shard| shard.udp.kernel_drops).sum(),
            unsent: shards.iter().map(|shard| shard.udp.send_would_block + shard.udp.send_errors).sum(),
            refused: sum(|node| node.drops),
            cpu: process::cpu(me),
            run_queue: process::run_queue_delay(me),
        }
    }
}

impl Sums {
    /// Members listed as failed at the node that lists most, without those that crashed. A view that lists another
    /// member instead of a crashed one counts as right.
    fn false_failures(&self, nodes: usize) -> f64 {
        self.failed_max.saturating_sub(nodes - self.running as usize) as f64
    }

    /// Members known as alive, in percent of full views of all nodes that run.
    fn known_percent(&self) -> f64 {
        (100.0 * self.known as f64 / (self.running * self.running).max(1) as f64).min(100.0)
    }
}

/// Everything measured so far.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) report: Report,
    started: Instant,
    nodes: usize,
    samples: Vec<(f64, Sums, f64)>,
}

impl Record {
    /// Begins the record of a fleet.
    pub(super) fn new(options: &Options, driver: &str) -> Record {
        let nodes = options.nodes();
        let mut report = Report::new(format!("fleet, {nodes} nodes"), Made::here(crate::PROGRAM));
        let policy = Policy::from(options.policy());
        let name = format!("thane {}, fleet", policy.as_str());
        let mut subject = Subject::new(name, Agents::Thane, Medium::Fleet, nodes as u64);
        subject.policy = Some(policy);
        for (name, value) in [
            ("shards", options.shards.to_string()),
            ("passes", options.passes.to_string()),
            ("joining", options.joining.to_string()),
            ("compression", options.compress.to_string()),
            ("driver", driver.to_owned()),
        ] {
            subject.settings.insert(name.to_owned(), value);
        }
        // The order of the joins follows from a fixed seed.
        subject.runs.push(Run { seed: 1, seconds: 0.0, ended: Ended::Complete, note: String::new() });
        report.subjects.push(subject);
        Record { report, started: Instant::now(), nodes, samples: Vec::new() }
    }

    pub(super) fn subject(&mut self) -> &mut Subject {
        &mut self.report.subjects[0]
    }

    /// Adds a value.
    pub(super) fn add(&mut self, kind: &MeasureKind, value: f64) {
        self.subject().add(kind.value(value));
    }

    /// Marks a moment.
    pub(super) fn mark(&mut self, what: &str) {
        let at = self.started.elapsed().as_secs_f64();
        self.subject().marks.push(Mark { run: 0, at, what: what.to_owned() });
    }

    /// Whether it is time for a sample.
    pub(super) fn wants_sample(&self) -> bool {
        let last = self.samples.last().map_or(f64::MIN, |sample| sample.0);
        self.started.elapsed().as_secs_f64() >= last + APART.as_secs_f64()
    }

    /// Takes a sample. Returns the share of all views that is full, percent.
    pub(super) fn sample(&mut self, shards: &[ShardCensus]) -> f64 {
        let sums = Sums::of(shards);
        if self.wants_sample() {
            self.samples.push((self.started.elapsed().as_secs_f64(), sums, rss_mb("VmRSS:")));
        }
        sums.known_percent()
    }

    /// Ends the record: how the run ended, its sums and curves.
    pub(super) fn end(&mut self, ended: Ended, note: &str) {
        let (seconds, last) =
            (self.started.elapsed().as_secs_f64(), self.samples.last().map(|sample| sample.1));
        let run = &mut self.subject().runs[0];
        (run.seconds, run.ended, run.note) = (seconds, ended, note.to_owned());
        self.add(&kinds::MEMORY_PEAK, rss_mb("VmHWM:"));
        if let Some(sums) = last {
            let node_seconds = self.nodes as f64 * seconds;
            self.add(&kinds::PACKETS_SENT, sums.sent as f64 / node_seconds);
            self.add(&kinds::BYTES_SENT, sums.bytes_sent as f64 / node_seconds);
            let false_failures = self.samples.iter().map(|(_, sums, _)| sums.false_failures(self.nodes));
            let worst = false_failures.fold(0.0, f64::max);
            self.add(&kinds::FALSE_FAILURES, worst);
            self.add(&kinds::KERNEL_DROPS, sums.kernel_drops as f64);
            self.add(&kinds::UNSENT, sums.unsent as f64);
            self.add(&kinds::REFUSED, sums.refused as f64);
            self.add(&kinds::CPU_SECONDS, sums.cpu.as_secs_f64());
            self.add(&kinds::RUN_QUEUE, sums.run_queue.as_secs_f64() * 1e3 / seconds);
        }
        let curves = self.curves();
        self.subject().curves.extend(curves);
    }

    fn curves(&self) -> Vec<crate::report::Curve> {
        let nodes = self.nodes as f64;
        let over = |value: &dyn Fn(&Sums) -> f64| {
            Line::new("all", self.samples.iter().map(|(at, sums, _)| (*at, value(sums))).collect())
        };
        // A counter's growth in a second, scaled.
        let rate = |scale: f64, counter: &dyn Fn(&Sums) -> f64| {
            let samples = self.samples.iter().map(|(at, sums, _)| (*at, counter(sums) * scale));
            Line::rate("all", &samples.collect::<Vec<_>>())
        };
        let rss = self.samples.iter().map(|(at, _, rss)| (*at, *rss)).collect();
        [
            (kinds::MEMBERS_KNOWN, over(&Sums::known_percent)),
            (kinds::PACKETS, rate(1.0 / nodes, &|sums| sums.sent as f64)),
            (kinds::BYTES, rate(1.0 / nodes, &|sums| sums.bytes_sent as f64)),
            (kinds::CPU, rate(100.0, &|sums| sums.cpu.as_secs_f64())),
            (kinds::RSS, Line::new("rss", rss)),
            (kinds::FALSE_OVER_TIME, over(&|sums| sums.false_failures(self.nodes))),
            (kinds::RUN_QUEUE_DELAY, rate(1e3, &|sums| sums.run_queue.as_secs_f64())),
        ]
        .into_iter()
        .map(|(kind, line)| kind.curve(0, vec![line]))
        .collect()
    }
}

/// Memory of this process in MB.
pub(super) fn rss_mb(field: &str) -> f64 {
    process::status_kb(std::process::id(), field).unwrap_or(0) as f64 / KB_IN_MB
}
