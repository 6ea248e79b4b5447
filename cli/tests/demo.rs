//! `thane demo` with its smallest clusters and without a live terminal, and commands whose reader goes away.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

const THANE: &str = env!("CARGO_BIN_EXE_thane");
const STEPS: [&str; 6] = ["start", "join", "event", "query", "kill", "leave"];
/// Demos use the same addresses with ports of the system's choice, and each takes the whole machine for a moment.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn demo(agents: usize) -> Output {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Command::new(THANE).args(["demo", &format!("-agents={agents}")]).stdin(Stdio::null()).output().unwrap()
}

/// The lines of the steps, each with its number.
fn assert_all_steps(text: &str) {
    for (step, n) in STEPS.iter().zip(1..) {
        let line = format!("[{n}/{}] {step}", STEPS.len());
        assert_eq!(text.matches(&line).count(), 1, "{line:?} in:\n{text}");
    }
}

#[test]
fn the_smallest_demos_kill_one_agent_and_let_another_leave() {
    for agents in [3, 4, 5] {
        let output = demo(agents);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{agents} agents:\n{text}");
        assert_all_steps(&text);
        let survivors = agents - 2;
        assert!(text.contains(&format!("left for {survivors} of {survivors}")), "{text}");
    }
}

#[test]
fn a_kept_demo_serves_its_dashboard_until_it_is_interrupted() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut child = Command::new(THANE)
        .args(["demo", "-agents=3", "--http", "127.77.1.1:8500", "--keep"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut wait_for = |text: &str| {
        let found = lines.any(|line| line.contains(text));
        assert!(found, "{text:?} did not come");
    };
    wait_for("Dashboard of agent-01: http://127.77.1.1:8500/");
    wait_for("The cluster stays until Ctrl-C.");
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect("127.77.1.1:8500").unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    assert!(get("/").contains("<title>Thane</title>"));
    let metrics = get("/metrics");
    for status in ["alive", "failed", "left"] {
        assert!(metrics.contains(&format!("thane_members{{status=\"{status}\"}} 1\n")), "{metrics}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminal_that_can_not_move_its_cursor_gets_plain_lines() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let command = format!("{THANE} demo -agents=3");
    // script(1) runs the command on a terminal of its own.
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .expect("script(1) of bsdutils is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_all_steps(&text);
    assert!(!text.contains('\u{1b}'), "escape sequences on a dumb terminal:\n{text:?}");
}

#[test]
fn a_closed_pipe_ends_a_command_without_a_panic() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The first line is read, then the reader is gone.
    for arguments in
        [&["demo", "-agents=3"][..], &["agent", "-nope"], &["decode", "-transport=rpc", "9301c2c3"]]
    {
        let mut child = Command::new(THANE)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        assert_ne!(output.status.code(), Some(101), "{arguments:?}: {errors}");
    }
}

#[test]
fn closed_standard_streams_do_not_panic() {
    // `>&-` and `2>&-`: every write fails.
    for line in
        ["version", "decode zz", "decode 0b81a55365714e6f07", "bogus", "members -h", "keys", "agent -nope"]
    {
        for closed in [">&-", "2>&-", ">&- 2>&-"] {
            let status =
                Command::new("sh").arg("-c").arg(format!("exec {THANE} {line} {closed}")).output().unwrap();
            assert_ne!(status.status.code(), Some(101), "{line} {closed}: {status:?}");
        }
    }
}
