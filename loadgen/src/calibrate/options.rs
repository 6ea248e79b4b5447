//! The arguments of `calibrate`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thane_engine::config::{DisseminationPolicy, RawConfig};
use thane_engine::sim::push_pull_scale;

use crate::addresses::Addresses;
use crate::arguments;

/// More real agents than one machine takes (200 came together only once, on a quiet machine).
const NODES_MAX: i64 = 200;

/// Measures real agents on addresses of 127.0.0.0/8 and the simulator in the same way, and compares them: traffic of
/// an idle cluster, a user event, an agent that is killed.
///
/// Traffic is counted in a network namespace of its own, which takes root or user namespaces. Without one the rows
/// about traffic are missing.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 measured, whether it agrees or not, 1 a run could not be made, 2 wrong arguments"
)]
pub(crate) struct Options {
    /// Agents, 2 to 200
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=NODES_MAX))]
    nodes: u32,
    /// Runs of each, 1 to 100; each has a new cluster or a new seed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) runs: u64,
    /// Real agents: serf, thane, paths of programs, with commas between
    #[arg(long = "agent", value_name = "LIST", default_value = "serf", value_delimiter = ',')]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) agents: Vec<String>,
    /// User events of a run, 3 s apart, at most 100
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) events: u32,
    /// Agents killed one after another in a run, at most 100
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) kills: u32,
    /// Measured idle time of a run, 0s for none [default: 60s, or one push/pull interval]
    #[arg(long, value_name = "SPAN", value_parser = arguments::span)]
    idle: Option<Duration>,
    /// Time from full views to the measured idle time [default: two push/pull intervals: real agents start at the
    /// beginning of their interval, simulated ones anywhere in it]
    #[arg(long, value_name = "SPAN", value_parser = arguments::span)]
    settle: Option<Duration>,
    /// Real agents run with -disable-compression, simulated ones without compression too
    #[arg(long)]
    no_compression: bool,
    /// How news reaches all members: classic or eager; of Thane's agents and of the simulated nodes. Serf's agents do
    /// as they do
    #[arg(long, value_name = "WORD", default_value = "classic")]
    pub(crate) policy: DisseminationPolicy,
    /// The seed of the first run; choices of the real runs follow from it too
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Address of the first agent; the others follow
    #[arg(long, value_name = "IP", default_value = "127.42.0.1")]
    first: Ipv4Addr,
    /// Writes a report there: JSON and one HTML page
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    /// The addresses of the agents.
    ///
    /// # Errors
    /// One line: they are not all loopback.
    pub(crate) fn addresses(&self) -> Result<Addresses, String> {
        Addresses::new(self.first, self.nodes())
    }

    /// How many agents.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes as usize
    }

    /// Whether states are compressed.
    pub(crate) fn compression(&self) -> bool {
        !self.no_compression
    }

    /// The measured idle time: at least one push/pull interval, so that each agent begins one.
    pub(crate) fn idle(&self) -> Duration {
        self.idle.unwrap_or_else(|| self.push_pull_interval().max(Duration::from_secs(60)))
    }

    /// Time from full views to the measured idle time.
    pub(crate) fn settle(&self) -> Duration {
        self.settle.unwrap_or_else(|| self.push_pull_interval() * 2)
    }

    fn push_pull_interval(&self) -> Duration {
        let raw = RawConfig::lan(String::new(), (self.first, 0).into());
        raw.push_pull_interval * push_pull_scale(self.nodes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let line = Line::try_parse_from(["calibrate"].into_iter().chain(line.split_whitespace()));
        let options = line.map_err(|error| arguments::one_line(&error))?.options;
        options.addresses().map(|_| options)
    }

    #[test]
    fn the_idle_time_is_as_long_as_a_push_pull_interval() {
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
    fn wrong_values_are_refused() {
        for (line, expected) in [
            ("--nodes 0", "0 is not in 2..=200"),
            ("--nodes 201", "201 is not in 2..=200"),
            ("--nodes ten", "invalid value 'ten' for '--nodes <N>'"),
            ("--runs 0", "0 is not in 1..=100"),
            ("--kills 101", "101 is not in 0..=100"),
            ("--agent serf,", "for '--agent <LIST>'"),
            ("--first 10.0.0.1", "10 addresses from 10.0.0.1 on leave 127.0.0.0/8"),
            ("--idle 5x", "write a duration"),
            ("--policy x", "unknown policy \"x\": use \"classic\" or \"eager\""),
            ("--bogus", "unexpected argument '--bogus'"),
            ("10", "unexpected argument '10'"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
