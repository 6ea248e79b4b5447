//! `thane doctor`: what it finds where all is well, and where one thing is wrong.

use std::net::UdpSocket;
use std::process::Command;

use crate::process::{Agent, THANE, serf};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// Exit code and lines.
fn doctor(flags: &[&str]) -> (Option<i32>, String) {
    // Nothing of the machine's own agents.
    let output =
        Command::new(THANE).args(["doctor", "-rpc-addr=127.15.123.250:7373"]).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The only failure says this.
fn assert_fails(flags: &[&str], why: &str) {
    let (code, text) = doctor(flags);
    assert_eq!(code, Some(2), "{text}");
    let failures: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failures.len() == 1 && failures[0].contains(why), "{why:?} is not the only failure in:\n{text}");
}

#[test]
fn a_member_is_reached_by_stream_and_by_the_longest_datagram() {
    let key = format!("-encrypt={KEY}");
    let mut agents = vec![Agent::start(THANE, "127.15.123.1", &["-node=there", &key])];
    let addrs: &[&str] = match serf() {
        Some(serf) => {
            agents.push(Agent::start(serf, "127.15.123.2", &["-node=serf", &key]));
            &["127.15.123.1", "127.15.123.2"]
        }
        None => &["127.15.123.1"],
    };
    for addr in addrs {
        let (code, text) = doctor(&["-node=here", "-bind=127.15.123.3", &key, &format!("-member={addr}")]);
        assert!(code < Some(2), "{text}");
        for line in [
            "ok    port: UDP 127.15.123.3:7946 is free".to_owned(),
            format!("ok    member: TCP {addr}:7946 answers with 1 members; key and label are the same"),
            "ok    name: 'here' is free".to_owned(),
            format!("ok    member: UDP {addr}:7946 answers a short datagram to this node's gossip port"),
            format!("ok    member: UDP {addr}:7946 answers the longest datagram to this node's gossip port"),
        ] {
            assert!(text.lines().any(|known| known == line), "{line:?} is missing in:\n{text}");
        }
    }
    let mut first = agents.swap_remove(0);
    first.signal("TERM");
    first.end();
    assert!(!first.has("[ERR]"), "{}", first.lines.join("\n"));
    let members: Vec<&String> = first.lines.iter().filter(|line| line.contains("EventMemberJoin")).collect();
    assert_eq!(members.len(), 1, "the doctor is no member: {members:?}");
}

#[test]
fn another_key_no_key_and_another_name_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let labelled = folder.path().join("label.json");
    std::fs::write(&labelled, r#"{"label": "blue"}"#).unwrap();
    let labelled = format!("-config-file={}", labelled.display());
    let key = format!("-encrypt={KEY}");
    let _agent = Agent::start(THANE, "127.15.123.4", &["-node=taken", &key]);
    let common = ["-bind=127.15.123.5", "-member=127.15.123.4"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    assert_fails(&with(&["-node=x"]), "encrypt_key");
    assert_fails(&with(&["-node=x", "-encrypt=Dw4NDAsKCQgHBgUEAwIBAA=="]), "encrypt_key");
    let (code, text) = doctor(&[&common[..], &["-node=x", key.as_str(), labelled.as_str()]].concat());
    assert!(code == Some(2) && text.contains("compare") && text.contains("'label'"), "{text}");
    assert_fails(
        &[&common[..], &["-node=taken", key.as_str()]].concat(),
        "'taken' is taken by a member at 127.15.123.4:7946: choose another with -node",
    );
}

#[test]
fn a_port_that_is_held_a_member_that_is_gone_and_a_wrong_file_are_told() {
    let _held = UdpSocket::bind("127.15.123.6:7946").unwrap();
    let (code, text) = doctor(&["-node=x", "-bind=127.15.123.6"]);
    let line = format!(
        "(process {}) (Docker's swarm mode uses 7946 too): stop it, or choose another",
        std::process::id()
    );
    assert!(
        code == Some(2)
            && text.contains("FAIL  port: UDP 127.15.123.6:7946 is held by")
            && text.contains(&line),
        "{text}"
    );

    let bind = "-bind=127.15.123.7";
    assert_fails(&["-node=x", bind, "-member=127.15.123.8"], "TCP 127.15.123.8:7946 can't be reached");
    assert_fails(&["-profile=none"], "Unknown profile: none");

    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    std::fs::write(&snapshot, "alive: a 10.0.0.1:7946\nrubbish\nclock: 7\n").unwrap();
    let flag = format!("-snapshot={}", snapshot.display());
    let (code, text) = doctor(&["-node=x", bind, &flag]);
    assert!(code == Some(1) && text.contains("has 1 lines that can't be read"), "{text}");
    assert_fails(&["-node=x", bind, "-snapshot=/nowhere/at/all"], "create it");
}

#[test]
fn a_running_agent_is_known_by_its_own_ports() {
    let _agent = Agent::start(THANE, "127.15.123.9", &["-node=me"]);
    let output = Command::new(THANE)
        .args([
            "doctor",
            "-node=me",
            "-bind=127.15.123.9",
            "-rpc-addr=127.15.123.9:7373",
            "-member=127.15.123.9",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() < Some(2), "{text}");
    for part in [
        "ok    rpc: agent 'me' runs and answers at 127.15.123.9:7373",
        "ok    port: UDP 127.15.123.9:7946 is in use, and agent 'me' runs",
        "ok    name: the cluster lists 'me' at 127.15.123.9:7946",
        "ok    buffers: the agent lost no datagram for lack of room",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}
