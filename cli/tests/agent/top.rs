//! `thane top` on a terminal of its own, with Thane's agent and Serf's.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Agent, THANE, serf};

/// Runs `top` until the screen has shown all of these words (blanks are not drawn), then presses q; returns everything that it wrote.
fn top(rpc_addr: &str, wanted: &[&str]) -> String {
    let command = format!("stty rows 40 cols 120; exec {THANE} top -interval=200ms -rpc-addr={rpc_addr}");
    // script(1) runs the command on a terminal of its own.
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) of bsdutils is installed");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut text, mut bytes, begun) = (String::new(), [0; 4096], Instant::now());
    while !wanted.iter().all(|part| text.contains(part)) {
        let read = screen.read(&mut bytes).unwrap();
        let end = text.len().saturating_sub(2_000);
        assert!(read > 0, "{wanted:?} did not come: {:?}", text.get(end..));
        assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} did not come: {:?}", text.get(end..));
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    keys.write_all(b"q").unwrap();
    let mut rest = Vec::new();
    // A terminal whose program has ended gives an error instead of an end.
    let _ = screen.read_to_end(&mut rest);
    text.push_str(&String::from_utf8_lossy(&rest));
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn top_shows_an_agent_of_either_kind_and_leaves_the_terminal_as_it_was() {
    let start =
        |program, name: &str, addr| Agent::start(program, addr, &[&format!("-node={name}"), "-tag=role=web"]);
    let mut agents = vec![start(THANE, "ournode", "127.15.124.1")];
    let text = top("127.15.124.1:7373", &["ournode", "role=web", "in/s"]);
    let (entered, left) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    assert!(text.contains(entered) && text.rfind(left) > text.rfind(entered), "the screen comes back");
    if let Some(serf) = serf() {
        agents.push(start(serf, "serfnode", "127.15.124.2"));
        top("127.15.124.2:7373", &["serfnode", "role=web", "Queued"]);
    }
}

#[test]
fn top_without_a_terminal_or_an_agent_says_so() {
    let run = |arguments: &[&str]| {
        let output = Command::new(THANE).arg("top").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&[]).contains("top needs a terminal"));
    assert!(run(&["-interval=1ms"]).contains("use 200ms or more"));
}
