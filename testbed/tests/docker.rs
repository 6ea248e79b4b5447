//! The program on a real Docker engine: a small cluster of Serf, what has to be gone after every kind of end, and what
//! it says where it can't work. Needs root, Docker, and both images (`thane-testbed images`): runs with `--features containers`.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stands before the real `docker`: passes everything on, but fails with `$SAYS` where the arguments match `$FAILS`.
const DOCKER: &str = r#"#!/bin/sh
case "$*" in
  $FAILS) printf '%s\n' "$SAYS" >&2; exit 1 ;;
esac
PATH=${PATH#*:}
exec docker "$@"
"#;

/// One cluster at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
    let _turn = turn();
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
    let _turn = turn();
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

/// Starts a run that is refused, and returns its only line.
fn refusal(command: &mut Command) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = own_lines(&output);
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(left_by(pid), "");
    said
}

const SERF: [&str; 4] = ["run", "idle", "--nodes=2", "--against=serf"];
const THANE: [&str; 4] = ["run", "idle", "--nodes=2", "--against=thane"];

#[test]
fn what_can_not_work_is_said_in_one_line() {
    let _turn = turn();
    let bridge = ["network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge"];
    let taken = Command::new("docker").args(bridge).output().unwrap();
    let taken = format!("--subnet={}", String::from_utf8_lossy(&taken.stdout).trim());
    let cases: [(&[&str], &[&str], &str); 9] = [
        (&["run", "nothing"], &[], "no scenario nothing"),
        (&SERF, &["--subnet=127.0.0.0/16"], "is not private"),
        (&SERF, &[&taken], "give another one with --subnet"),
        (&SERF, &["--subnet=10.201.252.0/29"], "give a larger one with --subnet"),
        (&SERF, &["--serf-share=2"], "it must be 0 to 1"),
        (&["run", "idle", "--nodes=20"], &["--at-once=8"], "one machine takes at most 150 containers"),
        (&SERF, &["--out=/proc/no"], "/proc/no: "),
        (&SERF, &["--seccomp=/no/such/file"], "no such file"),
        (&THANE, &["--thane-config={\"profile\":\"no such\"}"], "its log: "),
    ];
    for (run, more, expected) in cases {
        let said = refusal(&mut testbed(&[run, more].concat()));
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    let said = refusal(testbed(&SERF).env("DOCKER_HOST", "unix:///no/such/socket"));
    assert!(said.contains("no Docker engine answers"), "{said}");
}

#[test]
fn refusals_of_the_engine_are_said_in_one_line_and_leave_nothing() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path().join("docker");
    std::fs::write(&docker, DOCKER).unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    // The second container fails where one runs already.
    let cases = [
        ("run*n02*", "docker: Error response from daemon: mkdir /x: no space left on device.", "disk full"),
        ("image inspect*", "Error: No such image: serf:testbed-shell", "make it with `thane-testbed images`"),
        (
            "version*",
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "run as root, or add the user to the group docker",
        ),
        ("run*n02*", "docker: Error response from daemon: something new.", "something new"),
    ];
    for (fails, says, expected) in cases {
        let said = refusal(testbed(&SERF).env("PATH", &path).env("FAILS", fails).env("SAYS", says));
        assert!(said.contains(expected), "{fails}: {said}");
    }
}

#[test]
fn a_full_disk_is_said_in_one_line() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    // A file system of one page, full, in a mount namespace of its own.
    let script = "mount -t tmpfs -o size=4k none \"$TMPDIR\" && printf x > \"$TMPDIR/full\" && exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_thane-testbed");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", program]).args(SERF).env("TMPDIR", folder.path());
    let said = refusal(command.stdin(Stdio::null()));
    assert!(said.contains("No space left on device") && said.contains("free space there"), "{said}");
}

#[test]
fn what_a_dead_run_left_is_said_and_removed_by_the_next_start() {
    let _turn = turn();
    let network = |id: &str| {
        let (label, owner) = (format!("thane-testbed={id}"), "thane-testbed.owner=4194305:1");
        let arguments = ["network", "create", "--label", &label, "--label", owner, &format!("ttb-{id}")];
        assert!(Command::new("docker").args(arguments).output().unwrap().status.success());
    };
    let is_there = |id: &str| {
        let name = format!("ttb-{id}");
        Command::new("docker").args(["network", "inspect", &name]).output().unwrap().status.success()
    };
    let says = |output: &Output, line: &str| {
        let text = text(output);
        assert!(text.lines().any(|said| said == line), "{text}");
    };
    network("dead01");
    let output = testbed(&[&SERF[..], &["--seccomp=/no/such/file"]].concat()).output().unwrap();
    says(&output, "run dead01 ended without cleaning up; removing 0 containers, 1 networks");
    assert!(!is_there("dead01"));
    network("dead02");
    says(&testbed(&["down"]).output().unwrap(), "run dead02: removed 0 containers, 1 networks");
    assert!(!is_there("dead02"));
}
