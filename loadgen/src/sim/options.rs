//! The arguments of `sim`.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use lexopt::prelude::*;
use thane_engine::sim::{NODES_MAX, Scenario, Span, catalog};

use crate::arguments::{number, seeds, string, text};

/// What to run.
#[derive(Debug)]
pub(crate) enum Task {
    /// Print this and go.
    Help,
    /// One scenario, with each seed.
    Play(Box<Scenario>),
    /// Swarm mode: a scenario drawn from each seed.
    Sweep,
    /// Lifeguard's experiment: a scenario with each part switched off in turn; one number of slow members, and
    /// one length of their silence, or all.
    Lifeguard(Box<Scenario>, Option<u32>, Option<Span>),
}

/// The arguments.
#[derive(Debug)]
pub(crate) struct Options {
    /// What to run.
    pub(crate) task: Task,
    /// With which seeds.
    pub(crate) seeds: Range<u64>,
    /// Where JSON files go.
    pub(crate) out: Option<PathBuf>,
    /// The protocol's rules are checked on every transition.
    pub(crate) check: bool,
    /// One of so many writes to streams is compressed to see how small it becomes; 0: none.
    pub(crate) sample_compression: u64,
}

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "Usage: thane-loadgen sim SCENARIO [OPTIONS]      a scenario by name, or the path of a TOML file
       thane-loadgen sim sweep --seeds 0..1000   scenarios drawn from seeds, rules checked
       thane-loadgen sim lifeguard --seeds 1..6 --lasts 1h   false positives, each part of Lifeguard off in turn

      --nodes N         nodes at the start
      --seed S          the seed everything follows from [1]
      --seeds A..B      one run for each seed
      --loss SHARE      share of datagrams lost, 0 to 1
      --lasts SPAN      virtual time (`90s`, `10m`)
      --push-pull SPAN  time between push/pulls, 0s for none
      --suspicion-max N, --awareness-max N, --no-buddy   Lifeguard's parts; 1 switches one off
      --compression     LZW, as Serf has it (slow)
      --sample-compression K   send states as they are, but compress every K-th to estimate LZW's bytes
      --still SPAN, --count N   for all steps that have such a key
      --check           check the protocol's rules on every transition
      --out DIR         also write a JSON file for each run

Scenarios:
",
    );
    for scenario in catalog::names().filter_map(catalog::named) {
        text.push_str(&format!("  {:<14} {}\n", scenario.name, scenario.about));
    }
    text.push_str("\nExit codes: 0 fine, 1 a run could not be made, 2 bad arguments, 3 a rule was broken, 4 views did not\nbecome equal in time, 101 a crash.\n");
    text
}

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Options, String> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options =
            Options { task: Task::Help, seeds: 1..2, out: None, check: false, sample_compression: 0 };
        let mut changes: Vec<Change> = Vec::new();
        let mut name = None;
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                Short('h') | Long("help") => return Ok(Options { task: Task::Help, ..options }),
                Value(value) if name.is_none() => name = Some(value.string().map_err(text)?),
                Long("seed") => {
                    let seed: u64 = number(&mut parser, "--seed")?;
                    options.seeds = seed..seed.saturating_add(1);
                }
                Long("seeds") => options.seeds = seeds(&string(&mut parser)?)?,
                Long("out") => options.out = Some(parser.value().map_err(text)?.into()),
                Long("check") => options.check = true,
                Long("sample-compression") => {
                    options.sample_compression = number(&mut parser, "--sample-compression")?;
                }
                Long("compression") => changes.push(Change::Compression),
                Long("nodes") => changes.push(Change::Nodes(number(&mut parser, "--nodes")?)),
                Long("loss") => changes.push(Change::Loss(number(&mut parser, "--loss")?)),
                Long("count") => changes.push(Change::Count(number(&mut parser, "--count")?)),
                Long("suspicion-max") => {
                    changes.push(Change::SuspicionMax(number(&mut parser, "--suspicion-max")?));
                }
                Long("awareness-max") => {
                    changes.push(Change::AwarenessMax(number(&mut parser, "--awareness-max")?));
                }
                Long("no-buddy") => changes.push(Change::NoBuddy),
                Long("lasts") => changes.push(Change::Lasts(string(&mut parser)?.parse()?)),
                Long("still") => changes.push(Change::Still(string(&mut parser)?.parse()?)),
                Long("push-pull") => changes.push(Change::PushPull(string(&mut parser)?.parse()?)),
                other => return Err(text(other.unexpected())),
            }
        }
        options.task = match name.as_deref() {
            None => return Err("which scenario? `thane-loadgen sim --help` lists them".to_owned()),
            Some("sweep") if changes.is_empty() => Task::Sweep,
            Some("sweep") => {
                return Err("`sweep` draws everything from the seeds; it takes --seeds only".to_owned());
            }
            Some("lifeguard") => lifeguard(&changes)?,
            Some(name) => Task::Play(Box::new(scenario(name, &changes)?)),
        };
        Ok(options)
    }
}

/// A change to the scenario.
enum Change {
    Nodes(u32),
    Loss(f64),
    Lasts(Span),
    PushPull(Span),
    SuspicionMax(u32),
    AwarenessMax(u32),
    NoBuddy,
    Compression,
    Still(Span),
    Count(u32),
}

fn lifeguard(changes: &[Change]) -> Result<Task, String> {
    let (mut count, mut still) = (None, None);
    for change in changes {
        match change {
            Change::Count(only) => count = Some(*only),
            Change::Still(only) => still = Some(*only),
            Change::Lasts(_) => {}
            _ => return Err("`lifeguard` takes --seeds, --lasts, --count and --still only".to_owned()),
        }
    }
    Ok(Task::Lifeguard(Box::new(scenario("starved", changes)?), count, still))
}

fn scenario(name: &str, changes: &[Change]) -> Result<Scenario, String> {
    let mut scenario = match catalog::named(name) {
        Some(scenario) => scenario,
        None if name.ends_with(".toml") => {
            let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
            Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))?
        }
        None => {
            let known: Vec<&str> = catalog::names().collect();
            return Err(format!("unknown scenario `{name}`; there are {} and TOML files", known.join(", ")));
        }
    };
    for change in changes {
        match *change {
            Change::Nodes(nodes) if !(1..=NODES_MAX).contains(&nodes) => {
                return Err(format!("--nodes is {nodes}; it must be 1 to {NODES_MAX}"));
            }
            Change::Nodes(nodes) => scenario.nodes = nodes,
            Change::Loss(loss) => scenario.network.loss = loss,
            Change::Lasts(span) => scenario.lasts = span,
            Change::PushPull(span) => scenario.settings.push_pull_interval = Some(span),
            Change::SuspicionMax(max) => scenario.settings.suspicion_max_timeout_mult = Some(max),
            Change::AwarenessMax(max) => scenario.settings.awareness_max_multiplier = Some(max.max(1)),
            Change::NoBuddy => scenario.settings.buddy_system = Some(false),
            Change::Compression => scenario.settings.compression = true,
            Change::Still(span) => {
                scenario
                    .steps
                    .iter_mut()
                    .filter(|step| step.still != Span::default())
                    .for_each(|step| step.still = span);
            }
            Change::Count(count) => {
                let counted =
                    scenario.steps.iter_mut().filter(|step| step.count.is_some() || step.share.is_some());
                counted.for_each(|step| (step.count, step.share) = (Some(count), None));
            }
        }
    }
    scenario.check().map_err(|error| error.to_string())?;
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn takes_scenarios_and_changes() {
        let options = parse("event --nodes 50 --loss 0.25 --seeds 3..6").expect("a valid line");
        assert_eq!(options.seeds, 3..6);
        let Task::Play(scenario) = options.task else { panic!("a scenario was named") };
        assert_eq!((scenario.nodes, scenario.network.loss), (50, 0.25));
        assert!(matches!(parse("sweep --seeds 0..10").map(|options| options.task), Ok(Task::Sweep)));
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, part) in [
            ("", "which scenario"),
            ("evnt", "unknown scenario `evnt`; there are idle"),
            ("event --nodes 1000000", "1 to 100000"),
            ("event --loss 2", "network.loss is 2; it must be 0 to 1"),
            ("event --nodes ten", "--nodes `ten`"),
            ("sweep --seeds 9..3", "no range"),
            ("sweep --nodes 3", "takes --seeds only"),
            ("lifeguard --no-buddy", "takes --seeds, --lasts, --count and --still only"),
            ("missing.toml", "missing.toml: No such file"),
            ("event --bogus", "bogus"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
