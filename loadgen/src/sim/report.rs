//! The report of simulated runs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use thane_engine::config::{DisseminationPolicy, Profile};
use thane_engine::sim::{Delays, Departures, Moment, Outcome, Scenario, Start, Traffic};

use crate::report::kinds::{self, CurveKind, MeasureKind};
use crate::report::{
    Agents, Better, Curve, Ended, Line, Mark, Measure, Medium, Policy, Report, Run, ScenarioText, Subject,
};

/// Samples of a run, about.
const SAMPLES: u32 = 300;

/// The cost of a run on this machine. The processor time covers all live threads, of which one plays.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Real time, without building the cluster.
    pub(crate) took: Duration,
    /// Processor time, likewise.
    pub(crate) cpu: Duration,
    /// Peak memory of the process so far, runs before this one included.
    pub(crate) memory_max_bytes: u64,
}

/// What is sampled in the course of a run.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    samples: Vec<Sample>,
    /// The first sample with full views.
    full: Option<f64>,
}

#[derive(Debug, Default)]
struct Sample {
    at: f64,
    running: u64,
    /// Share of all views, percent.
    known: f64,
    datagrams: Vec<(&'static str, Traffic)>,
    streams: Traffic,
    false_failures: u64,
}

impl Timeline {
    /// Samples a moment, unless the last sample is too near. Returns the share of full views, percent.
    pub(crate) fn sample(&mut self, moment: &Moment<'_>) -> f64 {
        let at = moment.passed.as_secs_f64();
        let apart = moment.expected.as_secs_f64() / f64::from(SAMPLES);
        if let Some(last) = self.samples.last().filter(|last| at < last.at + apart && self.full.is_some()) {
            return last.known;
        }
        let (running, known) = (moment.running(), moment.known());
        if self.full.is_none() && known == running * running {
            self.full = Some(at);
        }
        let known = 100.0 * known as f64 / (running * running).max(1) as f64;
        let measures = moment.measures;
        self.samples.push(Sample {
            at,
            running,
            known,
            datagrams: measures.datagrams.iter().map(|(kind, traffic)| (*kind, *traffic)).collect(),
            streams: measures.streams,
            false_failures: measures.false_about_healthy,
        });
        known
    }

    fn curves(&self, run: usize) -> Vec<Curve> {
        let over = |value: fn(&Sample) -> f64| self.samples.iter().map(|one| (one.at, value(one))).collect();
        let mut curves = vec![
            kinds::MEMBERS_KNOWN.curve(run, vec![Line::new("all", over(|sample| sample.known))]),
            kinds::FALSE_OVER_TIME
                .curve(run, vec![Line::new("all", over(|sample| sample.false_failures as f64))]),
        ];
        for (kind, value) in [
            (kinds::PACKETS, (|traffic| traffic.packets) as fn(&Traffic) -> u64),
            (kinds::BYTES, |traffic| traffic.bytes),
        ] {
            curves.push(kind.curve(run, self.rates(value)));
        }
        curves
    }

    /// One line for all datagrams, one for streams, one for each kind of datagrams: per node and second.
    fn rates(&self, value: fn(&Traffic) -> u64) -> Vec<Line> {
        let names: BTreeSet<&str> =
            self.samples.iter().flat_map(|sample| &sample.datagrams).map(|(name, _)| *name).collect();
        // The number of nodes changes: the counter is one for each node.
        let rate = |name: &str, total: &dyn Fn(&Sample) -> u64| {
            let (mut counter, mut last) = (0.0, 0);
            let per_node = self.samples.iter().map(|sample| {
                let now = total(sample);
                counter += (now - last) as f64 / sample.running.max(1) as f64;
                last = now;
                (sample.at, counter)
            });
            Line::rate(name, &per_node.collect::<Vec<_>>())
        };
        let of = |sample: &Sample, wanted: &str| {
            let known = sample.datagrams.iter().find(|(name, _)| *name == wanted);
            known.map_or(0, |(_, traffic)| value(traffic))
        };
        let all = |sample: &Sample| sample.datagrams.iter().map(|(_, traffic)| value(traffic)).sum();
        let mut lines = vec![rate("all", &all), rate("streams", &|one| value(&one.streams))];
        lines.extend(names.iter().map(|&name| rate(name, &|sample| of(sample, name))));
        lines
    }
}

/// The report of a scenario's runs, without any run yet.
pub(crate) fn report(scenario: &Scenario, made: crate::report::Made) -> Report {
    let nodes = scenario.nodes;
    let mut report = Report::new(format!("{}, {nodes} nodes", scenario.name), made);
    let (name, about) = (scenario.name.clone(), scenario.about.clone());
    report.scenario = Some(ScenarioText { name, about, toml: scenario.to_toml() });
    let settings = &scenario.settings;
    let policy = Policy::from(settings.policy());
    let name = format!("thane {}, sim", policy.as_str());
    let mut subject = Subject::new(name, Agents::Thane, Medium::Sim, nodes.into());
    subject.policy = Some(policy);
    subject.settings.insert("serf share".to_owned(), settings.serf_share.to_string());
    subject.settings.insert("views missing".to_owned(), scenario.views_missing.to_string());
    subject.settings.insert("loss".to_owned(), scenario.network.loss.to_string());
    subject.settings.insert("compression".to_owned(), settings.compression.to_string());
    report.subjects.push(subject);
    report
}

/// Adds a run to the subject.
pub(crate) fn add(
    subject: &mut Subject,
    scenario: &Scenario,
    seed: u64,
    outcome: &Outcome,
    timeline: &Timeline,
    cost: Cost,
) {
    let run = subject.runs.len();
    let failed = faults(outcome).trim_end().replace('\n', "; ");
    let (ended, note) = match (failed.is_empty(), outcome.stopped) {
        (false, _) => (Ended::Failed, failed),
        (true, true) => (Ended::Stopped, "by a signal".to_owned()),
        (true, false) => (Ended::Complete, String::new()),
    };
    subject.runs.push(Run { seed, seconds: outcome.lasted.as_secs_f64(), ended, note });
    if scenario.start == Start::Join {
        timeline.full.into_iter().for_each(|at| subject.add(kinds::FULL_VIEWS.value(at)));
    }
    delays(subject, outcome);
    counts(subject, outcome);
    traffic(subject, outcome);
    subject.add(kinds::MEMORY_PEAK.value(cost.memory_max_bytes as f64 / 1e6));
    subject.add(kinds::CPU_SECONDS.value(cost.cpu.as_secs_f64()));
    subject.add(kinds::REAL_SECONDS.value(cost.took.as_secs_f64()));
    subject.curves.extend(timeline.curves(run));
    let measures = &outcome.measures;
    for (kind, name, delays) in [
        (kinds::EVENT_REACH, "all events", &measures.events),
        (kinds::QUERY_REACH, "all", &measures.query_answers),
        (kinds::JOIN_REACH, "all", &measures.joins),
        (kinds::CRASH_REACH, "all", &measures.crashes.told),
        (kinds::LEAVE_REACH, "all", &measures.leaves.told),
    ] {
        subject.curves.extend(reach(&kind, run, name, delays));
    }
    for step in &scenario.steps {
        let what = format!("{:?}", step.action).to_lowercase();
        subject.marks.push(Mark { run, at: step.at.0.as_secs_f64(), what });
    }
}

/// How much was reached by when: 101 points and the last thousandth.
fn reach(kind: &CurveKind, run: usize, name: &str, delays: &Delays) -> Option<Curve> {
    let shares = (0..=99).map(|part| f64::from(part) / 100.0).chain([0.999, 1.0]);
    let points = shares.filter_map(|share| Some((delays.quantile(share)?.as_secs_f64(), share * 100.0)));
    let points: Vec<_> = points.collect();
    (!points.is_empty()).then(|| kind.curve(run, vec![Line::new(name, points)]))
}

fn delays(subject: &mut Subject, outcome: &Outcome) {
    let mut add = |kinds: &[(MeasureKind, f64)], delays: &Delays| {
        for (kind, share) in kinds {
            if let Some(delay) = delays.quantile(*share) {
                subject.add(kind.value(delay.as_secs_f64()));
            }
        }
    };
    let measures = &outcome.measures;
    let events = [
        (kinds::EVENT_P50, 0.5),
        (kinds::EVENT_P99, 0.99),
        (kinds::EVENT_P999, 0.999),
        (kinds::EVENT_ALL, 1.0),
    ];
    add(&events, &measures.events);
    add(
        &[(kinds::QUERY_P50, 0.5), (kinds::QUERY_P99, 0.99), (kinds::QUERY_ALL, 1.0)],
        &measures.query_answers,
    );
    add(&[(kinds::JOIN_P50, 0.5), (kinds::JOIN_P99, 0.99), (kinds::JOIN_ALL, 1.0)], &measures.joins);
    let Departures { first_suspected, first_declared, told, .. } = &measures.crashes;
    add(&[(kinds::CRASH_SUSPECTED, 0.5)], first_suspected);
    add(&[(kinds::CRASH_FIRST, 0.5)], first_declared);
    add(&[(kinds::CRASH_P50, 0.5), (kinds::CRASH_P99, 0.99), (kinds::CRASH_ALL, 1.0)], told);
    let leaves = [(kinds::LEAVE_P50, 0.5), (kinds::LEAVE_P99, 0.99), (kinds::LEAVE_ALL, 1.0)];
    add(&leaves, &measures.leaves.told);
    outcome.settled_in.iter().for_each(|span| subject.add(kinds::SETTLED.value(span.as_secs_f64())));
}

fn counts(subject: &mut Subject, outcome: &Outcome) {
    let (measures, running) = (&outcome.measures, outcome.running as f64);
    if measures.events_sent > 0 {
        let sent = measures.events_sent as f64;
        subject.add(kinds::EVENT_MISSED.value(running * sent - measures.events.count() as f64));
        subject.add(kinds::EVENT_COPIES.value(measures.event_copies as f64 / running / sent));
    }
    subject.add(kinds::FALSE_FAILURES.value(measures.false_about_healthy as f64));
    subject.add(kinds::FALSE_AT_HEALTHY.value(measures.false_at_healthy as f64));
    subject.add(kinds::FALSE_SICK.value(measures.false_about_sick as f64));
    let depths = measures.queue_depths.map(|depth| depth as f64);
    for (kind, depth) in [kinds::QUEUE_INTENTS, kinds::QUEUE_QUERIES, kinds::QUEUE_EVENTS].iter().zip(depths)
    {
        subject.add(kind.value(depth));
    }
}

fn traffic(subject: &mut Subject, outcome: &Outcome) {
    let measures = &outcome.measures;
    let node_seconds = outcome.running as f64 * outcome.lasted.as_secs_f64();
    let sum = |value: fn(&Traffic) -> u64| measures.datagrams.values().map(value).sum::<u64>() as f64;
    subject.add(kinds::PACKETS_SENT.value(sum(|traffic| traffic.packets) / node_seconds));
    subject.add(kinds::BYTES_SENT.value(sum(|traffic| traffic.bytes) / node_seconds));
    subject.add(kinds::STREAM_BYTES.value(measures.streams.bytes as f64 / node_seconds));
    if let Some(bytes) = measures.streams_compressed_bytes() {
        subject.add(kinds::STREAM_BYTES_LZW.value(bytes / node_seconds));
    }
    for (kind, Traffic { packets, bytes }) in &measures.datagrams {
        for (what, unit, value) in [("packets", "/s", packets), ("bytes", "B/s", bytes)] {
            subject.add(Measure {
                id: format!("traffic.{what}.{kind}"),
                title: format!("{what} per node and second: {kind}"),
                unit: unit.to_owned(),
                better: Better::Lower,
                values: vec![*value as f64 / node_seconds],
            });
        }
    }
}

/// The parts of a scenario, in words: its steps, and the faults of its network.
pub(crate) fn drawn(scenario: &Scenario) -> BTreeSet<String> {
    let network = &scenario.network;
    let conditions = [
        (network.loss > 0.0, "loss"),
        (network.duplication > 0.0, "duplication"),
        (network.tail_share > 0.0, "delay tail"),
        (network.bytes_per_second > 0, "bandwidth cap"),
        (network.stream_cuts > 0.0, "stream cuts"),
        (scenario.settings.encrypted, "encryption"),
        (scenario.settings.policy() == DisseminationPolicy::Eager, "eager dissemination"),
        (scenario.settings.profile == Profile::Fast, "profile fast"),
        (scenario.settings.serf_share > 0.0, "nodes without extensions"),
        (scenario.views_missing > 0.0, "views that differ"),
        (scenario.settings.queue_depth_max.is_some(), "short queues"),
    ];
    let present = conditions.into_iter().filter(|(present, _)| *present).map(|(_, name)| name.to_owned());
    let steps = scenario.steps.iter().map(|step| {
        let one_way = if step.one_way { " one way" } else { "" };
        let snapshot = if step.snapshot { " from snapshot" } else { "" };
        let moved = if step.moved { " elsewhere" } else { "" };
        let flips = if step.bad.0.is_zero() { "" } else { " flip-flop" };
        format!("{:?}{one_way}{snapshot}{moved}{flips}", step.action).to_lowercase()
    });
    present.chain(steps).collect()
}

/// Broken rules and views that did not become equal, one line each.
pub(crate) fn faults(outcome: &Outcome) -> String {
    let mut text = String::new();
    for violation in &outcome.violations {
        let _ = writeln!(text, "rule broken: {violation}");
    }
    if let Some(unsettled) = &outcome.unsettled {
        let _ = writeln!(text, "not settled: {unsettled}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Made, table};
    use thane_engine::sim::{Play, catalog};

    fn played(scenario: &Scenario, sample_compression: u64) -> (Outcome, Report) {
        let mut report = report(scenario, Made::here("test"));
        let mut play = Play::new(scenario, 1);
        play.sample_compression(sample_compression);
        let mut timeline = Timeline::default();
        let outcome = play.observe(|moment| timeline.sample(moment) >= 0.0);
        let cost = Cost { memory_max_bytes: 1_234_567_890, ..Cost::default() };
        add(&mut report.subjects[0], scenario, 1, &outcome, &timeline, cost);
        report.check().expect("the report is valid");
        (outcome, report)
    }

    fn median(report: &Report, id: &str) -> f64 {
        let measure = report.subjects[0].measure(id).unwrap_or_else(|| panic!("no measure {id}"));
        measure.spread().range().expect("it has a value").median
    }

    #[test]
    fn an_event_is_reported_as_it_was_measured() {
        let mut scenario = catalog::named("event").expect("it comes with the engine");
        scenario.nodes = 20;
        let (outcome, report) = played(&scenario, 0);
        assert_eq!(median(&report, "event.missed"), 0.0);
        let all = outcome.measures.events.max().expect("it was delivered").as_secs_f64();
        assert_eq!(median(&report, "event.all"), all, "milliseconds need no rounding");
        let subject = &report.subjects[0];
        let reach = subject.curves.iter().find(|curve| curve.id == "event-reach").expect("a curve");
        assert_eq!(reach.lines[0].points.last(), Some(&(all, 100.0)));
        let known = subject.curves.iter().find(|curve| curve.id == "members-known").expect("a curve");
        assert!(known.lines[0].points.iter().all(|point| point.1 == 100.0), "all know all from the start");
        assert!(median(&report, "traffic.bytes.ping") > 0.0);
        assert!(table(&[report]).contains("event: deliveries missed"));
    }

    #[test]
    fn the_curve_of_bytes_sums_up_to_all_bytes() {
        let mut scenario = catalog::named("event").expect("it comes with the engine");
        (scenario.nodes, scenario.lasts) = (10, "20s".parse().expect("a span"));
        let (outcome, report) = played(&scenario, 0);
        let curve = report.subjects[0].curves.iter().find(|curve| curve.id == "bytes").expect("a curve");
        let points = &curve.lines[0].points;
        // Each point has the rate since the one before it, the first since the first sample.
        let begins = [0.25].into_iter().chain(points.iter().map(|point| point.0));
        let sum: f64 = begins.zip(points).map(|(begin, (at, rate))| rate * (at - begin) * 10.0).sum();
        let all: u64 = outcome.measures.datagrams.values().map(|traffic| traffic.bytes).sum();
        assert!((sum / all as f64 - 1.0).abs() < 0.1, "{sum} of {all}");
    }

    #[test]
    fn a_bootstrap_has_full_views_and_a_rising_curve() {
        let mut scenario = catalog::named("bootstrap").expect("it comes with the engine");
        scenario.nodes = 12;
        let (_, report) = played(&scenario, 0);
        assert!(median(&report, "views.full") > 0.0);
        let known = &report.subjects[0].curves[0].lines[0].points;
        assert!(known[0].1 < 100.0 && known.last().is_some_and(|last| last.1 == 100.0), "{known:?}");
    }

    #[test]
    fn compressed_bytes_are_estimated_as_what_a_compressing_run_sends() {
        let mut scenario = catalog::named("idle").expect("it comes with the engine");
        (scenario.nodes, scenario.lasts) = (30, "90s".parse().expect("a span"));
        // Thane peers push and pull as a backstop only.
        scenario.settings.serf_share = 1.0;
        let (sampled, report) = played(&scenario, 2);
        scenario.settings.compression = true;
        let (compressing, _) = played(&scenario, 0);
        let estimate = sampled.measures.streams_compressed_bytes().expect("there were push/pulls");
        let real = compressing.measures.streams.bytes as f64;
        assert!((estimate / real - 1.0).abs() < 0.02, "{estimate} for {real}");
        assert!(sampled.measures.streams.bytes as f64 > 2.0 * real);
        assert!(median(&report, "traffic.streams-lzw") < median(&report, "traffic.streams"));
    }
}
