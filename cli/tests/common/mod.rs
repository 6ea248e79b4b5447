//! Real Serf for the tests: where it is, its agents, and its command line beside ours.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test crate takes what it needs")]

use std::env;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod scripted;

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Variables that change what the commands do.
const VARIABLES: [&str; 4] = ["SERF_RPC_ADDR", "SERF_RPC_AUTH", "THANE_RPC_ADDR", "THANE_RPC_AUTH"];

/// Our binary.
pub fn thane() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_thane"))
}

/// Real Serf: the one in PATH, else Debian's, unpacked under `target/`. Where there is none a test can't run:
/// under CI that is a failure, elsewhere it is said, and the test ends.
pub fn serf() -> Option<&'static Path> {
    real_serf(std::thread::current().name().unwrap_or("a test"))
}

/// [`serf`] for the test of that name.
pub fn real_serf(test: &str) -> Option<&'static Path> {
    static SERF: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match SERF.get_or_init(|| find_serf(&env::var_os("PATH").unwrap_or_default())) {
        Ok(serf) => Some(serf),
        Err(why) if env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{test}: no real Serf: {why}"),
        Err(why) => {
            // Not with eprintln, whose output is only shown where a test fails.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: no real Serf to compare with: {why}");
            None
        }
    }
}

/// Serf in one of these folders, else downloaded.
pub fn find_serf(path: &std::ffi::OsStr) -> Result<PathBuf, String> {
    let in_path = env::split_paths(path).map(|folder| folder.join("serf")).find(|serf| is_serf(serf));
    in_path.map_or_else(download_serf, Ok)
}

/// Whether that is Serf, and not Thane under its name.
fn is_serf(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    text.contains("Agent Protocol:") && !text.starts_with(env!("CARGO_PKG_VERSION"))
}

fn download_serf() -> Result<PathBuf, String> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?.join("serf-oracle");
    let serf = target.join("usr/bin/serf");
    if is_serf(&serf) {
        return Ok(serf);
    }
    let fail = |what: &str, why: String| format!("serf is not in PATH, and {what}: {}", why.trim());
    let step = |what: &str, command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(fail(what, String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => Err(fail(what, error.to_string())),
    };
    let parts = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    step("apt-get download serf", Command::new("apt-get").args(["download", "serf"]).current_dir(&parts))?;
    let package = fs::read_dir(&parts)
        .and_then(|mut entries| entries.next().ok_or(std::io::ErrorKind::NotFound)?)
        .map_err(|error| fail("the package", error.to_string()))?
        .path();
    let unpacked = parts.path().join("unpacked");
    step("dpkg -x", Command::new("dpkg").arg("-x").arg(package).arg(&unpacked))?;
    // Another test may have been faster; what it has is as good.
    let _ = fs::rename(&unpacked, &target);
    if is_serf(&serf) { Ok(serf) } else { Err(fail("the package has none", serf.display().to_string())) }
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
