//! How the agent ends, and what it survives.

use crate::process::{Agent, THANE, outcome, serf};

const LEAVE_ON_TERM: &str = r#"{"leave_on_terminate": true, "skip_leave_on_interrupt": true}"#;

fn ended(agent: &mut Agent, signal: &str, expected: i32, lines: &[&str], absent: &[&str]) {
    agent.signal(signal);
    assert_eq!(agent.end(), Some(expected), "{:?}", agent.lines);
    for line in lines {
        assert!(agent.has(line), "{line:?} is missing: {:?}", agent.lines);
    }
    for line in absent {
        assert!(!agent.has(line), "{line:?} is there: {:?}", agent.lines);
    }
}

fn with_file(addr: &str, text: &str) -> (Agent, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(&path, text).unwrap();
    (Agent::start(THANE, addr, &["-node=n", &format!("-config-file={}", path.display())]), folder)
}

const GRACEFUL: [&str; 4] = [
    "==> Gracefully shutting down agent...",
    "[INFO] agent: requesting graceful leave from Serf",
    "[INFO] agent: requesting serf shutdown",
    "[INFO] agent: shutdown complete",
];
const ABRUPT: [&str; 3] = [
    "[INFO] agent: requesting serf shutdown",
    "[WARN] serf: Shutdown without a Leave",
    "[INFO] agent: shutdown complete",
];

#[test]
fn interrupt_leaves_and_exits_0() {
    let mut agent = Agent::start(THANE, "127.15.20.1", &["-node=n"]);
    ended(&mut agent, "INT", 0, &GRACEFUL, &["Shutdown without a Leave"]);
    assert!(agent.has("==> Caught signal: interrupt"));
    assert!(agent.has("[INFO] serf: EventMemberLeave: n 127.15.20.1"));
}

#[test]
fn terminate_does_not_leave_and_exits_1() {
    let mut agent = Agent::start(THANE, "127.15.20.2", &[]);
    ended(&mut agent, "TERM", 1, &ABRUPT, &["Gracefully", "EventMemberLeave"]);
    assert!(agent.has("==> Caught signal: terminated"));
}

#[test]
fn the_two_switches_turn_that_around() {
    let (mut agent, _folder) = with_file("127.15.20.3", LEAVE_ON_TERM);
    ended(&mut agent, "TERM", 0, &GRACEFUL, &["Shutdown without a Leave"]);
    let (mut agent, _folder) = with_file("127.15.20.3", LEAVE_ON_TERM);
    ended(&mut agent, "INT", 1, &ABRUPT, &["Gracefully"]);
}

#[test]
fn a_second_signal_ends_a_leave_that_is_under_way() {
    for second in ["INT", "HUP"] {
        let mut agent = Agent::start(THANE, "127.15.20.4", &["-node=n"]);
        agent.signal("INT");
        agent.wait_for("requesting graceful leave");
        ended(&mut agent, second, 1, &ABRUPT, &[]);
    }
}

#[test]
fn others_see_a_leave_as_left_and_an_abrupt_end_as_failed() {
    let mut watcher = Agent::start(THANE, "127.15.21.1", &["-node=w", "-profile=local"]);
    let join = "-join=127.15.21.1";
    let mut leaver = Agent::start(THANE, "127.15.21.2", &["-node=l", "-profile=local", join]);
    let mut failer = Agent::start(THANE, "127.15.21.3", &["-node=f", "-profile=local", join]);
    watcher.wait_for("EventMemberJoin: l");
    watcher.wait_for("EventMemberJoin: f");
    leaver.signal("INT");
    assert_eq!(leaver.end(), Some(0));
    watcher.wait_for("[INFO] serf: EventMemberLeave: l 127.15.21.2");
    failer.signal("TERM");
    assert_eq!(failer.end(), Some(1));
    watcher.wait_for("[INFO] serf: EventMemberFailed: f 127.15.21.3");
}

#[test]
fn user_signal_writes_numbers_to_stderr_and_the_agent_goes_on() {
    let mut agent = Agent::start(THANE, "127.15.20.5", &[]);
    agent.signal("USR1");
    agent.wait_for("Received event: member-join");
    agent.signal("USR1");
    agent.signal("INT");
    assert_eq!(agent.end(), Some(0));
    let numbers = agent.stderr();
    let line = numbers.lines().find(|line| line.ends_with("[G] 'serf-agent.serf.members': 1.000"));
    assert!(line.is_some_and(|line| line.starts_with("[20") && line.contains(" +0000 UTC]")), "{numbers}");
}

#[test]
fn leave_over_rpc_ends_the_agent_with_0() {
    let Some(serf) = serf() else { return };
    let mut agent = Agent::start(THANE, "127.15.22.1", &["-node=n"]);
    assert_eq!(agent.rpc(serf, "leave", &[]), "Graceful leave complete\n");
    assert_eq!(agent.end(), Some(0));
    assert!(agent.has("[INFO] serf: EventMemberLeave: n 127.15.22.1"));
    assert!(agent.has("[INFO] agent: shutdown complete") && !agent.has("Shutdown without a Leave"));
}

#[test]
fn losing_the_own_name_ends_the_agent_with_1_and_names_the_address() {
    let mut owner = Agent::start(THANE, "127.15.23.1", &["-node=n", "-profile=local"]);
    let _other = Agent::start(THANE, "127.15.23.2", &["-node=o", "-profile=local", "-join=127.15.23.1"]);
    owner.wait_for("EventMemberJoin: o");
    // Before the log streams, the error says it.
    let flags = ["-bind=127.15.23.3", "-rpc-addr=127.15.23.3:7373", "-node=n", "-join=127.15.23.2"];
    let (code, text) = outcome(THANE, &flags);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the name n belongs to 127.15.23.1:7946, which answers"), "{text}");
    let flags = ["-node=n", "-profile=local", "-retry-join=127.15.23.2"];
    let mut thief = Agent::start(THANE, "127.15.23.3", &flags);
    assert_eq!(thief.end(), Some(1), "{:?}", thief.lines);
    for line in [
        "[ERR] serf: Node name conflicts with another node at 127.15.23.1:7946.",
        "[ERR] serf: the name n belongs to 127.15.23.1:7946, which answers: quitting",
        "[WARN] agent: Serf shutdown detected, quitting",
    ] {
        assert!(thief.has(line), "{line}: {:?}", thief.lines);
    }
}
