//! An agent, Thane's or Serf's: how it is started, asked and measured from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thane_engine::ipc::{Client, JoinRequest, JoinResponse, MembersRequest, MembersResponse, Request, Stats};

use crate::process::{self, Process};

/// The gossip port of agents that are started here.
pub(crate) const GOSSIP_PORT: u16 = 7946;
/// The RPC port of agents that are started here.
pub(crate) const RPC_PORT: u16 = 7373;
/// Time from an agent's start to its first answer, at most.
const START_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two attempts to reach an agent that starts.
const START_PAUSE: Duration = Duration::from_millis(20);

/// How an agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Its name in reports.
    pub(crate) title: String,
    pub(crate) program: PathBuf,
    /// Its node name.
    pub(crate) node: String,
    pub(crate) ip: IpAddr,
    /// Flags besides name, addresses and log level.
    pub(crate) flags: Vec<String>,
}

impl Launch {
    /// Its gossip address.
    pub(crate) fn gossip(&self) -> SocketAddr {
        SocketAddr::new(self.ip, GOSSIP_PORT)
    }

    /// Its RPC address.
    pub(crate) fn rpc(&self) -> SocketAddr {
        SocketAddr::new(self.ip, RPC_PORT)
    }
}

/// An agent. One that was started here ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Its name in reports.
    pub(crate) title: String,
    /// Its gossip address.
    pub(crate) gossip: SocketAddr,
    /// Its node name.
    pub(crate) node: String,
    /// Its RPC address.
    pub(crate) rpc: String,
    /// Its process id, if it runs on this machine and the id is known.
    pub(crate) pid: Option<u32>,
    /// The program, whose `members` command is timed too.
    program: Option<PathBuf>,
    process: Option<Process>,
}

impl Agent {
    /// Starts an agent with the settings for a local network and waits until it answers.
    ///
    /// # Errors
    /// It can't be started or does not answer; it has ended then.
    pub(crate) fn start(launch: &Launch) -> Result<Agent, String> {
        let (gossip, rpc) = (launch.gossip().to_string(), launch.rpc().to_string());
        let own = ["agent", "-log-level=err", "-node", &launch.node, "-bind", &gossip, "-rpc-addr", &rpc];
        let arguments = own.iter().map(|&word| word.to_owned()).chain(launch.flags.iter().cloned()).collect();
        Agent::start_as(launch, arguments, |agent| agent.client().map(drop))
    }

    /// Starts a program with these arguments and waits until `answers` holds.
    ///
    /// # Errors
    /// It can't be started or does not answer; it has ended then.
    pub(crate) fn start_as(
        launch: &Launch,
        arguments: Vec<String>,
        answers: impl Fn(&Agent) -> Result<(), String>,
    ) -> Result<Agent, String> {
        let process = Process::start(&launch.program, &arguments)?;
        let mut agent = Agent {
            title: launch.title.clone(),
            gossip: launch.gossip(),
            node: launch.node.clone(),
            rpc: launch.rpc().to_string(),
            pid: Some(process.pid()),
            program: Some(launch.program.clone()),
            process: Some(process),
        };
        let deadline = Instant::now() + START_WITHIN;
        while let Err(error) = answers(&agent) {
            if let Some(status) = agent.process.as_mut().and_then(Process::ended) {
                return Err(format!("{} ended at once ({status}): is {} taken?", agent.title, agent.gossip));
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not answer: {error}", agent.title));
            }
            std::thread::sleep(START_PAUSE);
        }
        Ok(agent)
    }

    /// An agent that runs already.
    pub(crate) fn running(gossip: SocketAddr, node: String, rpc: String, pid: Option<u32>) -> Agent {
        Agent { title: gossip.to_string(), gossip, node, rpc, pid, program: None, process: None }
    }

    /// Makes it join a member and waits until it has merged the answer. Returns how long that took.
    ///
    /// # Errors
    /// It refuses, or does not run any more.
    pub(crate) fn join(&self, addr: SocketAddr) -> Result<Duration, String> {
        let mut client = self.client()?;
        let request = JoinRequest { existing: vec![addr.to_string()], replay: false };
        let start = Instant::now();
        client
            .fetch::<JoinResponse>(&Request::Join(request))
            .map_err(|error| format!("{} does not join {addr}: {error}", self.title))?;
        Ok(start.elapsed())
    }

    /// Lists the members by RPC: how long that took, and how many there are.
    ///
    /// # Errors
    /// It refuses, or does not run any more.
    pub(crate) fn members(&self) -> Result<(Duration, usize), String> {
        let mut client = self.client()?;
        let start = Instant::now();
        let mut count = 0;
        client
            .members(MembersRequest::default(), |_| count += 1)
            .map_err(|error| format!("{} does not list its members: {error}", self.title))?;
        Ok((start.elapsed(), count))
    }

    /// How many members it lists as alive.
    ///
    /// # Errors
    /// It refuses, or does not run any more.
    pub(crate) fn alive(&self) -> Result<usize, String> {
        let response = self
            .client()?
            .fetch::<MembersResponse>(&Request::Members)
            .map_err(|error| format!("{} does not list its members: {error}", self.title))?;
        Ok(response.members.iter().filter(|member| member.status == "alive").count())
    }

    /// Its counts of refused inputs by reason; none for an agent that does not count them.
    ///
    /// # Errors
    /// It refuses, or does not run any more.
    pub(crate) fn drops(&self) -> Result<Option<BTreeMap<String, u64>>, String> {
        let mut client = self.client()?;
        let mut stats = client
            .fetch::<Stats>(&Request::Stats)
            .map_err(|error| format!("{} does not give its statistics: {error}", self.title))?;
        let number = |(reason, count): (String, String)| Some((reason, count.parse().ok()?));
        // `outlet` counts notices to the application, not inputs.
        if let Some(drops) = stats.get_mut("drops") {
            drops.remove("outlet");
        }
        Ok(stats.remove("drops").map(|drops| drops.into_iter().filter_map(number).collect()))
    }

    /// How long its own `members` command takes; none if its program isn't known.
    pub(crate) fn members_command(&self) -> Option<Duration> {
        let mut command = Command::new(self.program.as_ref()?);
        command.args(["members", "-rpc-addr", &self.rpc]).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let status = command.status().ok()?;
        status.success().then(|| start.elapsed())
    }

    /// Processor time of its live threads so far; zero if the process isn't known.
    pub(crate) fn cpu(&self) -> Duration {
        self.pid.map_or(Duration::ZERO, process::cpu)
    }

    /// Resident memory in kB; 0 if the process isn't known.
    pub(crate) fn rss_kb(&self) -> u64 {
        self.pid.and_then(|pid| process::status_kb(pid, "VmRSS:")).unwrap_or(0)
    }

    /// Peak of its resident memory in kB; 0 if the process isn't known.
    pub(crate) fn peak_rss_kb(&self) -> u64 {
        self.pid.and_then(|pid| process::status_kb(pid, "VmHWM:")).unwrap_or(0)
    }

    /// Datagrams that the kernel dropped because the socket's buffer was full.
    pub(crate) fn kernel_drops(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let wanted = proc_addr(self.gossip);
        let drops = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (*fields.get(1)? == wanted).then(|| fields.last()?.parse::<u64>().ok())?
        };
        text.lines().filter_map(drops).sum()
    }

    /// Connects to its RPC port.
    ///
    /// # Errors
    /// It refuses, or does not run any more.
    pub(crate) fn client(&self) -> Result<Client, String> {
        Client::connect(&self.rpc, "").map_err(|error| format!("{}: {error}", self.title))
    }
}

/// The program of that name: `thane` from the folder of this program, if it was built there; every other name as a
/// shell finds it.
pub(crate) fn program(word: &str) -> PathBuf {
    match std::env::current_exe().ok().map(|me| me.with_file_name(word)) {
        Some(sibling) if word == "thane" && sibling.is_file() => sibling,
        _ => PathBuf::from(word),
    }
}

/// The name of a program in reports: its file name.
pub(crate) fn title(word: &str) -> String {
    Path::new(word).file_name().map_or(word.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// An IPv4 address as /proc/net/udp writes it: 32 bits in the machine's byte order, then the port.
fn proc_addr(addr: SocketAddr) -> String {
    match addr.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port()),
        IpAddr::V6(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_socket_is_found_in_the_kernels_table() {
        let socket = std::net::UdpSocket::bind("127.34.1.4:0").unwrap();
        let text = std::fs::read_to_string("/proc/net/udp").unwrap();
        let wanted = proc_addr(socket.local_addr().unwrap());
        assert_eq!(text.lines().filter(|line| line.contains(&wanted)).count(), 1, "{wanted}");
    }
}
