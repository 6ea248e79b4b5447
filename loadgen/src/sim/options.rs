//! The arguments of `sim`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thane_engine::config::{DisseminationPolicy, Profile};
use thane_engine::sim::{NODES_MAX, Scenario, Span, catalog};

use crate::arguments;

/// The word for scenarios drawn from seeds.
const SWEEP: &str = "sweep";
/// The word for Lifeguard's experiment.
const LIFEGUARD: &str = "lifeguard";

/// Runs production nodes in virtual time: a scenario, many random ones, or Lifeguard's experiment.
///
/// `sim sweep --seeds 0..1000` draws a scenario from each seed and checks the protocol's rules. `sim lifeguard --seeds
/// 1..6 --lasts 1h` counts false positives with each part of Lifeguard off in turn.
#[derive(Args, Clone, Debug)]
#[command(after_help = scenarios())]
pub(crate) struct Options {
    /// Name of a scenario, path of a TOML file, `sweep` or `lifeguard`
    scenario: String,
    /// The seed that every choice follows from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// One run for each seed
    #[arg(long, value_name = "A..B", value_parser = arguments::seeds, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    #[command(flatten)]
    changes: Changes,
    /// Compresses every K-th state to estimate the bytes of LZW; the states are sent as they are
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) sample_compression: u64,
    /// Checks the protocol's rules on every transition
    #[arg(long)]
    pub(crate) check: bool,
    /// Writes a report there: JSON and one HTML page
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Changes to the scenario.
#[derive(Args, Clone, Debug, Default, PartialEq)]
struct Changes {
    /// Nodes at the start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// The profile of timings: lan, wan, local or fast
    #[arg(long, value_name = "WORD")]
    profile: Option<Profile>,
    /// How news reaches all members: classic or eager; without it the profile's
    #[arg(long, value_name = "WORD")]
    policy: Option<DisseminationPolicy>,
    /// Share of the nodes that do as Serf's do all the same, 0 to 1: no extensions, policy classic
    #[arg(long, value_name = "SHARE", value_parser = arguments::share)]
    serf_share: Option<f64>,
    /// Share of the others that each node does not know at a converged start, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = arguments::share)]
    views_missing: Option<f64>,
    /// Share of datagrams lost, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = arguments::share)]
    loss: Option<f64>,
    /// Virtual time
    #[arg(long, value_name = "SPAN", value_parser = arguments::span)]
    lasts: Option<Duration>,
    /// Time between push/pulls; 0s: none
    #[arg(long, value_name = "SPAN", value_parser = arguments::span)]
    push_pull: Option<Duration>,
    /// Factor of unconfirmed suspicions; 1: Lifeguard's dynamic suspicion off
    #[arg(long, value_name = "N")]
    suspicion_max: Option<u32>,
    /// Limit of the health score; 1: Lifeguard's local health off
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    awareness_max: Option<u32>,
    /// Lifeguard's buddy system off
    #[arg(long)]
    no_buddy: bool,
    /// LZW compression as Serf has it (slow)
    #[arg(long)]
    compression: bool,
    /// For all steps that have this key: how long nodes stand still
    #[arg(long, value_name = "SPAN", value_parser = arguments::span)]
    still: Option<Duration>,
    /// For all steps that have this key: how many nodes
    #[arg(long, value_name = "N")]
    count: Option<u32>,
}

/// The work of a command line.
#[derive(Debug)]
pub(crate) enum Task {
    /// One scenario, with each seed.
    Play(Box<Scenario>),
    /// A scenario drawn from each seed.
    Sweep,
    /// Lifeguard's experiment: a scenario with each part switched off in turn; one number of slow members, and one
    /// length of their silence, or all.
    Lifeguard(Box<Scenario>, Option<u32>, Option<Span>),
}

impl Options {
    /// The work.
    ///
    /// # Errors
    /// One line: the scenario is unknown or wrong, or the options don't fit.
    pub(crate) fn task(&self) -> Result<Task, String> {
        let Changes { count, still, lasts, policy, profile, .. } = self.changes;
        match self.scenario.as_str() {
            SWEEP if self.changes == Changes::default() => Ok(Task::Sweep),
            SWEEP => {
                Err("`sweep` draws everything from the seeds; it takes --seed and --seeds only".to_owned())
            }
            LIFEGUARD
                if self.changes
                    == (Changes { count, still, lasts, policy, profile, ..Changes::default() }) =>
            {
                Ok(Task::Lifeguard(Box::new(self.changed("starved")?), count, still.map(Span)))
            }
            LIFEGUARD => Err(
                "`lifeguard` takes --seed, --seeds, --lasts, --profile, --policy, --count and --still only"
                    .to_owned(),
            ),
            name => Ok(Task::Play(Box::new(self.changed(name)?))),
        }
    }

    /// The seeds of the runs.
    pub(crate) fn seeds(&self) -> Range<u64> {
        self.seeds.clone().unwrap_or(self.seed..self.seed.saturating_add(1))
    }

    /// The scenario with the changes.
    fn changed(&self, name: &str) -> Result<Scenario, String> {
        let mut scenario = named(name)?;
        let Changes { nodes, loss, lasts, push_pull, suspicion_max, awareness_max, still, count, .. } =
            self.changes;
        scenario.nodes = nodes.unwrap_or(scenario.nodes);
        scenario.network.loss = loss.unwrap_or(scenario.network.loss);
        scenario.lasts = lasts.map_or(scenario.lasts, Span);
        scenario.views_missing = self.changes.views_missing.unwrap_or(scenario.views_missing);
        let settings = &mut scenario.settings;
        settings.profile = self.changes.profile.unwrap_or(settings.profile);
        settings.dissemination = self.changes.policy.or(settings.dissemination);
        settings.serf_share = self.changes.serf_share.unwrap_or(settings.serf_share);
        settings.push_pull_interval = push_pull.map(Span).or(settings.push_pull_interval);
        settings.suspicion_max_timeout_mult = suspicion_max.or(settings.suspicion_max_timeout_mult);
        settings.awareness_max_multiplier = awareness_max.or(settings.awareness_max_multiplier);
        settings.compression |= self.changes.compression;
        if self.changes.no_buddy {
            settings.buddy_system = Some(false);
        }
        for step in &mut scenario.steps {
            if let Some(still) = still.filter(|_| step.still != Span::default()) {
                step.still = Span(still);
            }
            if count.is_some() && (step.count.is_some() || step.share.is_some()) {
                (step.count, step.share) = (count, None);
            }
        }
        scenario.check().map_err(|error| error.to_string())?;
        Ok(scenario)
    }
}

/// A scenario of the catalog, or of a file.
fn named(name: &str) -> Result<Scenario, String> {
    if let Some(scenario) = catalog::named(name) {
        return Ok(scenario);
    }
    if !name.ends_with(".toml") {
        let known: Vec<&str> = catalog::names().collect();
        return Err(format!("unknown scenario `{name}`; there are {} and TOML files", known.join(", ")));
    }
    let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
    Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))
}

/// The end of `--help`.
fn scenarios() -> String {
    let mut text = String::from("Scenarios:\n");
    for scenario in catalog::names().filter_map(catalog::named) {
        text.push_str(&format!("  {:<14} {}\n", scenario.name, scenario.about));
    }
    text + "\nExit codes: 0 all runs passed, 1 a run could not be made, 2 wrong arguments, 3 a rule of the protocol was \
            broken, 4 views did not become equal in time, 101 a node panicked"
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<(Options, Task), String> {
        let line = Line::try_parse_from(["sim"].into_iter().chain(line.split_whitespace()));
        let options = line.map_err(|error| arguments::one_line(&error))?.options;
        let task = options.task()?;
        Ok((options, task))
    }

    #[test]
    fn takes_scenarios_and_changes() {
        let (options, task) = parse("event --nodes 50 --loss 0.25 --seeds 3..6").expect("a valid line");
        assert_eq!(options.seeds(), 3..6);
        let Task::Play(scenario) = task else { panic!("a scenario was named") };
        assert_eq!((scenario.nodes, scenario.network.loss), (50, 0.25));
        let (_, task) = parse("event --policy eager --views-missing 0.01 --serf-share 0.5").expect("valid");
        let Task::Play(scenario) = task else { panic!("a scenario was named") };
        let settings = &scenario.settings;
        assert_eq!(
            (settings.dissemination, settings.serf_share, scenario.views_missing),
            (Some(DisseminationPolicy::Eager), 0.5, 0.01)
        );
        assert!(matches!(parse("sweep --seeds 0..10"), Ok((_, Task::Sweep))));
        let Ok((_, Task::Lifeguard(scenario, Some(16), Some(still)))) =
            parse("lifeguard --lasts 1h --count 16 --still 8s")
        else {
            panic!("a valid line");
        };
        assert_eq!((scenario.lasts.0, still.0), (Duration::from_secs(3600), Duration::from_secs(8)));
        assert!(scenario.steps.iter().all(|step| step.count == Some(16)));
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, part) in [
            ("", "required arguments were not provided"),
            ("evnt", "unknown scenario `evnt`; there are idle"),
            ("event --nodes 1000000", "1000000 is not in 1..=100000"),
            ("event --loss 2", "write a number from 0 to 1"),
            ("event --policy x", "unknown policy \"x\": use \"classic\" or \"eager\""),
            ("event --nodes ten", "invalid value 'ten' for '--nodes <N>'"),
            ("sweep --seeds 9..3", "write a range"),
            ("sweep --nodes 3", "takes --seed and --seeds only"),
            ("lifeguard --no-buddy", "--lasts, --profile, --policy, --count and --still only"),
            ("missing.toml", "missing.toml: No such file"),
            ("event --bogus", "unexpected argument '--bogus'"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
