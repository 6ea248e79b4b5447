//! What a container has used so far: its interface's counters, its control group's, its first process's memory. Read
//! from files: a hundred containers take milliseconds, `docker stats` takes seconds.

use std::fs;
use std::path::{Path, PathBuf};

/// Counters of one container since it started.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) sent_bytes: u64,
    pub(crate) sent_packets: u64,
    pub(crate) cpu_ns: u64,
    /// Of the agent alone, not of its handlers.
    pub(crate) rss_bytes: u64,
}

/// Where the counters of one container are.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    process: PathBuf,
    cpu: PathBuf,
}

impl Meter {
    /// Of the container whose first process that is; none if it does not run on this machine.
    pub(crate) fn of(pid: u32) -> Option<Meter> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let groups = fs::read_to_string(process.join("cgroup")).ok()?;
        Some(Meter { cpu: cpu_file(&groups)?, process })
    }

    /// None where the container is gone. Sent counts, not received: what a bridge floods arrives everywhere.
    pub(crate) fn read(&self) -> Option<Reading> {
        let read = |path: &Path| fs::read_to_string(path).ok();
        let (sent_bytes, sent_packets) = sent(&read(&self.process.join("net/dev"))?)?;
        Some(Reading {
            sent_bytes,
            sent_packets,
            cpu_ns: cpu_ns(&read(&self.cpu)?)?,
            rss_bytes: rss_bytes(&read(&self.process.join("status"))?)?,
        })
    }
}

/// The file with the control group's CPU time, by `/proc/PID/cgroup`: version 1 has a line for each controller,
/// version 2 one line.
fn cpu_file(groups: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let group = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/'))
        })
    };
    match group("cpuacct") {
        Some(path) => Some(root.join("cpuacct").join(path).join("cpuacct.usage")),
        None => Some(root.join(group("")?).join("cpu.stat")),
    }
}

/// Nanoseconds, by `cpuacct.usage` (a number) or `cpu.stat` (microseconds after a name).
fn cpu_ns(text: &str) -> Option<u64> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<u64>().ok());
    micros.map(|micros| micros * 1000).or_else(|| text.trim().parse().ok())
}

/// Bytes and packets that left by all interfaces but the loopback.
fn sent(table: &str) -> Option<(u64, u64)> {
    let mut sums = None;
    for line in table.lines().filter_map(|line| line.split_once(':')) {
        if line.0.trim() == "lo" {
            continue;
        }
        let mut numbers = line.1.split_whitespace().skip(8).map(|number| number.parse::<u64>().ok());
        let (bytes, packets) = (numbers.next()??, numbers.next()??);
        let (all_bytes, all_packets) = sums.unwrap_or((0, 0));
        sums = Some((all_bytes + bytes, all_packets + packets));
    }
    sums
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_found() {
        let first = "9:name=systemd:/docker/64\n2:cpuacct,cpu:/docker/64\n0::/docker/64\n";
        assert_eq!(cpu_file(first).unwrap(), Path::new("/sys/fs/cgroup/cpuacct/docker/64/cpuacct.usage"));
        let second = "0::/system.slice/docker-64.scope\n";
        assert_eq!(
            cpu_file(second).unwrap(),
            Path::new("/sys/fs/cgroup/system.slice/docker-64.scope/cpu.stat")
        );
        assert_eq!(cpu_ns("123456\n"), Some(123_456));
        assert_eq!(cpu_ns("usage_usec 12\nuser_usec 4\n"), Some(12_000));
    }

    #[test]
    fn what_was_sent_is_counted_without_the_loopback() {
        let table = "Inter-|   Receive                    |  Transmit\n face |bytes    packets errs drop\n\
                     \x20   lo:     9    9 0 0 0 0 0 0  9 9 0 0 0 0 0 0\n\
                     \x20 eth0:  3242   31 0 0 0 0 0 0  1730 19 0 0 0 0 0 0\n";
        assert_eq!(sent(table), Some((1730, 19)));
        assert_eq!(sent("lo: 9 9 0 0 0 0 0 0 9 9\n"), None, "a container that was cut off has no interface");
        assert_eq!(rss_bytes("Name:\tserf\nVmRSS:\t   14000 kB\n"), Some(14_336_000));
    }

    #[test]
    fn this_process_is_read_where_it_has_an_interface() {
        let meter = Meter::of(std::process::id()).unwrap();
        if let Some(reading) = meter.read() {
            assert!(reading.rss_bytes > 100_000);
        }
    }
}
