//! The arguments of `fleet`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thane_engine::config::{DisseminationPolicy, Profile, RawConfig};
use thane_engine::io::DriverChoice;

use crate::addresses::Addresses;
use crate::arguments;

/// Runs complete nodes on real UDP and TCP, each with an address of its own on 127.0.0.0/8, and measures how long they
/// take to know each other, to hear an event and to notice a crash.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many nodes, from 2 on
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..))]
    nodes: u32,
    /// Threads, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) shards: u32,
    /// The port that all nodes share
    #[arg(long, value_name = "N", default_value_t = 27946)]
    pub(crate) port: u16,
    /// Address of the first node; the others follow
    #[arg(long, value_name = "IP", default_value = "127.34.16.1")]
    first: Ipv4Addr,
    /// 1: every node joins through a random one that joined before it; more: all join the first node, so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) passes: u32,
    /// The profile of timings: lan, wan, local or fast
    #[arg(long, value_name = "WORD", default_value = "lan")]
    pub(crate) profile: Profile,
    /// How news reaches all members: classic or eager; without it the profile's
    #[arg(long, value_name = "WORD")]
    policy: Option<DisseminationPolicy>,
    /// Compresses streams, as agents do by default; on one machine it only costs
    #[arg(long)]
    pub(crate) compress: bool,
    /// Joins under way at one time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) joining: u32,
    /// Measured idle time
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = arguments::span)]
    pub(crate) idle: Duration,
    /// Longest time for each phase; the run fails after it
    #[arg(long, value_name = "SPAN", default_value = "90s", value_parser = arguments::span)]
    pub(crate) within: Duration,
    /// The I/O driver: auto, io_uring or portable
    #[arg(long, value_name = "WORD", default_value = "auto")]
    pub(crate) driver: DriverChoice,
    /// Writes a report there: JSON and one HTML page
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    /// The addresses of the nodes.
    ///
    /// # Errors
    /// One line: they are not all loopback.
    pub(crate) fn addresses(&self) -> Result<Addresses, String> {
        Addresses::new(self.first, self.nodes())
    }

    /// How news reaches all members.
    pub(crate) fn policy(&self) -> DisseminationPolicy {
        let unnamed = (self.first, self.port).into();
        self.policy.unwrap_or_else(|| RawConfig::of(self.profile, "", unnamed).dissemination)
    }

    /// How many nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes as usize
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    pub(in crate::fleet) fn parse(line: &str) -> Result<Options, String> {
        let line = Line::try_parse_from(["fleet"].into_iter().chain(line.split_whitespace()));
        let options = line.map_err(|error| arguments::one_line(&error))?.options;
        options.addresses().map(|_| options)
    }

    #[test]
    fn defaults_are_those_of_the_documents() {
        let options = parse("").unwrap();
        assert_eq!((options.nodes(), options.idle.as_secs(), options.within.as_secs()), (500, 10, 90));
        assert_eq!(options.driver, DriverChoice::Auto);
        assert_eq!(options.policy(), DisseminationPolicy::Classic);
        assert_eq!(parse("--policy eager").unwrap().policy(), DisseminationPolicy::Eager);
        assert_eq!(parse("--profile fast").unwrap().policy(), DisseminationPolicy::Eager);
        assert_eq!(parse("--idle 0").unwrap().idle, Duration::ZERO);
    }

    #[test]
    fn wrong_values_are_refused() {
        for (line, expected) in [
            ("--nodes 1", "1 is not in 2.."),
            ("--shards 0", "0 is not in 1..=1024"),
            ("--first 10.0.0.1", "500 addresses from 10.0.0.1 on leave 127.0.0.0/8"),
            ("--first 127.255.255.1", "500 addresses from 127.255.255.1 on leave 127.0.0.0/8"),
            ("--nodes", "a value is required for '--nodes <N>'"),
            ("--port 70000", "70000 is not in 0..=65535"),
            ("--driver x", "unknown driver \"x\": use \"auto\", \"io_uring\" or \"portable\""),
            ("--policy x", "unknown policy \"x\": use \"classic\" or \"eager\""),
            ("8", "unexpected argument '8'"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
