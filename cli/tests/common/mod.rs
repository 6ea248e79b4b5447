//! Real Serf for the tests: where it is, its agents, and its command line beside ours.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test crate takes what it needs"
)]

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod certificates;
pub mod oracle;
pub mod scripted;

pub use oracle::{find_serf, real_serf, serf};

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Variables that change what the commands do.
const VARIABLES: [&str; 4] = ["SERF_RPC_ADDR", "SERF_RPC_AUTH", "THANE_RPC_ADDR", "THANE_RPC_AUTH"];

/// Our binary.
pub fn thane() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_thane"))
}

/// An address of this machine that no other test has.
pub fn fresh_ip() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(next < 255, "more agents than addresses");
    format!("127.11.{}.{next}", 20 + std::process::id() % 230)
}

/// A running agent of real Serf; killed when dropped.
pub struct Agent {
    pub name: String,
    pub ip: String,
    child: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts one with these flags besides name and addresses, and with a config file's text if not empty.
    pub fn start(serf: &Path, name: &str, flags: &[&str], config: &str) -> Agent {
        let (ip, folder) = (fresh_ip(), TempDir::new().unwrap());
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(serf);
        command
            .args(["agent", "-profile=local", "-node", name])
            .args(["-bind", &format!("{ip}:7946"), "-rpc-addr", &format!("{ip}:7373")])
            .args(flags)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        if !config.is_empty() {
            fs::write(folder.path().join("config.json"), config).unwrap();
            command.arg("-config-file").arg(folder.path().join("config.json"));
        }
        let child = command.spawn().unwrap();
        let agent = Agent { name: name.to_owned(), ip, child, folder };
        let up = eventually(|| TcpStream::connect((agent.ip.as_str(), 7373)).ok());
        assert!(up.is_some(), "{name} did not start: {}", agent.log());
        agent
    }

    pub fn rpc(&self) -> String {
        format!("{}:7373", self.ip)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the agent to end by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        eventually(|| self.child.try_wait().unwrap())?.code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until there is something, but not for ever.
pub fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(got) = attempt() {
            return Some(got);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a program printed, and its exit code.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub out: Vec<u8>,
    pub err: String,
    pub code: Option<i32>,
}

impl Shown {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// With all that Serf does in random order in one order: members, acks, tags. Blanks at the end of lines
    /// are dropped, since the last line has none.
    pub fn sorted(&self) -> Shown {
        let by_commas = |word: &[u8]| {
            let mut parts: Vec<&[u8]> = word.split(|&byte| byte == b',').collect();
            parts.sort_unstable();
            parts.join(&b',')
        };
        let by_words = |line: &[u8]| {
            let words = line.trim_ascii_end().split(|&byte| byte == b' ');
            words.map(by_commas).collect::<Vec<_>>().join(&b' ')
        };
        let mut lines: Vec<Vec<u8>> = self.out.split(|&byte| byte == b'\n').map(by_words).collect();
        lines.sort_unstable();
        Shown { out: lines.join(&b'\n'), ..self.clone() }
    }
}

/// Runs a program with these variables and no others that it would heed.
pub fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Shown {
    let output = command(program, arguments, variables).output().unwrap();
    Shown {
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

/// The command of [`run`], to be started.
pub fn command(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Words of a command line; no word can hold a blank.
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').filter(|word| !word.is_empty()).collect()
}
