//! What a run is told as: a table for people, JSON for programs and pages.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use crate::spread::Spread;
use serde_json::{Value, json};
use thane_engine::sim::{Delays, Departures, Outcome, Scenario};

/// The shares of a table.
const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.99", 0.9999), ("all", 1.0)];

/// What a run took on this machine. The processor time covers all threads that live, of which one plays.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Real time, without building the cluster.
    pub(crate) took: Duration,
    /// Processor time, likewise.
    pub(crate) cpu: Duration,
    /// The most memory that the process has had so far, runs before this one included.
    pub(crate) memory_max_bytes: u64,
}

/// The table of a run.
pub(crate) fn table(scenario: &Scenario, seed: u64, outcome: &Outcome, cost: Cost) -> String {
    let mut text = String::new();
    let measures = &outcome.measures;
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<28} {value}");
    };
    row("scenario", format!("{}: {}", scenario.name, scenario.about));
    row("nodes, loss", format!("{}, {}", scenario.nodes, scenario.network.loss));
    row("seed", seed.to_string());
    row("trace", format!("{:016x}", outcome.trace_hash));
    let lasted = outcome.lasted.as_secs_f64();
    let times = |span: Duration| {
        format!("{:.1} s: {:.1} times", span.as_secs_f64(), lasted / span.as_secs_f64().max(1e-9))
    };
    row("time", format!("{lasted:.1} s virtual in {}", times(cost.took)));
    row("processor time", times(cost.cpu));
    row("most memory", format!("{:.2} GB", cost.memory_max_bytes as f64 / 1e9));
    if outcome.stopped {
        row("stopped", "by Ctrl-C; what follows is what was measured so far".to_owned());
    }
    let mut spread = |name: &str, delays: &Delays| {
        if delays.count() > 0 {
            row(name, quantiles(delays));
        }
    };
    spread("event delivered", &measures.events);
    spread("query acked", &measures.query_answers);
    spread("join told", &measures.joins);
    for (name, departures) in [("crash", &measures.crashes), ("leave", &measures.leaves)] {
        spread(&format!("{name} first suspected"), &departures.first_suspected);
        spread(&format!("{name} first declared"), &departures.first_declared);
        spread(&format!("{name} told"), &departures.told);
    }
    if measures.events_sent > 0 {
        let per = measures.event_copies as f64 / outcome.running as f64 / measures.events_sent as f64;
        let expected = outcome.running as u64 * measures.events_sent;
        row("event copies per node", format!("{per:.1}"));
        row("event deliveries", format!("{} of {expected}", measures.events.count()));
    }
    let [healthy, at_healthy, sick] =
        [measures.false_about_healthy, measures.false_at_healthy, measures.false_about_sick];
    row("told as failed, but runs", format!("{healthy} healthy ({at_healthy} at healthy), {sick} faulty"));
    let node_seconds = outcome.running as f64 * outcome.lasted.as_secs_f64();
    let mut total = (0u64, 0u64);
    for (kind, traffic) in &measures.datagrams {
        total = (total.0 + traffic.packets, total.1 + traffic.bytes);
        row(&format!("  {kind}"), rate(traffic.packets, traffic.bytes, node_seconds));
    }
    row("datagrams", rate(total.0, total.1, node_seconds));
    row("streams", rate(measures.streams.packets, measures.streams.bytes, node_seconds));
    if let Some(bytes) = measures.streams_compressed_bytes() {
        let estimated = format!(
            "about {:.0} B per node and second (estimated from {} writes)",
            bytes / node_seconds,
            measures.sampled.packets
        );
        row("streams, with LZW", estimated);
    }
    let [intents, queries, events] = measures.queue_depths;
    row("longest queues", format!("{intents} intents, {queries} queries, {events} events"));
    if let Some(settled) = outcome.settled_in {
        row("all views equal after", format!("{:.2} s", settled.as_secs_f64()));
    }
    text + &faults(outcome) + "\n"
}

/// The main figures of several seeds: medians, smallest and largest.
pub(crate) fn summary(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let mut rows: Vec<(String, Spread)> = Vec::new();
    for (name, value) in outcomes.iter().flat_map(figures) {
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, spread)) => spread.add(value),
            None => {
                let mut spread = Spread::default();
                spread.add(value);
                rows.push((name, spread));
            }
        }
    }
    let (seeds, name, nodes) = (outcomes.len(), &scenario.name, scenario.nodes);
    let mut text = format!("{seeds} seeds of {name}, {nodes} nodes: median (smallest–largest)\n");
    for (name, spread) in rows {
        let _ = writeln!(text, "{name:<28} {spread}");
    }
    text
}

/// The main figures of a run; delays in seconds.
fn figures(outcome: &Outcome) -> Vec<(String, f64)> {
    let measures = &outcome.measures;
    let mut figures = Vec::new();
    let mut delays = |name: &str, delays: &Delays| {
        for (share_name, share) in SHARES {
            if let Some(delay) = delays.quantile(share) {
                figures.push((format!("{name} {share_name}"), delay.as_secs_f64()));
            }
        }
    };
    delays("event delivered", &measures.events);
    delays("query acked", &measures.query_answers);
    delays("join told", &measures.joins);
    for (name, departures) in [("crash", &measures.crashes), ("leave", &measures.leaves)] {
        delays(&format!("{name} suspected"), &departures.first_suspected);
        delays(&format!("{name} declared"), &departures.first_declared);
        delays(&format!("{name} told"), &departures.told);
    }
    let node_seconds = outcome.running as f64 * outcome.lasted.as_secs_f64();
    let bytes: u64 = measures.datagrams.values().map(|traffic| traffic.bytes).sum();
    if measures.events_sent > 0 {
        let expected = outcome.running as u64 * measures.events_sent;
        figures
            .push(("event deliveries missed".to_owned(), expected as f64 - measures.events.count() as f64));
        figures.push((
            "event copies per node".to_owned(),
            measures.event_copies as f64 / outcome.running as f64 / measures.events_sent as f64,
        ));
    }
    figures.extend([
        ("healthy told as failed".to_owned(), measures.false_about_healthy as f64),
        ("faulty told as failed".to_owned(), measures.false_about_sick as f64),
        ("datagram B per node, second".to_owned(), bytes as f64 / node_seconds),
        ("stream B per node, second".to_owned(), measures.streams.bytes as f64 / node_seconds),
    ]);
    let settled = outcome.settled_in.map(|settled| settled.as_secs_f64());
    figures.extend(settled.map(|settled| ("all views equal after".to_owned(), settled)));
    figures
}

/// What is drawn for a scenario, in words: its steps, and what is wrong with its network.
pub(crate) fn drawn(scenario: &Scenario) -> BTreeSet<String> {
    let network = &scenario.network;
    let conditions = [
        (network.loss > 0.0, "loss"),
        (network.duplication > 0.0, "duplication"),
        (network.tail_share > 0.0, "delay tail"),
        (network.bytes_per_second > 0, "bandwidth cap"),
        (network.stream_cuts > 0.0, "stream cuts"),
        (scenario.settings.encrypted, "encryption"),
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

/// What went wrong, if anything.
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

/// The same as JSON, with whole curves.
pub(crate) fn json(scenario: &Scenario, seed: u64, outcome: &Outcome, cost: Cost) -> Value {
    let measures = &outcome.measures;
    let node_seconds = outcome.running as f64 * outcome.lasted.as_secs_f64();
    let traffic = |packets: u64, bytes: u64| {
        json!({
            "packets": packets,
            "bytes": bytes,
            "packets_per_node_second": packets as f64 / node_seconds,
            "bytes_per_node_second": bytes as f64 / node_seconds,
        })
    };
    let kinds: serde_json::Map<String, Value> = measures
        .datagrams
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), traffic(count.packets, count.bytes)))
        .collect();
    json!({
        "scenario": scenario,
        "seed": seed,
        "trace": format!("{:016x}", outcome.trace_hash),
        "stopped": outcome.stopped,
        "nodes_at_the_end": outcome.running,
        "virtual_seconds": outcome.lasted.as_secs_f64(),
        "real_seconds": cost.took.as_secs_f64(),
        "processor_seconds": cost.cpu.as_secs_f64(),
        "memory_bytes_max": cost.memory_max_bytes,
        "inputs": outcome.steps,
        "events": { "sent": measures.events_sent, "copies": measures.event_copies, "delivered": curve(&measures.events) },
        "queries": { "asked": measures.queries.0, "ended": measures.queries.1, "answers": curve(&measures.query_answers) },
        "joins": curve(&measures.joins),
        "crashes": departures(&measures.crashes),
        "leaves": departures(&measures.leaves),
        "told_as_failed_but_runs": {
            "healthy": measures.false_about_healthy,
            "healthy_at_healthy": measures.false_at_healthy,
            "faulty": measures.false_about_sick,
        },
        "datagrams": kinds,
        "streams": traffic(measures.streams.packets, measures.streams.bytes),
        "streams_compressed_estimate": measures.streams_compressed_bytes().map(|bytes| json!({
            "sampled_writes": measures.sampled.packets,
            "sampled_bytes": measures.sampled.bytes,
            "sampled_compressed_bytes": measures.sampled_compressed_bytes,
            "bytes_per_node_second": bytes / node_seconds,
        })),
        "queue_depths_max": { "intents": measures.queue_depths[0], "queries": measures.queue_depths[1], "events": measures.queue_depths[2] },
        "settled_seconds": outcome.settled_in.map(|settled| settled.as_secs_f64()),
        "unsettled": outcome.unsettled,
        "violations": outcome.violations.iter().map(ToString::to_string).collect::<Vec<String>>(),
    })
}

fn departures(departures: &Departures) -> Value {
    json!({
        "count": departures.count,
        "first_suspected": curve(&departures.first_suspected),
        "first_declared": curve(&departures.first_declared),
        "told": curve(&departures.told),
    })
}

/// How many, and after how many seconds each hundredth part of them knew.
fn curve(delays: &Delays) -> Value {
    let points: Vec<f64> = (0..=100)
        .filter_map(|part| delays.quantile(f64::from(part) / 100.0))
        .map(|delay| delay.as_secs_f64())
        .collect();
    json!({ "count": delays.count(), "seconds_by_percent": points })
}

fn quantiles(delays: &Delays) -> String {
    let values = SHARES
        .iter()
        .filter_map(|(name, share)| Some(format!("{name} {:.3}", delays.quantile(*share)?.as_secs_f64())));
    format!("{} s ({} times)", values.collect::<Vec<String>>().join("  "), delays.count())
}

fn rate(packets: u64, bytes: u64, node_seconds: f64) -> String {
    format!(
        "{:.2} packets, {:.0} B per node and second",
        packets as f64 / node_seconds,
        bytes as f64 / node_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use thane_engine::sim::{Play, catalog};

    #[test]
    fn a_run_is_told_in_table_and_json() {
        let mut scenario = catalog::named("event").expect("it comes with the engine");
        scenario.nodes = 20;
        let outcome = Play::new(&scenario, 1).run(|_, _| true);
        let cost = Cost { memory_max_bytes: 1_234_567_890, ..Cost::default() };
        let text = table(&scenario, 1, &outcome, cost);
        assert!(text.contains("1.23 GB"), "{text}");
        assert!(text.contains("event deliveries             20 of 20"), "{text}");
        assert!(text.contains(&format!("{:016x}", outcome.trace_hash)));
        let summed = summary(&scenario, &[outcome]);
        assert!(summed.contains("event deliveries missed      0\n"), "{summed}");
        let outcome = Play::new(&scenario, 1).run(|_, _| true);
        let value = json(&scenario, 1, &outcome, cost);
        assert_eq!(value["events"]["delivered"]["count"], 20);
        assert_eq!(value["events"]["delivered"]["seconds_by_percent"].as_array().map(Vec::len), Some(101));
        assert!(value["datagrams"]["ping"]["bytes_per_node_second"].as_f64().is_some_and(|rate| rate > 0.0));
    }
    #[test]
    fn compressed_bytes_are_estimated_as_what_a_compressing_run_sends() {
        let mut scenario = catalog::named("idle").expect("it comes with the engine");
        (scenario.nodes, scenario.lasts) = (30, "90s".parse().expect("a span"));
        let mut sampled = Play::new(&scenario, 1);
        sampled.sample_compression(2);
        let sampled = sampled.run(|_, _| true);
        scenario.settings.compression = true;
        let compressing = Play::new(&scenario, 1).run(|_, _| true);
        let estimate = sampled.measures.streams_compressed_bytes().expect("there were push/pulls");
        let real = compressing.measures.streams.bytes as f64;
        assert!((estimate / real - 1.0).abs() < 0.02, "{estimate} for {real}");
        assert!(sampled.measures.streams.bytes as f64 > 2.0 * real);
        let text = table(&scenario, 1, &sampled, Cost::default());
        assert!(text.contains("streams, with LZW            about"), "{text}");
    }
}
