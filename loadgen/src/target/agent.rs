//! The agent under test: how it is started, asked and measured from outside.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thane_engine::ipc::{Client, JoinRequest, JoinResponse, MembersRequest, Request};

use crate::process;

/// How long an agent may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(10);
/// The node name of an agent that is started here.
pub(crate) const NODE: &str = "subject";

/// An agent under test; one that was started here ends with this.
#[derive(Debug)]
pub(crate) struct Agent {
    /// What the report calls it.
    pub(crate) title: String,
    /// Its gossip address.
    pub(crate) gossip: SocketAddr,
    /// Its node name.
    pub(crate) node: String,
    /// Its RPC address.
    pub(crate) rpc: String,
    /// Its process, if it is on this machine and known.
    pub(crate) pid: Option<u32>,
    /// The program, whose `members` command is timed too.
    program: Option<PathBuf>,
    child: Option<Child>,
}

impl Agent {
    /// Starts `program agent` on that address with the settings for a local network and waits until it answers.
    ///
    /// # Errors
    /// It can't be started or does not answer.
    pub(crate) fn start(title: &str, program: PathBuf, ip: IpAddr) -> Result<Agent, String> {
        let (gossip, rpc) = (SocketAddr::new(ip, 7946), SocketAddr::new(ip, 7373).to_string());
        let mut command = Command::new(&program);
        command.args(["agent", "-log-level=err", "-node", NODE]);
        command.args(["-bind", &gossip.to_string(), "-rpc-addr", &rpc]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("can't start {}: {error}", program.display()))?;
        let pid = Some(child.id());
        let (title, node) = (title.to_owned(), NODE.to_owned());
        let mut agent = Agent { title, gossip, node, rpc, pid, program: Some(program), child: Some(child) };
        let deadline = Instant::now() + START_WITHIN;
        while let Err(error) = Client::connect(&agent.rpc, "") {
            let ended = agent.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("{} ended at once ({status}): is {gossip} taken?", agent.title));
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not answer on {}: {error}", agent.title, agent.rpc));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    /// An agent that runs already.
    pub(crate) fn running(gossip: SocketAddr, node: String, rpc: String, pid: Option<u32>) -> Agent {
        Agent { title: gossip.to_string(), gossip, node, rpc, pid, program: None, child: None }
    }

    /// Makes it join and waits until it has merged the answer.
    ///
    /// # Errors
    /// It refuses or is gone.
    pub(crate) fn join(&self, addr: SocketAddr) -> Result<Duration, String> {
        let mut client = self.client()?;
        let request = JoinRequest { existing: vec![addr.to_string()], replay: false };
        let start = Instant::now();
        client
            .fetch::<JoinResponse>(&Request::Join(request))
            .map_err(|error| format!("{} does not join {addr}: {error}", self.title))?;
        Ok(start.elapsed())
    }

    /// Asks for the members by RPC: how long it took, and how many there are.
    ///
    /// # Errors
    /// It refuses or is gone.
    pub(crate) fn members(&self) -> Result<(Duration, usize), String> {
        let mut client = self.client()?;
        let start = Instant::now();
        let mut count = 0;
        client
            .members(MembersRequest::default(), |_| count += 1)
            .map_err(|error| format!("{} does not tell its members: {error}", self.title))?;
        Ok((start.elapsed(), count))
    }

    /// How long its own `members` command takes; None if its program isn't known.
    pub(crate) fn members_command(&self) -> Option<Duration> {
        let mut command = Command::new(self.program.as_ref()?);
        command.args(["members", "-rpc-addr", &self.rpc]).stdin(Stdio::null()).stdout(Stdio::null());
        let start = Instant::now();
        let status = command.status().ok()?;
        status.success().then(|| start.elapsed())
    }

    /// Processor time used so far by all threads that live; zero if the process isn't known.
    pub(crate) fn cpu(&self) -> Duration {
        self.pid.map_or(Duration::ZERO, process::cpu)
    }

    /// Resident memory in kB; 0 if the process isn't known.
    pub(crate) fn rss_kb(&self) -> u64 {
        self.pid.and_then(|pid| process::status_kb(pid, "VmRSS:")).unwrap_or(0)
    }

    /// The most memory that was ever resident, in kB.
    pub(crate) fn peak_rss_kb(&self) -> u64 {
        self.pid.and_then(|pid| process::status_kb(pid, "VmHWM:")).unwrap_or(0)
    }

    /// Datagrams that the kernel dropped because the agent did not take them in time.
    pub(crate) fn kernel_drops(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let wanted = proc_addr(self.gossip);
        let drops = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (*fields.get(1)? == wanted).then(|| fields.last()?.parse::<u64>().ok())?
        };
        text.lines().filter_map(drops).sum()
    }

    fn client(&self) -> Result<Client, String> {
        Client::connect(&self.rpc, "").map_err(|error| format!("{}: {error}", self.title))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An IPv4 address as /proc/net/udp writes it: the number in the machine's byte order, then the port.
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
