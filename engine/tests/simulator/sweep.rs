//! Swarm mode finds nothing wrong with the protocol, and finds every canary.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thane_engine::canary::Canary;
use thane_engine::sim::{Network, Outcome, Play, Rule, Scenario, Span, World, catalog, swarm};

/// About ten seconds in a debug build.
const FIXED_SEEDS: u64 = 14;
/// Seeds with which each scenario of canaries is played.
const CANARY_SEEDS: u64 = 5;

fn play(seed: u64, canary: Canary) -> Outcome {
    played(&swarm::draw(seed), seed, canary)
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

/// How a canary is noticed.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Notice {
    /// The transition breaks this rule.
    Broken(Rule),
    /// Long after the last fault something is still wrong, in these words.
    Unsettled(&'static str),
}

fn noticed(canary: Canary) -> Notice {
    use Notice::{Broken, Unsettled};
    match canary {
        Canary::None => unreachable!("it breaks no rule"),
        Canary::IgnoresAccusations => Unsettled("which runs"),
        Canary::IgnoresFailedProbes => Unsettled("which is gone"),
        Canary::RevivesTheDead => Broken(Rule::ReturnsAreAnnounced),
        Canary::RaisesOthersIncarnations => Broken(Rule::OwnersRaise),
        Canary::BelievesOldNews => Broken(Rule::IncarnationsNeverFall),
        Canary::RevivesTheDeparted => Broken(Rule::DepartedStayGone),
        Canary::ForgetsLeaves => Broken(Rule::LeaversDoNotFail),
        Canary::IgnoresPrunes => Unsettled("erased at"),
        Canary::SetsItsClockBack => Broken(Rule::ClocksNeverFall),
        Canary::ForgetsEvents => Broken(Rule::EventsComeOnce),
        Canary::EndsQueriesTwice => Broken(Rule::QueriesEndOnce),
        Canary::NeverEndsQueries => Unsettled("has not ended"),
        Canary::IgnoresQueueLimits => Broken(Rule::QueuesStayShort),
        Canary::OverfillsDatagrams => Broken(Rule::DatagramsFit),
        Canary::AnnouncesAnOldDigest => Broken(Rule::DigestsAreTrue),
    }
}

/// Something for each thing that can stay wrong: a query, a member that is gone and pruned, one that comes back after
/// that and has to refute.
const LASTING: &str = r#"
name = "lasting"
about = "what can stay wrong"
nodes = 6
lasts = "100s"
settle = true

[[step]]
at = "1s"
do = "query"
times = 3
every = "100ms"

[[step]]
at = "2s"
do = "crash"
count = 1

[[step]]
at = "30s"
do = "prune"

[[step]]
at = "50s"
do = "restart"

[[step]]
at = "60s"
do = "crash"
count = 1

[[step]]
at = "90s"
do = "prune"
"#;

/// Many accusations, late datagrams, short queues: what breaks a rule soon shows.
const TURBULENT: &str = r#"
name = "turbulent"
about = "a little of everything"
nodes = 8
lasts = "100s"

[network]
loss = 0.1
duplication = 0.3
tail_share = 0.2
tail_mean = "4s"

[settings]
queue_depth_max = 4
serf_share = 0.5

[[step]]
at = "1s"
do = "event"
times = 60
every = "300ms"

[[step]]
at = "1s"
do = "query"
times = 5
every = "2s"

[[step]]
at = "5s"
do = "pause"
count = 2
still = "10s"
times = 4
every = "20s"

[[step]]
at = "40s"
do = "leave"
count = 1
times = 2
every = "20s"
"#;

fn played(scenario: &Scenario, seed: u64, canary: Canary) -> Outcome {
    let mut play = Play::new(scenario, seed);
    play.check();
    play.set_canary(canary);
    play.run(|_, _| true)
}

/// Whether the canary is noticed: in a scenario of canaries with one of the first seeds.
fn is_noticed(canary: Canary) -> bool {
    match noticed(canary) {
        Notice::Broken(rule) => {
            let breaks = |outcome: Outcome| outcome.violations.iter().any(|broken| broken.rule == rule);
            let scenarios = [TURBULENT, LASTING].map(|text| Scenario::parse(text).unwrap());
            let mut runs = scenarios.iter().flat_map(|one| (0..CANARY_SEEDS).map(move |seed| (one, seed)));
            runs.any(|(scenario, seed)| breaks(played(scenario, seed, canary)))
        }
        Notice::Unsettled(words) => {
            let lasting = Scenario::parse(LASTING).unwrap();
            assert!(passes(&played(&lasting, 1, Canary::None)));
            played(&lasting, 1, canary).unsettled.is_some_and(|wrong| wrong.contains(words))
        }
    }
}

#[test]
fn without_a_canary_the_scenarios_of_canaries_break_no_rule() {
    for text in [TURBULENT, LASTING] {
        let scenario = Scenario::parse(text).unwrap();
        for seed in 0..CANARY_SEEDS {
            let outcome = played(&scenario, seed, Canary::None);
            let broken = outcome.violations.first();
            assert!(broken.is_none(), "{}, seed {seed}: {broken:?}", scenario.name);
        }
    }
}

#[test]
fn every_canary_is_noticed() {
    for canary in Canary::ALL {
        assert!(is_noticed(canary), "{canary:?} was not noticed by {:?}", noticed(canary));
    }
}

#[test]
fn every_rule_has_a_canary_that_breaks_it() {
    for rule in Rule::ALL {
        let of_rule = |&canary: &Canary| noticed(canary) == Notice::Broken(rule);
        assert!(Canary::ALL.iter().any(of_rule), "{rule:?}");
    }
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
