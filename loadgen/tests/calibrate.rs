//! `calibrate` as a user runs it, with real Serf agents.
#![allow(clippy::unwrap_used)]

#[path = "../../cli/tests/common/oracle.rs"]
mod oracle;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oracle::serf;
use thane_loadgen::report::{Policy, Report, Verdict};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn calibrate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thane-loadgen"));
    command.arg("calibrate").args(arguments).stdin(Stdio::null());
    command
}

fn shown(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Processes whose command line has `word` in it, and that are no zombies.
fn processes_with(word: &str) -> usize {
    let has = |path: &Path| {
        fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| has(&entry.path())).count()
}

#[test]
fn bad_input_is_one_line_and_no_success() {
    for (arguments, expected) in [
        (&["--nodes", "0"][..], "0 is not in 2..=200"),
        (&["--nodes", "1000"], "1000 is not in 2..=200"),
        (&["--speed", "9"], "unexpected argument '--speed' found"),
        (&["--agent", "/nowhere/serf", "--first", "127.42.201.1"], "can't start /nowhere/serf"),
    ] {
        let output = calibrate(arguments).output().unwrap();
        let (out, err) = shown(&output);
        assert!(!output.status.success() && out.is_empty(), "{arguments:?}: {out}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn a_small_cluster_is_measured_beside_its_simulation() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (serf, out) = (serf.to_str().unwrap(), folder.path().to_str().unwrap());
    let arguments = "--nodes 3 --runs 1 --events 2 --kills 1 --idle 4s --settle 1s --first 127.42.202.1";
    let mut command = calibrate(&arguments.split(' ').collect::<Vec<_>>());
    let output = command.args(["--agent", serf, "--out", out]).output().unwrap();
    let (table, err) = shown(&output);
    assert!(output.status.success(), "{table}{err}");
    let report = Report::read(&folder.path().join("calibrate-3.json")).unwrap();
    let values = |id: &str, side: &str| -> Vec<f64> {
        let subject = report.subjects.iter().find(|subject| subject.name == side).unwrap();
        subject.measure(id).map(|measure| measure.values.clone()).unwrap_or_default()
    };
    for side in ["serf", "simulated as serf"] {
        assert_eq!(values("event.missed", side), [0.0, 0.0], "{table}");
        assert_eq!(values("crash.missed", side), [0.0], "{table}");
        // A suspicion takes at least one protocol period, and its confirmation four.
        let first = values("crash.first", side);
        assert!((5.0..30.0).contains(&first[0]), "{side}: {first:?}");
        let rate = values("idle.packets", side);
        match report.made.notes.first() {
            Some(why) if side == "serf" => assert!(rate.is_empty() && why.contains("not counted"), "{why}"),
            _ => assert!((0.9..2.6).contains(&rate[0]), "{side}: a ping and an ack a second: {rate:?}"),
        }
    }
    let simulated = report.subjects.iter().find(|subject| subject.name == "simulated as serf").unwrap();
    assert!(simulated.criteria.iter().any(|criterion| criterion.name.starts_with("agrees with serf: event")));
    let verdict = |row: &str| {
        let name = format!("agrees with serf: {row}");
        simulated.criteria.iter().find(|criterion| criterion.name == name).map(|criterion| criterion.verdict)
    };
    for row in ["event: agents not reached", "kill: agents that did not report it"] {
        assert_eq!(verdict(row), Some(Verdict::Pass), "{table}");
    }
    assert!(simulated.criteria.iter().all(|criterion| criterion.verdict != Verdict::Fail), "{table}");
    assert!(report.subjects.iter().all(|subject| subject.policy == Some(Policy::Classic)));
    assert!(report.subjects.iter().all(|subject| subject.curves.len() == 2), "events and kills");
    assert_eq!(processes_with("127.42.202."), 0, "all agents have ended");
}

#[test]
fn agents_end_with_the_signal_that_ends_it() {
    let Some(serf) = serf() else { return };
    let first = "127.42.203.1";
    let mut command = calibrate(&["--nodes", "3", "--first", first, "--agent", serf.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The program and three agents.
    while processes_with("127.42.203.") < 4 {
        assert!(Instant::now() < deadline, "the agents did not start");
        thread::sleep(Duration::from_millis(20));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    assert!(!child.wait().unwrap().success(), "nothing was measured");
    assert_eq!(processes_with("127.42.203."), 0, "all agents have ended");
}
