//! One agent process of either kind, its log and its records, and the command line of either kind.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::real_serf;

/// The longest that anything may take before a test gives up on it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// The gossip port of every agent; addresses differ, ports do not.
const BIND_PORT: u16 = 17946;
/// The RPC port of every agent.
const RPC_PORT: u16 = 17373;
/// Log lines of one agent that a failure shows.
const DUMP_LINES: usize = 150;

/// Appends one line to the file named by its argument: event type, name, Lamport time, stdin in base64.
const RECORD_SCRIPT: &str = r#"{
  printf '%s\t%s\t%s\t' "$SERF_EVENT" "$SERF_USER_EVENT$SERF_QUERY_NAME" "$SERF_USER_LTIME$SERF_QUERY_LTIME"
  base64 -w0
  echo
} >> "$1"
"#;

/// Whose program an agent or a command line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HashiCorp's Serf, the oracle.
    Serf,
    /// What is built here.
    Thane,
}

impl Kind {
    /// Both, the oracle first.
    pub(crate) const BOTH: [Kind; 2] = [Kind::Serf, Kind::Thane];

    /// The other kind.
    pub(crate) fn other(self) -> Kind {
        match self {
            Kind::Serf => Kind::Thane,
            Kind::Thane => Kind::Serf,
        }
    }

    fn binary(self) -> &'static Path {
        if self == Kind::Serf || std::env::var_os("THANE_INTEROP_SELFTEST").is_some() {
            return real_serf("interop").expect("no scenario starts without real Serf");
        }
        Path::new(env!("CARGO_BIN_EXE_thane"))
    }

    /// A command of this kind's program that sees no settings of the user who runs the tests.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.binary());
        command.env_remove("SERF_RPC_ADDR").env_remove("SERF_RPC_AUTH").stdin(Stdio::null());
        command
    }
}

/// One member as `members -format=json` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// IP and port.
    pub(crate) addr: String,
    /// `alive`, `leaving`, `left` or `failed`.
    pub(crate) status: String,
    /// The member's tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Serf protocol: lowest, highest and spoken version.
    pub(crate) protocol: [u64; 3],
}

/// One run of the record script: what an event handler was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    /// `user`, `query` or a member event.
    pub(crate) event: String,
    /// Name of the user event or query, empty for member events.
    pub(crate) name: String,
    /// Lamport time of the user event or query, 0 for member events.
    pub(crate) ltime: u64,
    /// What came on stdin.
    pub(crate) stdin: Vec<u8>,
}

struct Line {
    at: Duration,
    text: String,
}

/// An agent process. Dropping it kills the process.
pub(crate) struct Agent {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    ip: Ipv4Addr,
    dir: TempDir,
    child: Mutex<Option<Child>>,
    log: Arc<Mutex<Vec<Line>>>,
    born: Instant,
}

impl Agent {
    /// An agent that is not running yet.
    pub(crate) fn new(kind: Kind, name: &str, ip: Ipv4Addr) -> Agent {
        let dir = tempfile::Builder::new().prefix("thane-interop-").tempdir().expect("a temporary directory");
        fs::write(dir.path().join("record.sh"), RECORD_SCRIPT).expect("the record script is written");
        Agent {
            kind,
            name: name.to_owned(),
            ip,
            dir,
            child: Mutex::new(None),
            log: Arc::default(),
            born: Instant::now(),
        }
    }

    /// Starts the process and waits until its RPC port answers. In flags, `{dir}` is the agent's own directory.
    pub(crate) fn start(&self, flags: &[String]) {
        self.spawn(flags);
        wait_for(&format!("{} to open its RPC port", self.name), &[self], || {
            if let Some(status) = self.exit_status() {
                panic!("{} ended at start: {status}\n{}", self.name, self.dump());
            }
            TcpStream::connect(self.rpc_addr()).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Starts the process without waiting for anything.
    pub(crate) fn spawn(&self, flags: &[String]) {
        let dir = self.dir.path().to_str().expect("temporary paths are UTF-8");
        let mut command = self.kind.command();
        command.args(["agent", "-node", &self.name, "-log-level", "debug"]);
        command.args(["-bind", &self.bind_addr().to_string(), "-rpc-addr", &self.rpc_addr().to_string()]);
        command.args(flags.iter().map(|flag| flag.replace("{dir}", dir)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.note(format!("--- start: {command:?}"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.collect(child.stdout.take().expect("stdout is piped"));
        self.collect(child.stderr.take().expect("stderr is piped"));
        let before = self.child.lock().expect("no holder panics").replace(child);
        assert!(before.is_none(), "{} was started while it ran", self.name);
    }

    /// Where the agent gossips.
    pub(crate) fn bind_addr(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.ip, BIND_PORT))
    }

    /// Where the agent's RPC listens.
    pub(crate) fn rpc_addr(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.ip, RPC_PORT))
    }

    /// A file in the agent's own directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Kills the process at once, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let child = self.child.lock().expect("no holder panics").take();
        let mut child = child.unwrap_or_else(|| panic!("{} is not running", self.name));
        child.kill().expect("the process is ours");
        child.wait().expect("the process is ours");
        self.note("--- killed".to_owned());
    }

    /// Sends a signal such as `INT` to the process.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.lock().expect("no holder panics").as_ref().map(Child::id);
        send_signal(pid.unwrap_or_else(|| panic!("{} is not running", self.name)), signal);
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait_exit(&self) -> ExitStatus {
        let status = wait_for(&format!("{} to exit", self.name), &[self], || {
            self.exit_status().ok_or_else(|| "still running".to_owned())
        });
        self.child.lock().expect("no holder panics").take();
        self.note(format!("--- exited: {status}"));
        status
    }

    /// Whether the process is running.
    pub(crate) fn is_running(&self) -> bool {
        self.child.lock().expect("no holder panics").is_some() && self.exit_status().is_none()
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("no holder panics");
        child.as_mut()?.try_wait().expect("the process is ours")
    }

    /// Runs Serf's command line, the measuring instrument of all scenarios, against this agent.
    pub(crate) fn serf<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        cli(Kind::Serf, self.rpc_addr(), args)
    }

    /// Like [`Agent::serf`] for a command that has to succeed.
    pub(crate) fn serf_ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let output = self.serf(args);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        assert!(output.status.success(), "{args:?} at {}: {output:?}\n{}", self.name, self.dump());
        stdout
    }

    /// The agent's member list by name.
    pub(crate) fn members(&self) -> Result<BTreeMap<String, Member>, String> {
        let output = self.serf(&["members", "-format=json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("members of {}: {text}", self.name));
        }
        parse_members(&text)
    }

    /// `info` of the agent.
    pub(crate) fn info(&self) -> Value {
        serde_json::from_str(&self.serf_ok(&["info", "-format=json"])).expect("info prints JSON")
    }

    /// What the record script wrote to the file `name` in the agent's directory, complete lines only.
    pub(crate) fn records(&self, name: &str) -> Vec<Record> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(parse_record).collect()
    }

    /// All log and banner lines so far, of every run of this agent.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.lock().expect("no holder panics").iter().map(|line| line.text.clone()).collect()
    }

    /// The last log lines with their times, for the message of a failure; without the connections of the polling.
    pub(crate) fn dump(&self) -> String {
        let log = self.log.lock().expect("no holder panics");
        let lines: Vec<&Line> = log.iter().filter(|line| !line.text.contains("Accepted client")).collect();
        let mut text = format!("===== {} ({:?}), {} lines\n", self.name, self.kind, lines.len());
        for line in &lines[lines.len().saturating_sub(DUMP_LINES)..] {
            text += &format!("{:>9.3} {}\n", line.at.as_secs_f64(), line.text);
        }
        text
    }

    fn note(&self, text: String) {
        self.log.lock().expect("no holder panics").push(Line { at: self.born.elapsed(), text });
    }

    fn collect(&self, pipe: impl Read + Send + 'static) {
        let (log, born) = (Arc::clone(&self.log), self.born);
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).into_owned();
                log.lock().expect("no holder panics").push(Line { at: born.elapsed(), text });
            }
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().ok().and_then(|mut child| child.take()) {
            // The process may have ended by itself: then there is nothing to kill.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Runs one command of either kind against the RPC at `rpc`; `args` starts with the subcommand.
pub(crate) fn cli<S: AsRef<OsStr>>(kind: Kind, rpc: SocketAddr, args: &[S]) -> Output {
    finish(cli_command(kind, rpc, args))
}

/// The command that [`cli`] runs, for those who want to add to it or to hold it while it runs.
pub(crate) fn cli_command<S: AsRef<OsStr>>(kind: Kind, rpc: SocketAddr, args: &[S]) -> Command {
    let (subcommand, rest) = args.split_first().expect("a subcommand");
    let mut command = kind.command();
    // Directly after the subcommand: Go's flag parser stops at the first word that is not a flag.
    command.arg(subcommand).arg(OsString::from(format!("-rpc-addr={rpc}"))).args(rest);
    command
}

/// Runs a command to its end, at most [`DEADLINE`] long.
pub(crate) fn finish(mut command: Command) -> Output {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the process is ours") {
            break status;
        }
        if start.elapsed() > DEADLINE {
            child.kill().expect("the process is ours");
            child.wait().expect("the process is ours");
            panic!("{command:?} did not end in {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().expect("the reader does not panic"));
    Output { status, stdout, stderr }
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe is readable");
        bytes
    })
}

/// Polls `condition` until it gives a value; at the deadline fails with its last complaint and the agents' logs.
pub(crate) fn wait_for<T>(
    what: &str,
    agents: &[&Agent],
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        let complaint = match condition() {
            Ok(value) => return value,
            Err(complaint) => complaint,
        };
        if start.elapsed() > DEADLINE {
            let logs: String = agents.iter().map(|agent| agent.dump()).collect();
            panic!("waited {DEADLINE:?} for {what}; last seen: {complaint}\n{logs}");
        }
        thread::sleep(POLL);
    }
}

/// Sends a signal by name to one process that this test started.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().expect("kill is there");
    assert!(status.success(), "kill -s {signal} {pid}: {status}");
}

fn parse_members(text: &str) -> Result<BTreeMap<String, Member>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))?;
    let mut members = BTreeMap::new();
    for entry in value["members"].as_array().into_iter().flatten() {
        let text =
            |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("no {key} in {entry}")).to_owned();
        let tags = entry["tags"].as_object().unwrap_or_else(|| panic!("no tags in {entry}"));
        let version =
            |key: &str| entry["protocol"][key].as_u64().unwrap_or_else(|| panic!("no {key} in {entry}"));
        let member = Member {
            addr: text("addr"),
            status: text("status"),
            tags: tags
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned()))
                .collect(),
            protocol: ["min", "max", "version"].map(version),
        };
        if members.insert(text("name"), member).is_some() {
            return Err(format!("{} is listed twice", text("name")));
        }
    }
    Ok(members)
}

fn parse_record(line: &str) -> Record {
    let fields: Vec<&str> = line.trim_end_matches('\n').split('\t').collect();
    let [event, name, ltime, stdin] = fields[..] else { panic!("not a record: {line:?}") };
    Record {
        event: event.to_owned(),
        name: name.to_owned(),
        ltime: if ltime.is_empty() { 0 } else { ltime.parse().expect("a Lamport time is decimal") },
        stdin: base64::engine::general_purpose::STANDARD.decode(stdin).expect("base64 wrote it"),
    }
}
