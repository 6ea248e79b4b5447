//! Starting: banner, log gate, joining.

use std::net::TcpListener;

use crate::process::{Agent, THANE, outcome, run_to_end, serf, wait_for_file};

/// Lines without the time of log lines.
fn without_times(lines: &[String]) -> Vec<String> {
    let cut = |line: &String| match line.find(" [INFO] ") {
        Some(at) => format!("    TIME{}", &line[at..]),
        None => line.clone(),
    };
    lines.iter().map(cut).collect()
}

#[test]
fn banner_and_first_lines_are_serfs() {
    let Some(serf) = serf() else { return };
    let run = |program, flags: &[&str]| {
        let mut agent = Agent::start(program, "127.15.10.1", flags);
        agent.wait_for("EventMemberJoin");
        let lines = without_times(&agent.lines);
        agent.signal("TERM");
        agent.end();
        lines
    };
    let sets: [&[&str]; 3] = [
        &["-node=n1"],
        &["-node=n1", "-encrypt=MTIzNDU2Nzg5MDEyMzQ1Ng==", "-profile=local", "-disable-compression"],
        &["-node=n1", "-advertise=127.15.10.2:99", "-role=web", "-rejoin", "-retry-interval=1ms"],
    ];
    for flags in sets {
        assert_eq!(run(THANE, flags), run(serf, flags), "{flags:?}");
    }
}

#[test]
fn start_join_is_told_of_and_log_lines_come_after_it() {
    let _first = Agent::start(THANE, "127.15.11.1", &["-node=a"]);
    let flags = ["-node=b", "-join=127.15.11.99", "-join=127.15.11.1", "-replay", "-log-level=debug"];
    let mut second = Agent::start(THANE, "127.15.11.2", &flags);
    second.wait_for("EventMemberJoin: a 127.15.11.1");
    second.wait_for("agent: joined: ");
    let text = second.lines.join("\n") + "\n";
    let parts = [
        "Message Compression Enabled: true\n==> Joining cluster...(replay: true)\n    Join completed. Synced with 1 initial agents\n\n==> Log data will now stream in as it occurs:\n\n",
        "agent: joining: [127.15.11.99 127.15.11.1] replay: true\n",
        "agent: joined: 1 nodes\n",
    ];
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn failed_start_join_ends_the_agent_and_shows_no_log() {
    let flags = ["-bind=127.15.12.1", "-rpc-addr=127.15.12.1:7373", "-join=127.15.12.99"];
    let (code, text) = outcome(THANE, &flags);
    assert_eq!(code, Some(1));
    let expected =
        "==> Joining cluster...(replay: false)\n==> 1 error occurred:\n\t* Failed to join 127.15.12.99: ";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("[INFO]"), "{text}");
    // Everything is free again.
    assert_eq!(outcome(THANE, &flags).0, Some(1));
}

#[test]
fn start_join_that_hangs_can_be_interrupted() {
    let silent = TcpListener::bind("127.15.13.9:7946").unwrap();
    let mut agent = Agent::spawn(THANE, "127.15.13.1", &["-join=127.15.13.9"]);
    agent.wait_for("Joining cluster...");
    let _held = silent.accept().unwrap();
    agent.signal("INT");
    assert_eq!(agent.end(), Some(1));
    assert!(agent.has("==> Caught signal: interrupt"), "{:?}", agent.lines);
}

#[test]
fn background_join_goes_on_until_somebody_is_there() {
    let mut lonely =
        Agent::start(THANE, "127.15.14.1", &["-node=a", "-retry-join=127.15.14.2", "-retry-interval=1s"]);
    lonely.wait_for("[WARN] agent: Join failed: 1 error occurred:");
    let late = Agent::start(THANE, "127.15.14.2", &["-node=b"]);
    lonely.wait_for("[INFO] agent: Join completed. Synced with 1 initial agents");
    lonely.wait_for("EventMemberJoin: b 127.15.14.2");
    drop(late);
}

#[test]
fn background_join_gives_up_after_its_tries() {
    let flags = ["-retry-join=127.15.15.99", "-retry-interval=1s", "-retry-max=1"];
    let mut agent = Agent::start(THANE, "127.15.15.1", &flags);
    assert_eq!(agent.end(), Some(1));
    let tries =
        agent.lines.iter().filter(|line| line.contains("agent: joining: [127.15.15.99] replay: false"));
    assert_eq!(tries.count(), 2, "{:?}", agent.lines);
    assert!(agent.has("[ERR] agent: maximum retry join attempts made, exiting"));
}

#[test]
fn name_is_the_machines_unless_given() {
    let name = std::process::Command::new("hostname").output().unwrap().stdout;
    let name = String::from_utf8(name).unwrap();
    let mut agent = Agent::start(THANE, "127.15.16.1", &[]);
    let line = agent.wait_for("Node name:");
    assert!(line.ends_with(&format!("Node name: '{}'", name.trim())), "{line}");
}

#[test]
fn port_zero_is_picked_by_the_system_and_shown_as_zero() {
    let mut agent = Agent::start(THANE, "127.15.17.1:0", &["-rpc-addr=127.15.17.1:7373", "-node=p"]);
    assert!(agent.has("Bind addr: '127.15.17.1:0'"));
    agent.wait_for("EventMemberJoin: p 127.15.17.1");
}

#[test]
fn interface_gives_the_address() {
    let flags = ["-iface=lo", "-bind=127.15.18.1", "-rpc-addr=127.15.18.1:7373"];
    let (code, text) = outcome(THANE, &flags);
    assert_eq!((code, text.as_str()), (Some(1), "==> Interface 'lo' has no '127.15.18.1' address\n"));
}

#[test]
fn settings_without_effect_are_warned_of_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(&path, r#"{"disable_coordinates": true}"#).unwrap();
    let mut agent = Agent::start(THANE, "127.15.19.1", &[&format!("-config-file={}", path.display())]);
    agent.wait_for("[WARN] agent: 'disable_coordinates' has no effect");
}

#[test]
fn keyring_file_encrypts_and_is_kept() {
    let Some(serf) = serf() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, r#"["MTIzNDU2Nzg5MDEyMzQ1Ng=="]"#).unwrap();
    let mut agent = Agent::start(THANE, "127.15.9.1", &[&format!("-keyring-file={}", path.display())]);
    assert!(agent.has("                      Encrypted: true"));
    agent.wait_for("[INFO] agent: Restored keyring with 1 keys from");
    agent.rpc(serf, "keys", &["-install=YWJjZGVmZ2hpamtsbW5vcA=="]);
    wait_for_file(&path, |text| {
        text == "[\n  \"MTIzNDU2Nzg5MDEyMzQ1Ng==\",\n  \"YWJjZGVmZ2hpamtsbW5vcA==\"\n]"
    });
}

#[test]
fn snapshot_brings_a_killed_agent_back_into_its_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("-snapshot={}", folder.path().join("snap").display());
    let _other = Agent::start(THANE, "127.15.8.1", &["-node=o"]);
    let mut agent = Agent::start(THANE, "127.15.8.2", &["-node=n", &snapshot, "-join=127.15.8.1"]);
    assert!(agent.has("                       Snapshot: true"));
    agent.wait_for("EventMemberJoin: o");
    wait_for_file(&folder.path().join("snap"), |text| text.contains("alive: o 127.15.8.1:7946\n"));
    agent.signal("KILL");
    agent.end();
    let mut again = Agent::start(THANE, "127.15.8.2", &["-node=n", &snapshot]);
    again.wait_for("[INFO] serf: Attempting re-join to previously known node: o: 127.15.8.1:7946");
    again.wait_for("[INFO] serf: Re-joined to previously known node: o");

    again.signal("INT");
    assert_eq!(again.end(), Some(0));
    let mut left = Agent::start(THANE, "127.15.8.2", &["-node=n", &snapshot]);
    left.wait_for("Received event: member-join");
    left.signal("TERM");
    left.end();
    assert!(!left.has("re-join"), "{:?}", left.lines);
}

#[test]
fn help_is_on_stderr_and_nothing_is_started() {
    let output = run_to_end(THANE, &["-h"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let help = String::from_utf8(output.stderr).unwrap();
    for flag in ["-bind", "-config-dir", "-event-handler", "-io-driver", "-retry-join", "-tags-file"] {
        assert!(help.contains(flag), "{flag} is missing in:\n{help}");
    }
}
