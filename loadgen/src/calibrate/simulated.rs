//! The same measurements in the simulator, through the scenarios of `thane-loadgen sim`.

use std::time::Duration;

use thane_engine::sim::{Outcome, Play, Scenario, Span, catalog};

use super::capture::{Count, Counts, OTHER};
use super::options::Options;
use super::real::EVENT_BYTES;
use super::report::Kind;
use super::samples::Samples;
use crate::stop::{STOPPED, Stop};

/// Writes to a stream that a push/pull takes: each side writes its state at once.
const WRITES_OF_PUSH_PULL: u64 = 2;

/// Measures one seed.
///
/// # Errors
/// An end is wanted.
pub(crate) fn measure(
    options: &Options,
    kind: Kind,
    seed: u64,
    stop: &Stop,
    samples: &mut Samples,
) -> Result<(), String> {
    let play = |scenario: &Scenario, seed: u64| -> Result<Outcome, String> {
        let outcome = Play::new(scenario, seed).run(|_, _| !stop.is_wanted());
        if outcome.stopped { Err(STOPPED.to_owned()) } else { Ok(outcome) }
    };
    if !options.idle().is_zero() {
        let mut scenario = scenario("idle", options, kind);
        scenario.lasts = Span(options.idle());
        samples.add_idle(&counts(&play(&scenario, seed)?), options);
    }
    // Each event and each kill has a seed of its own.
    for event in 0..u64::from(options.events) {
        let mut scenario = scenario("event", options, kind);
        scenario.steps.iter_mut().for_each(|step| step.bytes = EVENT_BYTES);
        samples.add_event(&play(&scenario, seed + (event << 32))?.measures.events, options);
    }
    for kill in 0..u64::from(options.kills) {
        let outcome = play(&scenario("crash", options, kind), seed + (kill << 32))?;
        let crashes = &outcome.measures.crashes;
        samples.add_kill(&crashes.first_suspected, &crashes.told, options);
    }
    Ok(())
}

/// A scenario as it comes with the engine, for as many nodes and with what agents are set to by default.
fn scenario(name: &str, options: &Options, kind: Kind) -> Scenario {
    let mut scenario = catalog::named(name).expect("it comes with the engine");
    scenario.nodes = options.nodes() as u32;
    scenario.settings.push_pull_interval = None;
    scenario.settings.compression = options.compression();
    scenario.settings.dissemination = Some(options.policy);
    scenario.settings.serf_share = if kind == Kind::Serf { 1.0 } else { 0.0 };
    scenario.lasts.0 = scenario.lasts.0.max(Duration::from_secs(90));
    scenario
}

fn counts(outcome: &Outcome) -> Counts {
    let mut counts = Counts::default();
    for (kind, traffic) in &outcome.measures.datagrams {
        let kind = if ["ping", "ack"].contains(kind) { kind } else { OTHER };
        let count = counts.datagrams.entry(kind).or_default();
        (count.packets, count.bytes) = (count.packets + traffic.packets, count.bytes + traffic.bytes);
    }
    let streams = outcome.measures.streams;
    counts.streams = Count { packets: streams.packets, bytes: streams.bytes };
    counts.opened = streams.packets / WRITES_OF_PUSH_PULL;
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::calibrate::agreement::Agreement;
    use crate::calibrate::samples::Row;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn samples(line: &str, seeds: std::ops::Range<u64>) -> Samples {
        let words = ["calibrate"].into_iter().chain(line.split_whitespace());
        let options = Line::try_parse_from(words).unwrap().options;
        let mut samples = Samples::default();
        for seed in seeds {
            measure(&options, Kind::Thane, seed, &Stop::default(), &mut samples).unwrap();
        }
        samples
    }

    #[test]
    fn the_simulator_agrees_with_itself_and_not_with_a_larger_cluster() {
        let of_ten = "--nodes 10 --events 5 --kills 5 --idle 0s";
        let (one, other) = (samples(of_ten, 1..6), samples(of_ten, 6..11));
        for (row, spread) in &one.rows {
            let agreement = Agreement::of(spread, &other.rows[row]).unwrap();
            assert_eq!(agreement.agrees(), Some(true), "{}: {agreement}", row.name());
        }
        let larger = samples(&of_ten.replace("10", "40"), 1..6);
        for row in [Row::EventHalf, Row::EventAll, Row::FirstFailed, Row::AllFailed] {
            let agreement = Agreement::of(&one.rows[&row], &larger.rows[&row]).unwrap();
            assert_eq!(agreement.agrees(), Some(false), "{}: {agreement}", row.name());
        }
    }
}
