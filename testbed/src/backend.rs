//! What runs agents: the Docker engine of this machine, or a Kubernetes cluster.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::agent::AgentSpec;
use crate::failure::Failure;
use crate::links::Links;
use crate::meter::Meter;

/// Lines of a log that are shown where an agent ends by itself.
const LOG_LINES: usize = 6;

/// Where a started agent is.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Its address in the cluster, by which members know it.
    pub(crate) ip: IpAddr,
    /// Where its RPC port is reached from here.
    pub(crate) rpc: SocketAddr,
    /// None where its counters can't be read from here.
    pub(crate) meter: Option<Meter>,
}

/// Runs agents, each known by its name. What a backend can't do it refuses with one line that says so.
pub(crate) trait Backend {
    /// Addresses or names of the first `count` agents, for the others to join; with `by_name` one name for all.
    fn seeds(&self, count: u32, by_name: bool) -> Vec<String>;

    /// The address that an agent at that place must bind to, where it has several.
    fn bind(&self, place: u32) -> Option<IpAddr>;

    /// The largest number of a place, and one more.
    fn places(&self) -> u32;

    /// Writes a file into an agent's state before it is started. Returns the path that the agent sees.
    fn put(&mut self, name: &str, file: &str, text: &str) -> Result<String, Failure>;

    /// Starts an agent in a new container, with the state that an earlier one of that name left.
    fn start(&mut self, agent: &AgentSpec) -> Result<Placed, Failure>;

    /// Whether containers can wait for [`Backend::release`] before they run their agents.
    fn can_wait(&self) -> bool;

    /// Lets all these go on, at one moment.
    fn release(&mut self, names: &[String]) -> Result<(), Failure>;

    /// Forgets an agent's state.
    fn forget_state(&mut self, name: &str) -> Result<(), Failure>;

    /// Kills it, without a word to its peers.
    fn kill(&mut self, names: &[String]) -> Result<(), Failure>;

    /// Asks it to end (TERM) and waits until it has, or kills it after `patience`.
    fn stop(&mut self, name: &str, patience: Duration) -> Result<(), Failure>;

    /// Removes the container of an agent that has ended. Returns its log.
    fn remove(&mut self, name: &str) -> Result<String, Failure>;

    /// The log of an agent's container.
    fn log(&self, name: &str) -> Result<String, Failure>;

    /// Whether its container runs.
    fn is_running(&self, name: &str) -> Result<bool, Failure>;

    /// A file of its state; empty if it is not there.
    fn state(&self, name: &str, file: &str) -> Result<String, Failure>;

    /// Its processes stand still, or go on.
    fn pause(&mut self, name: &str, still: bool) -> Result<(), Failure>;

    /// It loses its network, or gets it back at the same address.
    fn disconnect(&mut self, name: &str, placed: &Placed, off: bool) -> Result<(), Failure>;

    /// Share of a core that it may use; none is no limit.
    fn limit_cpu(&mut self, name: &str, cpus: Option<f64>) -> Result<(), Failure>;

    /// Bytes per second that it can send; none is no limit.
    fn limit_bandwidth(&mut self, name: &str, bytes_per_second: Option<u64>) -> Result<(), Failure>;

    /// Partitions and loss as they are to be now.
    fn set_links(&mut self, links: &Links) -> Result<(), Failure>;

    /// One-way delay of all packets between agents, shortest and longest; none is none.
    fn set_delay(&mut self, delay: Option<(Duration, Duration)>) -> Result<(), Failure>;

    /// Removes everything.
    fn close(&mut self) -> Result<(), Failure>;
}

/// The end of a log, in one line.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_shown_by_its_end() {
        let log: String = (0..20).map(|number| format!("line {number}\n\n")).collect();
        assert!(last_lines(&log).starts_with("line 14 | line 15 | "), "{}", last_lines(&log));
        assert_eq!(last_lines(""), "");
    }
}
