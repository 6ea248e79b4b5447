//! An agent, ours or Serf's: how it is started, asked and measured from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thane_engine::ipc::{Client, JoinRequest, JoinResponse, MembersRequest, MembersResponse, Request, Stats};

use crate::process;
use crate::target::bare;

/// Where agents gossip that are started here.
pub(crate) const GOSSIP_PORT: u16 = 7946;
/// How long an agent may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How an agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// What the report calls it.
    pub(crate) title: String,
    pub(crate) program: PathBuf,
    pub(crate) node: String,
    pub(crate) ip: IpAddr,
    /// Besides name, addresses and log level.
    pub(crate) flags: Vec<String>,
}

impl Launch {
    /// It is no agent but the loop that only answers.
    pub(crate) fn is_bare(&self) -> bool {
        self.title == bare::COMMAND
    }
}

/// An agent; one that was started here ends with this.
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
    /// Starts an agent with the settings for a local network, or the bare loop, and waits until it answers.
    ///
    /// # Errors
    /// It can't be started or does not answer.
    pub(crate) fn start(launch: &Launch) -> Result<Agent, String> {
        let is_bare = launch.is_bare();
        let Launch { title, program, node, ip, flags } = launch.clone();
        let (gossip, rpc) = (SocketAddr::new(ip, GOSSIP_PORT), SocketAddr::new(ip, 7373).to_string());
        let mut command = bound_to_this_process(&program)?;
        if is_bare {
            command.args([bare::COMMAND, &gossip.to_string()]);
        } else {
            command.args(["agent", "-log-level=err", "-node", &node]);
            command.args(["-bind", &gossip.to_string(), "-rpc-addr", &rpc]).args(flags);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("can't start {}: {error}", program.display()))?;
        let pid = Some(child.id());
        let mut agent = Agent { title, gossip, node, rpc, pid, program: Some(program), child: Some(child) };
        let deadline = Instant::now() + START_WITHIN;
        while let Err(error) = agent.is_there(is_bare) {
            let ended = agent.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("{} ended at once ({status}): is {gossip} taken?", agent.title));
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not answer: {error}", agent.title));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    fn is_there(&self, is_bare: bool) -> Result<(), String> {
        match is_bare {
            true => bare::is_there(self.gossip).map_err(|error| error.to_string()),
            false => self.client().map(drop),
        }
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

    /// How many members it lists as alive.
    ///
    /// # Errors
    /// It refuses or is gone.
    pub(crate) fn alive(&self) -> Result<usize, String> {
        let response = self
            .client()?
            .fetch::<MembersResponse>(&Request::Members)
            .map_err(|error| format!("{} does not tell its members: {error}", self.title))?;
        Ok(response.members.iter().filter(|member| member.status == "alive").count())
    }

    /// What it counted as refused, by reason; None for an agent that does not count.
    ///
    /// # Errors
    /// It refuses or is gone.
    pub(crate) fn drops(&self) -> Result<Option<BTreeMap<String, u64>>, String> {
        let mut client = self.client()?;
        let mut stats = client
            .fetch::<Stats>(&Request::Stats)
            .map_err(|error| format!("{} does not tell its numbers: {error}", self.title))?;
        let number = |(reason, count): (String, String)| Some((reason, count.parse().ok()?));
        // Thane's own notices that its application had no room for are no input.
        if let Some(drops) = stats.get_mut("drops") {
            drops.remove("outlet");
        }
        Ok(stats.remove("drops").map(|drops| drops.into_iter().filter_map(number).collect()))
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

    /// A connection to its RPC port.
    ///
    /// # Errors
    /// It refuses or is gone.
    pub(crate) fn client(&self) -> Result<Client, String> {
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

/// A command that the kernel ends with this process, however that ends: where a panic aborts nothing is dropped.
/// Without `setpriv`, which every Linux has, it is an ordinary command.
fn bound_to_this_process(program: &Path) -> Result<Command, String> {
    let missing = || {
        format!("can't start {}: there is no such program; install it, or give its path", program.display())
    };
    // setpriv would tell it to a terminal that nobody looks at.
    let program = find(program).ok_or_else(missing)?;
    let Some(setpriv) = find(Path::new("setpriv")) else { return Ok(Command::new(program)) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// A program as a shell finds it: a path, or a name in one of PATH's folders.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The program that a word of the command line means. `thane` is the one that was built with this program, if
/// it was; the bare loop is in this program; other words are found as a shell finds them.
pub(crate) fn program(word: &str) -> PathBuf {
    let me = std::env::current_exe().ok();
    if let (bare::COMMAND, Some(me)) = (word, &me) {
        return me.clone();
    }
    match me.map(|me| me.with_file_name(word)) {
        Some(sibling) if word == "thane" && sibling.is_file() => sibling,
        _ => PathBuf::from(word),
    }
}

/// What a report calls that program: the file's name.
pub(crate) fn title(word: &str) -> String {
    Path::new(word).file_name().map_or(word.to_owned(), |name| name.to_string_lossy().into_owned())
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
