//! The arguments of `calibrate`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use thane_engine::config::RawConfig;
use thane_engine::sim::{Span, push_pull_scale};

use crate::arguments::{number, string, text};

/// More real agents than one machine takes (BASELINES.md: 200 came together only once, on a quiet machine).
const NODES_MAX: usize = 200;
/// The most events or kills of a run.
const TIMES_MAX: u32 = 100;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Usage: thane-loadgen calibrate [OPTIONS]

Measures real agents on addresses of 127.0.0.0/8 and the simulator in the same way, and tells where they differ:
traffic of an idle cluster, a user event, an agent that is killed.

      --nodes N         agents (10)
      --runs N          runs of each, every one with a new cluster or a new seed (5)
      --agent LIST      real agents: serf, thane, paths of programs, with commas between (serf)
      --events N        user events of a run, 3 s apart (5)
      --kills N         agents killed one after another in a run (3)
      --idle SPAN       measured quiet of a run, `0s` for none (60s, or one push/pull interval)
      --settle SPAN     from full views to that quiet (two push/pull intervals: agents don't start in the
                        middle of their rhythm, the simulated ones do)
      --no-compression  agents run with -disable-compression, simulated ones without it too
      --seed S          the seed of the first run; choices of the real runs follow from it too (1)
      --first IP        address of the first agent, the others follow (127.42.0.1)
      --out DIR         also write a JSON file

Traffic is counted in a network namespace of its own, which takes root or user namespaces. Without one the rows
about traffic are missing. Exit codes: 0 measured, whether it agrees or not, 1 a run could not be made, 2 bad
arguments.
";

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) help: bool,
    pub(crate) nodes: usize,
    pub(crate) runs: u64,
    pub(crate) agents: Vec<String>,
    pub(crate) events: u32,
    pub(crate) kills: u32,
    idle: Option<Duration>,
    settle: Option<Duration>,
    pub(crate) compression: bool,
    pub(crate) seed: u64,
    first: Ipv4Addr,
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after `calibrate`.
    ///
    /// # Errors
    /// One line that says what is wrong with which.
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Options, String> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Options {
            help: false,
            nodes: 10,
            runs: 5,
            agents: vec!["serf".to_owned()],
            events: 5,
            kills: 3,
            idle: None,
            settle: None,
            compression: true,
            seed: 1,
            first: Ipv4Addr::new(127, 42, 0, 1),
            out: None,
        };
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                Short('h') | Long("help") => return Ok(Options { help: true, ..options }),
                Long("nodes") => options.nodes = number(&mut parser, "--nodes")?,
                Long("runs") => options.runs = number(&mut parser, "--runs")?,
                Long("agent") => {
                    options.agents = string(&mut parser)?.split(',').map(str::to_owned).collect()
                }
                Long("events") => options.events = number(&mut parser, "--events")?,
                Long("kills") => options.kills = number(&mut parser, "--kills")?,
                Long("idle") => options.idle = Some(string(&mut parser)?.parse::<Span>()?.0),
                Long("settle") => options.settle = Some(string(&mut parser)?.parse::<Span>()?.0),
                Long("no-compression") => options.compression = false,
                Long("seed") => options.seed = number(&mut parser, "--seed")?,
                Long("first") => options.first = number(&mut parser, "--first")?,
                Long("out") => options.out = Some(parser.value().map_err(text)?.into()),
                other => return Err(text(other.unexpected())),
            }
        }
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        let Options { nodes, runs, events, kills, first, .. } = self;
        if !(2..=NODES_MAX).contains(nodes) {
            return Err(format!("--nodes is {nodes}; it must be 2 to {NODES_MAX}"));
        }
        if !(1..=100).contains(runs) {
            return Err(format!("--runs is {runs}; it must be 1 to 100"));
        }
        for (name, times) in [("--events", events), ("--kills", kills)] {
            if *times > TIMES_MAX {
                return Err(format!("{name} is {times}; it must be 0 to {TIMES_MAX}"));
            }
        }
        if self.agents.iter().any(String::is_empty) {
            return Err("--agent has an empty word; it must be `serf`, `thane` or paths".to_owned());
        }
        let last = u32::from(*first).checked_add(*nodes as u32 - 1).map(Ipv4Addr::from);
        if !(first.is_loopback() && last.is_some_and(|last| last.is_loopback())) {
            return Err(format!("{nodes} agents from {first} on leave 127.0.0.0/8"));
        }
        Ok(())
    }

    /// The address of the n-th agent, counted from 0.
    pub(crate) fn ip(&self, n: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + n as u32)
    }

    /// How long traffic is counted: at least one push/pull interval, so that each agent begins one.
    pub(crate) fn idle(&self) -> Duration {
        self.idle.unwrap_or_else(|| self.push_pull_interval().max(Duration::from_secs(60)))
    }

    /// From full views to the quiet that is measured.
    pub(crate) fn settle(&self) -> Duration {
        self.settle.unwrap_or_else(|| self.push_pull_interval() * 2)
    }

    fn push_pull_interval(&self) -> Duration {
        let raw = RawConfig::lan(String::new(), (self.first, 0).into());
        raw.push_pull_interval * push_pull_scale(self.nodes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_quiet_is_as_long_as_a_push_pull_interval() {
        let seconds = |line: &str| {
            let options = parse(line).unwrap();
            (options.settle().as_secs(), options.idle().as_secs())
        };
        assert_eq!(seconds("--nodes 10"), (60, 60));
        assert_eq!(seconds("--nodes 50"), (120, 60));
        assert_eq!(seconds("--nodes 100"), (180, 90));
        assert_eq!(seconds("--nodes 100 --idle 0s --settle 1s"), (1, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, expected) in [
            ("--nodes 0", "--nodes is 0; it must be 2 to 200"),
            ("--nodes 201", "--nodes is 201; it must be 2 to 200"),
            ("--nodes ten", "--nodes `ten` is no number of the right kind"),
            ("--runs 0", "--runs is 0; it must be 1 to 100"),
            ("--kills 101", "--kills is 101; it must be 0 to 100"),
            ("--agent serf,", "--agent has an empty word; it must be `serf`, `thane` or paths"),
            ("--first 10.0.0.1", "10 agents from 10.0.0.1 on leave 127.0.0.0/8"),
            ("--first 127.255.255.250", "10 agents from 127.255.255.250 on leave 127.0.0.0/8"),
            ("--idle 5", "`5` is no duration: write `20s`, `128ms`, `200us`, `10m` or `1h`"),
            ("--bogus", "invalid option '--bogus'"),
            ("10", "unexpected argument \"10\""),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
    }
}
