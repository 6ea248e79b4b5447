//! Agents as child processes: their lines, their end, and a stop in every case.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::common::real_serf;

/// Nothing here takes nearly as long; a slow machine may.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) const THANE: &str = env!("CARGO_BIN_EXE_thane");
/// The oracle, if it is here; a test that needs it says so and passes without.
pub(crate) fn serf() -> Option<&'static str> {
    let thread = std::thread::current();
    let path = real_serf(thread.name().unwrap_or("an agent test"))?;
    Some(path.to_str().expect("the path of the oracle is UTF-8"))
}

/// Whether this process may make namespaces of its own. Without them a test can't run: under CI that is a failure.
pub(crate) fn can_make_namespaces(test: &str) -> bool {
    let made = Command::new("unshare").args(["-n", "-m", "-p", "-f", "true"]).stderr(Stdio::null()).status();
    let can = made.is_ok_and(|status| status.success());
    assert!(can || std::env::var("CI").is_err(), "{test}: no namespaces, which need root");
    if !can {
        eprintln!("NOT RUN: {test}: no namespaces, which need root");
    }
    can
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    incoming: Receiver<String>,
    /// Lines of stdout so far.
    pub(crate) lines: Vec<String>,
    addr: String,
}

impl Agent {
    /// Starts `program agent` with gossip and RPC on this address, and more flags.
    pub(crate) fn spawn(program: &str, addr: &str, flags: &[&str]) -> Agent {
        let (bind, rpc) = (format!("-bind={addr}"), format!("-rpc-addr={addr}:7373"));
        Agent::of_command(program, &[&["agent", &bind, &rpc], flags].concat(), addr)
    }

    /// Starts a command that ends up as an agent with RPC on this address.
    pub(crate) fn of_command(program: &str, arguments: &[&str], addr: &str) -> Agent {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let incoming = lines_of(child.stdout.take().unwrap());
        Agent { child, incoming, lines: Vec::new(), addr: addr.to_owned() }
    }

    /// Starts one and waits until it runs.
    pub(crate) fn start(program: &str, addr: &str, flags: &[&str]) -> Agent {
        let mut agent = Agent::spawn(program, addr, flags);
        agent.wait_for("Log data will now stream in");
        agent
    }

    /// Reads lines until one contains the text, which may have come already; returns it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_count(text, 1)
    }

    /// Reads lines until this many contain the text; returns the last of them.
    pub(crate) fn wait_for_count(&mut self, text: &str, count: usize) -> String {
        self.wait_for_any(&[text], count)
    }

    /// Reads lines until this many contain one of the texts; returns the last of them.
    pub(crate) fn wait_for_any(&mut self, texts: &[&str], count: usize) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let fits = |line: &&String| texts.iter().any(|text| line.contains(text));
            if let Some(line) = self.lines.iter().filter(fits).nth(count - 1) {
                return line.clone();
            }
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{texts:?} did not come:\n{}", self.lines.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{texts:?} did not come before the end:\n{}", self.lines.join("\n"))
                }
            }
        }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), pid]).status().unwrap().success());
    }

    /// Waits for the end; returns the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while let Ok(line) = self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.lines.push(line);
        }
        let status = poll("the end", || self.child.try_wait().unwrap());
        status.code()
    }

    /// Whether a line so far contains the text.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// Everything on stderr; call after the end.
    pub(crate) fn stderr(&mut self) -> String {
        std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap()
    }

    /// Runs Serf's command line against it.
    pub(crate) fn rpc(&self, serf: &str, command: &str, arguments: &[&str]) -> String {
        let rpc_addr = format!("-rpc-addr={}:7373", self.addr);
        let output = Command::new(serf).args([command, &rpc_addr]).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "serf {command}: {text}");
        text
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (lines, incoming) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    incoming
}

/// Runs `program agent` with these flags to its end, which should come by itself.
pub(crate) fn run_to_end(program: &str, flags: &[&str]) -> Output {
    Command::new(program).arg("agent").args(flags).stdin(Stdio::null()).output().unwrap()
}

/// Its stdout, with the exit code for the assertion.
pub(crate) fn outcome(program: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = run_to_end(program, flags);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Asks again and again until there is an answer.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a file holds what is wanted; returns its text.
pub(crate) fn wait_for_file(path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    poll(&path.display().to_string(), || std::fs::read_to_string(path).ok().filter(|text| wanted(text)))
}
