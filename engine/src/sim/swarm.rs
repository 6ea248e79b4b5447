//! Swarm mode: a scenario drawn from the seed. Some faults are off altogether and others extreme, because a
//! run with a little of everything hides what one fault alone would show (swarm testing).

use std::time::Duration;

use super::scenario::{Action, NetworkSpec, Scenario, Settings, Start, Step};
use crate::config::{DisseminationPolicy, Profile};
use crate::duration::Span;
use crate::random::Random;

/// Smallest and largest cluster drawn.
const NODES: (u32, u32) = (3, 32);
/// How long the faults go on.
const LASTS: Duration = Duration::from_secs(90);

/// Draws the scenario of a seed.
pub fn draw(seed: u64) -> Scenario {
    let mut draw = Draw(Random::new(seed ^ 0x5a5a_0001));
    let nodes = NODES.0 + draw.0.below(NODES.1 - NODES.0 + 1);
    let start = if draw.on(0.3) { Start::Join } else { Start::Converged };
    let encrypted = draw.on(0.2);
    let queue_depth_max = draw.on(0.2).then(|| 4 + draw.0.below(60) as usize);
    let compression = draw.on(0.2);
    let serf_share = match draw.0.below(4) {
        0 => 1.0,
        1 => draw.0.unit(),
        _ => 0.0,
    };
    let mut settings =
        Settings { encrypted, compression, serf_share, queue_depth_max, ..Settings::default() };
    let network = draw.network();
    let mut steps = Vec::new();
    let kinds: [(f64, DrawStep); 14] = [
        (0.7, |draw| draw.step(Action::Event, 30)),
        (0.2, Draw::burst),
        (0.5, |draw| draw.step(Action::Query, 5)),
        (0.5, |draw| draw.step(Action::Crash, 3)),
        (0.4, |draw| draw.step(Action::Leave, 2)),
        (0.3, |draw| draw.step(Action::Join, 4)),
        (0.4, Draw::partition),
        (0.4, Draw::link),
        (0.3, Draw::starve),
        (0.2, Draw::hold_messages),
        (0.3, Draw::pause),
        (0.2, Draw::skew),
        (0.3, |draw| draw.step(Action::Hostile, 40)),
        (0.4, |draw| draw.step(Action::Prune, 4)),
    ];
    for (share, step) in kinds {
        if draw.on(share) {
            steps.push(step(&mut draw));
        }
    }
    for (action, share) in [(Action::Restart, 0.6), (Action::Move, 0.5), (Action::Heal, 0.5)] {
        if draw.on(share) {
            let restarts = action == Action::Restart;
            let (snapshot, moved) = (restarts && draw.on(0.5), restarts && draw.on(0.3));
            steps.push(Step { snapshot, moved, ..draw.step(action, 2) });
        }
    }
    // Drawn last, so that seeds keep the faults that they had before these draws.
    if draw.on(0.6) {
        settings.dissemination = Some(DisseminationPolicy::Eager);
    }
    let views_missing = if draw.on(0.2) { draw.share(0.1) } else { 0.0 };
    if draw.on(0.2) {
        settings.profile = Profile::Fast;
    }
    if draw.on(0.25) {
        let share = if draw.on(0.5) { Some(1.0) } else { draw.share_of_nodes() };
        steps.push(Step { share, ..draw.step(Action::Expel, 2) });
    }
    let (name, about) = (format!("swarm-{seed}"), "drawn from the seed".to_owned());
    let lasts = Span(LASTS);
    Scenario { name, about, nodes, start, views_missing, lasts, network, settings, steps, settle: true }
}

/// Draws a step of one kind.
type DrawStep = fn(&mut Draw) -> Step;

struct Draw(Random);

impl Draw {
    fn on(&mut self, share: f64) -> bool {
        self.0.unit() < share
    }

    /// Mostly nothing, sometimes a little, sometimes `extreme`.
    fn share(&mut self, extreme: f64) -> f64 {
        let share = match self.0.below(4) {
            0 | 1 => 0.0,
            2 => self.0.unit() * extreme / 5.0,
            _ => self.0.unit() * extreme,
        };
        (share * 1000.0).round() / 1000.0
    }

    fn span(&mut self, min: u64, max: u64) -> Span {
        Span(Duration::from_millis(min + u64::from(self.0.below((max - min) as u32))))
    }

    fn network(&mut self) -> NetworkSpec {
        let slow = self.on(0.2);
        NetworkSpec {
            delay_max: if slow { self.span(50, 400) } else { NetworkSpec::default().delay_max },
            tail_share: self.share(0.1),
            tail_mean: self.span(1, 300),
            loss: self.share(0.3),
            duplication: self.share(0.5),
            bytes_per_second: if self.on(0.1) { 100_000 } else { 0 },
            stream_cuts: self.share(0.3),
            ..NetworkSpec::default()
        }
    }

    /// At a random time, up to `times_max` times.
    fn step(&mut self, action: Action, times_max: u32) -> Step {
        let at = self.span(0, LASTS.as_millis() as u64 * 3 / 4);
        let (times, every) = (1 + self.0.below(times_max), self.span(10, 5_000));
        Step { at, action, times, every, ..Step::default() }
    }

    fn share_of_nodes(&mut self) -> Option<f64> {
        Some(f64::from(1 + self.0.below(6)) / 10.0)
    }

    /// More events than a node can send on as fast as they come.
    fn burst(&mut self) -> Step {
        let every = self.span(1, 20);
        Step { every, times: 200, bytes: self.0.below(400) as usize, ..self.step(Action::Event, 1) }
    }

    fn partition(&mut self) -> Step {
        let one_way = self.on(0.3);
        Step { share: self.share_of_nodes(), one_way, ..self.step(Action::Partition, 2) }
    }

    fn link(&mut self) -> Step {
        let (inbound_loss, outbound_loss) = (self.share(1.0), self.share(1.0));
        let flips = self.on(0.5);
        let (bad, good) =
            if flips { (self.span(100, 20_000), self.span(100, 20_000)) } else { Default::default() };
        let share = self.share_of_nodes();
        Step { share, inbound_loss, outbound_loss, bad, good, ..self.step(Action::Link, 2) }
    }

    fn starve(&mut self) -> Step {
        let (still, runs) = (self.span(50, 20_000), self.span(1, 1_000));
        Step { share: self.share_of_nodes(), still, runs, ..self.step(Action::Starve, 1) }
    }

    fn hold_messages(&mut self) -> Step {
        Step { action: Action::HoldMessages, ..self.starve() }
    }

    fn pause(&mut self) -> Step {
        let still = self.span(500, 40_000);
        Step { share: self.share_of_nodes(), still, ..self.step(Action::Pause, 3) }
    }

    fn skew(&mut self) -> Step {
        let rate = [0.5, 0.9, 0.99, 1.01, 1.1, 2.0][self.0.below(6) as usize];
        Step { share: self.share_of_nodes(), rate, ..self.step(Action::Skew, 1) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_seed_draws_a_valid_scenario_that_its_text_replays() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let scenario = draw(seed);
            scenario.check().unwrap();
            assert_eq!(Scenario::parse(&scenario.to_toml()).unwrap(), scenario);
            assert_eq!(draw(seed), scenario);
            kinds.extend(scenario.steps.iter().map(|step| format!("{:?}", step.action)));
        }
        assert_eq!(kinds.len(), 17, "{kinds:?}");
    }
}
