//! A cluster in virtual time whose faults the input decides.

use std::time::Duration;

use super::Choices;
use crate::sim::{Action, NetworkSpec, Play, Scenario, Settings, Span, Start, Step};

/// How long faults go on.
const LASTS: Duration = Duration::from_secs(20);
const STEPS_MAX: usize = 12;
const ACTIONS: [Action; 15] = [
    Action::Event,
    Action::Query,
    Action::Crash,
    Action::Restart,
    Action::Leave,
    Action::Move,
    Action::Prune,
    Action::Join,
    Action::Partition,
    Action::Heal,
    Action::Link,
    Action::Starve,
    Action::Pause,
    Action::Skew,
    Action::Hostile,
];

/// Plays the scenario of the input with every checker; afterwards all views are equal.
pub(super) fn world(data: &[u8]) {
    let mut choices = Choices::new(data);
    let scenario = scenario(&mut choices);
    let mut play = Play::new(&scenario, u64::from(choices.byte()));
    play.check();
    let outcome = play.run(|_, _| true);
    assert!(outcome.violations.is_empty(), "{scenario:?}: {:?}", outcome.violations);
    assert!(outcome.unsettled.is_none(), "{scenario:?}: {:?}", outcome.unsettled);
}

fn scenario(choices: &mut Choices<'_>) -> Scenario {
    let nodes = 3 + choices.below(6) as u32;
    let start = if choices.below(2) == 0 { Start::Converged } else { Start::Join };
    let loss = f64::from(choices.below(4) as u32) / 10.0;
    let network = NetworkSpec { loss, ..NetworkSpec::default() };
    let mut steps = Vec::new();
    while !choices.is_empty() && steps.len() < STEPS_MAX {
        steps.push(step(choices));
    }
    Scenario {
        name: "input".to_owned(),
        about: "decided by the input".to_owned(),
        nodes,
        start,
        views_missing: 0.0,
        lasts: Span(LASTS),
        network,
        settings: Settings::default(),
        steps,
        settle: true,
    }
}

fn step(choices: &mut Choices<'_>) -> Step {
    let millis =
        |choices: &mut Choices<'_>, each: u64| Span(Duration::from_millis(u64::from(choices.byte()) * each));
    Step {
        action: ACTIONS[choices.below(ACTIONS.len())],
        at: millis(choices, 60),
        times: 1 + choices.below(4) as u32,
        every: Span(Duration::from_millis(100 + u64::from(choices.byte()) * 20)),
        count: Some(1 + choices.below(3) as u32),
        bytes: choices.below(200),
        snapshot: choices.below(2) == 0,
        one_way: choices.below(2) == 0,
        inbound_loss: f64::from(choices.below(10) as u32) / 10.0,
        outbound_loss: f64::from(choices.below(10) as u32) / 10.0,
        still: Span(Duration::from_millis(100 + u64::from(choices.byte()) * 20)),
        runs: Span(Duration::from_millis(100 + u64::from(choices.byte()) * 20)),
        rate: 0.9 + f64::from(choices.below(20) as u32) / 100.0,
        ..Step::default()
    }
}
