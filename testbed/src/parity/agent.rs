//! Agents of either kind on addresses of their own, and what they print.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How long anything that must happen may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// The banner's last line: what follows are lines of the log.
const BANNER_END: &str = "Log data will now stream in as it occurs:";
/// Variables that change what the programs do.
const VARIABLES: [&str; 4] = ["SERF_RPC_ADDR", "SERF_RPC_AUTH", "THANE_RPC_ADDR", "THANE_RPC_AUTH"];

/// An address of this machine that nothing else in this run has. All are of one length, because columns depend on it.
pub(super) fn fresh_ip() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const SPAN: u32 = 155;
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let third = (std::process::id() * 7 + next / SPAN) % SPAN;
    format!("127.103.{}.{}", 100 + third, 100 + next % SPAN)
}

/// A program with arguments, and of the variables that it heeds only these.
pub(super) fn command(program: &Path, words: &[String], variables: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.args(words).envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running program whose output is collected; killed when dropped.
pub(super) struct Running {
    child: Child,
    out: Stream,
    err: Stream,
}

/// What came out of a program so far.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Stream {
    fn collect(mut from: impl Read + Send + 'static) -> Stream {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..read]);
            }
        });
        Stream { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The text, which is whole once the program has ended.
    fn whole(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        self.text()
    }
}

/// What a program that has ended printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) out: String,
    pub(super) err: String,
    /// The exit code, or what ended it.
    pub(super) exit: String,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Running, Failure> {
        let mut child = command.spawn().map_err(|error| {
            Failure::new(format!("{:?} can't be started: {error}", command.get_program()))
        })?;
        let lost = || Failure::new("a pipe that was asked for is missing");
        let out = Stream::collect(child.stdout.take().ok_or_else(lost)?);
        let err = Stream::collect(child.stderr.take().ok_or_else(lost)?);
        Ok(Running { child, out, err })
    }

    /// What it has printed to stdout.
    pub(super) fn printed(&self) -> String {
        self.out.text()
    }

    /// Waits until an agent's banner is complete or the agent has ended; whether it runs.
    pub(super) fn wait_for_banner(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.printed().contains(BANNER_END) {
                return true;
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// Sends a signal of that name, without `SIG`.
    pub(super) fn signal(&self, name: &str) {
        // It may have ended by itself.
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .stderr(Stdio::null())
            .status();
    }

    /// Waits for its end, and kills it if that takes longer than `patience`.
    pub(super) fn end(&mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        let exit = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    break status.code().map_or_else(|| "killed".to_owned(), |code| code.to_string());
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
                _ => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break "none: it went on".to_owned();
                }
            }
        };
        Ended { out: self.out.whole(), err: self.err.whole(), exit }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until there is something, but not for ever.
pub(super) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(got) = attempt() {
            return Some(got);
        }
        thread::sleep(5 * PAUSE);
    }
    None
}

/// Waits until something listens there.
pub(super) fn wait_for_port(address: &str) -> Option<()> {
    eventually(|| TcpStream::connect(address).ok().map(drop))
}
