//! The arguments of `target`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::bare;
use super::emulated::{Members, Wrapping};
use crate::agent::{Launch, RPC_PORT, program, title};
use crate::arguments;

/// The node name of an agent that is started here.
const NODE: &str = "subject";

/// Measures one agent from outside: memory, processor time per message, latency, merging, listing.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Gossip address of an agent that runs already
    #[arg(required_unless_present = "against", conflicts_with = "against")]
    pub(crate) addr: Option<SocketAddr>,
    /// Its RPC address [default: port 7373 of the same IP]
    #[arg(long, value_name = "ADDR")]
    rpc: Option<String>,
    /// Its node name, which pings must carry
    #[arg(long, value_name = "NAME", default_value = NODE)]
    pub(crate) node: String,
    /// Its process, without which memory and processor time are not measured
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Starts these agents instead, one after the other: serf, thane or a path of a program, each with flags if need
    /// be (`thane -io-driver=portable`); bare: a loop of recvfrom and sendto, the cost of the kernel alone
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    against: Vec<String>,
    /// Emulated members, 1 to 65000
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    nodes: u32,
    /// Packets a second, open loop
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Duration of each load
    #[arg(long = "seconds", value_name = "SPAN", default_value = "5s", value_parser = load_span)]
    pub(crate) span: Duration,
    /// Measured idle time
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = arguments::span)]
    pub(crate) idle: Duration,
    /// Address of the emulated members
    #[arg(long, value_name = "IP", default_value = "127.34.9.1")]
    pub(crate) from: IpAddr,
    /// Address of the first agent that is started; each next agent gets the next address
    #[arg(long, value_name = "IP", default_value = "127.34.8.1")]
    agents: Ipv4Addr,
    /// Measures instead how much gossip the agents accept, plain and encrypted, and how fast they answer meanwhile
    #[arg(long, conflicts_with = "junk")]
    flood: bool,
    /// Measures instead encrypted agents under junk from 250 addresses and under hostile streams
    #[arg(long)]
    junk: bool,
    /// Allows addresses that are neither loopback nor private
    #[arg(long)]
    anywhere: bool,
}

/// The measured phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Memory, processor time and latency at a steady rate.
    Steady,
    /// The rate of gossip at which packets are lost.
    Flood,
    /// Packets and streams that no honest member sends.
    Junk,
}

impl Options {
    /// Checks what clap can't.
    ///
    /// # Errors
    /// One line: which argument is wrong and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        // clap does not enforce `requires` for an argument that conflicts with a given one.
        if self.phase() != Phase::Steady && (self.against.is_empty() || self.from.is_ipv6()) {
            return Err("--flood and --junk start agents: they need --against, and --from in IPv4".to_owned());
        }
        let mut addresses =
            [self.from, self.agents.into()].into_iter().chain(self.addr.map(|addr| addr.ip()));
        match addresses.find(|ip| !self.anywhere && !is_near(*ip)) {
            Some(ip) => Err(format!("{ip} is neither loopback nor private: --anywhere allows it")),
            None => Ok(()),
        }
    }

    /// The measured phase.
    pub(crate) fn phase(&self) -> Phase {
        match (self.flood, self.junk) {
            (true, _) => Phase::Flood,
            (_, true) => Phase::Junk,
            _ => Phase::Steady,
        }
    }

    /// Emulated members.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes as usize
    }

    /// The RPC address of the agent at that address.
    pub(crate) fn rpc(&self, ip: IpAddr) -> String {
        self.rpc.clone().unwrap_or_else(|| SocketAddr::new(ip, RPC_PORT).to_string())
    }

    /// The agents to start.
    pub(crate) fn subjects(&self) -> Vec<Launch> {
        let first = u32::from(self.agents);
        let subject = |(n, words): (u32, &String)| {
            let mut words = words.split_whitespace();
            let word = words.next().unwrap_or_default();
            let flags: Vec<String> = words.map(str::to_owned).collect();
            Launch {
                title: [&[title(word)], flags.as_slice()].concat().join(" "),
                program: if word == bare::COMMAND { this_program() } else { program(word) },
                node: NODE.to_owned(),
                ip: Ipv4Addr::from(first.wrapping_add(n)).into(),
                flags,
            }
        };
        (0..).zip(&self.against).map(subject).collect()
    }

    /// Starts the emulated members.
    ///
    /// # Errors
    /// Their address can't be bound.
    pub(crate) fn members(&self, wrapping: Wrapping) -> Result<Members, String> {
        Members::start(self.from, self.nodes(), wrapping)
            .map_err(|error| format!("can't start the emulated members on {}: {error}", self.from))
    }

    /// The first address that a flood comes from: the next network after that of the emulated members.
    pub(crate) fn flood_from(&self) -> Ipv4Addr {
        match self.from {
            IpAddr::V4(ip) => Ipv4Addr::from((u32::from(ip) & !0xff).wrapping_add(0x101)),
            IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
        }
    }
}

/// This program, whose subcommand `bare` is the loop.
fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

fn load_span(text: &str) -> Result<Duration, String> {
    arguments::span(text).and_then(|span| {
        if span.is_zero() { Err("a load lasts longer than 0s".to_owned()) } else { Ok(span) }
    })
}

fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
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

    fn parse(words: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from([&["target"], words].concat());
        let options = line.map_err(|error| arguments::one_line(&error))?.options;
        options.check().map(|()| options)
    }

    #[test]
    fn agents_get_addresses_of_their_own() {
        let arguments = ["--against", "serf,/opt/old/thane -a -b=1,bare", "--agents", "127.34.8.255"];
        let subjects = parse(&arguments).unwrap().subjects();
        let launch = |title: &str, program: &str, flags: &[&str], ip: [u8; 4]| Launch {
            title: title.to_owned(),
            program: program.into(),
            node: NODE.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            ip: ip.into(),
        };
        assert_eq!(subjects[0], launch("serf", "serf", &[], [127, 34, 8, 255]));
        let with_flags = launch("thane -a -b=1", "/opt/old/thane", &["-a", "-b=1"], [127, 34, 9, 0]);
        assert_eq!(subjects[1], with_flags);
        assert_eq!(Wrapping::Plain.launched(&subjects[1]), with_flags);
        let sealed = Wrapping::Sealed.launched(&subjects[0]);
        assert_eq!(sealed.flags, ["-encrypt=b2YgdGhhbmUtbG9hZGdlbg=="]);
        assert_eq!(subjects[2].program, this_program());
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, expected) in [
            ("", "required"),
            ("127.0.0.1:7946 --against serf", "cannot be used with"),
            ("127.0.0.1", "invalid value '127.0.0.1'"),
            ("8.8.8.8:7946", "8.8.8.8 is neither loopback nor private: --anywhere allows it"),
            ("--against serf --nodes x", "invalid value 'x' for '--nodes <N>'"),
            ("--against serf --seconds 0", "a load lasts longer than 0s"),
            ("127.0.0.1:7946 --flood", "they need --against"),
            ("--against serf --flood --junk", "cannot be used with"),
            ("--against serf --junk --from ::1", "--from in IPv4"),
        ] {
            let error = parse(&line.split_whitespace().collect::<Vec<_>>()).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{line}: {error}");
        }
        let options = parse(&["10.0.0.1:7946", "--seconds", "3"]).unwrap();
        assert_eq!(options.rpc(IpAddr::from([10, 0, 0, 1])), "10.0.0.1:7373");
        assert_eq!((options.span, options.phase()), (Duration::from_secs(3), Phase::Steady));
    }
}
