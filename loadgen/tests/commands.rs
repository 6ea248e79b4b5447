//! Commands as a user runs them: partial results, reports on disk, errors in one line.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use thane_loadgen::report::Report;

fn loadgen(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thane-loadgen"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(line: &str) -> (Output, String, String) {
    let output = loadgen(line).output().unwrap();
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output, out, err)
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn help_goes_to_stdout_and_errors_are_one_line_with_a_hint() {
    let (output, out, err) = run("--help");
    assert!(output.status.success() && err.is_empty());
    for command in ["calibrate", "compare", "fleet", "sim", "target"] {
        assert!(out.contains(&format!("  {command}")), "{out}");
    }
    assert!(!out.contains("sender"), "hidden: {out}");
    for (line, expected) in [
        ("flet", "tip: a similar subcommand exists: 'fleet'"),
        ("fleet --node 5", "tip: a similar argument exists: '--nodes'"),
        ("sim evnt", "unknown scenario `evnt`; there are"),
        ("fleet --first 10.0.0.1", "leave 127.0.0.0/8"),
        ("target --against serf --from 8.8.8.8", "--anywhere allows it"),
    ] {
        let (output, out, err) = run(line);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{line}: {err}");
        assert!(err.contains(expected) && err.lines().count() == 1, "{line}: {err}");
    }
}

#[test]
fn a_simulation_and_a_comparison_are_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    for (nodes, seed) in [(8, 1), (9, 2)] {
        let (output, out, err) =
            run(&format!("sim bootstrap --nodes {nodes} --seed {seed} --lasts 10s --out {dir}"));
        assert!(output.status.success(), "{err}");
        assert!(out.contains(&format!("seed {seed}: trace")) && out.contains("full views, s"), "{out}");
    }
    let report = Report::read(&folder.path().join("bootstrap-8.json")).unwrap();
    assert!(report.made.command.contains("sim bootstrap --nodes 8"), "{}", report.made.command);
    assert!(report.scenario.is_some_and(|scenario| scenario.toml.contains("nodes = 8")));
    let (output, out, err) =
        run(&format!("compare {dir}/bootstrap-8.json {dir}/bootstrap-9.json --out {dir}/page.html"));
    assert!(output.status.success(), "{err}");
    assert!(out.contains("(bootstrap-8)") && out.contains("(bootstrap-9)") && out.contains('×'), "{out}");
    assert!(folder.path().join("page.html").is_file());
    let (output, _, err) = run(&format!("compare {dir}/bootstrap-8.json {dir}/page.html"));
    assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.contains("page.html: no JSON object"), "{err}");
    let (output, _, err) = run("sim idle --nodes 3 --lasts 1s --out /dev/null/reports");
    assert!(output.status.code() == Some(1) && err.contains("/dev/null/reports: "), "{err}");
}

#[test]
fn an_agent_that_fails_in_the_middle_leaves_the_measures_up_to_then() {
    let bare = loadgen("bare 127.84.3.1:7946").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _bare = Running(bare);
    // It answers pings, but no RPC: the join fails.
    let (output, out, err) =
        run("target 127.84.3.1:7946 --from 127.84.3.2 --idle 0 --seconds 500ms --rate 200 --nodes 10");
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(out.contains("alone: acked, %") && !out.contains("push/pull"), "{out}");
    assert!(err.lines().last().unwrap().contains("127.84.3.1:7946: "), "{err}");
}

#[test]
fn a_signal_ends_a_fleet_with_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let line = format!("fleet --nodes 4 --first 127.84.4.1 --port 28947 --idle 1h --out {dir}");
    let mut command = loadgen(&line);
    let mut fleet = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    // The phase is on standard error as soon as the joins and the settling (3 s) are over.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(fleet.0.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().starts_with("idle")), "the idle phase begins");
    let sent = Command::new("kill").args(["-INT", &fleet.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = fleet.0.wait().unwrap();
    assert_eq!(ended.code(), Some(1));
    let report = Report::read(&Path::new(dir).join("fleet-4.json")).unwrap();
    let run = &report.subjects[0].runs[0];
    assert_eq!((format!("{:?}", run.ended).as_str(), run.note.as_str()), ("Stopped", "by a signal"));
    assert!(report.subjects[0].measure("views.full").is_some());
}
