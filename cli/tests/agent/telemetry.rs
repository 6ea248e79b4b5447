//! Numbers and lines that go elsewhere: statsd, statsite, syslog; and joining that does not stop at oneself.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::process::{Agent, THANE, outcome, poll};

fn config(text: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(&path, text).unwrap();
    (format!("-config-file={}", path.display()), folder)
}

/// What an agent that counts is sure to tell.
const TOLD: [&str; 4] = [
    "serf-agent.serf.member.join:1.000000|c",
    "serf-agent.agent.ipc.accept:1.000000|c",
    "serf-agent.serf.events.deploy:1.000000|c",
    "serf-agent.serf.queue.Intent:0.000000|ms",
];

fn cause_numbers(addr: &str) {
    let rpc_addr = format!("-rpc-addr={addr}:7373");
    let output = std::process::Command::new(THANE).args(["event", &rpc_addr, "deploy"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn statsd_gets_lines_in_datagrams() {
    let statsd = UdpSocket::bind("127.32.2.9:8125").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (file, _folder) = config(r#"{"statsd_addr": "127.32.2.9:8125"}"#);
    let _agent = Agent::start(THANE, "127.32.2.1", &["-node=n", &file]);
    cause_numbers("127.32.2.1");
    let mut lines = Vec::new();
    poll("the numbers", || {
        let mut bytes = [0; 2000];
        let len = statsd.recv(&mut bytes).ok()?;
        lines.extend(String::from_utf8_lossy(&bytes[..len]).lines().map(str::to_owned));
        TOLD.iter().all(|line| lines.iter().any(|told| told == line)).then_some(())
    });
    assert!(lines.iter().any(|line| line.ends_with(".memberlist.health.score:0.000000|g")), "{lines:?}");
}

#[test]
fn statsite_gets_the_same_lines_and_is_found_again() {
    let (file, _folder) = config(r#"{"statsite_addr": "127.32.3.9:8125"}"#);
    let mut agent = Agent::start(THANE, "127.32.3.1", &["-node=n", &file]);
    agent.wait_for("[WARN] agent: can't send metrics to 127.32.3.9:8125, retrying every second: ");
    let statsite = TcpListener::bind("127.32.3.9:8125").unwrap();
    let (stream, _) = statsite.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    cause_numbers("127.32.3.1");
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "serf-agent.serf.events.deploy:1.000000|c"));
}

#[test]
fn a_missing_syslog_socket_is_an_error() {
    if std::path::Path::new("/dev/log").exists() {
        // Then the unit tests of the socket are all there is.
        return;
    }
    let flags = ["-bind=127.32.4.1", "-rpc-addr=127.32.4.1:7373", "-syslog"];
    let expected = "==> Starting Serf agent...\n==> Syslog setup failed: no syslog socket accepts a connection (tried /dev/log, /var/run/syslog, /var/run/log): start a syslog daemon or leave -syslog out\n";
    assert_eq!(outcome(THANE, &flags), (Some(1), expected.to_owned()));
}

#[test]
fn background_join_through_itself_goes_on_until_somebody_else_is_there() {
    let retry = ["-node=a", "-retry-join=127.32.5.1", "-retry-join=127.32.5.2", "-retry-interval=1s"];
    let mut lonely = Agent::start(THANE, "127.32.5.1", &retry);
    lonely.wait_for("[WARN] agent: Join failed: only this agent itself answered, retrying in 1s");
    let _late = Agent::start(THANE, "127.32.5.2", &["-node=b"]);
    lonely.wait_for("[INFO] agent: Join completed. Synced with 2 initial agents");
    lonely.wait_for("EventMemberJoin: b 127.32.5.2");
}

#[test]
fn labels_and_allowed_networks_keep_agents_apart() {
    let (blue, _blue_folder) = config(r#"{"label": "blue"}"#);
    let (near, _near_folder) = config(r#"{"label": "blue", "cidrs_allowed": ["127.32.6.0/24"]}"#);
    let mut near = Agent::start(THANE, "127.32.6.1", &["-node=near", &near]);
    let _blue = Agent::start(THANE, "127.32.6.2", &["-node=blue", &blue, "-join=127.32.6.1"]);
    near.wait_for("EventMemberJoin: blue 127.32.6.2");
    let (code, text) =
        outcome(THANE, &["-node=plain", "-bind=127.32.6.3", "-rpc-addr=127.32.6.3:7373", "-join=127.32.6.1"]);
    assert_eq!(code, Some(1), "{text}");
    let _far = Agent::start(THANE, "127.32.7.1", &["-node=far", &blue, "-join=127.32.6.1"]);
    near.wait_for("address_not_allowed");
    assert!(!near.has("EventMemberJoin: far"));
}
