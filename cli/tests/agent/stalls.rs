//! What stops must not stop others: an agent that is suspended, and a reader of the agent's output that reads no more.

use std::process::{Command, Stdio};
use std::time::Duration;

use thane_engine::ipc::{Client, EventRequest, MembersResponse, Request};

use crate::process::{Agent, THANE, poll};

#[test]
fn no_command_waits_for_ever_on_a_suspended_agent() {
    let agent = Agent::start(THANE, "127.32.13.1", &["-node=n", "-log-level=err"]);
    agent.signal("STOP");
    let commands: [&[&str]; 11] = [
        &["event", "x"],
        &["force-leave", "x"],
        &["info"],
        &["join", "127.32.13.2"],
        &["keys", "-list"],
        &["leave"],
        &["members"],
        &["monitor"],
        &["reachability"],
        &["rtt", "n"],
        &["tags", "-set=a=b"],
    ];
    let run = |words: &[&str], timeout: &[&str]| {
        let flags = [&["-rpc-addr=127.32.13.1:7373"], timeout].concat();
        let output = Command::new(THANE).arg(words[0]).args(flags).args(&words[1..]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let failure = |within: &str| {
        format!("Error connecting to Serf agent: no answer from 127.32.13.1:7373 within {within}\n")
    };
    for words in commands {
        let (code, text) = run(words, &["-timeout=200ms"]);
        let last = text.lines().last().unwrap_or_default();
        assert_eq!((code, format!("{last}\n")), (Some(1), failure("200ms")), "{words:?}");
    }
    // A query's own -timeout is about its answers; without the flag there is a limit, too.
    assert_eq!(run(&["query", "x"], &["-timeout=100ms"]), (Some(1), failure("10s")));
    agent.signal("CONT");
    assert_eq!(run(&["event", "x"], &["-timeout=0"]).0, Some(0));
}

#[test]
fn an_agent_whose_output_nobody_reads_serves_and_ends() {
    let addr = "127.32.13.3";
    let mut agent = Command::new(THANE)
        .args(["agent", "-node=n", &format!("-bind={addr}"), &format!("-rpc-addr={addr}:7373")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Held, and not read before the end.
    let unread = agent.stdout.take().unwrap();
    let mut client = poll("the agent", || Client::connect(&format!("{addr}:7373"), "").ok());
    client.wait_at_most(Duration::from_secs(60));
    // Each event is a line, and all of them are more than the pipe holds.
    let event = EventRequest { name: "e".repeat(400), payload: Vec::new(), coalesce: false };
    for _ in 0..400 {
        client.call(&Request::Event(event.clone())).unwrap();
    }
    let members = client.fetch::<MembersResponse>(&Request::Members).unwrap();
    assert_eq!(members.members.len(), 1);
    let ended = Command::new("kill").arg(agent.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(poll("the end", || agent.try_wait().unwrap()).code(), Some(1));
    let text = std::io::read_to_string(unread).unwrap();
    assert!(text.starts_with("==> Starting Serf agent...\n"), "the beginning is there");
}
