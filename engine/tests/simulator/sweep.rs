//! Swarm mode finds nothing wrong with the protocol, and finds every canary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thane_engine::canary::Canary;
use thane_engine::sim::{Network, Outcome, Play, Scenario, Span, World, catalog, swarm};

/// About ten seconds in a debug build.
const FIXED_SEEDS: u64 = 14;

fn play(seed: u64, canary: Canary) -> Outcome {
    let mut play = Play::new(&swarm::draw(seed), seed);
    play.check();
    play.set_canary(canary);
    play.run(|_, _| true)
}

fn passes(outcome: &Outcome) -> bool {
    outcome.violations.is_empty() && outcome.unsettled.is_none()
}

#[test]
fn a_fixed_set_of_seeds_breaks_no_rule_and_settles() {
    for seed in 0..FIXED_SEEDS {
        let outcome = play(seed, Canary::None);
        assert!(passes(&outcome), "seed {seed}: {:?} {:?}", outcome.violations.first(), outcome.unsettled);
    }
}

/// Drawn scenarios that once showed a bug of the protocol, in `tests/found/SEED-WHAT.toml`.
#[test]
fn scenarios_that_found_something_stay_fixed() {
    let found = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found")).unwrap();
    let paths: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let seed: u64 = name.split('-').next().unwrap().parse().unwrap();
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for seed in [seed, seed + 1000, seed + 2000] {
            let mut play = Play::new(&scenario, seed);
            play.check();
            let outcome = play.run(|_, _| true);
            assert!(passes(&outcome), "{name} with {seed}: {:?} {:?}", outcome.violations, outcome.unsettled);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_hash_on_every_machine() {
    let hash = |seed| play(seed, Canary::None).trace_hash;
    assert_eq!(hash(2), hash(2));
    assert_ne!(hash(2), hash(3));
    let mut world = World::converged(7, Network { loss: 0.1, ..Network::default() }, 20, |_| {});
    world.run(Duration::from_secs(30));
    let rerun = {
        let mut world = World::converged(7, Network { loss: 0.1, ..Network::default() }, 20, |_| {});
        world.run(Duration::from_secs(10));
        world.run(Duration::from_secs(20));
        world.trace_hash()
    };
    assert_eq!(world.trace_hash(), rerun, "how the time is cut doesn't matter");
}

/// The first seed of the fixed set that fails under a canary.
fn caught(canary: Canary) -> Outcome {
    (0..FIXED_SEEDS)
        .map(|seed| play(seed, canary))
        .find(|outcome| !passes(outcome))
        .expect("the sweep notices")
}

#[test]
fn a_node_that_ignores_accusations_is_caught() {
    let outcome = caught(Canary::IgnoresAccusations);
    assert!(outcome.unsettled.is_some() || !outcome.violations.is_empty());
}

#[test]
fn a_node_that_revives_the_dead_is_caught() {
    let outcome = caught(Canary::RevivesTheDead);
    let rule = "nobody comes back without a higher incarnation";
    assert!(outcome.violations.iter().any(|violation| violation.rule == rule), "{:?}", outcome.violations);
}

#[test]
fn a_node_that_forgets_events_is_caught() {
    let outcome = caught(Canary::ForgetsEvents);
    let rule = "no event is delivered twice";
    assert!(outcome.violations.iter().any(|violation| violation.rule == rule), "{:?}", outcome.violations);
}

#[test]
fn a_node_that_revives_the_departed_is_caught() {
    let outcome = caught(Canary::RevivesTheDeparted);
    let rule = "who left or was pruned does not come back as it was";
    assert!(outcome.violations.iter().any(|violation| violation.rule == rule), "{:?}", outcome.violations);
}

#[test]
fn a_node_that_announces_an_old_digest_is_caught() {
    let outcome = caught(Canary::AnnouncesAnOldDigest);
    let rule = "a node announces the digest of its view";
    assert!(outcome.violations.iter().any(|violation| violation.rule == rule), "{:?}", outcome.violations);
}

#[test]
fn every_scenario_runs_in_small_and_breaks_no_rule() {
    for name in catalog::names() {
        let mut scenario = catalog::named(name).unwrap();
        scenario.nodes = scenario.nodes.min(16);
        // What would be healed later is healed at the end.
        scenario.lasts = scenario.lasts.min(Span(Duration::from_secs(60)));
        scenario.steps.iter_mut().for_each(|step| step.times = step.times.min(10));
        scenario.steps.iter_mut().for_each(|step| step.count = step.count.map(|count| count.min(4)));
        let mut play = Play::new(&scenario, 1);
        play.check();
        let outcome = play.run(|_, _| true);
        assert!(passes(&outcome), "{name}: {:?} {:?}", outcome.violations.first(), outcome.unsettled);
    }
}

#[test]
fn a_stopped_run_tells_what_it_measured_so_far() {
    let scenario = catalog::named("idle").unwrap();
    let outcome = Play::new(&scenario, 1).run(|passed, _| passed < Duration::from_secs(2));
    assert!(outcome.stopped);
    assert_eq!(outcome.lasted, Duration::from_secs(2));
    assert!(outcome.measures.datagrams["ping"].packets > 1000);
}
