//! The program on a real Docker engine: a small cluster of Serf, and what has to be gone after every kind of end.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One cluster at a time; makes Serf's image once. None, and said so, where there is no engine: under CI that is a
/// failure.
fn engine(test: &str) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let ready = READY.get_or_init(|| {
        let output = Command::new("docker").arg("version").output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let images = testbed(&["images", "--only", "serf"]).output().unwrap();
        if images.status.success() { Ok(()) } else { Err(text(&images)) }
    });
    match ready {
        Ok(()) => Some(turn),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{test}: no Docker: {why}"),
        Err(why) => {
            // Not with eprintln, whose output is only shown where a test fails.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: no Docker: {}", why.trim());
            None
        }
    }
}

fn testbed(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thane-testbed"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What it said on its error output, without the lines about what earlier runs left.
fn own_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_own = |line: &&str| !line.starts_with("run ") && !line.contains("; something of run ");
    text.lines().filter(is_own).collect::<Vec<_>>().join("\n")
}

/// What the engine has of the run of that process.
fn left_by(pid: u32) -> String {
    let list = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let owner = format!("thane-testbed.owner={pid}:");
        lines.lines().filter(|line| line.contains(&owner)).map(|line| format!("{line}\n")).collect::<String>()
    };
    list(&["ps", "-a", "--format", "{{.Names}} {{.Labels}}"])
        + &list(&["network", "ls", "--format", "{{.Name}} {{.Labels}}"])
}

/// Waits until `done`, but not for ever.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_cluster_of_serf_plays_a_scenario_and_leaves_nothing() {
    let Some(_turn) = engine("a_cluster_of_serf_plays_a_scenario") else { return };
    let out = tempfile::tempdir().unwrap();
    let scenario = out.path().join("short.toml");
    let steps = "name = \"short\"\nabout = \"an event\"\nlasts = \"10s\"\n[settings]\nhandlers = true\n\
                 [[step]]\nat = \"0s\"\ndo = \"stream\"\nevery = \"500ms\"\n[[step]]\nat = \"1s\"\ndo = \"event\"\n\
                 [pass]\nevents_lost = 0\nhandled_twice = 0\nhandled_lost = 0\nwhole = \"10s\"\n";
    std::fs::write(&scenario, steps).unwrap();
    let folder = out.path().to_str().unwrap();
    let arguments = ["run", scenario.to_str().unwrap(), "--nodes=3", "--against=serf", "--out", folder];
    let child = testbed(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("passed short"), "{}", text(&output));
    assert_eq!(left_by(pid), "");
    let report = std::fs::read_to_string(out.path().join("short.json")).unwrap();
    assert!(report.contains("handled_lost"), "{report}");
}

#[test]
fn a_run_that_is_stopped_or_killed_leaves_nothing() {
    let Some(_turn) = engine("a_run_that_is_stopped_or_killed") else { return };
    for signal in ["-INT", "-TERM", "-KILL"] {
        let mut child = testbed(&["run", "idle", "--nodes=2", "--against=serf"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        eventually("a container", || left_by(pid).contains("ttb-") && left_by(pid).lines().count() > 1);
        Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success(), "{signal}");
        if signal != "-KILL" {
            assert_eq!(left_by(pid), "", "{signal}: it cleans up before it ends");
        }
        eventually("the guard's cleaning", || left_by(pid).is_empty());
    }
}

#[test]
fn what_can_not_work_is_said_in_one_line() {
    let Some(_turn) = engine("what_can_not_work_is_said") else { return };
    let dead = ["run", "idle", "--nodes=2", "--against=serf", "--subnet=10.201.252.0/29"];
    let bridge = ["network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge"];
    let taken = Command::new("docker").args(bridge).output().unwrap();
    let taken = format!("--subnet={}", String::from_utf8_lossy(&taken.stdout).trim());
    let cases: [(&[&str], &str); 6] = [
        (&["run", "nothing"], "no scenario nothing"),
        (&["run", "idle", "--nodes=150"], "sysctl -w net.ipv4.neigh.default.gc_thresh3="),
        (&["run", "idle", "--subnet=127.0.0.0/16", "--nodes=2", "--against=serf"], "is not private"),
        (&["run", "idle", &taken, "--nodes=2", "--against=serf"], "give another one with --subnet"),
        (&["run", "idle", "--serf-share=2", "--nodes=2", "--against=serf"], "it must be 0 to 1"),
        (&dead, "give a larger one with --subnet"),
    ];
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").unwrap_or_default();
    for (arguments, expected) in cases {
        if expected.contains("gc_thresh3") && limit.trim().parse::<u32>().is_ok_and(|limit| limit > 20_000) {
            continue;
        }
        let output = testbed(arguments).output().unwrap();
        let said = own_lines(&output);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    }
    let output = testbed(&["run", "idle"]).env("DOCKER_HOST", "unix:///no/such/socket").output().unwrap();
    assert!(text(&output).contains("no Docker engine answers"), "{}", text(&output));
}
