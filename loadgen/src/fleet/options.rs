//! What `thane-loadgen fleet` is told.

use std::net::Ipv4Addr;
use std::time::Duration;

use thane_engine::io::DriverChoice;

/// Shown when the arguments make no sense.
pub(crate) const USAGE: &str = "\
Usage: thane-loadgen fleet [options]

Runs complete nodes on real UDP and TCP, each with an address of its own on 127.0.0.0/8, and tells how long they
take to know each other, to hear an event and to notice a crash.

  --nodes N          how many (500)
  --shards N         threads (one for each processor)
  --port N           the port they share (27946)
  --first IP         address of the first node, the others follow (127.34.16.1)
  --passes N         1: every node joins through one that joined before it, as it comes;
                     more: all through the first node, so many times (1)
  --compress         let streams be compressed, as agents do; on one machine it only costs
  --joining N        joins that are under way at one time (32)
  --idle N           seconds of idling that are measured (10)
  --within N         give up when something takes longer than this many seconds (90)
  --driver WORD      auto, io_uring or portable (auto)
";

/// What `thane-loadgen fleet` is told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: usize,
    pub(crate) shards: u32,
    pub(crate) port: u16,
    first: Ipv4Addr,
    pub(crate) passes: u32,
    pub(crate) compress: bool,
    pub(crate) joining: usize,
    pub(crate) idle: Duration,
    pub(crate) within: Duration,
    pub(crate) driver: DriverChoice,
}

impl Options {
    /// Reads the arguments after `fleet`.
    ///
    /// # Errors
    /// One line that says what is wrong with which.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            nodes: 500,
            shards: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            port: 27946,
            first: Ipv4Addr::new(127, 34, 16, 1),
            passes: 1,
            compress: false,
            joining: 32,
            idle: Duration::from_secs(10),
            within: Duration::from_secs(90),
            driver: DriverChoice::Auto,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--nodes" => options.nodes = parsed(argument, value()?)?,
                "--shards" => options.shards = parsed(argument, value()?)?,
                "--port" => options.port = parsed(argument, value()?)?,
                "--first" => options.first = parsed(argument, value()?)?,
                "--passes" => options.passes = parsed(argument, value()?)?,
                "--compress" => options.compress = true,
                "--joining" => options.joining = parsed(argument, value()?)?,
                "--idle" => options.idle = Duration::from_secs(parsed(argument, value()?)?),
                "--within" => options.within = Duration::from_secs(parsed(argument, value()?)?),
                "--driver" => options.driver = value()?.parse()?,
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        if options.nodes < 2 || options.shards == 0 || options.shards > 1024 || options.joining == 0 {
            return Err("--nodes begins at 2, --shards goes from 1 to 1024, --joining begins at 1".to_owned());
        }
        let last = u64::from(u32::from(options.first)) + options.nodes as u64 - 1;
        if !options.first.is_loopback() || last > u64::from(u32::from(Ipv4Addr::new(127, 255, 255, 254))) {
            return Err(format!("{} nodes from {} on leave 127.0.0.0/8", options.nodes, options.first));
        }
        Ok(options)
    }

    /// The address of the n-th node, counted from 0.
    pub(crate) fn ip(&self, n: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + n as u32)
    }
}

fn parsed<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} can't be {text:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn nodes_have_addresses_one_after_the_other() {
        let options = parse("--nodes 300 --first 127.40.0.200").unwrap();
        assert_eq!(options.ip(0), Ipv4Addr::new(127, 40, 0, 200));
        assert_eq!(options.ip(299), Ipv4Addr::new(127, 40, 1, 243));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, expected) in [
            ("--nodes 1", "--nodes begins at 2, --shards goes from 1 to 1024, --joining begins at 1"),
            ("--first 10.0.0.1", "500 nodes from 10.0.0.1 on leave 127.0.0.0/8"),
            ("--first 127.255.255.1", "500 nodes from 127.255.255.1 on leave 127.0.0.0/8"),
            ("--nodes", "--nodes needs a value"),
            ("--port 70000", "--port can't be \"70000\""),
            ("--driver x", "unknown driver \"x\": use \"auto\", \"io_uring\" or \"portable\""),
            ("8", "unknown argument \"8\""),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
    }
}
