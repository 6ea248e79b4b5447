//! What `thane-loadgen target` is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::emulated::{Members, Wrapping};
use crate::agent::{Launch, program, title};

/// The node name of an agent that is started here.
const NODE: &str = "subject";

/// Shown when the arguments make no sense.
pub(crate) const USAGE: &str = "\
Usage: thane-loadgen target ADDR [options]
       thane-loadgen target --against serf,thane,bare [options]

Measures one agent from outside: memory, processor time per message, latency, merging, listing.

  ADDR               gossip address of an agent that runs already
  --rpc ADDR         its RPC address (port 7373 of the same IP)
  --node NAME        its node name, which pings must carry (subject)
  --pid PID          its process, without which memory and processor time are not known
  --against LIST     start these one after the other instead: serf, thane or a path to a program, with flags if
                     need be (thane -io-driver=portable); bare: a loop of recvfrom and sendto, which is
                     what the kernel alone costs
  --nodes N          emulated members (5000)
  --rate N           packets a second, open loop (2000)
  --seconds N        duration of each load (5)
  --idle N           seconds of idling that are measured (10)
  --from IP          where the emulated members are (127.34.9.1)
  --agents IP        where agents are started, each on the next address (127.34.8.1)
  --flood            measure instead how much gossip the agents take, plain and encrypted, and how fast they
                     answer meanwhile (with --against)
  --junk             measure instead what becomes of encrypted agents among junk from 250 addresses and
                     streams that stall (with --against)
  --anywhere         allow addresses that are neither loopback nor private
";

/// What `thane-loadgen target` is told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) addr: Option<SocketAddr>,
    rpc: Option<String>,
    pub(crate) node: String,
    pub(crate) pid: Option<u32>,
    against: Vec<String>,
    pub(crate) nodes: usize,
    pub(crate) rate: u32,
    pub(crate) span: Duration,
    pub(crate) idle: Duration,
    pub(crate) from: IpAddr,
    agents: Ipv4Addr,
    pub(crate) phase: Phase,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Memory, processor time and latency at a steady rate.
    Steady,
    /// How much gossip is too much.
    Flood,
    /// What nobody should send.
    Junk,
}

impl Options {
    /// Reads the arguments after `target`.
    ///
    /// # Errors
    /// One line that says what is wrong with which.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            addr: None,
            rpc: None,
            node: NODE.to_owned(),
            pid: None,
            against: Vec::new(),
            nodes: 5000,
            rate: 2000,
            span: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            from: IpAddr::from([127, 34, 9, 1]),
            agents: Ipv4Addr::new(127, 34, 8, 1),
            phase: Phase::Steady,
        };
        let mut anywhere = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rpc" => options.rpc = Some(value()?.clone()),
                "--node" => options.node = value()?.clone(),
                "--pid" => options.pid = Some(parsed(argument, value()?)?),
                "--against" => options.against = value()?.split(',').map(str::to_owned).collect(),
                "--nodes" => options.nodes = parsed(argument, value()?)?,
                "--rate" => options.rate = parsed(argument, value()?)?,
                "--seconds" => options.span = Duration::from_secs(parsed(argument, value()?)?),
                "--idle" => options.idle = Duration::from_secs(parsed(argument, value()?)?),
                "--from" => options.from = parsed(argument, value()?)?,
                "--agents" => options.agents = parsed(argument, value()?)?,
                "--flood" => options.phase = Phase::Flood,
                "--junk" => options.phase = Phase::Junk,
                "--anywhere" => anywhere = true,
                _ if !argument.starts_with('-') && options.addr.is_none() => {
                    options.addr = Some(parsed("ADDR", argument)?);
                }
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        options.check(anywhere)?;
        Ok(options)
    }

    /// Where the agent at that address takes requests.
    pub(crate) fn rpc(&self, ip: IpAddr) -> String {
        self.rpc.clone().unwrap_or_else(|| SocketAddr::new(ip, 7373).to_string())
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
                program: program(word),
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
        Members::start(self.from, self.nodes, wrapping)
            .map_err(|error| format!("can't start the emulated members on {}: {error}", self.from))
    }

    /// The first address that a flood comes from: the next network after that of the emulated members.
    pub(crate) fn flood_from(&self) -> Ipv4Addr {
        match self.from {
            IpAddr::V4(ip) => Ipv4Addr::from((u32::from(ip) & !0xff).wrapping_add(0x101)),
            IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
        }
    }

    fn check(&self, anywhere: bool) -> Result<(), String> {
        if self.addr.is_some() != self.against.is_empty() {
            return Err("say either an address or --against, not both".to_owned());
        }
        if self.nodes == 0 || self.nodes > 65_000 || self.rate == 0 || self.span.is_zero() {
            return Err("--nodes goes from 1 to 65000; --rate and --seconds begin at 1".to_owned());
        }
        if self.phase != Phase::Steady && (self.against.is_empty() || self.from.is_ipv6()) {
            return Err("--flood and --junk start agents: they need --against, and --from in IPv4".to_owned());
        }
        let mut addresses =
            [self.from, self.agents.into()].into_iter().chain(self.addr.map(|addr| addr.ip()));
        match addresses.find(|ip| !anywhere && !is_near(*ip)) {
            Some(ip) => Err(format!("{ip} is neither loopback nor private: --anywhere allows it")),
            None => Ok(()),
        }
    }
}

fn parsed<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} can't be {text:?}"))
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
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn agents_get_addresses_of_their_own() {
        let arguments = ["--against", "serf,/opt/old/thane -a -b=1,bare", "--agents", "127.34.8.255"];
        let subjects = Options::parse(&arguments.map(str::to_owned)).unwrap().subjects();
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
        assert!(subjects[2].is_bare() && !subjects[1].is_bare());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, expected) in [
            ("", "say either an address or --against, not both"),
            ("127.0.0.1:7946 --against serf", "say either an address or --against, not both"),
            ("127.0.0.1", "ADDR can't be \"127.0.0.1\""),
            ("8.8.8.8:7946", "8.8.8.8 is neither loopback nor private: --anywhere allows it"),
            ("--against serf --nodes x", "--nodes can't be \"x\""),
            ("--against", "--against needs a value"),
            (
                "127.0.0.1:7946 --flood",
                "--flood and --junk start agents: they need --against, and --from in IPv4",
            ),
            ("--what", "unknown argument \"--what\""),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
        assert_eq!(parse("10.0.0.1:7946").unwrap().rpc(IpAddr::from([10, 0, 0, 1])), "10.0.0.1:7373");
    }
}
